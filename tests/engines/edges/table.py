"""The table of edge cases as the docs show it."""

import torch

from tests.engines.edges.record import EDGES, Edge
from tests.support.tolerances import RELATIVE

_HEAD = """# Edge cases

Cases on which Jacobian-descent engines have crashed or been silently wrong, and what comes of each
here. `python -m tests.engines.edges` writes this page from the rows that
`tests/engines/test_edges.py` runs; a test fails if they differ.

*Exact*: equal to what plain autograd gives with one call per objective, within the stated relative
Frobenius error, in each of the stated dtypes. *Refused*: the named exception, whose message says
where and what to do; the row says how to get the number.
"""
_SECTIONS = {
    "autogram": "## autogram: the Gramian\n\n`batch_dim=0` unless the row says otherwise.",
    "autojac": "## autojac: the Jacobian\n\nOne row for each objective, one column for each entry.",
}


def markdown() -> str:
    """Build the page.

    Returns:
        Its text.
    """
    parts = [_HEAD]
    for engine, title in _SECTIONS.items():
        rows = [edge for edge in EDGES.values() if edge.engine == engine]
        refused = sum(edge.refused is not None for edge in rows)
        parts.append(
            f"{title} {len(rows)} cases, {len(rows) - refused} exact, {refused} refused.\n"
        )
        parts.append("| case | result here | evidence |\n|---|---|---|")
        parts.append("\n".join(map(_row, rows)) + "\n")
    return "\n".join(parts)


def _row(edge: Edge) -> str:
    """One line of the table."""
    if edge.refused is not None:
        result = f"refused: `{edge.refused.__name__}`. {edge.why}"
        evidence = f"`{edge.id}`: the message says “{edge.says}”"
    else:
        result = "exact" + (f"; {edge.note}" if edge.note else "")
        errors = ", ".join(f"{_name(dtype)} ≤ {RELATIVE[dtype]:.0e}" for dtype in edge.dtypes)
        evidence = f"`{edge.id}`: {errors}"
    return f"| {edge.case} | {result} | {evidence} |"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
