"""Block principal pivoting with one small factorization for each row and guess."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from engines.linalg.dense import product
from engines.linalg.kkt import certificate, finished, residuals

Array = NDArray[np.float64]


def pivot(cosines: Array, rows: Array, start: Array, epsilon: float, guesses: int) -> Array:
    """Minimise wᵀCw + ε|w - start|² subject to w >= u, as far as some guesses get.

    A guess of a row's free set comes from the signs of its slacks and multipliers; solving on it
    gives the next one. The term with ε keeps a singular C solvable.

    Args:
        cosines: C, positive semidefinite with unit diagonal, shape [m, m].
        rows: Lower bounds u, shape [r, m].
        start: Where to begin, shape [r, m]; with ε > 0 nearly the minimisers.
        epsilon: ε, at least 0.
        guesses: Guesses at most.

    Returns:
        The best point met for each row, measured without ε, shape [r, m].

    Source: Júdice & Pires, Computers & Operations Research 21(5), 1994.
    Cost: per guess 2rm² multiply-adds and r solves of the size of the row's free set.
    """
    shifted = cosines + epsilon * np.eye(len(cosines))
    best, residual = start.copy(), residuals(cosines, rows, start)
    active = np.flatnonzero(~finished(residual))
    bounds, center = rows[active], start[active]
    point, multipliers = center, product(center, cosines)
    for _ in range(guesses):
        if active.size == 0:
            break
        free = point - bounds > multipliers + epsilon * (point - center)
        point = np.where(free, point, bounds)
        slope = product(point, cosines) + epsilon * (point - center)
        for k in range(len(active)):
            _step(shifted, free[k], slope[k], point[k])
        multipliers = product(point, cosines)
        reached = certificate(bounds, point, multipliers).residual
        better = reached < residual[active]
        best[active[better]] = point[better]
        residual[active[better]] = reached[better]
        keep = ~finished(reached)
        active, bounds, center = active[keep], bounds[keep], center[keep]
        point, multipliers = point[keep], multipliers[keep]
    return best


def _step(shifted: Array, free: NDArray[np.bool_], slope: Array, point: Array) -> None:
    """Move the free entries of one row to where their slope vanishes.

    A sub-matrix that is not positive definite to rounding leaves the row as it is; its residual
    then sends it to least squares.
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
