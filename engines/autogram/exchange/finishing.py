"""From weights that all ranks agree on to gradients that all ranks have."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engines.autogram.exchange.agreement import (
    agree_on_weights,
    note_failure,
    refuse_failed,
    with_state,
)
from engines.autogram.exchange.call import Call
from engines.autogram.exchange.reduction import (
    Listeners,
    Reduction,
    without_hooks,
    wrapped_parameters,
)
from engines.autogram.gradients import (
    deposit,
    refuse_non_finite,
    refuse_non_finite_gramian,
)
from engines.autogram.passes import Brought
from engines.autogram.preparation import Undisturbed
from engines.autogram.step import served_gradients
from engines.errors import GroupError


def weigh(call: Call, gramian: Tensor, weighting: Callable[[Tensor], Tensor]) -> Tensor:
    """Have the same weights made on every rank.

    Args:
        call: The call.
        gramian: Of all objectives, in the caller's shape.
        weighting: Makes and checks them.

    Returns:
        The weights of all objectives, in the shape of the losses of all ranks.

    Raises:
        RankFailedError: Another rank is gone, or failed.
        RanksDisagreeError: Weights differ.
        Exception: Whatever the weighting raised on this rank.
    """
    weights, error = None, None
    try:
        weights = with_state(call.members, call.opening.state, lambda: weighting(gramian.clone()))
    except Exception as found:
        error = found
    call.sent_bytes += agree_on_weights(call.members, weights, error)
    if weights is None:
        raise GroupError("got no weights, expected some; mend the engine.")
    return weights


def finish(
    call: Call,
    brought: Brought,
    total: Tensor,
    weights: Tensor,
    *,
    retain_graph: bool,
) -> None:
    """Make the gradient of the weighted sum of all ranks for every parameter, and accumulate it.

    Args:
        call: The call.
        brought: What this rank's gradients are made of; emptied.
        total: The Gramian in order by rank, shape [M, M].
        weights: Of all objectives, in the shape of the losses of all ranks.
        retain_graph: Whether the graph outlives the call.

    Raises:
        NonFiniteGradientError: A gradient is NaN or infinite; no `.grad` was touched.
        RankFailedError: Another rank is gone, or failed.
        GroupError: A wrapper has not added up the gradients.
        Exception: Whatever happened on this rank, once the others have heard of it.
    """
    members, size = call.members, call.members.size
    ordered = call.everyone.ordered(weights).to(total)
    refuse_non_finite_gramian(total, ordered, call.everyone)
    wrapped = wrapped_parameters(members, call.modules)
    shared = [leaf for leaf in _agreed_order(call) if id(leaf) not in wrapped]
    present = {id(leaf) for leaf in call.leaves}
    ours = {id(leaf) for leaf in shared}
    reduction = Reduction(members, shared)
    local: list[tuple[Tensor, Tensor]] = []
    error = None
    try:
        for leaf in shared:
            if id(leaf) not in present:
                reduction.take(leaf, None)
        with Undisturbed(call.output):
            for leaf, gradient in _gradients(call, brought, ordered, weights, retain_graph):
                if id(leaf) in ours:
                    reduction.take(leaf, gradient)
                elif id(leaf) in wrapped:
                    # The wrapper waits for whatever it saw in the graph.
                    found = torch.zeros_like(leaf) if gradient is None else gradient * size
                    local.append((leaf, found))
                elif gradient is not None:
                    local.append((leaf, gradient))
        refuse_non_finite([gradient for _, gradient in local])
    except GroupError:
        raise
    except Exception as raised:
        error = raised
        note_failure(members, error)
    reached, bad = reduction.finish(failed=error is not None)
    call.sent_bytes += reduction.sent_bytes
    if wrapped:
        # The wrapper begins to add up as soon as gradients are there: all have to be.
        flag = torch.tensor([float(error is not None)])
        members.sum(flag).wait()
        bad = bad or bool(flag > 0)
        call.sent_bytes += 2 * (size - 1) * flag.element_size()
        sizes = [leaf.numel() * leaf.element_size() for leaf, _ in local if id(leaf) in wrapped]
        call.sent_bytes += 2 * (size - 1) * sum(sizes)
    if error is not None:
        raise error
    if bad:
        told = [bool(members.read_note(rank)) for rank in range(size)]
        refuse_failed(
            members, told if any(told) else [rank != members.rank for rank in range(size)]
        )
    refuse_non_finite([gradient for _, gradient in reached])
    every = [*reached, *local]
    del reached, local
    leaves, gradients = [leaf for leaf, _ in every], [gradient for _, gradient in every]
    every.clear()
    listeners = Listeners(call.modules, leaves) if wrapped else None
    try:
        deposit(leaves, gradients)
    except RuntimeError as broken:
        if not wrapped or not _is_of_network(broken):
            raise
        _clear(leaves)
        members.lose(None, broken, left=".grad was set to None")
    if listeners is not None and listeners.silent:
        _clear(leaves)
        raise GroupError(
            "got losses that DistributedDataParallel does not know of, so that it added up "
            "nothing, expected those of a forward pass of the wrapper, one for each call; .grad "
            "was set to None. Call ddp(x), not ddp.module(x), and do not use a graph twice."
        )


def _clear(leaves: Sequence[Tensor]) -> None:
    """Drop what is one rank's part only, so that no optimiser steps with it."""
    for leaf in leaves:
        leaf.grad = None


def _gradients(
    call: Call, brought: Brought, ordered: Tensor, weights: Tensor, retain_graph: bool
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """This rank's part of the gradient of every leaf; a generator, so that they can leave early."""
    parameters = call.tracked.parameters
    served: set[int] = set()
    if call.reading is not None and call.routes.alike:
        served = set(call.reading.schedule.served) - brought.unfinished
    known = {id(parameters[index]) for index in served}
    rest = [leaf for leaf in call.leaves if id(leaf) not in known]
    if rest:
        with without_hooks(rest):
            found = torch.autograd.grad(
                call.output,
                rest,
                call.own_part(weights),
                retain_graph=retain_graph,
                allow_unused=True,
            )
        yield from zip(rest, found, strict=True)
    yield from served_gradients(ordered[call.own], brought, parameters, served)


def _agreed_order(call: Call) -> list[Tensor]:
    """Parameters that any rank's losses reach, those whose gradients are made last first."""
    parameters = call.tracked.parameters
    tracked = {id(parameter) for parameter in parameters}
    order = [
        index
        for shipment in reversed(call.routes.shipments)
        for number in reversed(shipment)
        for index in call.routes.shapes[number].members
    ]
    found = [parameters[index] for index in dict.fromkeys((*order, *call.routes.reached))]
    outside = [leaf for leaf in call.leaves if isinstance(leaf, nn.Parameter)]
    return [*found, *(leaf for leaf in outside if id(leaf) not in tracked)]


def _is_of_network(error: RuntimeError) -> bool:
    """Whether torch's own collectives raised it, not a hook of the user's."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
