"""The second half of a fused step: from weights to gradients."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from engines.autogram.gradients import (
    as_gradient,
    deposit,
    differentiate_rest,
    refuse_non_finite_gramian,
)
from engines.autogram.objectives import Objectives
from engines.autogram.passes import Brought
from engines.autogram.reading import Reading


class GramianStep(NamedTuple):
    """What `Engine.backward` saw.

    Attributes:
        gramian: The generalized Gramian of the objectives, shape [m1, …, mk, mk, …, m1].
        weights: Their weights, shape [m1, …, mk].
    """

    gramian: Tensor
    weights: Tensor


def finish_step(
    losses: Tensor,
    weights: Tensor,
    total: Tensor,
    objectives: Objectives,
    reading: Reading,
    brought: Brought,
    parameters: Sequence[Tensor],
    *,
    retain_graph: bool,
) -> None:
    """Make the gradient of the weighted sum for every leaf, and accumulate it.

    Args:
        losses: The objectives.
        weights: Theirs, in the shape of the losses.
        total: The Gramian in the engine's order, shape [m, m].
        objectives: The numbering of the objectives.
        reading: What was done.
        brought: What gradients are made of; emptied.
        parameters: The tracked parameters.
        retain_graph: Whether the graph outlives the call.

    Raises:
        NonFiniteGradientError: A gradient is NaN or infinite; no `.grad` was touched.
    """
    ordered = objectives.ordered(weights).to(total)
    refuse_non_finite_gramian(total, ordered, objectives)
    served = reading.schedule.served - brought.unfinished
    known = {id(parameters[index]) for index in served}
    rest = [leaf for leaf in reading.leaves if id(leaf) not in known]
    reached: list[Tensor] = []
    gradients: list[Tensor] = []
    hooked: list[Tensor] = []
    if rest:
        reached, gradients, hooked = differentiate_rest(
            losses, weights, rest, retain_graph=retain_graph
        )
    for parameter, gradient in served_gradients(ordered, brought, parameters, served):
        reached.append(parameter)
        gradients.append(gradient)
        del gradient
    if hooked:
        torch.autograd.backward(losses, weights, inputs=hooked, retain_graph=retain_graph)
    deposit(reached, gradients)


def served_gradients(
    weights: Tensor,
    brought: Brought,
    parameters: Sequence[Tensor],
    served: Collection[int],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Make the gradients of served parameters one after the other; nothing here keeps them.

    Args:
        weights: Of the objectives in the engine's order, shape [m].
        brought: What gradients are made of; emptied.
        parameters: The tracked parameters.
        served: Those that are wanted, by index.

    Yields:
        Parameters with their gradients, each once.

    Raises:
        NonFiniteGradientError: One does not fit into its parameter's dtype.
    """
    parts: dict[int, Tensor] = {}
    while brought.weighted:
        members, make = brought.weighted.pop()
        if not any(member.parameter in served for member in members):
            continue
        for member, gradient in zip(members, make(weights), strict=True):
            parameter = parameters[member.parameter]
            if member.parameter not in served:
                continue
            if member.rows is None:
                yield parameter, as_gradient(parameter, gradient)
                continue
            if member.parameter not in parts:
                parts[member.parameter] = torch.zeros_like(parameter)
            rows = parts[member.parameter][slice(*member.rows)]
            rows.copy_(as_gradient(rows, gradient))
        del make  # and with it what it kept
    for index, whole in parts.items():
        yield parameters[index], whole
