"""Runs the backward passes that a reading asks for, and adds up what they bring."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.autogram.accumulation import Accumulation, Weighted
from engines.autogram.capture import TOGETHER_BYTES, sweep
from engines.autogram.objectives import Objectives
from engines.autogram.plan import Member
from engines.autogram.reading import Reading
from engines.autogram.rules import Workspace
from engines.autogram.rules.general import GROUP_BYTES, accumulate_general


@dataclass(frozen=True, eq=False)
class Brought:
    """What the passes brought beside the Gramian.

    Attributes:
        weighted: For some parameters each, or parts of them, what makes their gradients.
        unfinished: Parameters by index that never had all they need.
    """

    weighted: list[tuple[tuple[Member, ...], Weighted]]
    unfinished: set[int]


def run_passes(
    totals: Sequence[Tensor],
    output: Tensor,
    objectives: Objectives,
    reading: Reading,
    parameters: Sequence[Tensor],
    *,
    retain_graph: bool,
) -> Brought:
    """Add up the shares of all parameters.

    Args:
        totals: For every parameter the Gramian to add to in place, shape [m, m].
        output: The objectives.
        objectives: Their numbering.
        reading: What to do.
        parameters: The tracked parameters.
        retain_graph: Whether the graph outlives the last pass.

    Returns:
        What gradients are made of.

    Raises:
        MemoryCapError: The general path needs more than the caller allows.
        RuntimeError: Autograd could not run.

    Cost: the input-gradient half of k backward passes for every round, and the contractions; m
        passes for the general path.
    """
    graph = reading.graph
    workspace = Workspace(reading.schedule.workspace_bytes)
    ones = torch.ones(objectives.samples, dtype=output.dtype, device=output.device)
    brought = Brought([], set())
    rest = list(reading.plan.general)
    rounds = reading.schedule.rounds
    for number, tasks in enumerate(rounds):
        own = [totals[task.group.members[0].parameter] for task in tasks]
        pending = Accumulation(reading, tasks, own, workspace)
        nodes = pending.nodes
        final = number == len(rounds) - 1 and not retain_graph
        together = (
            reading.schedule.held_bytes[number] <= TOGETHER_BYTES and not pending.reads_gradients
        )
        for loss in range(objectives.losses):
            cotangent = objectives.cotangent(ones, loss * objectives.samples, output)
            last = loss == objectives.losses - 1
            if together and last:
                pending.read_inputs(nodes)
            sweep(
                graph,
                output,
                cotangent,
                nodes,
                pending.receiver(last=last),
                retain_graph=not (final and last),
                together=together,
            )
        unfinished = pending.unfinished()
        rest += unfinished
        brought.unfinished.update(unfinished)
        brought.weighted.extend(pending.weighted)
    budget = reading.schedule.budget
    limit_bytes = budget.total_bytes if budget.strict else max(GROUP_BYTES, budget.sgd_bytes)
    # Autograd delivered everything, or a custom backward cut the graph: then exactly.
    for total in {id(total): total for total in totals}.values():
        own_rest = [parameters[index] for index in rest if totals[index] is total]
        if own_rest:
            accumulate_general(
                total, output, objectives, own_rest, limit_bytes, strict=budget.strict
            )
    return brought
