"""A call that all ranks take part in: what each has, and what they agreed on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from engines.autogram.exchange.agreement import (
    Agreements,
    Opening,
    Wishes,
    open_call,
)
from engines.autogram.exchange.description import describe
from engines.autogram.exchange.members import Members
from engines.autogram.exchange.reduction import wrapped_parameters
from engines.autogram.exchange.routes import Routes
from engines.autogram.objectives import Objectives
from engines.autogram.preparation import Undisturbed, accumulation_dtype, prepare
from engines.autogram.rates import rates_of
from engines.autogram.reading import Reader, Reading
from engines.autogram.rules.general import GROUP_BYTES
from engines.autogram.signature import walk
from engines.autogram.tracked import Tracked


@dataclass(eq=False)
class Call:
    """One call, on one rank.

    Attributes:
        members: The group of processes.
        modules: Whose parameters are tracked.
        output: The objectives of this rank.
        tracked: Its parameters.
        objectives: The numbering of its objectives.
        everyone: The numbering of the objectives of all ranks.
        dtype: In which inner products are added up.
        reading: What is done with the graph; None if there are no objectives here.
        leaves: Everything that the objectives reach and that has a gradient.
        opening: What the ranks agreed on.
        routes: What travels.
        sent_bytes: What all ranks together sent so far.
    """

    members: Members
    modules: Sequence[nn.Module]
    output: Tensor
    tracked: Tracked
    objectives: Objectives
    everyone: Objectives
    dtype: torch.dtype
    reading: Reading | None
    leaves: tuple[Tensor, ...]
    opening: Opening
    routes: Routes
    sent_bytes: int

    @property
    def own(self) -> slice:
        """Numbers of this rank's objectives, by rank."""
        start = self.routes.starts[self.routes.rank]
        return slice(start, start + self.routes.counts[self.routes.rank])

    def own_part(self, everything: Tensor) -> Tensor:
        """This rank's part of something in the shape of the losses of all ranks."""
        sizes = _sizes(self.output, self.objectives, self.routes)
        rank = self.routes.rank
        part = everything.narrow(self.objectives.dim or 0, sum(sizes[:rank]), sizes[rank])
        return part.reshape(self.output.shape)


def begin(
    members: Members,
    modules: Sequence[nn.Module],
    output: Tensor,
    batch_dim: int | None,
    reader: Reader,
    agreements: Agreements,
    wishes: Wishes,
    name: str,
) -> Call:
    """Read this rank's graph, and agree with the others on what travels.

    Args:
        members: The group of processes.
        modules: Whose parameters are tracked.
        output: The objectives of this rank.
        batch_dim: Dimension of the output that indexes samples, or None.
        reader: The engine's.
        agreements: The engine's.
        wishes: What this rank would like.
        name: Of the method that was called.

    Returns:
        What the rest of the call works with.

    Raises:
        RankFailedError: Another rank is gone, or could not begin.
        RanksDisagreeError: Models or losses differ.
        Exception: Whatever keeps this rank from beginning; the others have heard of it.
    """
    members.begin_call()
    fused, call = name != "compute_gramian", f"{name} with batch_dim={batch_dim}"
    sent_bytes = 0
    while True:
        try:
            tracked, objectives = prepare(modules, output, batch_dim)
            wrapped_parameters(members, modules)
            dtype = accumulation_dtype(output, tracked.parameters)
            labels = tracked.owners if wishes.split else None
            reading, general_bytes = None, 0
            with Undisturbed(output):
                if objectives.count:
                    reading = reader.read(
                        output, objectives, tracked, dtype, labels=labels, fused=fused
                    )
                    budget = reading.schedule.budget
                    general_bytes = (
                        budget.total_bytes if budget.strict else max(GROUP_BYTES, budget.sgd_bytes)
                    )
                    leaves = reading.leaves
                else:
                    walked = walk(output, tracked.parameters)
                    leaves = tuple(leaf for leaf in walked.leaves if leaf.requires_grad)
                description = agreements.description(
                    None if reading is None else reading.schedule,
                    (call, tuple(map(id, tracked.parameters)), output.shape),
                    partial(
                        describe,
                        call,
                        output,
                        objectives,
                        dtype,
                        tracked,
                        leaves,
                        reading,
                        general_bytes,
                    ),
                )
        except Exception as error:
            # The others would wait for this rank for as long as their group allows.
            open_call(members, agreements, wishes, error, None, torch.zeros(()))
            raise
        like = torch.empty(0, dtype=dtype, device=output.device)
        rates = None if reading is None else rates_of(output.device, dtype)
        opening = open_call(members, agreements, wishes, description, rates, like)
        sent_bytes += opening.sent_bytes
        wishes = opening.wishes
        if opening.routes is not None:
            break
    routes = opening.routes
    return Call(
        members,
        modules,
        output,
        tracked,
        objectives,
        _numbering(output, objectives, routes),
        dtype,
        reading,
        leaves,
        opening,
        routes,
        sent_bytes,
    )


def _sizes(output: Tensor, objectives: Objectives, routes: Routes) -> list[int]:
    """How long every rank's losses are along the dimension in which they are put together."""
    if objectives.dim is not None:
        return list(routes.samples)
    rest = max(1, output.shape[1:].numel())
    return [count // rest for count in routes.counts]


def _numbering(output: Tensor, objectives: Objectives, routes: Routes) -> Objectives:
    """Number the objectives of all ranks: inside by rank, outside as those of one process."""
    dim, sizes = objectives.dim or 0, _sizes(output, objectives, routes)
    shape = list(output.shape) or [0]
    shape[dim] = sum(sizes)
    count = routes.objectives
    order = None
    if len(shape) > 1 and count:
        positions = torch.arange(count, device=output.device).view(shape)
        parts = positions.split(sizes, dim)
        if objectives.dim is not None:
            parts = tuple(part.movedim(dim, -1) for part in parts)
        order = torch.cat([part.reshape(-1) for part in parts])
    return Objectives(torch.Size(shape), count, 1, objectives.dim, order)
