"""When a projection is right: the optimality conditions and the rounding they allow.

For min wᵀCw subject to w >= u, with the multiplier λ = Cw, a point is optimal exactly when
w - u >= 0, λ >= 0, and in every entry one of the two is 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.linalg.dense import product

Array = NDArray[np.float64]

# A row is finished at this residual, relative to 1 + Σ|w|. A point with relative residual δ is the
# exact solution for a Gramian that differs from C by about δ, so this says: C to some roundings.
# Larger ones are not harmless: the error of the direction is δΣ|w| over the square root of the
# smallest eigenvalue in use, and near opposed gradients both factors are large.
FINISHED = 1e-15
# A row is refused above this one; the worst row of 23,000 random Gramians had 7e-15.
REFUSED = 1e-13


@dataclass(frozen=True, eq=False)
class Certificate:
    """How far each row is from optimality, relative to 1 + Σₖ|wₖ|.

    Attributes:
        slack: w - u, shape [r, m].
        multipliers: λ = Cw, shape [r, m].
        size: 1 + Σₖ|wₖ|, shape [r].
    """

    slack: Array
    multipliers: Array
    size: Array

    @property
    def primal(self) -> Array:
        """By how much w falls below its bound, the most over the entries, shape [r]."""
        return self._most(-self.slack)

    @property
    def dual(self) -> Array:
        """By how much the multiplier falls below 0, the most over the entries, shape [r]."""
        return self._most(-self.multipliers)

    @property
    def complementarity(self) -> Array:
        """The smaller of slack and multiplier, the most over the entries, shape [r].

        It is 0 where in each entry one of the two is 0.
        """
        return self._most(np.minimum(self.slack, self.multipliers))

    @property
    def residual(self) -> Array:
        """The largest of the three, max_k |min(w_k - u_k, λ_k)| / size, shape [r]."""
        gap = np.abs(np.minimum(self.slack, self.multipliers)).max(axis=1, initial=0.0)
        return np.asarray(gap / self.size)

    def _most(self, violation: Array) -> Array:
        """The largest entry of each row that is above 0, else 0; NaN stays."""
        return np.asarray(violation.max(axis=1, initial=0.0) / self.size)


def certificate(rows: Array, solution: Array, multipliers: Array) -> Certificate:
    """How far each row is from optimality.

    Args:
        rows: Lower bounds u, shape [r, m].
        solution: Candidates w, shape [r, m].
        multipliers: λ = Cw, shape [r, m].

    Returns:
        The residuals of each row.
    """
    return Certificate(solution - rows, multipliers, 1.0 + np.abs(solution).sum(axis=1))


def residuals(cosines: Array, rows: Array, solution: Array) -> Array:
    """The largest residual of each row.

    Args:
        cosines: C, shape [m, m].
        rows: Lower bounds u, shape [r, m].
        solution: Candidates w, shape [r, m].

    Returns:
        Relative residuals, shape [r].
    """
    return certificate(rows, solution, product(solution, cosines)).residual


def finished(residual: Array) -> NDArray[np.bool_]:
    """Rows that are optimal to rounding.

    Args:
        residual: Relative residuals, shape [r].

    Returns:
        Shape [r].
    """
    return residual <= FINISHED


def refused(residual: Array) -> NDArray[np.bool_]:
    """Rows that no caller should use.

    Args:
        residual: Relative residuals, shape [r].

    Returns:
        Shape [r]; NaN counts as refused.
    """
    return ~(residual <= REFUSED)
