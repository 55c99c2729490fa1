"""When a projection is right: the optimality conditions and the rounding they allow.

For min wᵀCw subject to w >= u, with the multiplier λ = Cw, a point is optimal exactly when
min(w - u, λ) = 0 in every entry.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A row is finished at this residual, relative to 1 + Σ|w|. A point with relative residual δ is the
# exact solution for a Gramian that differs from C by about δ, so this says: C to some roundings.
# Larger ones are not harmless: the error of the direction is δΣ|w| over the square root of the
# smallest eigenvalue in use, and near opposed gradients both factors are large.
_FINISHED = 1e-15
# A row is refused above this one; the worst row of 23,000 random Gramians had 7e-15.
REFUSED = 1e-13


def residuals(cosines: Array, rows: Array, solution: Array) -> Array:
    """How far each row is from optimality, relative to the rounding of its own products.

    Args:
        cosines: C, shape [m, m].
        rows: Lower bounds u, shape [r, m].
        solution: Candidates w, shape [r, m].

    Returns:
        max_k |min(w_k - u_k, (Cw)_k)| / (1 + Σ_k |w_k|), shape [r].
    """
    return natural_residuals(rows, solution, solution @ cosines)


def natural_residuals(rows: Array, solution: Array, multipliers: Array) -> Array:
    """The same when the multipliers λ are at hand.

    Args:
        rows: Shape [r, m].
        solution: Shape [r, m].
        multipliers: λ = Cw, shape [r, m].

    Returns:
        Relative residuals, shape [r].
    """
    gap = np.abs(np.minimum(solution - rows, multipliers)).max(axis=1, initial=0.0)
    return np.asarray(gap / (1.0 + np.abs(solution).sum(axis=1)))


def finished(residual: Array) -> NDArray[np.bool_]:
    """Rows that are optimal to rounding.

    Args:
        residual: Relative residuals, shape [r].

    Returns:
        Shape [r].
    """
    return residual <= _FINISHED


def refused(residual: Array) -> NDArray[np.bool_]:
    """Rows that no caller should use.

    Args:
        residual: Relative residuals, shape [r].

    Returns:
        Shape [r]; NaN counts as refused.
    """
    return ~(residual <= REFUSED)
