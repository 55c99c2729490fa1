"""What the engine does with every use of a parameter, in a form to read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from engines.autogram.objectives import Objectives
from engines.autogram.reading import Reading
from engines.autogram.rules import Option
from engines.autogram.schedule import Share, Task

_KEEPS = {
    "rows": "its rows are kept for the weighted gradient",
    "factors": "its output gradients are kept for the weighted gradient",
    "nothing": "another backward pass makes its gradient, as memory_cap allows no more to be kept",
}

_SHARED_OUT = {
    "gradients": "rows of all samples, a part of their entries",
    "factors": "rows of all samples, a part of the weight",
    "ring": "input-output, block by block of two ranks",
}


@dataclass(frozen=True)
class UsePlan:
    """How one use of one parameter is contracted.

    Parameters that are used by the same operations are contracted together: what that costs is
    said at the first of their uses, and is 0 at the others.

    Attributes:
        path: Path of the module that owns the parameter, "" for the module itself.
        parameter: Name of the parameter in that module.
        operation: Name of autograd's node that uses it.
        rule: The rule's name, or "general" for the exact path row by row.
        reason: Why, in words.
        contraction: How inner products are formed.
        flops: Predicted multiply-adds of the contraction; backward passes are not counted.
        workspace_bytes: Predicted size of the largest block beside its operands.
        alternatives: Other contractions with their predicted multiply-adds.
        seconds: Predicted duration of the contraction and of the weighted gradient.
        travels: What is sent to other processes: "gradients" of the samples, cut by entries;
            "factors", inputs and output gradients, one of them cut by features; or factors round a
            "ring", block by block. Empty in a single process.
        sent_bytes: How much this process sends for it in a step.
    """

    path: str
    parameter: str
    operation: str
    rule: str
    reason: str
    contraction: str
    flops: int
    workspace_bytes: int
    alternatives: tuple[tuple[str, int], ...]
    seconds: float
    travels: str = ""
    sent_bytes: int = 0


def explained(
    reading: Reading,
    objectives: Objectives,
    names: Sequence[str],
    parameters: Sequence[Tensor],
    itemsize: int,
    travels: Sequence[tuple[str, int]] = (),
    general: Mapping[int, int] | None = None,
) -> tuple[UsePlan, ...]:
    """Describe a reading use by use.

    Args:
        reading: What is done with the graph.
        objectives: Their numbering.
        names: Paths of the tracked parameters.
        parameters: The parameters.
        itemsize: Bytes of an element of the Gramian.
        travels: For every task what is sent to other processes, and how many bytes.
        general: Among several processes, bytes for rows of parameters that travel without a rule.

    Returns:
        One record per use, in walk order; a parameter that the losses do not reach has none.
    """
    graph, plan = reading.graph, reading.plan
    shares = {
        (task.group.nodes[column], member.parameter): (task, share, member.roles[column])
        for task in reading.schedule.tasks
        for share in task.shares
        for column in share.columns
        for member in task.group.members
    }
    numbers = {id(task): number for number, task in enumerate(reading.schedule.tasks)}
    told: set[int] = set()
    rows = dict(general or {})
    found = []
    for use, reason in zip(graph.uses, plan.reasons, strict=True):
        operation = graph.nodes[use.node].name()
        path, _, name = names[use.parameter].rpartition(".")
        known = shares.get((use.node, use.parameter))
        if use.parameter in plan.general or known is None:
            m, entries = objectives.count, parameters[use.parameter].shape.numel()
            found.append(
                UsePlan(
                    path,
                    name,
                    operation,
                    "general",
                    reason,
                    f"row by row in {m} backward passes",
                    m * m * entries,
                    itemsize * m * entries,
                    (),
                    0.0,
                    *_sent_in_rows(use.parameter, rows),
                )
            )
            continue
        task, share, role = known
        first, sends = id(share) not in told, id(task) not in told
        told.update((id(share), id(task)))
        option = share.option
        sent = _sent_in_rows(use.parameter, rows)
        if travels:
            way, sent_bytes = travels[numbers[id(task)]]
            sent = way, sent_bytes if sends else 0
        found.append(
            UsePlan(
                path,
                name,
                operation,
                share.rule.name,
                _reason(task, share, role),
                _SHARED_OUT.get(sent[0], option.contraction),
                option.multiply_adds if first else 0,
                option.workspace_bytes,
                tuple(_distinct(share.others)),
                share.seconds if first else 0.0,
                *sent,
            )
        )
    return tuple(found)


def _sent_in_rows(parameter: int, rows: dict[int, int]) -> tuple[str, int]:
    """What travels for a parameter without a rule, and how much at the first of its uses."""
    if parameter not in rows:
        return "", 0
    sent_bytes, rows[parameter] = rows[parameter], 0
    return "gradients", sent_bytes


def _reason(task: Task, share: Share, role: str) -> str:
    """Why an option was chosen."""
    said = f"{role} of a known operation"
    if share.others:
        option, seconds = min(share.others, key=lambda pair: pair[1])
        said += (
            f"; {1e3 * share.seconds:.3g} ms predicted, {option.contraction} {1e3 * seconds:.3g} ms"
        )
        if seconds < share.seconds:
            said += f" but it needs {option.workspace_bytes / 2**20:.3g} MiB"
    return f"{said}; {_KEEPS[task.keep]}"


def _distinct(others: Sequence[tuple[Option, float]]) -> list[tuple[str, int]]:
    """Names and multiply-adds."""
    return [(option.contraction, option.multiply_adds) for option, _ in others]
