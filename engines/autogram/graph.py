"""Reads autograd's graph: which parameter was used where, by which operation.

Node names and attributes are torch's, not ours. An operation this file does not know makes a
parameter take the general path: another torch version costs speed and never correctness.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

from engines.failures import refuse_reentrant

# What autograd calls the node in front of a leaf.
LEAF = "torch::autograd::AccumulateGrad"


Rows = tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Use:
    """One place where a parameter enters the computation.

    Attributes:
        node: Index in `Graph.nodes` of the consumer.
        slot: Which argument of the consumer the parameter is.
        parameter: Index of the parameter among those tracked.
        transposed: Whether the consumer sees the transposed parameter.
        chain: Transpositions, casts and cuts between the consumer and the parameter.
        rows: First row that the consumer sees and the one after the last, None for all.
    """

    node: int
    slot: int
    parameter: int
    transposed: bool
    chain: tuple[Node, ...]
    rows: Rows


class Edge(NamedTuple):
    """Where a node sends a gradient.

    Attributes:
        slot: Which argument of the node.
        child: Index of the node that made the argument.
        output: Which of that node's results it is.
    """

    slot: int
    child: int
    output: int


@dataclass(frozen=True)
class Positions:
    """Where the nodes of a graph are in a walk over all of its nodes.

    Attributes:
        nodes: Of every node its position.
        chains: Of every use those of its chain.
    """

    nodes: tuple[int, ...]
    chains: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """What was read from the graph of one output.

    Attributes:
        nodes: Nodes in the order they were met, the output's first. Holding them keeps torch's
            Python wrappers, and with them the identity of nodes, alive.
        edges: For every node where its gradients flow to, tracked parameters left out.
        postorder: Indices with every node after all that are reachable from it.
        uses: Places where tracked parameters are used, in walk order.
        entangled: Parameters that are the output, or moved straight into it.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[Edge, ...], ...]
    postorder: tuple[int, ...]
    uses: tuple[Use, ...]
    entangled: frozenset[int]

    def deepest(self, marked: Collection[int]) -> frozenset[int]:
        """Find the marked nodes from which no other marked node can be reached.

        Args:
            marked: Indices of nodes.

        Returns:
            The deepest of them. A backward pass towards these visits all marked nodes.
        """
        below = [False] * len(self.nodes)
        found = set()
        for index in self.postorder:
            below[index] = any(below[e.child] or e.child in marked for e in self.edges[index])
            if index in marked and not below[index]:
                found.add(index)
        return frozenset(found)

    def bound_to(self, nodes: Sequence[Node], places: "Positions") -> "Graph":
        """Read another graph of the same structure.

        Args:
            nodes: All nodes of the other graph, in the order of a walk.
            places: Where this graph's nodes were in the same walk.

        Returns:
            The other graph, without the chains of its uses.
        """
        return replace(self, nodes=tuple([nodes[place] for place in places.nodes]))

    def places_in(self, nodes: Sequence[Node]) -> "Positions":
        """Find this graph's nodes in a walk over all nodes.

        Args:
            nodes: All nodes of this graph.

        Returns:
            Their positions.
        """
        index_of = {node: index for index, node in enumerate(nodes)}
        return Positions(
            tuple(index_of[node] for node in self.nodes),
            tuple(tuple(index_of[node] for node in use.chain) for use in self.uses),
        )

    def leading_to(self, marked: Collection[int]) -> list[bool]:
        """Find the nodes from which a marked node can be reached.

        Args:
            marked: Indices of nodes.

        Returns:
            For every node whether it is marked or above a marked one.
        """
        leads = [False] * len(self.nodes)
        for index in self.postorder:
            leads[index] = index in marked or any(leads[e.child] for e in self.edges[index])
        return leads

    def made_of_parameters(self, operations: Collection[str]) -> list[bool]:
        """Find the nodes whose results are functions of parameters alone.

        Args:
            operations: Names of nodes that read nothing but their inputs.

        Returns:
            For every node whether it and all nodes below are such, down to parameters.
        """
        pure = [False] * len(self.nodes)
        for index in self.postorder:
            node = self.nodes[index]
            below = {edge.slot: edge.child for edge in self.edges[index]}
            pure[index] = node.name() in operations and all(
                pure[below[slot]] if slot in below else _leads_to_parameter(child)
                for slot, (child, _) in enumerate(node.next_functions)
            )
            if node.name() == LEAF:
                pure[index] = isinstance(attribute(node, "variable"), nn.Parameter)
        return pure

    def parameter_below(self, index: int) -> int | None:
        """Find a tracked parameter that a node uses, or the nearest one below it.

        Args:
            index: The node.

        Returns:
            Index of the parameter, None if there is none.
        """
        direct: dict[int, int] = {}
        for use in self.uses:
            direct.setdefault(use.node, use.parameter)
        pending = [index]
        met = {index}
        for current in pending:  # grows while it is walked
            if current in direct:
                return direct[current]
            for edge in self.edges[current]:
                if edge.child not in met:
                    met.add(edge.child)
                    pending.append(edge.child)
        return None


