"""The best worst gain within a ball around the mean gradient, by least squares on a factor."""

import numpy as np
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg.dense import cholesky, product, solve_factored
from engines.linalg.dual_cone import project_rows
from engines.linalg.gramian import check_finite_gramian, nearest_psd, unit_diagonal
from engines.linalg.non_negative import non_negative

Array = NDArray[np.float64]

# Length of the mean gradient, and of the shortest convex combination of unit gradients, that are
# rounding of the Gramian: about the square root of that of its entries.
_NO_LENGTH = 1e-7
# Added to the diagonal of the cosines so that they have a triangular factor: about what computing
# them leaves there, or else, for each row, twice what `nearest_psd` may leave below zero.
_RIDGE = 2.0**-51
_RIDGE_PER_ROW = 2.0**-50
_FEWEST_ROWS = 10
# For the search only: equal gradients have no unique multipliers.
_REGULARIZATION = 1e-12
# Least-squares problems for one answer; six are usual.
_ROUNDS = 100
# Share of the radius by which rounding may move the point that is nearest to the centre.
_ROUNDING = 1e-9
# Residuals: done, done if a round gains nothing, and refused.
_FINISHED = 1e-15
_STALLED = 1e-12
_REFUSED = 1e-10
# By how much the height grows while no upper end is known.
_GROWTH = 8.0


class _Ball:
    """Maximise v subject to u_i · d >= v p_i and |d - e| <= c, where |e| = 1.

    The answer is d = e + Σ λ_i u_i with λ >= 0. For a fixed v, λ is the solution of a
    least-squares problem; it is made to have a bounded solution for every v by fixing the height
    h = v + pᵀλ instead: λ(h) minimises |Rλ + e|² + (pᵀλ - h)² over λ >= 0. Both v and |Rλ| grow
    with h, and |Rλ| = c is to be found.
    """

    def __init__(self, cosines: Array, prices: Array, centre: Array, radius: float) -> None:
        self.prices = prices
        self.radius = radius
        self.cosines, self.factor = _factored(cosines)
        self.lifted = np.vstack([self.factor, prices])
        self.centre = product(self.factor, centre)
        self.terms = float(centre.sum())
        self.inner = product(cosines, centre)

    def length(self, multipliers: Array) -> float:
        """|Rλ|, how far d is from the centre."""
        return float(np.linalg.norm(product(self.factor, multipliers)))

    def least_squares(self, centre: Array, height: float) -> Array:
        """The λ >= 0 that minimises |Rλ + e|² + (pᵀλ - h)², shape [k]."""
        target = np.append(-centre, height)
        return non_negative(self.lifted, target)

    def contains_origin(self) -> bool:
        """Whether a convex combination of the gradients is 0 up to rounding."""
        shortest = self.least_squares(np.zeros_like(self.centre), 1.0)
        return self.length(shortest) <= _NO_LENGTH * float(shortest.sum())

    def residual(self, multipliers: Array, height: float) -> float:
        """How far multipliers are from optimal, relative to the sizes that are added up."""
        value = height - float(self.prices @ multipliers)
        slack = product(self.cosines, multipliers) + self.inner - value * self.prices
        # In every entry both are at least 0 and one of them is 0.
        gap = float(np.abs(np.minimum(multipliers, slack)).max())
        off = abs(self.length(multipliers) - self.radius)
        return max(gap, off) / (self.terms + float(multipliers.sum()))

    def step(self, multipliers: Array) -> float:
        """The change of h after which |Rλ| = c if the gradients in use stay the same, or NaN."""
        use = np.flatnonzero(multipliers > 0)
        prices = self.prices[use]
        block = self.cosines[np.ix_(use, use)] + np.outer(prices, prices)
        factor, status = cholesky(block + _REGULARIZATION * np.eye(len(use)))
        if use.size == 0 or status != 0:
            return np.nan
        rate = np.zeros_like(multipliers)
        rate[use] = solve_factored(factor, prices)
        moved = product(self.factor, rate)
        reached = product(self.factor, multipliers)
        length = float(np.linalg.norm(reached))
        # |reached + Δ moved| = c, in the form that does not cancel for a small Δ.
        middle = float(reached @ moved)
        left = (self.radius - length) * (self.radius + length)
        root = middle * middle + float(moved @ moved) * left
        if root < 0 or middle + np.sqrt(root) <= 0:
            return np.nan
        return left / (middle + float(np.sqrt(root)))

    def solve(self, start: Array) -> Array:
        """Follow the gradients in use until |Rλ| = c.

        Args:
            start: λ for v = 0, shape [k].

        Returns:
            λ, shape [k].

        Raises:
            SolverError: The optimality conditions were not met to rounding.
        """
        multipliers, height = start, float(self.prices @ start)
        low, high = float((self.inner / self.prices).min()), np.inf
        best, reached = start, np.inf
        for _ in range(_ROUNDS):
            residual, earlier = self.residual(multipliers, height), reached
            if residual < reached:
                best, reached = multipliers, residual
            if reached <= _FINISHED or earlier <= min(_STALLED, residual):
                break
            if self.length(multipliers) < self.radius:
                low = max(low, height)
            else:
                high = min(high, height)
            ahead = height + self.step(multipliers)
            if not low < ahead < high:
                ahead = 0.5 * (low + high) if np.isfinite(high) else max(low, 1.0) * _GROWTH
            height = ahead
            multipliers = self.least_squares(self.centre, height)
        if not reached <= _REFUSED:
            raise SolverError(
                f"got a residual of {reached:.1e} after {_ROUNDS} least-squares problems for "
                f"{len(self.prices)} gradients, expected at most {_REFUSED:.0e}, report the "
                "Gramian."
            )
        return best


