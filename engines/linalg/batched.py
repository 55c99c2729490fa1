"""Projection of all rows together by block pivoting."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from engines.linalg.pivoting import pivot

Array = NDArray[np.float64]

# A non-singular problem needs no proximal term; the second stage takes off what 1e-13 leaves.
_DIRECT = (1e-13, 1e-13)
_DIRECT_PASSES = 9
# Squared pivots of the Cholesky factor below this mean a singular matrix.
_SINGULAR = 1e-9


def solve_batched(cosines: Array, rows: Array) -> Array:
    """Minimise wᵀCw subject to w >= u for all rows together, as far as pivoting gets.

    Args:
        cosines: C, positive semidefinite with unit diagonal, shape [m, m].
        rows: Lower bounds u, shape [r, m].

    Returns:
        Candidates w, shape [r, m]: minimisers, but for rows whose active set pivoting did not
        find, and for all rows of a singular C; `settle` solves those.

    Source: see `pivot`; Quinton & Rey, arXiv 2406.16232, Proposition 1, for the problem.
    Cost: about 10 passes of 2rm² multiply-adds and r small solves.
    """
    if _is_singular(cosines):
        # Approaching the active sets by coarse proximal stages took as long as least squares from
        # the start, and found few of them to the last digit.
        return rows.copy()
    solution, _ = pivot(cosines, rows, rows, _DIRECT, _DIRECT_PASSES)
    return np.maximum(solution, rows)


def _is_singular(cosines: Array) -> bool:
    """Whether a symmetric positive semidefinite matrix is singular for our purposes."""
    factor, status = lapack.dpotrf(cosines)
    return bool(status != 0 or np.diagonal(factor).min() ** 2 < _SINGULAR)
