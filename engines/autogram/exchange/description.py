"""What a rank tells the others about its part of a step, before anything else is sent."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property

import torch
from torch import Tensor, nn

from engines.autogram.graph import attribute
from engines.autogram.objectives import Objectives
from engines.autogram.reading import Reading
from engines.autogram.rules import Extent, part_of
from engines.autogram.schedule import Task
from engines.autogram.tracked import Tracked


@dataclass(frozen=True)
class TaskShape:
    """What has to be known of a group of parameters to decide what travels.

    Attributes:
        name: Its parameters and rules, in words.
        members: Its parameters, by index.
        entries: n, of all its parameters together.
        weight: Shape of the weight, empty if there is none.
        axes: Dimensions along which its inner products can be shared out.
        spans: For each of them, and every node, whether inputs and output gradients span it.
        crosses: Whether blocks of two batches can be contracted from factors alone.
        extents: Of every node; none if rows have to be built.
        kept: Whether rows are built anyway, for the weighted gradient.
    """

    name: str
    members: tuple[int, ...]
    entries: int
    weight: tuple[int, ...]
    axes: tuple[int, ...]
    spans: tuple[tuple[tuple[bool, bool], ...], ...]
    crosses: bool
    extents: tuple[Extent, ...]
    kept: bool


@dataclass(frozen=True)
class Description:
    """A rank's part of a step.

    Attributes:
        call: What was called, with which dimension of samples.
        dtype: In which inner products are added up, and where.
        rest: Shape of the losses without the dimension of samples.
        parameters: Tracked parameters in words.
        outside: Parameters that the losses reach but nobody tracks, in words, in the order of the
            graph.
        reached: Tracked parameters that the losses reach, by index.
        samples: b.
        losses: k, objectives per sample.
        tasks: Groups of parameters; none if there are no objectives.
        order: Their numbers, in the order in which a pass is expected to bring them.
        rounds: Their numbers by the passes in which they are done.
        general: Parameters without a rule, by index, in order.
        workspace_bytes: What blocks may take.
        general_bytes: What rows of parameters without a rule may take.
        strict: Whether that is the caller's limit.
        certain: Whether a pass is known to bring all that is expected.
    """

    call: str
    dtype: str
    rest: tuple[int, ...]
    parameters: tuple[str, ...]
    outside: tuple[str, ...]
    reached: tuple[int, ...]
    samples: int
    losses: int
    tasks: tuple[TaskShape, ...] = ()
    order: tuple[int, ...] = ()
    rounds: tuple[tuple[int, ...], ...] = ()
    general: tuple[int, ...] = ()
    workspace_bytes: int = 0
    general_bytes: int = 0
    strict: bool = False
    certain: bool = True

    @property
    def objectives(self) -> int:
        """Number of objectives m."""
        return self.samples * self.losses

    @cached_property
    def digest(self) -> int:
        """A number that differs where a description does."""
        found = hashlib.blake2b(repr(astuple(self)).encode(), digest_size=7)
        return int.from_bytes(found.digest(), "big")


_WORDS = {
    "call": "calls",
    "dtype": "adds up in",
    "rest": "has losses of shape, beside the samples,",
    "parameters": "trains",
    "outside": "reaches outside the engine's modules",
}


def differences(descriptions: Sequence[Description]) -> list[str]:
    """Say where ranks disagree so that they cannot take a step together.

    Args:
        descriptions: Of all ranks, in order.

    Returns:
        A sentence for every rank that is unlike the first one, about the first thing that differs.
    """
    for compared, words in _WORDS.items():
        known = getattr(descriptions[0], compared)
        found = []
        for rank, description in enumerate(descriptions):
            own = getattr(description, compared)
            if own != known:
                mine, other = _first_difference(own, known)
                found.append(f"rank {rank} {words} {mine} where rank 0 has {other}")
        if found:
            return found
    return []


def _first_difference(own: object, known: object) -> tuple[object, object]:
    """Two values, or of two lists of parameters what differs first."""
    if not isinstance(own, tuple) or not isinstance(known, tuple):
        return own, known
    if any(not isinstance(entry, str) for entry in (*own, *known)):
        return own, known
    for mine, other in zip(own, known, strict=False):
        if mine != other:
            return mine, other
    longer = own if len(own) > len(known) else known
    nothing, more = f"nothing more ({min(len(own), len(known))})", longer[min(len(own), len(known))]
    return (more, nothing) if longer is own else (nothing, more)


def have_one_plan(descriptions: Sequence[Description]) -> bool:
    """Tell whether the graphs of all ranks contract the same groups of parameters.

    They need not: torch takes other operations for one sample than for several, and a model may
    decide by its data.

    Args:
        descriptions: Of all ranks.

    Returns:
        Whether those with objectives do.
    """
    plans = {
        (one.reached, one.general, tuple((t.name, t.entries, t.weight) for t in one.tasks))
        for one in descriptions
        if one.objectives
    }
    return len(plans) <= 1


def describe(
    call: str,
    losses: Tensor,
    objectives: Objectives,
    dtype: torch.dtype,
    tracked: Tracked,
    leaves: Sequence[Tensor],
    reading: Reading | None,
    general_bytes: int,
) -> Description:
    """Describe this rank's part.

    Args:
        call: What was called, in words.
        losses: The objectives.
        objectives: Their numbering.
        dtype: In which inner products are added up.
        tracked: The tracked parameters.
        leaves: What the losses reach.
        reading: What is done with the graph; None if there are no objectives.
        general_bytes: What rows of parameters without a rule may take.

    Returns:
        The description.
    """
    names, parameters = tracked.names, tracked.parameters
    rest = list(losses.shape)
    if rest:
        del rest[objectives.dim or 0]
    known = {id(parameter): index for index, parameter in enumerate(parameters)}
    common = Description(
        call=call,
        dtype=f"{dtype} on {losses.device.type}",
        rest=tuple(rest),
        parameters=tuple(_said(n, p) for n, p in zip(names, parameters, strict=True)),
        outside=tuple(
            _said("a parameter", leaf)
            for leaf in leaves
            if isinstance(leaf, nn.Parameter) and id(leaf) not in known
        ),
        reached=tuple(sorted(known[id(leaf)] for leaf in leaves if id(leaf) in known)),
        samples=0,
        losses=0,
    )
    if reading is None:
        return common
    own = {field.name: getattr(common, field.name) for field in fields(common)}
    schedule = reading.schedule
    numbers = {id(task): number for number, task in enumerate(schedule.tasks)}
    own.update(
        samples=objectives.samples,
        losses=objectives.losses,
        tasks=tuple(_shape_of(reading, task, names) for task in schedule.tasks),
        order=_order(reading),
        rounds=tuple(tuple(numbers[id(task)] for task in each) for each in schedule.rounds),
        general=tuple(reading.plan.general),
        workspace_bytes=max(schedule.workspace_bytes, schedule.budget.workspace_bytes),
        general_bytes=general_bytes,
        strict=schedule.budget.strict,
        certain=reading.certain,
    )
    return Description(**own)


def _said(name: str, parameter: Tensor) -> str:
    """A parameter in words."""
    return f"{name} {tuple(parameter.shape)} {str(parameter.dtype).removeprefix('torch.')}"


def _shape_of(reading: Reading, task: Task, names: Sequence[str]) -> TaskShape:
    """Describe one group."""
    graph, group = reading.graph, task.group
    members = " and ".join(names[member.parameter] for member in group.members)
    rules = " and ".join(share.rule.name for share in task.shares)
    entries = sum(part.shape.numel() for part in task.shares[0].parts)
    weight = part_of("weight", task.shares[0].parts)
    axes: set[int] = {0, 1}
    crosses = len(task.shares) == 1
    for share in task.shares:
        nodes = [graph.nodes[group.nodes[column]] for column in share.columns]
        axes &= set(share.rule.axes(nodes, share.parts))
        crosses = crosses and share.rule.crosses(nodes, share.parts)
    if weight is None or not axes:
        rows = task.keep == "rows"
        return TaskShape(
            f"{members} ({rules})", group.parameters, entries, (), (), (), False, (), rows
        )
    extents, spans = [], []
    for share in task.shares:
        part = part_of("weight", share.parts)
        for place, column in enumerate(share.columns):
            index = group.nodes[column]
            node, split = graph.nodes[index], reading.splits[index]
            if part is not None:
                extents.append(share.rule.extent(node, part, place, split.axis, split.positions))
                spans.append([share.rule.spans(node, part, place, axis) for axis in sorted(axes)])
    return TaskShape(
        name=f"{members} ({rules})",
        members=group.parameters,
        entries=entries,
        weight=tuple(weight.shape),
        axes=tuple(sorted(axes)),
        spans=tuple(zip(*spans, strict=True)),
        crosses=crosses,
        extents=tuple(extents),
        kept=task.keep == "rows",
    )


def _order(reading: Reading) -> tuple[int, ...]:
    """Tasks as a pass brings them: autograd runs what was made last first, targets at the end."""
    graph, tasks = reading.graph, reading.schedule.tasks
    deepest = graph.deepest(reading.plan.nodes) if tasks else frozenset()

    def moment(number: int) -> tuple[bool, int]:
        nodes = tasks[number].group.nodes
        made = min(int(attribute(graph.nodes[index], "_sequence_nr")()) for index in nodes)
        return any(index in deepest for index in nodes), -made

    return tuple(sorted(range(len(tasks)), key=moment))
