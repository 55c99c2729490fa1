"""Block principal pivoting on all rows at once: guess each row's active set, solve on it, repeat.

The rows of a projection share one matrix, so the multipliers of all rows are one product, and
only the small solve on each row's free entries is done row by row.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from engines.linalg.kkt import finished, natural_residuals

Array = NDArray[np.float64]


def pivot(
    cosines: Array, rows: Array, start: Array, epsilons: Sequence[float], passes: int
) -> tuple[Array, Array]:
    """Minimise wᵀCw subject to w >= u for each row, by pivoting inside proximal steps.

    A stage with ε minimises wᵀCw + ε|w - c|² around its starting point c, which is well posed
    for a singular C. At the solution of a stage the multiplier is off by ε(w - c), so each
    further stage shrinks the error, and with a tiny ε one stage is the problem itself.

    Args:
        cosines: C, positive semidefinite with unit diagonal, shape [m, m].
        rows: Lower bounds u, shape [r, m].
        start: Where to start, shape [r, m].
        epsilons: One ε per stage.
        passes: Changes of the active set allowed in a stage.

    Returns:
        The best point met for each row, shape [r, m], and its relative residual, shape [r].

    Source: Júdice & Pires, Computers & Operations Research 21(5), 1994 (block pivoting);
        Rockafellar, SIAM J. Control Optim. 14(5), 1976 (proximal steps).
    Cost: per pass 2rm² multiply-adds and r solves of the size of the row's free set; usually 3
        to 6 passes a stage.
    """
    best = start.copy()
    residual = natural_residuals(rows, start, start @ cosines)
    todo = np.flatnonzero(~finished(residual))
    current = start.copy()
    for epsilon in epsilons:
        if todo.size == 0:
            break
        _stage(cosines, rows, current, best, residual, todo, epsilon, passes)
        todo = todo[~finished(residual[todo])]
    return best, residual


def _stage(
    cosines: Array,
    rows: Array,
    current: Array,
    best: Array,
    residual: Array,
    todo: NDArray[np.intp],
    epsilon: float,
    passes: int,
) -> None:
    """One proximal step of the rows in `todo`; updates `current`, `best` and `residual`."""
    shifted = cosines + epsilon * np.eye(len(cosines))
    active, bounds, center = todo, rows[todo], current[todo]
    point = center.copy()
    multipliers = point @ cosines
    for _ in range(passes):
        free = point - bounds > multipliers + epsilon * (point - center)
        point = np.where(free, point, bounds)
        slope = point @ cosines + epsilon * (point - center)
        for k in range(len(active)):
            _step(shifted, free[k], slope[k], point[k])
        multipliers = point @ cosines
        reached = natural_residuals(bounds, point, multipliers)
        better = reached < residual[active]
        best[active[better]] = point[better]
        residual[active[better]] = reached[better]
        current[active] = point
        stage_residual = natural_residuals(bounds, point, multipliers + epsilon * (point - center))
        keep = ~(finished(stage_residual) | finished(reached))
        if not keep.any():
            break
        active, bounds, center = active[keep], bounds[keep], center[keep]
        point, multipliers = point[keep], multipliers[keep]


def _step(shifted: Array, free: NDArray[np.bool_], slope: Array, point: Array) -> None:
    """Move the free entries of one row to where their slope vanishes.

    A sub-matrix that is not positive definite to rounding leaves the row as it is; its residual
    then sends it to the next stage or to least squares.
    """
    index = np.flatnonzero(free)
    if index.size == 0:
        return
    # Two takes are twice as fast as one indexing with two arrays; the transpose is Fortran-ordered,
    # so LAPACK works in place.
    block = shifted.take(index, axis=0).take(index, axis=1).T
    _, move, status = lapack.dposv(block, -slope[index], lower=1, overwrite_a=1)
    if status == 0:
        point[index] += move
