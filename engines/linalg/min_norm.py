"""The shortest convex combination of gradients, from their Gramian."""

import numpy as np
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg.dense import cholesky, product, solve_factored
from engines.linalg.gramian import check_finite_gramian, nearest_psd, unit_diagonal
from engines.linalg.least_squares import psd_factor
from engines.linalg.non_negative import non_negative

Array = NDArray[np.float64]

# Rounding of one inner product of unit vectors, times a margin.
_ROUNDING = 1e-14
# Ratio of the pivots of a Cholesky factor below which its solution has lost half of its digits.
_SINGULAR = 1e-4


def min_norm_weights(gramian: Array, epsilon: float, max_iters: int) -> Array:
    """Weights α >= 0 with sum 1 that minimise αᵀGα.

    Frank-Wolfe in its fully corrective form (Wolfe's method): each iteration adds the gradient
    that the current combination serves worst, then minimises exactly over the gradients in use. It
    starts where non-negative least squares, which does the same on a factor of G, leaves off.

    Args:
        gramian: G = J Jᵀ, shape [m, m].
        epsilon: Stop when every g_i · A >= (1 - ε²)|A|², A being the combination; A is then within
            ε|A| of the shortest one.
        max_iters: Gradients added at most; when it is reached the combination so far is returned.

    Returns:
        α, shape [m].

    Raises:
        NonFiniteGradientError: G has NaN or infinity.
        SolverError: LAPACK failed on the gradients in use.
        ValueError: G is not a Gramian.

    Source: Wolfe, Mathematical Programming 11, 1976; as the quadratic problem of Désidéri,
        Comptes Rendus Mathématique 350, 2012.
    Cost: m³/3 multiply-adds for the factor and about m²k for k gradients in use, then a solve of
        their size for each iteration that is left, usually none.
    """
    check_finite_gramian(gramian)
    cosines, norms = unit_diagonal(gramian)
    m = len(norms)
    if m == 0:
        return np.zeros(0)
    if (norms == 0).any():
        # The hull contains the origin: nothing is shorter.
        return (norms == 0) / np.count_nonzero(norms == 0)
    cosines = nearest_psd(cosines)
    # In y = α·norms the gradients have length 1 and the constraint reads p · y = 1.
    prices = norms.min() / norms
    y = _start(cosines, prices)
    for _ in range(max_iters):
        inner = product(cosines, y)
        squared = float(y @ inner)
        margin = inner - (1.0 - epsilon**2) * squared * prices
        if (margin >= -_ROUNDING * (1.0 + y.sum())).all():
            break
        entering = int(np.argmin(inner - squared * prices))
        if y[entering] > 0:
            break  # in use already: what is left is rounding
        y = _minimise_over(cosines, prices, y, entering)
    alpha = y * prices
    return np.asarray(alpha / alpha.sum())


def _start(cosines: Array, prices: Array) -> Array:
    """Nearly the shortest combination, with p · y = 1, shape [m].

    The y >= 0 that minimises |Ry|² + (p · y - 1)², with RᵀR = C, is a multiple of it.
    """
    factor = psd_factor(cosines)
    stacked = np.vstack([factor, prices])
    target = np.zeros(len(stacked))
    target[-1] = 1.0
    try:
        y = non_negative(stacked, target)
    except SolverError:
        y = np.zeros(len(prices))
    total = float(prices @ y)
    if total > 0:
        return np.asarray(y / total)
    # Not even a start: Wolfe's own, from the shortest gradient, whose price is 1.
    y = np.zeros(len(prices))
    y[int(np.argmax(prices))] = 1.0
    return y


def _minimise_over(cosines: Array, prices: Array, y: Array, entering: int) -> Array:
    """Wolfe's minor cycle: the shortest combination of the gradients in use and one more.

    The affine minimiser is found from (C + p pᵀ) z ∝ p, which is definite for every set that
    Wolfe's method visits, also where the combination vanishes.
    """
    use = y > 0
    use[entering] = True
    while True:
        index = np.flatnonzero(use)
        p = prices[index]
        block = cosines[np.ix_(index, index)] + np.outer(p, p)
        z = _solve(block, p)
        total = float(p @ z)
        if not np.isfinite(total) or total <= 0:
            raise SolverError(
                f"got a degenerate system for {len(index)} of {len(y)} gradients, expected a "
                "shortest combination, report the Gramian."
            )
        z /= total
        if (z > 0).all():
            result = np.zeros_like(y)
            result[index] = z
            return result
        old = y[index]
        falling = z <= 0
        # An entry that is 0 and stays 0 blocks at once.
        fall = old[falling] - z[falling]
        ratio = np.divide(old[falling], fall, out=np.zeros_like(fall), where=fall > 0)
        step = float(ratio.min(initial=1.0))
        moved = old + step * (z - old)
        moved[falling & (moved <= _ROUNDING)] = 0.0
        y = y.copy()
        y[index] = np.maximum(moved, 0.0)
        dropped = index[falling][int(np.argmin(ratio))]
        y[dropped] = 0.0
        use = y > 0
        if not use.any():
            raise SolverError(
                f"got an empty set of gradients out of {len(y)}, expected a shortest "
                "combination, report the Gramian."
            )


def _solve(block: Array, right: Array) -> Array:
    """Solve a positive semidefinite system; by least squares where it is close to singular."""
    factor, status = cholesky(block)
    pivots = np.diagonal(factor)
    if status == 0 and pivots.min() > _SINGULAR * pivots.max():
        return solve_factored(factor, right)
    return np.asarray(np.linalg.lstsq(block, right, rcond=None)[0])
