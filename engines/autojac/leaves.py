"""Walks a graph down to its leaves."""

from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from engines.failures import refuse_reentrant


def walk(tensors: Sequence[Tensor]) -> list[Node]:
    """Collect the nodes that are reached from some tensors.

    Args:
        tensors: Tensors with a graph.

    Returns:
        The nodes, each once, in an order that depends only on the graph.

    Raises:
        UnsupportedGraphError: One is a re-entrant checkpoint.
    """
    # Holding the nodes keeps torch's Python wrappers, and so their identity, alive.
    nodes = list(dict.fromkeys(get_gradient_edge(tensor).node for tensor in tensors))
    met = set(nodes)
    for node in nodes:  # grows while it is walked
        refuse_reentrant(node)
        for child, _ in node.next_functions:
            if child is not None and child not in met:
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
