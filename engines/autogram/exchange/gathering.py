"""Adds up the Gramian of the objectives of all ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.autogram.exchange.agreement import (
    note_failure,
    refuse_failed,
)
from engines.autogram.exchange.blocks import Blocks
from engines.autogram.exchange.call import Call
from engines.autogram.exchange.carrier import Cargo, carry
from engines.autogram.exchange.frame import Frame
from engines.autogram.exchange.general import (
    Rows,
    general_sent_bytes,
    rows_by_autograd,
    rows_by_rules,
    share_general,
    zero_rows,
)
from engines.autogram.exchange.shipping import Shipping
from engines.autogram.objectives import Objectives
from engines.autogram.passes import Brought
from engines.autogram.preparation import Undisturbed
from engines.autogram.rates import rates_of
from engines.autogram.reading import Reading
from engines.autogram.rules import Workspace
from engines.errors import GroupError, RanksDisagreeError


@dataclass(frozen=True, eq=False)
class Gathered:
    """What a call computed of the objectives of all ranks.

    Attributes:
        totals: Gramians by label, in order by rank, shape [M, M]; the same bits on every rank.
        losses: The losses of all ranks in their shape, None if nobody is told of them.
        brought: What this rank's gradients are made of.
    """

    totals: dict[str, Tensor]
    losses: Tensor | None
    brought: Brought


def gather(call: Call, *, retain_graph: bool) -> Gathered:
    """Add up the Gramian of all objectives of all ranks.

    Args:
        call: The call.
        retain_graph: Whether the graph outlives it.

    Returns:
        The Gramians.

    Raises:
        RankFailedError: Another rank is gone, or failed.
        Exception: Whatever happened on this rank, once the others have heard of it.
    """
    routes, members, parameters = call.routes, call.members, call.tracked.parameters
    labels = call.tracked.owners if call.opening.wishes.split else [""] * len(parameters)
    like = torch.empty(0, dtype=call.dtype, device=call.output.device)
    blocks = {label: Blocks(routes, call.dtype, like.device) for label in labels}
    brought, error = Brought([], set()), None
    if call.reading is not None:
        brought, error = _contribute(
            call, call.reading, like, [blocks[label] for label in labels], retain_graph
        )
    else:
        for label in blocks:
            chosen = [parameters[i] for i in sorted(routes.general) if labels[i] == label]
            call.sent_bytes += _sent_for(call, chosen)
    call.sent_bytes += routes.sent_bytes
    m = routes.objectives
    above = torch.triu_indices(m, m, device=like.device)
    failed = like.new_zeros(members.size)
    failed[members.rank] = float(error is not None)
    pieces = [failed, *(block.finished()[above[0], above[1]] for block in blocks.values())]
    if call.opening.wishes.told:
        every = like.new_zeros(m)
        every[call.own] = call.objectives.ordered(call.output.detach()).to(like)
        pieces.append(every)
    if error is not None:
        note_failure(members, error)
    flat = torch.cat(pieces)
    members.sum(flat).wait()
    call.sent_bytes += 2 * (members.size - 1) * flat.numel() * flat.element_size()
    if error is not None:
        raise error
    found = list(flat.split([len(piece) for piece in pieces]))
    refuse_failed(members, [bool(bad > 0) for bad in found[0].tolist()])
    totals = {}
    for label, entries in zip(blocks, found[1:], strict=False):
        total = like.new_zeros(m, m)
        total[above[0], above[1]] = entries
        total[above[1], above[0]] = entries
        totals[label] = total
    losses = None
    if call.opening.wishes.told:
        losses = _in_shape(found[-1], call.everyone).to(call.output)
    return Gathered(totals, losses, brought)


def _contribute(
    call: Call, reading: Reading, like: Tensor, blocks: Sequence[Blocks], retain_graph: bool
) -> tuple[Brought, Exception | None]:
    """Run this rank's passes and take part in the exchange, to its end even if something fails."""
    routes, members = call.routes, call.members
    rates = rates_of(like.device, call.dtype)
    workspace = Workspace(reading.schedule.workspace_bytes)
    brought, error = Brought([], set()), None
    if routes.alike:
        frame = Frame(routes, like)
        shipping = Shipping(members, frame, workspace, rates)
        cargo = Cargo(reading, frame, shipping, blocks, rates)
        keep = retain_graph or reading.needs_more or not routes.certain
        try:
            with Undisturbed(call.output):
                brought = carry(cargo, call.output, call.objectives, workspace, retain_graph=keep)
        except GroupError:
            raise
        except Exception as found:
            error = found
        shipping.finish()
        error = error or shipping.error
    rest = set(routes.general)
    if not routes.certain:
        try:
            rest |= _unfinished(call, brought, failed=error is not None)
        except RanksDisagreeError as found:  # on all that have objectives; the others wait
            return brought, error or found
    parameters = call.tracked.parameters
    for block in dict.fromkeys(blocks):
        chosen = [parameters[index] for index in sorted(rest) if blocks[index] is block]
        if not chosen:
            continue
        rows = _Guarded(
            rows_by_autograd(like, call.output, call.objectives)
            if routes.alike
            else rows_by_rules(like, call.output, call.objectives, call.modules),
            zero_rows(like),
            call.output,
            error,
        )
        try:
            share_general(members, routes, chosen, block, rows)
            call.sent_bytes += _sent_for(call, chosen)
        except GroupError:
            raise
        except Exception as found:  # on every rank that has objectives; the others wait for a sum
            rows.error = rows.error or found
        error = rows.error
    return brought, error


