"""Chooses how each group of parameters is contracted: by predicted time, under a memory cap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import Graph, output_metadata, saved_tensors
from engines.autogram.objectives import Objectives
from engines.autogram.places import Split
from engines.autogram.plan import Group, Plan
from engines.autogram.rates import Rates, rates_of
from engines.autogram.rules import Counts, Option, Part, Rule, find
from engines.errors import MemoryCapError

Keep = Literal["rows", "factors", "nothing"]

# Whatever the model's size, a contraction may take this much.
LEAST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Budget:
    """What may be used beside what plain training uses.

    Attributes:
        sgd_bytes: Estimate of what a plain step needs: results of operations, and gradients.
        total_bytes: For everything that is kept, and workspace.
        workspace_bytes: For blocks and rows.
        strict: Whether the caller set it: then it is never exceeded.
    """

    sgd_bytes: int
    total_bytes: int
    workspace_bytes: int
    strict: bool

    @classmethod
    def of(cls, graph: Graph, parameters: Sequence[Tensor], memory_cap: int | None) -> "Budget":
        """Read the need of a plain step off a graph.

        Args:
            graph: The graph.
            parameters: Tracked parameters.
            memory_cap: What the caller allows, in bytes; None for two thirds of a plain step's
                need, a quarter for workspace, and 16 MiB at least for either.

        Returns:
            The budget.
        """
        gradients = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
        sgd = saved_bytes(graph.nodes, parameters) + gradients
        if memory_cap is not None:
            return cls(sgd, memory_cap, memory_cap, strict=True)
        return cls(sgd, max(LEAST_BYTES, 2 * sgd // 3), max(LEAST_BYTES, sgd // 4), strict=False)


def saved_bytes(nodes: Sequence[Node], parameters: Sequence[Tensor]) -> int:
    """Add up what a forward pass keeps for the backward pass.

    Args:
        nodes: Nodes of the graph.
        parameters: Tensors that are there anyway.

    Returns:
        Bytes of the distinct blocks of memory that saved tensors lie in. What is behind hooks, as
        in a checkpoint, is not looked at.
    """
    known = {parameter.data_ptr() for parameter in parameters}
    found: dict[int, int] = {}
    for node in nodes:
        for tensor in saved_tensors(node):
            if tensor.layout != torch.strided or tensor.is_nested:
                continue
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def known_bytes(graph: Graph, index: int) -> int:
    """Size of a node's first result.

    Args:
        graph: The graph.
        index: Of the node.

    Returns:
        Bytes, 0 for a nested tensor.
    """
    known = output_metadata(graph.nodes[index])[0]
    if known.is_nested_tensor or known.is_cpp_nested_tensor:
        return 0
    return math.prod(int(size) for size in known.shape) * int(known.dtype.itemsize)


@dataclass(frozen=True)
class Share:
    """What one rule does for a group.

    Attributes:
        rule: The rule.
        columns: Which of the group's nodes it reads.
        parts: The parameters' parts in these nodes.
        option: How they are contracted.
        seconds: Predicted for that, and for the weighted gradient if it is made in the same pass.
        others: The admissible other options with their predicted seconds.
    """

    rule: Rule
    columns: tuple[int, ...]
    parts: tuple[Part, ...]
    option: Option
    seconds: float
    others: tuple[tuple[Option, float], ...] = ()


@dataclass(frozen=True)
class Task:
    """What is done for one group.

    Attributes:
        group: The group.
        shares: One for each rule that its nodes have.
        keep: What the weighted gradient is made of; "nothing" if another pass makes it.
        kept_bytes: Size of what is kept.
    """

    group: Group
    shares: tuple[Share, ...]
    keep: Keep
    kept_bytes: int

    @property
    def seconds(self) -> float:
        """Predicted duration."""
        return sum(share.seconds for share in self.shares)

    @property
    def passing_bytes(self) -> int:
        """Fresh memory that is free again afterwards: what is made on the way to rows."""
        kept = self.keep == "rows"
        return max(
            share.option.workspace_bytes - (share.option.rows_bytes if kept else 0)
            if share.option.kept_rows
            else 0
            for share in self.shares
        )

    @property
    def block_bytes(self) -> int:
        """The least workspace for blocks, which are reused from task to task."""
        options = [share.option for share in self.shares]
        return max(0 if one.kept_rows else one.workspace_bytes for one in options)


@dataclass(frozen=True)
class Schedule:
    """How everything is contracted.

    Attributes:
        rounds: Tasks by the passes in which they are done. More than one where the output
            gradients of several losses, kept until the last is there, would not fit together.
        budget: What was allowed.
        held_bytes: For every round the size of all output gradients.
        workspace_bytes: What blocks may take.
    """

    rounds: tuple[tuple[Task, ...], ...]
    budget: Budget
    held_bytes: tuple[int, ...]
    workspace_bytes: int

    @cached_property
    def served(self) -> frozenset[int]:
        """Parameters, by index, whose weighted gradient is made of what is kept, all of it."""
        kept = {m.parameter for t in self.tasks if t.keep != "nothing" for m in t.group.members}
        left = {m.parameter for t in self.tasks if t.keep == "nothing" for m in t.group.members}
        return frozenset(kept - left)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks."""
        return tuple(task for tasks in self.rounds for task in tasks)


