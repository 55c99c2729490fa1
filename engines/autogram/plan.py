"""Decides how the gradients of every parameter are contracted, as data."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from engines.autogram.graph import Graph, Rows, Use
from engines.autogram.hooks import hooked, hooked_itself
from engines.autogram.places import Place, Shared, State, Unknown
from engines.autogram.rules import Declined, Role, find
from engines.autogram.separation import Separation

# Rules whose uses of one weight have cross terms in closed form.
TIED = frozenset({"embedding", "linear"})


@dataclass(frozen=True)
class Member:
    """One parameter of a group.

    Attributes:
        parameter: Its index among those tracked.
        roles: For every node of the group what the parameter does there.
        slots: For every node which argument it is.
        transposed: For every node whether it sees the parameter transposed.
        rows: First row that the nodes see and the one after the last, None for all: the projections
            of attention are rows of one parameter.
    """

    parameter: int
    roles: tuple[Role, ...]
    slots: tuple[int, ...]
    transposed: tuple[bool, ...]
    rows: Rows = None

    def shape(self, parameters: Sequence[Tensor]) -> torch.Size:
        """Shape of what the nodes see of it.

        Args:
            parameters: The tracked parameters.

        Returns:
            That of the parameter, or of the rows that it stands for.
        """
        whole = parameters[self.parameter].shape
        if self.rows is None:
            return whole
        return torch.Size((self.rows[1] - self.rows[0], *whole[1:]))


@dataclass(frozen=True)
class Group:
    """Parameters used by exactly the same nodes: they share inputs and output gradients.

    Attributes:
        nodes: Indices of the nodes, all with a rule.
        members: The parameters.
    """

    nodes: tuple[int, ...]
    members: tuple[Member, ...]

    @cached_property
    def parameters(self) -> tuple[int, ...]:
        """The parameters by index."""
        return tuple(member.parameter for member in self.members)

    @cached_property
    def readers(self) -> tuple[int | None, ...]:
        """For every node the argument whose gradient needs what the node saved, None for none.

        A bias needs no input, and one that is not needed may not have been saved.
        """
        return tuple(
            next((m.slots[column] for m in self.members if m.roles[column] != "bias"), None)
            for column in range(len(self.nodes))
        )


@dataclass(frozen=True)
class Plan:
    """How every parameter that the graph reaches is treated.

    Attributes:
        groups: Parameters contracted by rules.
        places: For every node of a group where the samples are in its output gradient.
        general: Parameters that take the general path, with the reason in words.
        reasons: For every use, in walk order, why it is treated so, in words.
    """

    groups: tuple[Group, ...]
    places: dict[int, Place]
    general: dict[int, str]
    reasons: tuple[str, ...]

    @property
    def nodes(self) -> tuple[int, ...]:
        """Nodes whose output gradients are needed, in walk order."""
        return tuple(sorted({node for group in self.groups for node in group.nodes}))


def make_plan(
    graph: Graph,
    parameters: Sequence[Tensor],
    separation: Separation | None = None,
    labels: Sequence[str] = (),
) -> Plan:
    """Give every parameter a rule for all its uses, or the general path.

    Args:
        graph: The graph of the objectives.
        parameters: Tracked parameters.
        separation: Where the samples are; None if there is one, the whole batch.
        labels: One for each parameter, if parameters with different ones may not share a group.

    Returns:
        The plan.

    Raises:
        RuntimeError: Saved tensors were freed.
    """
    general = dict.fromkeys(sorted(graph.entangled), "is itself an objective")
    claimed: dict[tuple[int, Rows], list[tuple[int, Role, int, bool]]] = {}
    places: dict[int, Place] = {}
    reasons = []
    for use in graph.uses:
        entries = claimed.setdefault((use.parameter, use.rows), [])
        found = _claim(graph, use, parameters[use.parameter], separation)
        if isinstance(found, tuple) and any(index == use.node for index, *_ in entries):
            found = f"{graph.nodes[use.node].name()} uses it more than once"
        if isinstance(found, str):
            general.setdefault(use.parameter, found)
            reasons.append(found)
            continue
        role, places[use.node] = found
        entries.append((use.node, role, use.slot, use.transposed))
        reasons.append("")
    for parameter in _overlapping(claimed):
        general.setdefault(parameter, "is read in parts that overlap")
    groups: dict[tuple[tuple[int, ...], tuple[int, ...], str], list[Member]] = {}
    for (parameter, rows), entries in claimed.items():
        if parameter in general:
            continue
        nodes, roles, slots, transposed = zip(*sorted(entries), strict=True)
        names = {rule.name for node in nodes if (rule := find(graph.nodes[node].name()))}
        built = {*roles} <= {"bias", "scale"}
        if len(names) > 1 and not built and not names <= TIED:
            general[parameter] = (
                f"is used by operations of different rules ({', '.join(sorted(names))})"
            )
            continue
        pairs = zip(nodes, slots, strict=True)
        sections = tuple(_section(graph, node, slot) for node, slot in pairs)
        label = labels[parameter] if labels else ""
        together = groups.setdefault((nodes, sections, label), [])
        if any(other.roles == roles for other in together):
            general[parameter] = "another parameter has the same role in the same operations"
            continue
        together.append(Member(parameter, roles, slots, transposed, rows))
    return Plan(
        groups=_without(groups, general),
        places=places,
        general=general,
        reasons=tuple(
            reason or general.get(use.parameter, "")
            for use, reason in zip(graph.uses, reasons, strict=True)
        ),
    )


def _overlapping(claimed: Collection[tuple[int, Rows]]) -> list[int]:
    """Parameters of which two different parts are read that have rows in common."""
    parts: dict[int, list[Rows]] = {}
    for parameter, rows in claimed:
        parts.setdefault(parameter, []).append(rows)
    found = []
    for parameter, several in parts.items():
        ordered = sorted(rows for rows in several if rows is not None)
        apart = all(one[1] <= other[0] for one, other in pairwise(ordered))
        if len(several) > 1 and (len(ordered) < len(several) or not apart):
            found.append(parameter)
    return found


def _without(
    groups: Mapping[tuple[tuple[int, ...], tuple[int, ...], str], Sequence[Member]],
    general: Collection[int],
) -> tuple[Group, ...]:
    """Groups without what takes the general path, of which other parts may have been sorted in."""
    found = []
    for (nodes, *_), members in groups.items():
        kept = tuple(member for member in members if member.parameter not in general)
        if kept:
            found.append(Group(nodes, kept))
    return tuple(found)


def _section(graph: Graph, node: int, slot: int) -> int:
    """Which of a node's inputs a parameter is contracted with."""
    rule = find(graph.nodes[node].name())
    return 0 if rule is None else rule.section(graph.nodes[node], slot)


