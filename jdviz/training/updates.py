"""From the losses of a step to `.grad`: what each pair of engine and method needs of the other."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

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
        shares: Path of every module that owns a trainable parameter to its share of the Gramian,
            shape [m, m]; None where the step was not split.
        scalars: Further numbers of the step by name.
    """

    gramian: Array
    weights: Array | None
    inner: Array
    norm: float
    shares: Mapping[str, Array] | None = None
    scalars: Mapping[str, float] = field(default_factory=dict)


class Differentiator(ABC):
    """Differentiates the losses of every step of a run, and keeps the method's memory.

    Attributes:
        method: The weighting or the aggregator; what it remembers is in its `state_dict`.
    """

    method: nn.Module

    @abstractmethod
    def __call__(self, losses: Tensor, *, split: bool) -> Update:
        """Leaves the update direction in `.grad`, which must be empty.

        Args:
            losses: The objectives, shape [m], with their graph.
            split: Whether to keep the shares of the modules apart.

        Returns:
            What the direction is.
        """


def differentiator(config: RunConfig, model: nn.Module) -> Differentiator:
    """Makes what differentiates the losses of a run.

    Args:
        config: A valid configuration.
        model: The model whose parameters get their `.grad`.

    Returns:
        The differentiator, its method without a past.
    """
    problem = find_problem(config.problem)
    m = problem.objectives(config.batch_size)
    if METHODS[config.aggregator].statistic != "gramian":
        return _OfJacobian(model, make_aggregator(config.aggregator, m, config.seed))
    weighting = make_weighting(config.aggregator, m, config.seed)
    if config.engine == "autojac":
        return _JacobianFirst(model, weighting)
    engine = Engine(model, batch_dim=problem.batch_dim)
    if config.engine == "both":
        return _Lockstep(model, engine, weighting)
    return _GramianFirst(engine, weighting)


class _GramianFirst(Differentiator):
    """Computes the Gramian, and from what it is made of the weighted gradient."""

    def __init__(self, engine: Engine, weighting: Weighting) -> None:
        self.method = weighting
        self._engine = engine
        self._weighting = weighting

    def __call__(self, losses: Tensor, *, split: bool) -> Update:
        seen: dict[str, Array] = {}

        def keep(_: Tensor, gramian: Tensor, weights: Tensor, shares: dict[str, Tensor]) -> None:
            seen.update({path: _to_numpy(share) for path, share in shares.items()})

        # The shares come out of the same pass as the Gramian.
        with self._engine.observe(keep, by_module=True) if split else nullcontext():
            step = self._engine.backward(losses, self._weighting)
        return _weighted(step.gramian, step.weights, seen if split else None)


class _Lockstep(_GramianFirst):
    """Makes the update by autogram, and measures how far autojac is from it on the same graph.

    The differences are those of the Gramians in the Frobenius norm, and of the gradients for the
    weights that autogram's Gramian gave, each relative to autojac's. Rounding is the distance of
    two neighbouring numbers at 1 in the dtype of the losses, the scale to hold them against.
    """

    def __init__(self, model: nn.Module, engine: Engine, weighting: Weighting) -> None:
        super().__init__(engine, weighting)
        self._parameters = _trainable(model)

    def __call__(self, losses: Tensor, *, split: bool) -> Update:
        parameters = list(self._parameters.values())
        jacobians = autojac.jac(losses, parameters, retain_graph=True)
        matrix = torch.cat([jacobian.flatten(1) for jacobian in jacobians], dim=1)
        update = super().__call__(losses, split=split)
        gradient = torch.cat([_gradient(parameter).flatten() for parameter in parameters])
        expected = WeightedAggregator.combine(matrix, torch.from_numpy(update.weights))
        scalars = {
            "gramian difference": _difference(
                update.gramian, _to_numpy(compute_gramian(matrix.to(torch.float64)))
            ),
            "gradient difference": _difference(_to_numpy(gradient), _to_numpy(expected)),
            "rounding": torch.finfo(losses.dtype).eps,
        }
        return replace(update, scalars=scalars)