def _sent_for(call: Call, parameters: Sequence[Tensor]) -> int:
    """Bytes that all ranks together send for parameters without a rule."""
    return sum(map(sum, general_sent_bytes(call.routes, parameters, call.dtype.itemsize)))


class _Guarded:
    """Makes rows, and zeros once that has failed.

    Args:
        rows: Makes them.
        zeros: Makes zeros.
        output: The objectives.
        error: What failed before.
    """

    def __init__(self, rows: Rows, zeros: Rows, output: Tensor, error: Exception | None) -> None:
        self._rows = rows
        self._zeros = zeros
        self._output = output
        self.error = error

    def __call__(self, group: Sequence[Tensor], start: int, stop: int) -> Tensor:
        """Make rows."""
        if self.error is None:
            try:
                with Undisturbed(self._output):
                    return self._rows(group, start, stop)
            except Exception as error:
                self.error = error
        return self._zeros(group, start, stop)


def _unfinished(call: Call, brought: Brought, *, failed: bool) -> set[int]:
    """Parameters that no pass brought on any rank: a custom backward gave no gradient."""
    members, routes = call.members, call.routes
    count = len(call.tracked.parameters)
    mine = torch.zeros(count + 1, dtype=torch.int64)
    mine[list(brought.unfinished)] = 1
    mine[count] = int(failed)
    others = [rank for rank in routes.workers if rank != members.rank]
    told = {rank: torch.empty_like(mine) for rank in others}
    members.swap({rank: [mine] for rank in others}, {rank: [told[rank]] for rank in others}).wait()
    call.sent_bytes += 8 * (count + 1) * len(routes.workers) * len(others)
    every = torch.stack([mine, *told.values()])
    sound = every[every[:, count] == 0, :count]
    if len(sound) and bool((sound != sound[0]).any()):
        raise RanksDisagreeError(
            "got a custom backward that returns a gradient on some ranks only, expected the same "
            "on all of them; return zeros instead of None."
        )
    return set(sound[0].nonzero().flatten().tolist()) if len(sound) else set()


def _in_shape(flat: Tensor, everyone: Objectives) -> Tensor:
    """Bring one number for each objective from the order by rank into the caller's shape."""
    if everyone.order is None:
        return flat.view(everyone.shape)
    found = torch.empty_like(flat)
    found[everyone.order] = flat
    return found.view(everyone.shape)
