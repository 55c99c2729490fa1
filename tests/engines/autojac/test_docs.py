"""Structure: docs/autojac.md shows every function, and its table names parameters that exist."""

import inspect
import re
from pathlib import Path

from engines import autojac

PAGE = (Path(__file__).parents[3] / "docs" / "autojac.md").read_text("utf-8")
# Those that scripts call.
FUNCTIONS = ("backward", "jac", "jac_to_grad", "mtl_backward")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_there_are_blocks_and_every_function_is_shown() -> None:
    assert len(BLOCKS) >= 4
    assert all(f"{name}(" in "".join(BLOCKS) for name in FUNCTIONS)


def test_every_keyword_of_the_table_exists() -> None:
    known = {
        name
        for function in FUNCTIONS
        for name in inspect.signature(getattr(autojac, function)).parameters
    }
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    assert set(re.findall(r"\b(\w+)=", table)) - known == set()