def make_schedule(
    graph: Graph,
    plan: Plan,
    splits: dict[int, Split],
    objectives: Objectives,
    parameters: Sequence[Tensor],
    dtype: torch.dtype,
    device: torch.device,
    budget: Budget,
    *,
    fused: bool,
) -> Schedule:
    """Choose an option for every group.

    Args:
        graph: The graph.
        plan: Its groups.
        splits: For every node how its samples come to the front.
        objectives: Numbering of the objectives.
        parameters: Tracked parameters.
        dtype: Of the Gramian.
        device: Of the objectives.
        budget: What may be used.
        fused: Whether weighted gradients are made in the same pass.

    Returns:
        The schedule.

    Raises:
        MemoryCapError: The caller's cap is less than some contraction needs at least.
    """
    rates = rates_of(device, dtype)
    counts = Counts(objectives.losses, max(1, objectives.samples), dtype.itemsize, ())
    choices = [
        _choices(graph, group, splits, parameters, counts, rates, budget, fused)
        for group in plan.groups
    ]
    tasks = _within(choices, budget) if fused else [one.dropped for one in choices]
    _refuse_excess(tasks, budget)
    rounds = _rounds(graph, tasks, counts, budget)
    nodes = [{index for task in tasks for index in task.group.nodes} for tasks in rounds]
    sizes = [counts.losses * sum(known_bytes(graph, index) for index in each) for each in nodes]
    free = budget.total_bytes - sum(task.kept_bytes for task in tasks) - _passing(tasks)
    workspace = max(_blocks(tasks), min(budget.workspace_bytes, free))
    return Schedule(rounds, budget, tuple(sizes), workspace)


@dataclass(frozen=True)
class _Choices:
    """Three ways to treat a group: keeping least, fastest, and keeping nothing."""

    least: Task
    fastest: Task
    dropped: Task


def _choices(
    graph: Graph,
    group: Group,
    splits: dict[int, Split],
    parameters: Sequence[Tensor],
    counts: Counts,
    rates: Rates,
    budget: Budget,
    fused: bool,
) -> _Choices:
    """Find the ways to contract one group."""
    by_rule: dict[Rule, list[int]] = {}
    for column, index in enumerate(group.nodes):
        rule = find(graph.nodes[index].name())
        if rule is not None:
            by_rule.setdefault(rule, []).append(column)
    # Rows of different rules are added up before they are multiplied, except those of a table.
    built = len(by_rule) > 1 and all("weight" not in member.roles for member in group.members)
    offered: list[tuple[Rule, tuple[int, ...], tuple[Part, ...], list[tuple[Option, float]]]] = []
    for rule, columns in by_rule.items():
        nodes = [graph.nodes[group.nodes[column]] for column in columns]
        parts = tuple(
            Part(
                member.shape(parameters),
                tuple(member.roles[column] for column in columns),
                tuple(member.transposed[column] for column in columns),
            )
            for member in group.members
        )
        positions = tuple(splits[group.nodes[column]].positions for column in columns)
        options = rule.options(nodes, parts, replace(counts, positions=positions))
        if len(by_rule) > 1:
            options = tuple(option for option in options if option.kept_rows == built)
        priced = [(option, predicted(option, rates, fused)) for option in options]
        offered.append((rule, tuple(columns), parts, priced))
    held = counts.losses * sum(known_bytes(graph, index) for index in group.nodes)

    def task(keep: Keep) -> Task | None:
        """The fastest way that keeps this, None if there is none."""
        shares = []
        for rule, columns, parts, priced in offered:
            nodes = [graph.nodes[group.nodes[column]] for column in columns]
            if keep == "rows" and not rule.may_keep_rows(nodes):
                return None
            allowed = [
                pair
                for pair in priced
                if keep == "nothing" or pair[0].kept_rows == (keep == "rows")
            ]
            if not allowed:
                return None
            shares.append(_share(rule, columns, parts, allowed, priced, budget))
        rows = sum(share.option.rows_bytes for share in shares)
        kept = {"rows": rows, "factors": held, "nothing": 0}[keep]
        return Task(group, tuple(shares), keep, kept)

    dropped = task("nothing")
    if dropped is None:
        raise ValueError(f"got no option for the group {group}, expected one; mend the rule.")
    found = [one for one in (task("factors"), task("rows")) if one is not None] if fused else []
    fitting = [t for t in found if max(t.passing_bytes, t.block_bytes) <= budget.workspace_bytes]
    fitting = fitting or found or [dropped]
    return _Choices(
        least=min(fitting, key=lambda t: (t.kept_bytes, t.seconds)),
        fastest=min(fitting, key=lambda t: t.seconds),
        dropped=dropped,
    )