class _JacobianFirst(Differentiator):
    """Computes the Jacobian, weighs its rows by their Gramian, and keeps what the weighting saw."""

    def __init__(self, model: nn.Module, weighting: Weighting) -> None:
        self.method = weighting
        self._parameters = _trainable(model)
        self._weighting = weighting
        # The method's own aggregator may do without the Gramian, which the record needs.
        self._aggregator = GramianWeightedAggregator(weighting)

    def __call__(self, losses: Tensor, *, split: bool) -> Update:
        seen: list[Tensor] = []
        shares: dict[str, Array] = {}

        def keep(_: nn.Module, inputs: tuple[Tensor, ...], weights: Tensor) -> None:
            seen.extend((inputs[0], weights))

        def keep_shares(_: nn.Module, inputs: tuple[Tensor, ...], direction: Tensor) -> None:
            shares.update(_shares(inputs[0], self._parameters))

        handles = [self._weighting.register_forward_hook(keep)]
        if split:
            handles.append(self._aggregator.register_forward_hook(keep_shares))
        try:
            autojac.backward(losses, self._aggregator, inputs=self._parameters.values())
        finally:
            for handle in handles:
                handle.remove()
        gramian, weights = seen
        return _weighted(gramian, weights, shares if split else None)


class _OfJacobian(Differentiator):
    """Computes the Jacobian for a method that works on it, and describes the result."""

    def __init__(self, model: nn.Module, aggregator: Aggregator) -> None:
        self.method = aggregator
        self._parameters = _trainable(model)
        self._aggregator = aggregator

    def __call__(self, losses: Tensor, *, split: bool) -> Update:
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
            shares = _shares(matrix, self._parameters) if split else None
            seen.append(Update(gramian, weights, _to_numpy(inner), float(wide.norm()), shares))

        handles = [self._aggregator.register_forward_hook(describe)]
        if isinstance(self._aggregator, WeightedAggregator):
            handles.append(self._aggregator.weighting.register_forward_hook(keep_weights))
        try:
            autojac.backward(losses, self._aggregator, inputs=self._parameters.values())
        finally:
            for handle in handles:
                handle.remove()
        return seen[0]


def _weighted(gramian: Tensor, weights: Tensor, shares: Mapping[str, Array] | None) -> Update:
    """The update that is a combination of the gradients; the Gramian says all about it."""
    matrix, combination = _to_numpy(gramian), _to_numpy(weights)
    inner = matrix @ combination
    # Rounding can leave the square of a zero length slightly below zero.
    norm = math.sqrt(max(0.0, float(combination @ inner)))
    return Update(matrix, combination, inner, norm, shares)


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, in the order of the Jacobian's columns."""
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def _shares(matrix: Tensor, parameters: Mapping[str, nn.Parameter]) -> dict[str, Array]:
    """What the columns of each module contribute to the Gramian of a Jacobian."""
    widths: Sequence[int] = [one.numel() for one in parameters.values()]
    columns: dict[str, list[Tensor]] = {}
    for name, block in zip(parameters, matrix.detach().split(widths, dim=1), strict=True):
        columns.setdefault(name.rpartition(".")[0], []).append(block)
    return {
        path: _to_numpy(compute_gramian(torch.cat(blocks, dim=1)))
        for path, blocks in columns.items()
    }


def _gradient(parameter: nn.Parameter) -> Tensor:
    """The `.grad` of a parameter; zeros where no loss reaches it."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _difference(values: Array, reference: Array) -> float:
    """Distance from a reference relative to its length; 0 where both are zero."""
    distance, length = np.linalg.norm(values - reference), np.linalg.norm(reference)
    return float(distance / length) if distance else 0.0


def _to_numpy(values: Tensor) -> Array:
    """Copies a tensor out of the graph, in float64."""
    copied: Array = values.detach().to(torch.float64, copy=True).numpy()
    return copied
