"""Projection onto the dual cone of m gradients, in the coordinates of their combinations."""

import numpy as np
import torch
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg.batched import is_singular, solve_batched
from engines.linalg.goldfarb_idnani import solve_quadprog
from engines.linalg.gramian import check_finite_gramian, nearest_psd, unit_diagonal
from engines.linalg.kkt import REFUSED, Certificate, refused
from engines.linalg.least_squares import settle

Array = NDArray[np.float64]

SOLVERS = ("auto", "quadprog", "batched")

# Measured crossing points of the two solvers, the second for singular matrices, whose rows the
# batched one leaves to least squares.
_BATCHED_FROM = 24
_SINGULAR_BATCHED_FROM = 64
# Two units in the last place of the diagonal, about what computing a Gramian leaves in it. Where
# gradients are opposed to within 1e-8 it keeps the weights from growing until the direction is
# rounding only; half of it was too little for that.
_ROUNDING = 2.0**-51


def project_rows(
    gramian: Array, rows: Array, solver: str = "auto", device: torch.device | str = "cpu"
) -> Array:
    """Project combinations of gradients onto the dual cone {x : g_i · x >= 0 for all i}.

    The projection of Jᵀu is Jᵀv, where v minimises vᵀGv subject to v >= u. The problem is
    scaled to gradients of length 1 first, so that small gradients count as much as large ones;
    this changes the coordinates and not the solution. A zero gradient keeps its entry of u.

    Args:
        gramian: G = J Jᵀ, symmetric positive semidefinite up to rounding, shape [m, m].
        rows: Combinations u, shape [r, m].
        solver: One of `SOLVERS`.
        device: Where the batched solver computes; it needs float64.

    Returns:
        Combinations v, shape [r, m].

    Raises:
        NonFiniteGradientError: G has NaN or infinity.
        SolverError: Neither the solver nor least squares reached the optimum.
        ValueError: G is not a Gramian, or the solver is unknown.

    Source: Quinton & Rey, arXiv 2406.16232, Proposition 1.
    Cost: see the solvers, and `settle` for the rows they do not finish.
    """
    if solver not in SOLVERS:
        raise ValueError(
            f"got solver={solver!r}, expected one of {', '.join(map(repr, SOLVERS))}, name one."
        )
    check_finite_gramian(gramian)
    cosines, norms = unit_diagonal(gramian)
    result = np.array(rows, dtype=np.float64)
    nonzero = norms > 0
    if nonzero.all():
        return _project(cosines, norms, result, solver, device)
    cosines = np.ascontiguousarray(cosines[np.ix_(nonzero, nonzero)])
    result[:, nonzero] = _project(cosines, norms[nonzero], result[:, nonzero], solver, device)
    return result


def _project(
    cosines: Array, norms: Array, rows: Array, solver: str, device: torch.device | str
) -> Array:
    """The same for gradients that are not zero; shapes [m, m], [m], [r, m] to [r, m]."""
    if rows.size == 0:
        return rows
    cosines = nearest_psd(cosines) + _ROUNDING * np.eye(len(cosines))
    bounds = rows * norms
    # The problem is homogeneous in u: each row is solved at size 1 and scaled back.
    sizes = np.abs(bounds).max(axis=1, keepdims=True)
    sizes[sizes == 0] = 1.0
    unit_rows = bounds / sizes
    solution, certificate = solve_unit(cosines, unit_rows, solver, device)
    solution, residual = settle(cosines, unit_rows, solution, certificate.residual)
    _check(residual, len(cosines))
    return np.maximum(solution * (sizes / norms), rows)


def solve_unit(
    cosines: Array, rows: Array, solver: str = "auto", device: torch.device | str = "cpu"
) -> tuple[Array, Certificate]:
    """The one interface of the solvers: minimise wᵀCw subject to w >= u for each row.

    Args:
        cosines: C, positive semidefinite with unit diagonal, shape [m, m].
        rows: Lower bounds u, largest entry 1, shape [r, m].
        solver: One of `SOLVERS`; "auto" takes the faster for this size.
        device: Where the batched solver computes.

    Returns:
        Candidates w, shape [r, m], and how far each row is from optimality. `settle` solves the
        rows that are not optimal to rounding, one by one.

    Raises:
        SolverError: quadprog gave up; the message has its status.
    """
    if solver == "auto":
        m = len(cosines)
        many = m >= _SINGULAR_BATCHED_FROM or (m >= _BATCHED_FROM and not is_singular(cosines))
        solver = "batched" if many else "quadprog"
    if solver == "batched":
        return solve_batched(cosines, rows, device)
    return solve_quadprog(cosines, rows)


def _check(residual: Array, m: int) -> None:
    """Refuse what is not optimal instead of returning it."""
    bad = np.flatnonzero(refused(residual))
    if bad.size:
        raise SolverError(
            f"got a residual of {residual[bad].max():.1e} in rows {bad.tolist()[:10]} of a "
            f"projection among {m} gradients, expected at most {REFUSED:.0e}, try "
            "another solver or report the Gramian."
        )
