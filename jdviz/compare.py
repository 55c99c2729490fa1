"""What each aggregation method makes of one small Jacobian, for comparison side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.aggregation import METHODS, MethodRecord, WeightedAggregator
from engines.errors import EngineError
from jdviz.conflict import PARALLEL, ROUNDING, hurt_mask, without_rounding
from jdviz.construction import pcgrad_orders

RANDOM_DRAWS = 48

#: With up to this many gradients PCGrad is taken in every order: 8 for three, and 1296 for four.
MOST_IN_EVERY_ORDER = 3

#: Methods whose weights depend on the inner products of the gradients alone, so that a recorded
#: Gramian is enough to know what they do. The others work coordinate by coordinate.
GRAMIAN_METHODS = tuple(name for name, one in METHODS.items() if one.statistic != "jacobian")

NO_PARAMETERS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method does with a Jacobian J of shape [m, n].

    A method that draws random numbers is run several times, PCGrad with up to three gradients in
    every order; the other fields describe the mean, which is what many steps with it amount to. A
    method with memory is asked for its first step.

    Attributes:
        method: The method's name.
        draws: Directions A(J), shape [s, n]; s is 1 unless the method is random.
        drawn: What they are: "48 seeds", "8 orders"; empty for a method that is not random.
        direction: Their mean, shape [n].
        weights: Mean weights, shape [m]; None for a method without weights.
        inner: J·A(J), shape [m]: how fast each objective falls, negative for one that is hurt, 0
            for what is only rounding.
        norm: Length of `direction`.
        angle_to_mean_deg: Angle to the mean gradient in degrees, NaN if either is zero.
    """

    method: str
    draws: NDArray[np.float64]
    drawn: str
    direction: NDArray[np.float64]
    weights: NDArray[np.float64] | None
    inner: NDArray[np.float64]
    norm: float
    angle_to_mean_deg: float

    @property
    def hurt(self) -> NDArray[np.bool_]:
        """Which objectives get worse, shape [m]."""
        return hurt_mask(self.inner)


@dataclass(frozen=True)
class Refusal:
    """A method that cannot take the Jacobian.

    Attributes:
        method: The method's name.
        sentence: Why, and what to do; it names the method.
    """

    method: str
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """What several methods do with one Jacobian.

    Attributes:
        outcomes: Of the methods that can take it, in the order asked for.
        refusals: Of the others.
    """

    outcomes: tuple[Outcome, ...]
    refusals: tuple[Refusal, ...]

    @property
    def drawn(self) -> dict[str, str]:
        """Random method to what its directions are, such as "48 seeds"."""
        return {outcome.method: outcome.drawn for outcome in self.outcomes if outcome.drawn}

    @property
    def directions(self) -> dict[str, NDArray[np.float64]]:
        """Method to its direction, shape [n], or to one for each draw, shape [s, n]."""
        return {
            outcome.method: outcome.draws if len(outcome.draws) > 1 else outcome.direction
            for outcome in self.outcomes
        }


@dataclass(frozen=True, eq=False)
class PlaneOfDirections:
    """Gradients and directions in the plane of the two leading eigenvectors of a Gramian.

    Attributes:
        rows: The gradients' coordinates, shape [m, 2]; zero for one that is across the plane.
        directions: Method to the coordinates of its direction, shape [2], or of one direction for
            each of its s draws, shape [s, 2].
        outside: Share of the gradients' squared length that is not in the plane, from 0 to 1; NaN
            if they are all zero.
        outside_directions: Method to the same share of its (mean) direction; NaN for a zero one.
    """

    rows: NDArray[np.float64]
    directions: dict[str, NDArray[np.float64]]
    outside: float
    outside_directions: dict[str, float]


def plane_of_directions(
    rows: NDArray[np.float64], outcomes: Sequence[Outcome]
) -> PlaneOfDirections:
    """What the first two coordinates show of gradients and of the directions found for them.

    Args:
        rows: From `rows_from_gramian`, shape [m, r].
        outcomes: What `compare` found for these rows.

    Returns:
        The plane. Cutting the dual cone {d: gᵢ·d ≥ 0 for every i} with it gives the dual cone of
        the coordinates, because gᵢ·d reads the first two coordinates alone for a d in the plane.
    """
    plane = rows[:, :2].copy()
    squares = (rows**2).sum(axis=1)
    # What is left of a gradient across the plane is rounding, and no side of a half-plane.
    plane[(plane**2).sum(axis=1) <= PARALLEL * squares] = 0.0
    return PlaneOfDirections(
        plane,
        {
            one.method: one.draws[:, :2] if len(one.draws) > 1 else one.direction[:2]
            for one in outcomes
        },
        _outside(rows),
        {one.method: _outside(one.direction) for one in outcomes},
    )


