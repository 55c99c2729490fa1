"""How far both engines are from plain autograd on every edge case, measured."""

import warnings

import torch

from benchmarks.report import Report
from tests.engines.edges import EDGES, Edge
from tests.support.tolerances import RELATIVE, relative_error


def measure_exactness() -> Report:
    """Run every row of the table of edge cases.

    Returns:
        For every row and dtype the largest relative Frobenius error and its bound, or the
        exception that the row is refused with.
    """
    rows, figures = [], {}
    for edge in EDGES.values():
        for dtype in edge.dtypes:
            name = str(dtype).removeprefix("torch.")
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = _outcome(edge, dtype)
            error = f"{found:.1e}" if isinstance(found, float) else found
            bound = f"{RELATIVE[dtype]:.0e}" if isinstance(found, float) else "refused"
            rows.append([edge.id, edge.engine, name, error, bound])
            figures[f"{edge.id} {name}"] = found
    return Report(
        title="Largest relative error against one autograd call per objective, or the refusal",
        columns=["case", "engine", "dtype", "error", "bound"],
        rows=rows,
        figures=figures,
    )


def _outcome(edge: Edge, dtype: torch.dtype) -> float | str:
    """The largest error of a row, or the name of the exception it ended in."""
    try:
        return max(relative_error(found, expected) for found, expected in edge.run(dtype))
    except Exception as error:
        return type(error).__name__
