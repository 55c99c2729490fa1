"""The names that each page's address can have, and the tables of docs/lectures.md made of them.

`python -m tests.support.addresses` writes the tables anew.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from engines.aggregation import METHODS
from jdviz.pages import PAGES, controls
from jdviz.pages.controls import Choice, Number, Setting, Several, Words
from tests.support.pages import open_page

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "lectures.md"
_BEGIN, _END = "<!-- addresses -->\n", "<!-- end of addresses -->\n"


def names_of(page: str, patched: pytest.MonkeyPatch) -> dict[str, str]:
    """What the address of a page can say.

    Args:
        page: The page's key.
        patched: Undoes what is watched meanwhile.

    Returns:
        Name to what it sets, in the order in which the page has them.
    """
    found: dict[str, str] = {}
    kept: Callable[..., list[str]] = controls._problems

    def watch(key: str, settings: Sequence[Setting], others: Iterable[str]) -> list[str]:
        if key == page:
            found.update({setting.key: _meaning(setting) for setting in settings})
            found.update(others if isinstance(others, Mapping) else dict.fromkeys(others, ""))
        return kept(key, settings, others)

    patched.setattr(controls, "_problems", watch)
    open_page(page)
    patched.setattr(controls, "_problems", kept)
    return found


def tables(patched: pytest.MonkeyPatch) -> str:
    """The tables of all pages that have settings, as Markdown.

    Args:
        patched: Undoes what is watched meanwhile.
    """
    parts = []
    for page in PAGES.values():
        rows = _folded(names_of(page.key, patched))
        if rows:
            lines = [f"| `{name}` | {meaning} |" for name, meaning in rows.items()]
            head = f"### {page.name}, `/{page.key}`\n\n| name | what it sets |\n|---|---|\n"
            parts.append(head + "\n".join(lines) + "\n")
    return "\n".join(parts)


def documented() -> str:
    """The tables as the document has them."""
    return DOCUMENT.read_text("utf-8").split(_BEGIN)[1].split(_END)[0].strip() + "\n"


def _folded(names: Mapping[str, str]) -> dict[str, str]:
    """The same with one row for what there is of every method, and one for names that count."""
    rows: dict[str, str] = {}
    for name, meaning in names.items():
        parts = name.split("_")
        method = next((part for part in parts if part in METHODS), None)
        counted = re.fullmatch(r"([a-z_]+)([1-9])", name)
        if method is not None and parts[-1] == method:
            rows[name.replace(method, "METHOD")] = meaning.replace(method, "a method")
        elif method is not None:
            rows[f"{parts[0]}_METHOD_PARAMETER"] = (
                "a parameter of a method, by its name in code; of a vector `own`, and a number "
                "after each further underscore"
            )
        elif counted is None or f"{counted[1]}2" not in names:
            rows[name] = meaning
        elif counted[2] == "1":
            rows[f"{name}, {counted[1]}2, …"] = f"{meaning}, and so on"
    return rows


def _meaning(setting: Setting) -> str:
    if isinstance(setting, Number):
        low, high = f"{setting.low:,g}", f"{setting.high:,g}"
        return f"{setting.label}: {low} to {high}, else {setting.shown_default}"
    if isinstance(setting, Choice | Several):
        default = setting.default
        usual = default if isinstance(default, str) else ", ".join(default)
        values = f"`{'`, `'.join(setting.options)}`"
        if set(setting.options) <= set(METHODS):
            values = f"{len(setting.options)} methods by name"
        many = "any of " if isinstance(setting, Several) else ""
        return f"{setting.label}: {many}{values}, else {usual or 'none'}"
    if isinstance(setting, Words):
        return f"{setting.label}: a text of at most {setting.most} characters"
    return f"{setting.label}: `true` or `false`, else {str(setting.default).lower()}"


def main() -> int:
    """Write the tables into the document."""
    text = DOCUMENT.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("JDVIZ_DATA", folder)
        patched.setenv("JDVIZ_WORKERS", "1")
        made = tables(patched)
    before, after = text.split(_BEGIN)[0], text.split(_END)[1]
    DOCUMENT.write_text(f"{before}{_BEGIN}\n{made}\n{_END}{after}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
