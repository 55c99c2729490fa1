"""Says where samples meet although a batch dimension was declared, and what to do about it."""

from collections.abc import Collection, Sequence
from typing import Literal

from torch import Tensor

from engines.autogram.graph import Graph
from engines.autogram.places import Place, Shared
from engines.autogram.rules import find
from engines.autogram.separation import Kind, Mixing, Separation
from engines.errors import BatchMixedError

_SAYS: dict[Kind | Literal["combination"], tuple[str, str]] = {
    "norm": ("BatchNorm is in training mode", "GroupNorm, or eval mode"),
    "operation": ("works across the batch", "let it work along another dimension"),
    "sum": ("over the batch reaches every sample", "detach it, or apply it outside"),
    "combination": ("rows are combined over the batch", "combine within samples only"),
    "rows": ("rows are used by the losses of several samples", "one loss per sample"),
    "inputs": ("reads the whole batch for every sample", "combine within samples only"),
}


def refuse_mixing(
    graph: Graph, separation: Separation, names: Sequence[str], batch_dim: int | None
) -> None:
    """Raise if samples meet anywhere on the way to a tracked parameter.

    Args:
        graph: Graph of the objectives.
        separation: What is known about the samples.
        names: Paths of the tracked parameters.
        batch_dim: What the caller declared.

    Raises:
        BatchMixedError: With every place, the nearest module that is known, and the remedies.
    """
    mixed = [*separation.mixed, *_shared_inputs(graph, separation)]
    if not mixed:
        return
    rows = [_row(graph, names, mixing) for mixing in mixed]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  -> {c}" for a, b, c in rows]
    count = f"{len(rows)} place" + "s" * (len(rows) > 1)
    raise BatchMixedError(
        f"got batch_dim={batch_dim} and {count} where samples meet, expected samples that are "
        "treated independently; change what is named here, or use batch_dim=None:\n"
        + "\n".join(lines)
    )


def _row(graph: Graph, names: Sequence[str], mixing: Mixing) -> tuple[str, str, str]:
    """Where, what, and what to do."""
    index = mixing.node
    kind: Kind | Literal["combination"] = mixing.kind
    if kind == "sum":
        index, kind = _reduction(graph, index)
    node = graph.nodes[index]
    operation = node.name().partition("Backward")[0]
    direct = [use.parameter for use in graph.uses if use.node == index]
    if direct:
        name = names[direct[0]]
        where = name.rpartition(".")[0] or name
    else:
        # An operation without parameters has no path; the nearest one before it has.
        below = graph.parameter_below(index)
        name = "" if below is None else names[below]
        where = f"after {name.rpartition('.')[0] or name}"
    says, remedy = _SAYS[kind]
    return where, says if kind == "norm" else f"{operation} {says}", remedy


def _reduction(graph: Graph, index: int) -> tuple[int, Literal["sum", "combination"]]:
    """The sum or mean that made a tensor without samples, if it is just below."""
    current = index
    while not graph.nodes[current].name().startswith(("Mean", "Std", "Sum", "Var")):
        edges = graph.edges[current]
        if len(edges) != 1:
            return index, "combination"
        current = edges[0].child
    return current, "sum"


def _shared_inputs(graph: Graph, separation: Separation) -> list[Mixing]:
    """Uses that sum over samples although they read the very tensor another use reads by sample.

    So keys and values made from the batch itself, for attention across it, are told from those
    made from a table.
    """
    by_sample: dict[tuple[int, tuple[int, ...]], int] = {}
    summed: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for use in graph.uses:
        state = separation.state(use.node)
        if isinstance(state, Place | Shared):
            key = _input_of(graph, use.node, use.slot)
            if key is not None and isinstance(state, Place):
                by_sample[key] = use.node
            elif key is not None:
                summed.setdefault(key, []).append(use.node)
    found: Collection[int] = dict.fromkeys(
        node for key, nodes in summed.items() if key in by_sample for node in nodes
    )
    return [Mixing(node, "inputs") for node in found]


def _input_of(graph: Graph, index: int, slot: int) -> tuple[int, tuple[int, ...]] | None:
    """Address and shape of what a linear map or a convolution reads."""
    node = graph.nodes[index]
    rule = find(node.name())
    saved: Tensor | None = None if rule is None else rule.data(node, slot)
    if saved is None or saved.numel() == 0:
        return None
    return saved.data_ptr(), tuple(saved.shape)