def _factored(cosines: Array) -> tuple[Array, Array]:
    """The cosines with a ridge, and R with RᵀR equal to that; shapes [k, k]."""
    k = len(cosines)
    for ridge in (_RIDGE, max(k, _FEWEST_ROWS) * _RIDGE_PER_ROW):
        with_ridge = cosines + ridge * np.eye(k)
        factor, status = cholesky(with_ridge)
        if status == 0:
            return with_ridge, factor
    raise SolverError(
        f"got LAPACK status {status} factoring the cosines of {k} gradients, expected a positive "
        "definite matrix, report the Gramian."
    )


def ball_constrained_weights(gramian: Array, radius: float) -> Array:
    """Weights of the d with the largest minᵢ gᵢ · d subject to |d - g₀| <= c|g₀|, g₀ the mean.

    Where a convex combination of the gradients is 0, no d gains for all; if the ball contains any
    d with gᵢ · d >= 0 for all i, all of these are optimal, and the one nearest to g₀ is taken.
    A gradient that is 0 gains 0 from every d and is left out of the minimum, not of the mean.

    The problem is scaled to gradients of length 1 first; this changes the coordinates and not the
    solution.

    Args:
        gramian: G = J Jᵀ, shape [m, m].
        radius: c, at least 0.

    Returns:
        Weights, shape [m], at least 1/m each; all 0 where g₀ is 0 up to the rounding of G.

    Raises:
        NonFiniteGradientError: G has NaN or infinity.
        SolverError: Least squares failed, or no support was optimal to rounding.
        ValueError: G is not a Gramian.

    Source: Liu et al., arXiv 2110.14048, Algorithm 1. Lawson & Hanson, Solving Least
        Squares Problems, 1974, Chapter 23.
    Cost: about six non-negative least-squares problems, each m²k multiply-adds for k gradients in
        use.
    """
    check_finite_gramian(gramian)
    cosines, norms = unit_diagonal(gramian)
    m = len(norms)
    weights = np.full(m, 1.0 / max(1, m))
    rows = np.flatnonzero(norms > 0)
    if rows.size == 0 or radius == 0:
        return weights
    lengths = norms[rows] / norms.max()
    cosines = nearest_psd(cosines[np.ix_(rows, rows)])
    centre = lengths / m
    size = float(np.sqrt(max(0.0, float(centre @ product(cosines, centre)))))
    if size <= _NO_LENGTH * float(centre.sum()):
        return np.zeros(m)
    ball = _Ball(cosines, lengths.min() / lengths, centre / size, radius)
    projected = project_rows(gramian, weights[None])[0]
    nearest = (projected - weights)[rows] * lengths / size
    multipliers = nearest
    if ball.length(nearest) > (1.0 + _ROUNDING) * radius or not ball.contains_origin():
        multipliers = ball.solve(nearest)
    weights[rows] += multipliers * size / lengths
    return weights
