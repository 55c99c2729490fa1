"""Jacobians sampled by rank, scale and conflict, and a projection in rational arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# (m, n, rank): single row, few and many objectives, wide and tall, full and deficient rank.
SHAPES = (
    (1, 1, 1),
    (2, 3, 2),
    (4, 3, 2),
    (4, 3, 3),
    (5, 20, 5),
    (9, 11, 5),
    (16, 6, 6),
    (20, 40, 20),
)
# Length of the longest row over that of the shortest.
RATIOS = (1.0, 1e3, 1e6)
CONFLICTS = ("none", "random", "strong", "stationary")


@dataclass(frozen=True, eq=False)
class SampledMatrix:
    """A Jacobian and what it was sampled to be.

    Attributes:
        matrix: Shape [m, n].
        rank: Its rank (a stationary one may have one less).
        ratio: Longest row over shortest row.
        conflict: "none": all inner products are non-negative; "random": as they fall; "strong":
            most pairs are at more than 90 degrees; "stationary": a convex combination is 0.
    """

    matrix: Array
    rank: int
    ratio: float
    conflict: str

    @property
    def name(self) -> str:
        """A short label for test ids."""
        m, n = self.matrix.shape
        return f"{m}x{n}-rank{self.rank}-ratio{self.ratio:.0e}-{self.conflict}"


def sample(shape: tuple[int, int, int], ratio: float, conflict: str, seed: int) -> SampledMatrix:
    """One matrix of the given kind.

    Args:
        shape: m, n and the rank.
        ratio: Longest row over shortest row.
        conflict: See `SampledMatrix`.
        seed: Of the random generator.

    Returns:
        The matrix.
    """
    m, n, rank = shape
    rng = np.random.default_rng([seed, m, n, rank])
    left, right = rng.normal(size=(m, rank)), np.linalg.qr(rng.normal(size=(n, rank)))[0].T
    if conflict == "none":
        left = np.abs(left)
    elif conflict == "strong":
        # Rows spread around the origin, with a small common part so that a way out remains.
        left = left - left.mean(axis=0) + 0.05 * rng.normal(size=rank)
    elif conflict == "stationary" and m > 1:
        left[-1] = -left[:-1].mean(axis=0)
    matrix = left @ right
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    scales = np.logspace(0.0, np.log10(ratio), m)[rng.permutation(m)][:, None]
    return SampledMatrix(matrix / lengths * scales, rank, ratio, conflict)


def sampled_matrices() -> tuple[SampledMatrix, ...]:
    """Every shape with every ratio and every kind of conflict.

    Returns:
        The matrices, the same ones in every process.
    """
    return tuple(
        sample(shape, ratio, conflict, seed)
        for seed, shape in enumerate(SHAPES)
        for ratio in RATIOS
        for conflict in CONFLICTS
    )


def gramian_of(matrix: Array) -> Array:
    """J Jᵀ.

    Args:
        matrix: Shape [m, n].

    Returns:
        Shape [m, m].
    """
    return matrix @ matrix.T


def nearly_opposed(m: int, gap: float, seed: int) -> Array:
    """A random matrix whose first row is the opposite of the second up to `gap`.

    Args:
        m: Rows and columns, at least 2.
        gap: Share of the first row that is its own.
        seed: Of the random generator.

    Returns:
        Shape [m, m].
    """
    matrix = np.random.default_rng([seed, m]).normal(size=(m, m))
    matrix[0] = gap * matrix[0] - matrix[1]
    return matrix


def few_entries(m: int, n: int, seed: int) -> Array:
    """Rows with two entries each, as sparse features give: many are equal, opposed or dependent.

    Args:
        m: Rows.
        n: Columns, at least 2.
        seed: Of the random generator.

    Returns:
        Shape [m, n].
    """
    rng = np.random.default_rng([seed, m, n])
    matrix = np.zeros((m, n))
    for row in matrix:
        row[rng.choice(n, 2, replace=False)] = rng.normal()
    return matrix


def exact_projection(gramian: Array, row: Array) -> Array:
    """Minimise wᵀGw subject to w >= u without rounding, by trying every active set.

    Args:
        gramian: G, positive definite, shape [m, m]; at most 2^m systems are solved.
        row: Lower bounds u, shape [m].

    Returns:
        The minimiser, each entry rounded once, shape [m].

    Raises:
        ArithmeticError: No active set fits, so G is not positive definite.
    """
    g = [[Fraction(float(x)) for x in line] for line in gramian]
    u = [Fraction(float(x)) for x in row]
    every = range(len(u))
    for size in range(len(u) + 1):
        for free in combinations(every, size):
            held = [i for i in every if i not in free]
            right = [-sum((g[i][j] * u[j] for j in held), Fraction(0)) for i in free]
            z = _solve_rational([[g[i][j] for j in free] for i in free], right)
            if z is None:
                continue
            w = list(u)
            for i, value in zip(free, z, strict=True):
                w[i] = value
            above = all(w[i] >= u[i] for i in free)
            if above and all(sum(g[i][j] * w[j] for j in every) >= 0 for i in held):
                return np.array([float(x) for x in w])
    raise ArithmeticError("got no active set that fits, expected a positive definite Gramian.")


def gramian_limit(matrix: Array, gramian: Array, rows: Array) -> float:
    """How far the projections move when each entry of a Gramian moves by one rounding.

    Args:
        matrix: J, shape [m, n].
        gramian: J Jᵀ as rounded, shape [m, m].
        rows: Combinations, shape [r, m].

    Returns:
        Sum over the entries on and above the diagonal of the largest move of Jᵀw over the rows.
    """
    whole = np.array([exact_projection(gramian, row) for row in rows])
    total = 0.0
    for i in range(len(gramian)):
        for j in range(i, len(gramian)):
            moved = gramian.copy()
            moved[i, j] = moved[j, i] = gramian[i, j] * (1 + 2.0**-52)
            found = np.array([exact_projection(moved, row) for row in rows])
            total += float(np.linalg.norm((found - whole) @ matrix, axis=1).max())
    return total


def _solve_rational(
    matrix: Sequence[Sequence[Fraction]], right: Sequence[Fraction]
) -> list[Fraction] | None:
    """Gauss-Jordan elimination; None for a singular matrix."""
    work = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for i in range(len(work)):
        chosen = next((k for k in range(i, len(work)) if work[k][i] != 0), None)
        if chosen is None:
            return None
        work[i], work[chosen] = work[chosen], work[i]
        for k in range(len(work)):
            if k != i and work[k][i] != 0:
                factor = work[k][i] / work[i][i]
                work[k] = [x - factor * y for x, y in zip(work[k], work[i], strict=True)]
    return [line[-1] / line[i] for i, line in enumerate(work)]
