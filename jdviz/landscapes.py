"""Problems of two parameters and two objectives, small enough to be drawn, with known fronts.

Three are those of TorchJD's trajectories, with the same matrices, starts, rates and steps; the
fourth is not convex. Points are rows, so every function takes any number of them at once.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Range = tuple[float, float]
Point = tuple[float, float]

#: How long a step of a method is beside that of the mean, so that one rate serves all. From the
#: table of TorchJD's trajectories (github.com/SimplexLab/TorchJD, tests/trajectories).
_MULTIPLIERS = {"MGDA": 2.0, "NashMTL": 2.0, "GradDrop": 0.5, "AlignedMTL": 4.0, "PCGrad": 0.5}

#: Points of the front among which the closest one is looked for before it is refined.
_COARSE = 257
#: The golden section leaves 0.618²⁵ = 6e-6 of the bracket. On what is left, 5e-8 of the front, a
#: chord is as good as the curve: they are 1e-15 of the front's length apart.
_REFINEMENTS = 25
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, eq=False)
class Landscape:
    """One problem.

    Attributes:
        key: Its name in an address.
        title: Its name on a page.
        formula: Its objectives in plain Unicode.
        front: Its Pareto set and front, in a sentence.
        source: Where it is from.
        frame: Least and greatest value of either parameter on a picture.
        starts: Five points to begin from, the telling ones first.
        count: How many of them are used to begin with.
        rate: Learning rate to begin with.
        steps: Steps to begin with.
        values: Maps points x, shape [..., 2], to f(x), shape [..., 2].
        jacobian: Maps points, shape [..., 2], to one gradient a row, shape [..., 2, 2].
        pareto: Maps shares t from 0 (the minimum of f₁) to 1 (that of f₂), shape [...], to points
            of the Pareto set, shape [..., 2].
        multipliers: Of the learning rate, for methods whose steps are shorter or longer.
    """

    key: str
    title: str
    formula: str
    front: str
    source: str
    frame: tuple[Range, Range]
    starts: tuple[Point, ...]
    count: int
    rate: float
    steps: int
    values: Callable[[ArrayLike], Array]
    jacobian: Callable[[ArrayLike], Array]
    pareto: Callable[[ArrayLike], Array]
    multipliers: Mapping[str, float] = field(default_factory=lambda: dict(_MULTIPLIERS))

    def rate_of(self, method: str) -> float:
        """The learning rate with which a method's steps are as long as the others'.

        Args:
            method: Key of `engines.aggregation.METHODS`.
        """
        return self.rate * self.multipliers.get(method, 1.0)

    def pareto_set(self, k: int) -> Array:
        """Points of the Pareto set from the minimum of f₁ to that of f₂, shape [k, 2]."""
        return self.pareto(np.linspace(0.0, 1.0, k))

    def pareto_front(self, k: int) -> Array:
        """The values of `pareto_set`, shape [k, 2]."""
        return self.values(self.pareto_set(k))

    def grid(self, n: int) -> tuple[Array, Array]:
        """Places from end to end of either side of the frame, shape [n] each.

        With an even n none of them is at zero in a symmetric frame, where gradients may vanish.
        """
        first, second = (np.linspace(low, high, n) for low, high in self.frame)
        return first, second

    def cosines(self, n: int) -> Array:
        """Cosine of the two gradients over the grid, a row for each x₂, shape [n, n].

        NaN where a gradient is zero.
        """
        first, second = self.grid(n)
        rows = self.jacobian(np.stack(np.meshgrid(first, second), axis=-1))
        lengths = np.linalg.norm(rows, axis=-1).prod(axis=-1)
        inner = (rows[..., 0, :] * rows[..., 1, :]).sum(axis=-1)
        known = lengths > 0
        found: Array = np.full(lengths.shape, np.nan)
        np.divide(inner, lengths, out=found, where=known)
        return found.clip(-1.0, 1.0)

    def distances(self, values: ArrayLike) -> Array:
        """Euclidean distance from points of objective space to the Pareto front.

        The closest of 257 points of the front, then a golden section between its neighbours, then
        the distance to the chord of what is left.

        Args:
            values: f(x), shape [k, 2].

        Returns:
            Shape [k].
        """
        points = np.asarray(values, dtype=np.float64)
        shares = np.linspace(0.0, 1.0, _COARSE)
        front = self.values(self.pareto(shares))
        squares = (points[:, None, 0] - front[:, 0]) ** 2 + (points[:, None, 1] - front[:, 1]) ** 2
        closest = shares[squares.argmin(axis=1)]
        low = np.maximum(closest - shares[1], 0.0)
        high = np.minimum(closest + shares[1], 1.0)
        low, high = self._narrowed(points, low, high)
        to_chord = _distances_to_chords(
            points, self.values(self.pareto(low)), self.values(self.pareto(high))
        )
        return np.minimum(np.sqrt(squares.min(axis=1)), to_chord)

    def _narrowed(self, points: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """Shares between which the closest point of the front is, shape [k] each."""

        def square(share: Array) -> Array:
            found: Array = ((self.values(self.pareto(share)) - points) ** 2).sum(axis=-1)
            return found

        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        at_left, at_right = square(left), square(right)
        for _ in range(_REFINEMENTS):
            lower = at_left < at_right
            high, low = np.where(lower, right, high), np.where(lower, low, left)
            kept, seen = np.where(lower, left, right), np.where(lower, at_left, at_right)
            fresh = low + high - kept
            at_fresh = square(fresh)
            before = fresh < kept
            left, right = np.where(before, fresh, kept), np.where(before, kept, fresh)
            at_left, at_right = np.where(before, at_fresh, seen), np.where(before, seen, at_fresh)
        return low, high


def _distances_to_chords(points: Array, begins: Array, ends: Array) -> Array:
    """Distance of each point to the segment between two others, shape [k]."""
    along, away = ends - begins, points - begins
    squares = (along**2).sum(axis=-1)
    share = np.zeros(len(points))
    np.divide((away * along).sum(axis=-1), squares, out=share, where=squares > 0)
    found: Array = np.linalg.norm(away - share.clip(0.0, 1.0)[:, None] * along, axis=-1)
    return found


@dataclass(frozen=True, eq=False)
class _QuadraticForms:
    """fᵢ(x) = (x − uᵢ)ᵀ Aᵢ (x − uᵢ) with symmetric positive definite Aᵢ.

    A point is Pareto optimal where w₁A₁(x − u₁) + w₂A₂(x − u₂) = 0 for weights that are not
    negative, which is a linear system with one solution. The weights are (1 − t)² and t² over the
    traces: with plain shares most points of the set would lie in one corner of it.

    Attributes:
        A: The matrices, shape [2, 2, 2].
        u: The minima, a row each, shape [2, 2].
    """

    A: Array
    u: Array

    def values(self, x: ArrayLike) -> Array:
        away = np.asarray(x, dtype=np.float64)[..., None, :] - self.u
        found: Array = (away * (self.A @ away[..., None])[..., 0]).sum(axis=-1)
        return found

    def jacobian(self, x: ArrayLike) -> Array:
        away = np.asarray(x, dtype=np.float64)[..., None, :] - self.u
        rows: Array = 2.0 * (self.A @ away[..., None])[..., 0]
        return rows

    def pareto(self, t: ArrayLike) -> Array:
        share = np.asarray(t, dtype=np.float64)[..., None, None]
        scaled = self.A / np.trace(self.A, axis1=1, axis2=2)[:, None, None]
        first, second = (1.0 - share) ** 2, share**2
        matrix = first * scaled[0] + second * scaled[1]
        pulls = scaled @ self.u[..., None]
        return np.linalg.solve(matrix, first * pulls[0] + second * pulls[1])[..., 0]


class _Squares:
    """fᵢ(x) = xᵢ²: one point is best for both."""

    def values(self, x: ArrayLike) -> Array:
        return np.asarray(x, dtype=np.float64) ** 2

    def jacobian(self, x: ArrayLike) -> Array:
        point = np.asarray(x, dtype=np.float64)
        return 2.0 * point[..., None, :] * np.eye(2)

    def pareto(self, t: ArrayLike) -> Array:
        return np.zeros((*np.shape(t), 2))


@dataclass(frozen=True)
class _Bells:
    """fᵢ(x) = 1 − exp(−‖x − cᵢ‖²) with c₁ = −c₂ on the diagonal: two wells in a plain.

    Attributes:
        centre: Either coordinate of c₁.
    """

    centre: float

    def _parts(self, x: ArrayLike) -> tuple[Array, Array]:
        sides = np.array([[self.centre] * 2, [-self.centre] * 2])
        away = np.asarray(x, dtype=np.float64)[..., None, :] - sides
        return away, np.exp(-(away**2).sum(axis=-1))

    def values(self, x: ArrayLike) -> Array:
        away, _ = self._parts(x)
        return -np.expm1(-(away**2).sum(axis=-1))

    def jacobian(self, x: ArrayLike) -> Array:
        away, heights = self._parts(x)
        return 2.0 * away * heights[..., None]

    def pareto(self, t: ArrayLike) -> Array:
        place = self.centre * (1.0 - 2.0 * np.asarray(t, dtype=np.float64))
        return np.stack([place, place], axis=-1)


_TORCHJD = "TorchJD's trajectories (github.com/SimplexLab/TorchJD, tests/trajectories)"
_EWQ = _Squares()
_CQF = _QuadraticForms(
    np.array([[[1.0, 0.2], [0.2, 0.05]], [[3.0, -0.6], [-0.6, 0.2]]]),
    np.array([[1.0, 0.0], [-1.0, 0.0]]),
)
_HQF_MATRIX = np.array([[2.0, -1.0], [-1.0, 2.0]])
_HQF = _QuadraticForms(
    np.stack([_HQF_MATRIX, 10.0 * _HQF_MATRIX]), np.array([[1.0, 0.0], [-10.0, 0.0]])
)
_FONSECA = _Bells(math.sqrt(0.5))

#: Every problem by its key.
LANDSCAPES: Mapping[str, Landscape] = MappingProxyType(
    {
        one.key: one
        for one in (
            Landscape(
                key="cqf",
                title="Convex quadratic forms",
                formula="fᵢ(x) = (x − uᵢ)ᵀ Aᵢ (x − uᵢ), A₁ = [1 0.2; 0.2 0.05], "
                "A₂ = [3 −0.6; −0.6 0.2], u₁ = (1, 0), u₂ = (−1, 0)",
                front="The Pareto set is the curve ((1 − t) A₁ + t A₂)⁻¹ ((1 − t) A₁u₁ + t A₂u₂), "
                "0 ≤ t ≤ 1.",
                source=_TORCHJD,
                frame=((-2.0, 2.0), (-3.0, 8.0)),
                starts=((-0.3, 7.0), (0.5, 0.5), (0.0, 0.0), (1.5, 5.0), (-1.5, -2.0)),
                count=3,
                rate=0.125,
                steps=200,
                values=_CQF.values,
                jacobian=_CQF.jacobian,
                pareto=_CQF.pareto,
                multipliers={**_MULTIPLIERS, "NashMTL": 0.5},
            ),
            Landscape(
                key="hqf",
                title="One quadratic form at two scales",
                formula="f₁(x) = (x − u₁)ᵀ A (x − u₁), f₂(x) = 10 (x − u₂)ᵀ A (x − u₂), "
                "A = [2 −1; −1 2], u₁ = (1, 0), u₂ = (−10, 0)",
                front="The Pareto set is the segment from u₁ to u₂; on the front, "
                "√(f₁/242) + √(f₂/2420) = 1.",
                source=_TORCHJD,
                frame=((-12.0, 6.0), (-8.0, 8.0)),
                starts=((-6.0, 4.0), (-3.0, -1.5), (2.5, 5.5), (1.5, 2.0), (4.0, -6.0)),
                count=3,
                rate=0.005,
                steps=100,
                values=_HQF.values,
                jacobian=_HQF.jacobian,
                pareto=_HQF.pareto,
                multipliers={**_MULTIPLIERS, "NashMTL": 20.0, "IMTLG": 2.0},
            ),
            Landscape(
                key="ewq",
                title="Element-wise quadratic",
                formula="f₁(x) = x₁², f₂(x) = x₂²",
                front="The Pareto set is one point, x = (0, 0), best for both objectives.",
                source=_TORCHJD,
                frame=((-5.0, 5.0), (-5.0, 5.0)),
                starts=((3.0, -2.0), (-4.0, 4.0), (-3.5, -0.75), (0.0, -3.0), (-3.0, 4.0)),
                count=3,
                rate=0.075,
                steps=50,
                values=_EWQ.values,
                jacobian=_EWQ.jacobian,
                pareto=_EWQ.pareto,
            ),
            Landscape(
                key="fonseca",
                title="Fonseca and Fleming, not convex",
                formula="f₁(x) = 1 − exp(−‖x − c‖²), f₂(x) = 1 − exp(−‖x + c‖²), c = (1, 1)/√2",
                front="The Pareto set is the segment from c to −c; on the front, "
                "√(−ln(1 − f₁)) + √(−ln(1 − f₂)) = 2.",
                source="Fonseca and Fleming, An Overview of Evolutionary Algorithms in "
                "Multiobjective Optimization, Evolutionary Computation 3(1), 1995",
                frame=((-2.0, 2.0), (-2.0, 2.0)),
                starts=((1.2, -0.6), (-1.5, 0.3), (0.2, 1.6), (1.8, -1.8), (-0.4, -0.3)),
                count=3,
                rate=0.2,
                steps=100,
                values=_FONSECA.values,
                jacobian=_FONSECA.jacobian,
                pareto=_FONSECA.pareto,
            ),
        )
    }
)
