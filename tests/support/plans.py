"""Every way in which a schedule may treat a group, so that tests can force each of them."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from engines.autogram import reading
from engines.autogram.graph import Graph
from engines.autogram.schedule import Keep, Schedule, Share, Task, known_bytes

# Chooses among the ways to treat a task, given its number and them.
Choose = Callable[[int, list[Task]], Task]


def ways(graph: Graph, task: Task, losses: int, *, fused: bool) -> list[Task]:
    """All admissible ways to contract a group and to keep something of it."""
    options = [[share.option, *(option for option, _ in share.others)] for share in task.shares]
    found = []
    for chosen in itertools.product(*options):
        kinds = {option.kept_rows for option in chosen}
        if len(kinds) > 1:
            continue
        shares = tuple(
            replace(share, option=option) for share, option in zip(task.shares, chosen, strict=True)
        )
        found.append(replace(task, shares=shares, keep="nothing", kept_bytes=0))
        rows = kinds == {True}
        if fused and (not rows or all(_may_keep(graph, task, share) for share in shares)):
            size = losses * sum(known_bytes(graph, index) for index in task.group.nodes)
            if rows:
                size = sum(option.workspace_bytes for option in chosen)
            keep: Keep = "rows" if rows else "factors"
            found.append(replace(task, shares=shares, keep=keep, kept_bytes=size))
    return found


def _may_keep(graph: Graph, task: Task, share: Share) -> bool:
    """Whether the rule allows rows to be kept of these nodes."""
    nodes = [graph.nodes[task.group.nodes[column]] for column in share.columns]
    return share.rule.may_keep_rows(nodes)


def describe(task: Task) -> tuple[str, ...]:
    """The names of the contractions, and what is kept."""
    return (*(share.option.contraction for share in task.shares), task.keep)


def force(patched: pytest.MonkeyPatch, choose: Choose) -> list[list[list[Task]]]:
    """Let every schedule be what `choose` says; returns the ways met, by schedule and task."""
    inner = reading.make_schedule
    met: list[list[list[Task]]] = []

    def chosen(graph: Graph, *arguments: Any, fused: bool) -> Schedule:
        schedule = inner(graph, *arguments, fused=fused)
        objectives = arguments[2]
        numbers = itertools.count()
        known: list[list[Task]] = []
        met.append(known)

        def replaced(tasks: tuple[Task, ...]) -> Iterator[Task]:
            for task in tasks:
                known.append(ways(graph, task, objectives.losses, fused=fused))
                yield choose(next(numbers), known[-1])

        rounds = tuple(tuple(replaced(tasks)) for tasks in schedule.rounds)
        return replace(schedule, rounds=rounds)

    patched.setattr(reading, "make_schedule", chosen)
    return met
