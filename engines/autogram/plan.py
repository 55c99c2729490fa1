"""Decides how the gradients of every parameter are contracted, as data."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from engines.autogram.graph import Graph
from engines.autogram.rules import Role, find


@dataclass(frozen=True)
class Member:
    """One parameter of a group.

    Attributes:
        parameter: Its index among those tracked.
        roles: For every node of the group what the parameter does there.
        transposed: For every node whether it sees the parameter transposed.
    """

    parameter: int
    roles: tuple[Role, ...]
    transposed: tuple[bool, ...]


@dataclass(frozen=True)
class Group:
    """Parameters used by exactly the same nodes: they share inputs and output gradients.

    Attributes:
        nodes: Indices of the nodes, all with a rule.
        members: The parameters.
    """

    nodes: tuple[int, ...]
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Plan:
    """How every parameter that the graph reaches is treated.

    Attributes:
        groups: Parameters contracted by rules.
        general: Parameters that take the general path, with the reason in words.
    """

    groups: tuple[Group, ...]
    general: dict[int, str]

    @property
    def nodes(self) -> tuple[int, ...]:
        """Nodes whose output gradients are needed, in walk order."""
        return tuple(sorted({node for group in self.groups for node in group.nodes}))


def make_plan(graph: Graph, parameters: Sequence[Tensor], mixed: Collection[int] = ()) -> Plan:
    """Give every parameter a rule for all its uses, or the general path.

    Args:
        graph: The graph of the objectives.
        parameters: Tracked parameters.
        mixed: Nodes in which the samples are not where a rule needs them.

    Returns:
        The plan.

    Raises:
        RuntimeError: Saved tensors were freed.
    """
    general = dict.fromkeys(sorted(graph.entangled), "is itself the output")
    claimed: dict[int, list[tuple[int, Role, bool]]] = {}
    for use in graph.uses:
        node = graph.nodes[use.node]
        entries = claimed.setdefault(use.parameter, [])
        rule = find(node.name())
        if rule is None:
            general.setdefault(use.parameter, f"{node.name()} has no rule")
            continue
        if use.node in mixed:
            general.setdefault(use.parameter, f"samples are mixed in {node.name()}")
            continue
        if parameters[use.parameter]._backward_hooks:
            # A hook on a parameter may change its gradient, which only autograd can run.
            general.setdefault(use.parameter, "has a hook")
            continue
        role = rule.role(node, use.slot, parameters[use.parameter], use.transposed)
        if role is None:
            general.setdefault(use.parameter, f"the rule for {node.name()} declined")
        elif any(index == use.node for index, _, _ in entries):
            general.setdefault(use.parameter, f"{node.name()} uses it more than once")
        else:
            entries.append((use.node, role, use.transposed))
    groups: dict[tuple[int, ...], list[Member]] = {}
    for parameter, entries in claimed.items():
        if parameter in general:
            continue
        nodes, roles, transposed = zip(*sorted(entries), strict=True)
        groups.setdefault(nodes, []).append(Member(parameter, roles, transposed))
    return Plan(
        groups=tuple(Group(nodes, tuple(members)) for nodes, members in groups.items()),
        general=general,
    )
