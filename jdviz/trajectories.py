"""Where the steps of a method lead on a small problem: plain descent x ← x − η A(J(x))."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation import METHODS, MethodRecord
from engines.errors import EngineError
from jdviz.landscapes import LANDSCAPES, Landscape, Point

Array = NDArray[np.float64]

#: The methods that take two objectives.
TWO_OBJECTIVE_METHODS = tuple(
    name for name, record in METHODS.items() if record.least_objectives <= 2
)

#: More steps than this are no longer simulated while somebody waits.
MOST_STEPS = 500

#: A path that is farther from the middle of the frame than this many times its half has diverged.
BEYOND = 4.0

# One path of 500 steps is 20 kB: 10 MB for all visitors together.
_KEPT_PATHS = 512

Ending = Literal["complete", "diverged", "refused"]

_Fixed = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Path:
    """The steps of one method from one start.

    Attributes:
        points: x at every step, shape [k + 1, 2]; the first is the start.
        values: f(x), shape [k + 1, 2].
        distances: Distance of f(x) to the Pareto front, shape [k + 1].
        ending: "complete"; "diverged" if the step after the last is not finite or far beyond the
            frame; "refused" if the method could not take the Jacobian of the last point.
        reason: Why it was refused, else empty.
    """

    points: Array
    values: Array
    distances: Array
    ending: Ending = "complete"
    reason: str = ""

    def at(self, step: int) -> Array:
        """The point of a step, or the last one if the path ended before, shape [2]."""
        point: Array = self.points[min(step, len(self.points) - 1)]
        return point


def simulate(
    landscape: str,
    method: str,
    start: Point,
    *,
    rate: float,
    steps: int,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> Path:
    """Follow a method from a start; what was followed before is remembered.

    Args:
        landscape: Key of `jdviz.landscapes.LANDSCAPES`.
        method: One of `TWO_OBJECTIVE_METHODS`.
        start: The first point.
        rate: Learning rate η.
        steps: Steps to take, at most 500.
        seed: Of a generator that is the path's own; torch's random state is left alone.
        parameters: Of the method, by name, instead of its defaults; a vector as any sequence.

    Returns:
        The path, as one would get it from autograd and the aggregator. A method with memory keeps
        it along the path and begins each path without.

    Raises:
        KeyError: If the landscape or the method is unknown.
        ValueError: If the steps are fewer than 0 or more than 500.
    """
    if not 0 <= steps <= MOST_STEPS:
        raise ValueError(f"got {steps} steps, expected 0 to {MOST_STEPS}; take fewer.")
    fixed = tuple(sorted((name, _fixed(value)) for name, value in (parameters or {}).items()))
    return _remembered(landscape, method, start, rate, steps, seed, fixed)


def simulate_all(
    landscape: str,
    methods: Mapping[str, float],
    starts: Sequence[Point],
    *,
    steps: int,
    seed: int = 0,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, tuple[Path, ...]]:
    """Follow several methods from several starts.

    Args:
        landscape: Key of `jdviz.landscapes.LANDSCAPES`.
        methods: Method to its learning rate.
        starts: The first points.
        steps: Steps to take, at most 500.
        seed: Seeds every path alike.
        parameters: Of some methods, by name, instead of their defaults.

    Returns:
        Method to one path for each start.
    """
    own = parameters or {}
    return {
        method: tuple(
            simulate(
                landscape,
                method,
                start,
                rate=rate,
                steps=steps,
                seed=seed,
                parameters=own.get(method),
            )
            for start in starts
        )
        for method, rate in methods.items()
    }


def _fixed(value: Any) -> Any:
    """A parameter's value as one that can be looked up."""
    if isinstance(value, Tensor):
        return tuple(value.tolist())
    return tuple(value) if isinstance(value, list) else value


def _loose(value: Any) -> Any:
    return torch.tensor(value, dtype=torch.float64) if isinstance(value, tuple) else value


@lru_cache(maxsize=_KEPT_PATHS)
def _remembered(
    landscape: str,
    method: str,
    start: Point,
    rate: float,
    steps: int,
    seed: int,
    parameters: _Fixed,
) -> Path:
    problem, record = LANDSCAPES[landscape], METHODS[method]
    options = {name: _loose(value) for name, value in parameters}
    points = [np.array(start, dtype=np.float64)]
    ending: Ending = "complete"
    reason = ""
    try:
        direction = _direction(record, options, torch.Generator().manual_seed(seed))
        ending = _follow(problem, direction, points, rate, steps)
    except (EngineError, ValueError) as error:
        ending, reason = "refused", str(error)
    track = np.stack(points)
    values = problem.values(track)
    found = (track, values, problem.distances(values))
    for array in found:
        # Every visitor gets the same arrays.
        array.setflags(write=False)
    return Path(*found, ending, reason)


def _follow(
    problem: Landscape,
    direction: Callable[[Array], Array],
    points: list[Array],
    rate: float,
    steps: int,
) -> Ending:
    """Append the points of the steps to the first one, and say how the path ends."""
    middle, reach = _bounds(problem)
    for _ in range(steps):
        towards = direction(problem.jacobian(points[-1]))
        with np.errstate(over="ignore"):
            moved = points[-1] - rate * towards
        # False for a point that is not finite, too.
        if not (np.abs(moved - middle) <= reach).all():
            return "diverged"
        points.append(moved)
    return "complete"


def _direction(
    record: MethodRecord, options: Mapping[str, Any], generator: torch.Generator
) -> Callable[[Array], Array]:
    """What maps a Jacobian, shape [2, 2], to A(J), shape [2].

    By way of the weights where there are some: the aggregator's checks of a matrix of any size
    take as long again as the weights of a Gramian of two rows.
    """
    if record.make_weighting is not None and record.statistic != "jacobian":
        weighting = record.weighting(2, generator=generator, **options)

        def combined(jacobian: Array) -> Array:
            weights = weighting(torch.from_numpy(jacobian @ jacobian.T))
            found: Array = weights.numpy() @ jacobian
            return found

        return combined
    aggregator = record.aggregator(2, generator=generator, **options)

    def asked(jacobian: Array) -> Array:
        found: Array = aggregator(torch.from_numpy(jacobian)).numpy()
        return found

    return asked


def _bounds(problem: Landscape) -> tuple[Array, Array]:
    """The middle of the frame, and how far from it along either axis a path has not diverged."""
    low, high = np.array(problem.frame).T
    return (low + high) / 2, BEYOND * (high - low) / 2
