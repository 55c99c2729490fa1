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

    Raises:
        Exception: Whatever a row ends in that should not.
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
        errors = [relative_error(found, expected) for found, expected in edge.run(dtype)]
    except Exception as error:
        if edge.refused is None or not isinstance(error, edge.refused):
            raise
        return type(error).__name__
    # Of a tensor, so that NaN is the largest.
    return float(torch.tensor(errors).max())
