"""From the losses of a step to `.grad`: what each pair of engine and method needs of the other."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines import autojac
from engines.aggregation import (
    METHODS,
    Aggregator,
    GramianWeightedAggregator,
    WeightedAggregator,
    Weighting,
)
from engines.autogram import Engine
from engines.linalg import compute_gramian
from jdviz.problems import find_problem
from jdviz.training.config import RunConfig
from jdviz.training.methods import make_aggregator, make_weighting

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Update:
    """The direction that was left in `.grad`, as the record of the step describes it.

    Attributes:
        gramian: J Jᵀ, shape [m, m].
        weights: Weight of each gradient, shape [m]; None for a method without weights.
        inner: J·A(J), shape [m].
        norm: Length of A(J).
    """

    gramian: Array
    weights: Array | None
    inner: Array
    norm: float


def differentiator(config: RunConfig, model: nn.Module) -> Callable[[Tensor], Update]:
    """What differentiates the losses of every step of a run, and keeps the method's memory.

    Args:
        config: A valid configuration.
        model: The model whose parameters get their `.grad`.

    Returns:
        A function from the losses, shape [m], to the update.
    """
    problem = find_problem(config.problem)
    m = problem.objectives(config.batch_size)
    if METHODS[config.aggregator].statistic != "gramian":
        return _OfJacobian(make_aggregator(config.aggregator, m, config.seed))
    weighting = make_weighting(config.aggregator, m, config.seed)
    if config.engine == "autogram":
        return _GramianFirst(Engine(model, batch_dim=problem.batch_dim), weighting)
    return _JacobianFirst(weighting)


class _GramianFirst:
    """Computes the Gramian, and from what it is made of the weighted gradient."""

    def __init__(self, engine: Engine, weighting: Weighting) -> None:
        self._engine = engine
        self._weighting = weighting

    def __call__(self, losses: Tensor) -> Update:
        step = self._engine.backward(losses, self._weighting)
        return _weighted(step.gramian, step.weights)


class _JacobianFirst:
    """Computes the Jacobian, weighs its rows by their Gramian, and keeps what the weighting saw."""

    def __init__(self, weighting: Weighting) -> None:
        self._weighting = weighting
        # The method's own aggregator may do without the Gramian, which the record needs.
        self._aggregator = GramianWeightedAggregator(weighting)

    def __call__(self, losses: Tensor) -> Update:
        seen: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...], weights: Tensor) -> None:
            seen.extend((inputs[0], weights))

        handle = self._weighting.register_forward_hook(keep)
        try:
            autojac.backward(losses, self._aggregator)
        finally:
            handle.remove()
        gramian, weights = seen
        return _weighted(gramian, weights)


class _OfJacobian:
    """Computes the Jacobian for a method that works on it, and describes the result."""

    def __init__(self, aggregator: Aggregator) -> None:
        self._aggregator = aggregator

    def __call__(self, losses: Tensor) -> Update:
        seen: list[Update] = []
        weighed: list[Tensor] = []

        def keep_weights(_: nn.Module, inputs: tuple[Tensor, ...], weights: Tensor) -> None:
            weighed.append(weights)

        # The Jacobian is as large as the model times m, so nothing of it outlives the call.
        def describe(_: nn.Module, inputs: tuple[Tensor, ...], direction: Tensor) -> None:
            matrix, wide = inputs[0].detach(), direction.detach().to(torch.float64)
            inner = torch.stack([row.to(torch.float64) @ wide for row in matrix])
            weights = _to_numpy(weighed[0]) if weighed else None
            gramian = _to_numpy(compute_gramian(matrix))
            seen.append(Update(gramian, weights, _to_numpy(inner), float(wide.norm())))

        handles = [self._aggregator.register_forward_hook(describe)]
        if isinstance(self._aggregator, WeightedAggregator):
            handles.append(self._aggregator.weighting.register_forward_hook(keep_weights))
        try:
            autojac.backward(losses, self._aggregator)
        finally:
            for handle in handles:
                handle.remove()
        return seen[0]


def _weighted(gramian: Tensor, weights: Tensor) -> Update:
    """The update that is a combination of the gradients; the Gramian says all about it."""
    matrix, combination = _to_numpy(gramian), _to_numpy(weights)
    inner = matrix @ combination
    # Rounding can leave the square of a zero length slightly below zero.
    norm = math.sqrt(max(0.0, float(combination @ inner)))
    return Update(matrix, combination, inner, norm)


def _to_numpy(values: Tensor) -> Array:
    """Copies a tensor out of the graph, in float64."""
    copied: Array = values.detach().to(torch.float64, copy=True).numpy()
    return copied