def _claim(
    graph: Graph, use: Use, parameter: Tensor, separation: Separation | None
) -> tuple[Role, Place] | str:
    """Find the role that a rule gives to one use, or say why there is none."""
    node = graph.nodes[use.node]
    rule = find(node.name())
    if rule is None:
        return f"{node.name()} has no rule"
    state: State = Place.whole(0)
    if separation is not None:
        state = rule.state(separation.states_of(use.node, rule.results))
    if isinstance(state, Shared):
        return f"{node.name()} reads no samples, so its gradient is a sum over them"
    if isinstance(state, Unknown):
        return f"{node.name()} {state.reason}"
    if parameter._backward_hooks or any(hooked(moved) for moved in use.chain):
        # A hook on a parameter may change its gradient, which only autograd can run.
        return "has a hook"
    if hooked_itself(node):
        # Of its inputs and results, one is not what the rule would see.
        return f"{node.name()} has a hook"
    place = rule.place(node, state)
    if place is None:
        return f"{node.name()} has the samples along a dimension that its rule does not take"
    seen = parameter.detach() if use.rows is None else parameter.detach()[slice(*use.rows)]
    role = rule.role(node, use.slot, seen, use.transposed, place)
    if isinstance(role, Declined):
        return f"{node.name()} {role.reason}"
    return role, place
