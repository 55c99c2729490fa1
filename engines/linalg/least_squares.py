"""Rows that guesses of the active set leave unfinished, by non-negative least squares.

Near a pair of opposed gradients the right active set shows only in the last digits of C, and no
method that adds a regularizer to C can tell it from its neighbours. Least squares on a factor of
C works with the square root of its condition number, so the rounding of C is all that is lost.
"""

import numpy as np
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg.dense import cholesky, eigh, product
from engines.linalg.kkt import finished, residuals
from engines.linalg.non_negative import non_negative

Array = NDArray[np.float64]

# Each pass removes what rounding left of the multipliers on the free set; the second is rarely
# needed and the third never was.
_REFINEMENTS = 3
# Directions of the free set whose length is below this share of the longest are rounding.
_NO_DIRECTION = 1e-15


def settle(cosines: Array, rows: Array, solution: Array, residual: Array) -> tuple[Array, Array]:
    """Solve the rows that are not optimal to rounding yet, and leave the others as they are.

    Args:
        cosines: C, positive semidefinite with unit diagonal, shape [m, m].
        rows: Lower bounds u, shape [r, m].
        solution: Candidates w >= u, shape [r, m].
        residual: Their relative residuals, shape [r].

    Returns:
        Minimisers w of wᵀCw subject to w >= u, shape [r, m], and their relative residuals, shape
        [r]; a row for which least squares is no better than its candidate, or gives up, keeps the
        candidate.

    Source: Lawson & Hanson, Solving Least Squares Problems, 1974, Chapter 23.
    Cost: m³ multiply-adds for the factor, then about m²k for a row with k free entries.
    """
    left = np.flatnonzero(~finished(residual))
    if left.size == 0:
        return solution, residual
    factor = psd_factor(cosines)
    settled, residual = solution.copy(), residual.copy()
    for i in left:
        found, reached = _solve_row(cosines, factor, rows[i])
        if not residual[i] <= reached:
            settled[i], residual[i] = found, reached
    return settled, residual


def psd_factor(cosines: Array) -> Array:
    """A factor of a positive semidefinite matrix; what rounding left below zero is dropped.

    Args:
        cosines: C, shape [m, m].

    Returns:
        R with RᵀR = C up to rounding, shape [k, m].
    """
    factor, status = cholesky(cosines)
    if status == 0:
        return factor
    values, vectors = eigh(cosines)
    kept = values > 0
    return np.asarray((vectors[:, kept] * np.sqrt(values[kept])).T)


def _solve_row(cosines: Array, factor: Array, row: Array) -> tuple[Array, float]:
    """Minimise |R(u + z)| over z >= 0; returns u + z, shape [m], and its relative residual."""
    try:
        excess = non_negative(factor, -product(factor, row))
    except SolverError:
        return row, np.inf
    best = row + excess
    reached = residuals(cosines, row[None], best[None])
    free = np.flatnonzero(excess > 0)
    if free.size == 0 or finished(reached)[0]:
        return best, float(reached[0])
    triangle = np.linalg.qr(factor[:, free])[1]
    point = best.copy()
    for _ in range(_REFINEMENTS):
        half = np.linalg.lstsq(triangle.T, -(cosines[free] @ point), rcond=_NO_DIRECTION)[0]
        move = np.linalg.lstsq(triangle, half, rcond=_NO_DIRECTION)[0]
        point[free] = np.maximum(point[free] + move, row[free])
        found = residuals(cosines, row[None], point[None])
        if not found[0] < reached[0]:
            break
        best, reached = point.copy(), found
    return best, float(reached[0])
