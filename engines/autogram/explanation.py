"""What the engine does with every use of a parameter, in a form to read."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from engines.autogram.graph import Graph
from engines.autogram.objectives import Objectives
from engines.autogram.plan import Plan
from engines.autogram.rules import Counts, find


@dataclass(frozen=True)
class UsePlan:
    """How one use of one parameter is contracted.

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


def explained(
    graph: Graph,
    plan: Plan,
    objectives: Objectives,
    names: Sequence[str],
    parameters: Sequence[Tensor],
    itemsize: int,
) -> tuple[UsePlan, ...]:
    """Describe a plan use by use.

    Args:
        graph: Graph of the objectives.
        plan: The plan.
        objectives: Their numbering.
        names: Paths of the tracked parameters.
        parameters: The parameters.
        itemsize: Bytes of an element of the Gramian.

    Returns:
        One record per use, in walk order; a parameter that the losses do not reach has none.
    """
    roles = {
        (node, member.parameter): role
        for group in plan.groups
        for member in group.members
        for node, role in zip(group.nodes, member.roles, strict=True)
    }
    counts = Counts(objectives.losses, max(1, objectives.samples), itemsize)
    found = []
    for use, reason in zip(graph.uses, plan.reasons, strict=True):
        node = graph.nodes[use.node]
        path, _, name = names[use.parameter].rpartition(".")
        shape = parameters[use.parameter].shape
        role, rule = roles.get((use.node, use.parameter)), find(node.name())
        if use.parameter in plan.general or role is None or rule is None:
            m = counts.objectives
            found.append(
                UsePlan(
                    path,
                    name,
                    node.name(),
                    "general",
                    reason,
                    f"row by row in {m} backward passes",
                    m * m * shape.numel(),
                    itemsize * m * shape.numel(),
                    (),
                )
            )
            continue
        price = rule.price(node, role, shape, counts)
        found.append(
            UsePlan(
                path,
                name,
                node.name(),
                rule.name,
                f"{role} of a known operation",
                price.contraction,
                price.flops,
                price.workspace_bytes,
                price.alternatives,
            )
        )
    return tuple(found)
