"""Runs a rank's passes, and hands what they bring to the exchange instead of contracting it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from engines.autogram.accumulation import (
    Accumulation,
    Present,
    Weighted,
    of_factors,
    of_nothing,
    of_rows,
)
from engines.autogram.capture import TOGETHER_BYTES
from engines.autogram.exchange.blocks import Blocks
from engines.autogram.exchange.frame import Frame
from engines.autogram.exchange.loads import Load
from engines.autogram.exchange.shipping import Shipping
from engines.autogram.objectives import Objectives
from engines.autogram.passes import Brought, run_round
from engines.autogram.rates import Rates
from engines.autogram.reading import Reading
from engines.autogram.rules import Factors, Option, Workspace
from engines.autogram.schedule import Share, Task, predicted


@dataclass(frozen=True, eq=False)
class Cargo:
    """What the passes of one call share.

    Attributes:
        reading: What is done with the graph.
        frame: Shapes and places of what travels.
        shipping: What takes it.
        blocks: For every tracked parameter what it adds to.
        rates: Of this machine.
    """

    reading: Reading
    frame: Frame
    shipping: Shipping
    blocks: Sequence[Blocks]
    rates: Rates


def carry(
    cargo: Cargo,
    output: Tensor,
    objectives: Objectives,
    workspace: Workspace,
    *,
    retain_graph: bool,
) -> Brought:
    """Run the passes of a rank that has objectives.

    Args:
        cargo: What they share.
        output: The objectives.
        objectives: Their numbering.
        workspace: Where blocks are.
        retain_graph: Whether the graph outlives the last pass.

    Returns:
        What this rank's gradients are made of, and parameters that no pass brought.

    Raises:
        RankFailedError: A rank is gone.
        RuntimeError: Autograd could not run.

    Cost: as `run_passes`.
    """
    schedule = cargo.reading.schedule
    tasks, rounds = schedule.tasks, cargo.frame.routes.rounds
    brought = Brought([], set())
    alike = len(rounds) == len(schedule.rounds)
    for turn, numbers in enumerate(rounds):
        pending = _Carrier(cargo, [(number, tasks[number]) for number in numbers], workspace)
        small = alike and schedule.held_bytes[turn] <= TOGETHER_BYTES
        final = turn == len(rounds) - 1 and not retain_graph
        run_round(pending, output, objectives, cargo.reading, retain_graph=not final, small=small)
        brought.unfinished.update(pending.unfinished())
        brought.weighted.extend(pending.weighted)
    return brought


class _Carrier(Accumulation):
    """Hands groups to the exchange where an accumulation contracts them.

    Args:
        cargo: What the passes share.
        tasks: Those of one round, with their numbers.
        workspace: Where blocks are.
    """

    def __init__(
        self, cargo: Cargo, tasks: Sequence[tuple[int, Task]], workspace: Workspace
    ) -> None:
        chosen = [task for _, task in tasks]
        super().__init__(cargo.reading, chosen, [cargo.frame.like] * len(chosen), workspace)
        self._cargo = cargo
        self._numbers = {id(task): number for number, task in tasks}

    def _contract(self, task: Task, total: Tensor) -> None:
        """Keep what this rank's gradients need, and hand on what the others need."""
        number = self._numbers[id(task)]
        route = self._cargo.frame.routes.routes[number]
        found = self._present(task, total)
        members = task.group.members
        rows = None
        if found and (route.travels == "gradients" or task.keep == "rows"):
            rows = [self._rows(found, place) for place in range(len(members))]
        kept = self._kept(task, found, rows)
        if kept is not None:
            self.weighted.append((members, kept))
        load = Load(task, self._cargo.blocks[members[0].parameter])
        if route.travels != "gradients":
            brought = sum(len(one.factors) for one in found)
            whole = brought == len(task.group.nodes)
            load.shares = found if whole else self._complete(number, task, total)
        elif rows is not None:
            load.rows = rows[0] if len(rows) == 1 else torch.cat(rows, 1)
        self._cargo.shipping.take(number, load)

    def _kept(self, task: Task, found: list[Present], rows: list[Tensor] | None) -> Weighted | None:
        """What makes the gradients of a group's parameters; None if another pass does."""
        if task.keep == "nothing":
            return None
        if not found:
            held = [d for index in task.group.nodes for d in self._held[index]]
            shapes = [part.shape for part in task.shares[0].parts]
            return of_nothing(shapes) if any(d is not None for d in held) else None
        return of_rows(rows) if task.keep == "rows" and rows is not None else of_factors(found)

    def _rows(self, found: list[Present], place: int) -> Tensor:
        """Gradients of one parameter, one row for each objective of this rank."""
        return reduce(
            torch.add,
            (
                one.share.rule.rows(
                    one.parts[place], one.factors, _rows_option(one.share, self._cargo.rates)
                )
                for one in found
            ),
        )

    def _complete(self, number: int, task: Task, total: Tensor) -> list[Present]:
        """The shares of a group with factors of all nodes, zeros where there is no gradient."""
        found, node = [], 0
        for share in task.shares:
            factors = []
            for column in share.columns:
                own = self._factors(task, column, total)
                factors.append(own or self._nothing(number, node, task.group.nodes[column]))
                node += 1
            found.append(Present(share, share.parts, factors))
        return found

    def _nothing(self, number: int, node: int, index: int) -> Factors:
        """Factors of a node without a gradient."""
        inputs, outputs = self._cargo.frame.zeros(number, node)
        return Factors(self._graph.nodes[index], self._splits[index].axis, inputs, outputs)


def _rows_option(share: Share, rates: Rates) -> str:
    """The quickest way to build rows."""
    if share.option.kept_rows:
        return share.option.contraction
    offered = [option for option, _ in share.others if option.kept_rows]
    if not offered:
        return "rows"

    def seconds(option: Option) -> float:
        return predicted(replace(option, multiply_adds=0), rates, fused=False)

    return min(offered, key=seconds).contraction
