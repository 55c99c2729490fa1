"""Proves from the graph alone where the samples are in the output gradients of nodes."""

from collections.abc import Collection
from math import prod

from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import Graph, metadata
from engines.autogram.hooks import hooked
from engines.autogram.objectives import Objectives
from engines.autogram.passage import PASSAGES, Step, follow


def proved_outer(
    graph: Graph, output: Tensor, objectives: Objectives, wanted: Collection[int]
) -> frozenset[int]:
    """Find the nodes whose output gradients certainly have the samples outermost in dimension 0.

    By induction from the output, whose samples lie along the batch dimension: a node's samples are
    known if every node above it that sends it a gradient is known and passes samples on in a known
    way, all to the same axis. Nothing is kept: a graph that depends on the data or on arguments
    is read as it is.

    Args:
        graph: Graph of the output.
        output: The objectives.
        objectives: Their numbering, b > 1 samples.
        wanted: Indices of nodes.

    Returns:
        Those of them that are proved; the others may or may not have their samples there.

    Cost: no pass. About 30 µs per node on the way, most of them to rule hooks out.
    """
    leads = graph.leading_to(wanted)
    axes: dict[int, int | None] = {0: objectives.dim if output.output_nr == 0 else None}
    proved = set()
    for index in reversed(graph.postorder):
        if not leads[index]:
            continue
        axis, node = axes.get(index), graph.nodes[index]
        above = None if axis is None or node.name() not in PASSAGES else _shape(node)
        # A node is met after all nodes above it, so the axis is final, and below it comes next.
        if axis is None or above is None or hooked(node):
            axes.update((edge.child, None) for edge in graph.edges[index])
            continue
        if index in wanted and axis == 0:
            proved.add(index)
        for edge in graph.edges[index]:
            if not leads[edge.child]:
                continue
            below = _shape(graph.nodes[edge.child]) if edge.output == 0 else None
            found = None
            if below is not None:
                found = follow(Step(node, edge.slot, axis, above, below, objectives.samples))
            if axes.setdefault(edge.child, found) != found:
                axes[edge.child] = None
    return frozenset(proved)


def _shape(node: Node) -> tuple[int, ...] | None:
    """Shape of a node's first result if it is an ordinary, non-empty tensor."""
    first = metadata(node)
    if first.is_nested_tensor or first.is_cpp_nested_tensor:
        return None
    shape = tuple(int(size) for size in first.shape)
    return shape if prod(shape) else None
