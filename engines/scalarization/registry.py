"""All ways to combine losses, in the order in which menus and tables show them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

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


def _by_name(records: Iterable[ScalarizerRecord]) -> Mapping[str, ScalarizerRecord]:
    """Key the records by name; a second record of one name raises."""
    scalarizers: dict[str, ScalarizerRecord] = {}
    for record in records:
        if record.name in scalarizers:
            raise ValueError(
                f"got a second record named {record.name!r}, expected one, rename or remove it."
            )
        scalarizers[record.name] = record
    return MappingProxyType(scalarizers)


SCALARIZERS: Mapping[str, ScalarizerRecord] = _by_name(
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