def _outside(vectors: NDArray[np.float64]) -> float:
    """Share of the squared length beyond the first two coordinates; NaN if there is no length."""
    squares = vectors**2
    total = float(squares.sum())
    return float(squares[..., 2:].sum()) / total if total > 0 else math.nan


def compare(
    jacobian: NDArray[np.float64],
    methods: Sequence[str],
    seed: int,
    parameters: Mapping[str, Mapping[str, Any]] = NO_PARAMETERS,
    *,
    draws: int = RANDOM_DRAWS,
) -> Comparison:
    """Run several methods on one Jacobian.

    Args:
        jacobian: One gradient a row, shape [m, n].
        methods: Keys of `engines.aggregation.METHODS`.
        seed: Seeds the random ones; torch's own random state is left alone.
        parameters: For some methods, parameters by name instead of their defaults.
        draws: How often a random method is run.

    Returns:
        One outcome or refusal for each method.

    Raises:
        KeyError: If a method is unknown.
    """
    outcomes, refusals = [], []
    for name in methods:
        own = parameters.get(name, {})
        try:
            outcomes.append(_outcome(jacobian, METHODS[name], seed, own, draws))
        except (EngineError, ValueError) as error:
            refusals.append(Refusal(name, _sentence(METHODS[name], len(jacobian), error)))
    return Comparison(tuple(outcomes), tuple(refusals))


def _sentence(record: MethodRecord, m: int, error: Exception) -> str:
    """Why a method refused m gradients, for a person."""
    if m < record.least_objectives:
        return (
            f"{record.name} needs at least {record.least_objectives} gradients and has {m}; "
            "use more gradients."
        )
    sentence = str(error)
    return sentence if record.name in sentence else f"{record.name}: {sentence}"


def _outcome(
    jacobian: NDArray[np.float64],
    record: MethodRecord,
    seed: int,
    parameters: Mapping[str, Any],
    count: int,
) -> Outcome:
    if record.name == "PCGrad" and 1 <= len(jacobian) <= MOST_IN_EVERY_ORDER:
        made = _in_every_order(jacobian)
    else:
        made = _drawn(jacobian, record, seed, parameters, count)
    lengths = np.linalg.norm(jacobian, axis=1)
    # A sum of gradients that cancels is zero, and not a direction of length 1e-16. Without
    # weights, no gradient counts more than once.
    terms = lengths.sum() if made.weights is None else np.abs(made.weights) @ lengths
    draws = made.draws.copy()
    draws[np.linalg.norm(draws, axis=1) <= ROUNDING * terms] = 0.0
    direction, mean = made.shares @ draws, jacobian.mean(0)
    norm, mean_norm = float(np.linalg.norm(direction)), float(np.linalg.norm(mean))
    angle = math.nan
    if norm > 0 and mean_norm > 0:
        cosine = float(direction @ mean) / (norm * mean_norm)
        angle = math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
    average = None if made.weights is None else made.shares @ made.weights
    inner = without_rounding(jacobian @ direction, jacobian @ jacobian.T, average)
    return Outcome(record.name, draws, made.drawn, direction, average, inner, norm, angle)


@dataclass(frozen=True, eq=False)
class _Draws:
    """Directions of one method, shape [s, n], what they are, how often each comes, and weights."""

    draws: NDArray[np.float64]
    drawn: str
    shares: NDArray[np.float64]
    weights: NDArray[np.float64] | None


def _in_every_order(jacobian: NDArray[np.float64]) -> _Draws:
    orders = pcgrad_orders(jacobian)
    drawn = f"{orders.count} orders" if orders.count > 1 else ""
    weights = np.tile(orders.weights, (len(orders.shares), 1))
    return _Draws(orders.directions, drawn, orders.shares, weights)


def _drawn(
    jacobian: NDArray[np.float64],
    record: MethodRecord,
    seed: int,
    parameters: Mapping[str, Any],
    count: int,
) -> _Draws:
    matrix = torch.tensor(jacobian, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    times = count if record.random else 1
    runs = [_first_step(record, matrix, generator, parameters) for _ in range(times)]
    draws = np.stack([direction for direction, _ in runs])
    found = [weights for _, weights in runs if weights is not None]
    drawn = f"{times} seeds" if record.random else ""
    shares = np.full(times, 1 / times)
    return _Draws(draws, drawn, shares, np.stack(found) if found else None)


def _first_step(
    record: MethodRecord,
    matrix: Tensor,
    generator: torch.Generator,
    parameters: Mapping[str, Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Direction [n] and weights [m], if there are any, of an aggregator without a past."""
    aggregator = record.aggregator(len(matrix), generator=generator, **parameters)
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], weights: Tensor) -> None:
        seen.append(weights)

    if isinstance(aggregator, WeightedAggregator):
        aggregator.weighting.register_forward_hook(keep)
    direction = aggregator(matrix).numpy()
    return direction, seen[0].numpy() if seen else None
