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
    workspace = Workspace(reading.schedule.workspace_bytes)
    brought = Brought([], set())
    rest = list(reading.plan.general)
    rounds = reading.schedule.rounds
    for number, tasks in enumerate(rounds):
        own = [totals[task.group.members[0].parameter] for task in tasks]
        pending = Accumulation(reading, tasks, own, workspace)
        final = number == len(rounds) - 1 and not retain_graph
        small = reading.schedule.held_bytes[number] <= TOGETHER_BYTES
        run_round(pending, output, objectives, reading, retain_graph=not final, small=small)
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


def run_round(
    pending: Accumulation,
    output: Tensor,
    objectives: Objectives,
    reading: Reading,
    *,
    retain_graph: bool,
    small: bool,
) -> None:
    """Run the passes of one round, one for each loss of a sample.

    Args:
        pending: What takes the output gradients.
        output: The objectives.
        objectives: Their numbering.
        reading: What to do.
        retain_graph: Whether the graph outlives the last pass.
        small: Whether all output gradients may be there at the same time.

    Raises:
        RuntimeError: Autograd could not run.
    """
    ones = torch.ones(objectives.samples, dtype=output.dtype, device=output.device)
    nodes = pending.nodes
    together = small and not pending.reads_gradients
    for loss in range(objectives.losses):
        last = loss == objectives.losses - 1
        if together and last:
            pending.read_inputs(nodes)
        sweep(
            reading.graph,
            output,
            objectives.cotangent(ones, loss * objectives.samples, output),
            nodes,
            pending.receiver(last=last),
            retain_graph=retain_graph or not last,
            together=together,
        )
