"""All ways to combine losses, in the order in which menus and tables show them."""

from collections.abc import Mapping

from engines.named import by_name
from engines.scalarization import (
    constant,
    cosmos,
    dwa,
    famo,
    geometric_mean,
    imtll,
    mean,
    pbi,
    random,
    stch,
    sum,
    uw,
)
from engines.scalarization.records import ScalarizerRecord

SCALARIZERS: Mapping[str, ScalarizerRecord] = by_name(
    (
        mean.RECORD,
        sum.RECORD,
        constant.RECORD,
        random.RECORD,
        geometric_mean.RECORD,
        stch.RECORD,
        cosmos.RECORD,
        pbi.RECORD,
        uw.RECORD,
        imtll.RECORD,
        dwa.RECORD,
        famo.RECORD,
    )
)


def markdown() -> str:
    """The table of `docs/scalarization.md`.

    Returns:
        Lines of Markdown: method, formula, and what the result depends on besides the losses.
    """
    lines = ["| method | loss | depends also on |", "|---|---|---|"]
    lines += [f"| `{r.name}` | {r.formula} | {r.state} |" for r in SCALARIZERS.values()]
    return "\n".join(lines) + "\n"