def _share(
    rule: Rule,
    columns: tuple[int, ...],
    parts: tuple[Part, ...],
    allowed: list[tuple[Option, float]],
    priced: list[tuple[Option, float]],
    budget: Budget,
) -> Share:
    """Choose the fastest option that fits, or the smallest."""
    fitting = [pair for pair in allowed if pair[0].workspace_bytes <= budget.workspace_bytes]
    if fitting:
        option, seconds = min(fitting, key=lambda pair: pair[1])
    else:
        option, seconds = min(allowed, key=lambda pair: pair[0].workspace_bytes)
    others = tuple(pair for pair in priced if pair[0] is not option)
    return Share(rule, columns, parts, option, seconds, others)


def _refuse_excess(tasks: Sequence[Task], budget: Budget) -> None:
    """Raise if a task needs more than the caller allows, and say what the largest needs."""
    shares = [share for task in tasks for share in task.shares]
    if not budget.strict or not shares:
        return
    largest = max(shares, key=lambda share: share.option.workspace_bytes)
    needed = largest.option.workspace_bytes
    if needed > budget.workspace_bytes:
        raise MemoryCapError(
            f"got memory_cap={budget.total_bytes:,}, expected at least {needed:,} bytes, which the "
            f"{largest.rule.name} rule needs for a parameter of shape "
            f"{tuple(largest.parts[0].shape)}; raise the cap or leave it out."
        )


def predicted(option: Option, rates: Rates, fused: bool) -> float:
    """Predict how long an option takes.

    Args:
        option: The option.
        rates: Of the machine.
        fused: Whether the weighted gradient counts.

    Returns:
        Seconds.
    """
    seconds = rates.seconds(
        option.multiply_adds / option.throughput, option.moved_bytes, option.calls
    )
    if fused:
        seconds += rates.seconds(option.gradient_multiply_adds, option.gradient_moved_bytes, 3)
    return seconds


def _within(tasks: Sequence[_Choices], budget: Budget) -> list[Task]:
    """Choose what is kept of every group: what takes least, and more where that saves most."""
    chosen = [choices.least for choices in tasks]
    # What contractions take for a moment comes on top of what is kept.
    room = budget.total_bytes - _passing(chosen) - _blocks(chosen)
    filled = sum(task.kept_bytes for task in chosen)
    for index in sorted(range(len(chosen)), key=lambda i: -chosen[i].kept_bytes):
        if filled <= room:
            break
        # The largest first are left to another pass.
        filled -= chosen[index].kept_bytes
        chosen[index] = tasks[index].dropped
    gains = []
    for index, choices in enumerate(tasks):
        saved = chosen[index].seconds - choices.fastest.seconds
        more = choices.fastest.kept_bytes - chosen[index].kept_bytes
        if saved > 0 and chosen[index].keep != "nothing":
            gains.append((saved / max(1, more), index))
    for _, index in sorted(gains, reverse=True):
        more = tasks[index].fastest.kept_bytes - chosen[index].kept_bytes
        if filled + more <= room:
            filled += more
            chosen[index] = tasks[index].fastest
    return chosen


def _passing(tasks: Sequence[Task]) -> int:
    """What is made on the way to rows, of one task at a time."""
    return max((task.passing_bytes for task in tasks), default=0)


def _blocks(tasks: Sequence[Task]) -> int:
    """The least workspace with which all tasks can do."""
    return max((task.block_bytes for task in tasks), default=0)


def _rounds(
    graph: Graph, tasks: Sequence[Task], counts: Counts, budget: Budget
) -> tuple[tuple[Task, ...], ...]:
    """Cut tasks so that the output gradients of all losses fit, where there are several."""
    if counts.losses == 1:
        return (tuple(tasks),)
    rounds: list[list[Task]] = [[]]
    held: set[int] = set()
    filled = 0
    for task in tasks:
        new = set(task.group.nodes) - held
        size = counts.losses * sum(known_bytes(graph, index) for index in new)
        if rounds[-1] and filled + size > budget.total_bytes:
            rounds.append([])
            held, filled = set(), 0
            new = set(task.group.nodes)
            size = counts.losses * sum(known_bytes(graph, index) for index in new)
        rounds[-1].append(task)
        held |= new
        filled += size
    return tuple(tuple(tasks) for tasks in rounds)
