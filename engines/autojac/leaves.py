"""Walks a graph down to its leaves."""

from collections.abc import Collection, Sequence

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from engines.failures import refuse_reentrant


def walk(tensors: Sequence[Tensor], stop: Collection[GradientEdge] = ()) -> list[Node]:
    """Collect the nodes that are reached from some tensors.

    Args:
        tensors: Tensors with a graph.
        stop: Edges that are not followed: a node is left out while it is reached through these
            of its outputs only.

    Returns:
        The nodes, each once, in an order that depends only on the graph.

    Raises:
        UnsupportedGraphError: One is a re-entrant checkpoint.
    """
    # By number, not by edge: an edge that autograd hands out may carry more fields than these two.
    closed = {(edge.node, edge.output_nr) for edge in stop}
    # Holding the nodes keeps torch's Python wrappers, and so their identity, alive.
    roots = map(get_gradient_edge, tensors)
    nodes = list(dict.fromkeys(r.node for r in roots if (r.node, r.output_nr) not in closed))
    met = set(nodes)
    for node in nodes:  # grows while it is walked
        refuse_reentrant(node)
        for child, number in node.next_functions:
            if child is not None and child not in met and (child, number) not in closed:
                met.add(child)
                nodes.append(child)
    return nodes


def leaves_among(nodes: Sequence[Node]) -> list[Tensor]:
    """Pick the leaf tensors that require grad.

    Args:
        nodes: Nodes of a graph.

    Returns:
        The leaves, each once, in the order of their nodes.
    """
    leaves: dict[int, Tensor] = {}
    for node in nodes:
        leaf = getattr(node, "variable", None)
        if node.name() == "torch::autograd::AccumulateGrad" and leaf is not None:
            leaves[id(leaf)] = leaf
    return list(leaves.values())


def edges_of(tensors: Sequence[Tensor]) -> list[GradientEdge]:
    """Edges at which gradients of some tensors arrive.

    Args:
        tensors: Tensors that require grad.

    Returns:
        One edge for each.
    """
    return [get_gradient_edge(tensor) for tensor in tensors]


def inner_edges(inputs: Sequence[Tensor]) -> list[GradientEdge]:
    """Edges below which a pass with respect to some inputs does not go.

    Args:
        inputs: Tensors that require grad.

    Returns:
        Their edges if all are computed; none if there is a leaf, which may be anywhere.
    """
    return [] if any(entry.is_leaf for entry in inputs) else edges_of(inputs)