def attribute(node: Node, name: str) -> Any:
    """Read an attribute that only nodes of one kind have, and no type stub knows.

    Args:
        node: The node.
        name: Such as `_saved_input`.

    Returns:
        Its value.
    """
    return getattr(node, name)


def output_metadata(node: Node) -> Any:
    """What autograd knows about the results of an operation.

    Args:
        node: The operation's node.

    Returns:
        For every result an object with its shape, dtype and device.
    """
    return attribute(node, "_input_metadata")


def saves_behind_hooks(node: Node) -> bool:
    """Tell whether reading what an operation saved would have side effects.

    Args:
        node: The operation's node.

    Returns:
        Whether something is behind hooks (checkpointing, offloading), which would recompute or copy
        a whole block.
    """
    for name in dir(node):
        if name.startswith("_raw_saved_"):
            raw = attribute(node, name)
            saved = raw if isinstance(raw, tuple | list) else (raw,)
            if any(getattr(one, "unpack_hook", None) is not None for one in saved):
                return True
    return False


def saved_tensors(node: Node) -> list[Tensor]:
    """Read the tensors that an operation saved, without side effects.

    Args:
        node: The operation's node.

    Returns:
        Its saved tensors; none if one is behind hooks, or if the operation is Python code.

    Raises:
        RuntimeError: They were freed.
    """
    if not callable(node) or saves_behind_hooks(node):
        return []
    found = []
    for name in dir(node):
        if name.startswith("_raw_saved_"):
            value = attribute(node, name.removeprefix("_raw"))
            listed = value if isinstance(value, tuple | list) else (value,)
            found += [one for one in listed if isinstance(one, Tensor)]
    return found


def output_dtype(node: Node) -> torch.dtype:
    """Dtype of the first result of an operation.

    Args:
        node: The operation's node.

    Returns:
        The dtype.
    """
    dtype: torch.dtype = output_metadata(node)[0].dtype
    return dtype


def output_shape(node: Node) -> tuple[int, ...]:
    """Shape of the first result of an operation.

    Args:
        node: The operation's node.

    Returns:
        The shape.
    """
    return tuple(int(size) for size in output_metadata(node)[0].shape)


def read_graph(output: Tensor, parameters: Sequence[Tensor]) -> Graph:
    """Walk the graph of an output, always in the same order.

    Args:
        output: Tensor that requires grad.
        parameters: Tracked leaves, distinct.

    Returns:
        The graph as the engine sees it.

    Raises:
        UnsupportedGraphError: Part of the graph is a re-entrant checkpoint.

    Cost: one visit per node; no recursion, so depth is no limit.
    """
    numbers = {id(parameter): index for index, parameter in enumerate(parameters)}
    root = get_gradient_edge(output).node
    moved_root = _moved_parameter(root, output.output_nr, numbers)
    index_of = {root: 0}
    nodes = [root]
    edges: list[list[Edge]] = []
    uses: list[Use] = []
    pending = [0]

    def expand(index: int) -> None:
        """Record what the gradients of a newly met node flow to."""
        refuse_reentrant(nodes[index])
        below: list[Edge] = []
        edges.append(below)
        for slot, (child, output_number) in enumerate(nodes[index].next_functions):
            if child is None:
                continue
            moved = _moved_parameter(child, output_number, numbers)
            if moved is not None:
                uses.append(Use(index, slot, *moved))
                continue
            if child not in index_of:
                index_of[child] = len(nodes)
                nodes.append(child)
                pending.append(index_of[child])
            below.append(Edge(slot, index_of[child], output_number))

    # Breadth or depth does not matter, only that the order is a function of the graph.
    for index in pending:
        expand(index)
    return Graph(
        nodes=tuple(nodes),
        edges=tuple(tuple(e) for e in edges),
        postorder=_postorder([[e.child for e in below] for below in edges]),
        uses=tuple(uses),
        entangled=frozenset() if moved_root is None else frozenset({moved_root[0]}),
    )


def _moved_parameter(
    node: Node, output: int, numbers: dict[int, int]
) -> tuple[int, bool, tuple[Node, ...], Rows] | None:
    """Follow transpositions, casts and one cut down to a tracked parameter; None if none is there.

    A cut takes rows of the parameter; what is below it must not turn rows into columns.
    """
    transposed = False
    rows: Rows = None
    kinds = set()
    chain = []
    while True:
        swapped = _moves(node)
        if swapped is None:
            cut = _cut(node, output)
            if cut is None or rows is not None:
                break
            rows = cut
        elif swapped and rows is not None:
            return None
        transposed ^= bool(swapped)
        kinds.add(output_dtype(node).is_complex)
        chain.append(node)
        (following, output) = node.next_functions[0]
        if following is None:
            return None
        node = following
    if node.name() != LEAF:
        return None
    leaf = attribute(node, "variable")
    # A cast between real and complex numbers changes inner products.
    if kinds - {leaf.is_complex()}:
        return None
    number = numbers.get(id(leaf))
    return None if number is None else (number, transposed, tuple(chain), rows)


def _cut(node: Node, output: int) -> Rows:
    """Which rows of its input a node passes on, if it takes a piece along the first dimension."""
    name = node.name()
    if name not in ("SliceBackward0", "SplitBackward0", "SplitWithSizesBackward0"):
        return None
    if int(attribute(node, "_saved_dim")) != 0:
        return None
    if name == "SliceBackward0":
        size = int(attribute(node, "_saved_self_sym_sizes")[0])
        named = ("_saved_start", "_saved_end", "_saved_step")
        start, stop, step = (attribute(node, one) for one in named)
        ends = [None if one is None else _signed(int(one)) for one in (start, stop)]
        begin, end, _ = slice(*ends).indices(size)
        return (begin, max(begin, end)) if step == 1 else None
    if name == "SplitBackward0":
        size = int(attribute(node, "_saved_self_sym_sizes")[0])
        each = int(attribute(node, "_saved_split_size"))
        return (output * each, min(size, (output + 1) * each))
    sizes = [int(one) for one in attribute(node, "_saved_split_sizes")]
    return (sum(sizes[:output]), sum(sizes[: output + 1]))


def _signed(number: int) -> int:
    """Undo that torch hands out negative numbers as unsigned ones."""
    return number - 2**64 if number >= 2**63 else number


def _moves(node: Node) -> bool | None:
    """Whether a node keeps every inner product, and if so whether it swaps rows and columns.

    A transposition moves entries, a cast (autocast) leaves them.
    """
    name = node.name()
    if name in ("TBackward0", "ToCopyBackward0"):
        return name == "TBackward0"
    if name in ("PermuteBackward0", "TransposeBackward0") and len(output_shape(node)) == 2:
        # Both of two dimensions in some order; torch hands out -1 as 2⁶⁴ - 1.
        named = ("_saved_dim0", "_saved_dim1") if name == "TransposeBackward0" else ("_saved_dims",)
        values = [attribute(node, one) for one in named]
        first, second = values if len(values) == 2 else values[0]
        if name == "TransposeBackward0":
            return bool((int(first) - int(second)) % 2)
        return bool(int(first) % 2)
    return None


def _leads_to_parameter(child: Node | None) -> bool:
    """Whether an input is a parameter, perhaps transposed or cast."""
    while child is not None and _moves(child) is not None:
        child = child.next_functions[0][0]
    if child is None or child.name() != LEAF:
        return False
    return isinstance(attribute(child, "variable"), nn.Parameter)


def _postorder(children: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Order nodes so that each comes after everything reachable from it."""
    order: list[int] = []
    met = [False] * len(children)
    met[0] = True
    stack = [(0, iter(children[0]))]
    while stack:
        index, following = stack[-1]
        for child in following:
            if not met[child]:
                met[child] = True
                stack.append((child, iter(children[child])))
                break
        else:
            order.append(index)
            stack.pop()
    return tuple(order)
