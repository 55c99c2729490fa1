"""The Jacobian-descent counterpart of `torch.autograd.backward`."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from engines.autojac.accumulation import add_direction, add_jacobians, check_room_for_jacobians
from engines.autojac.checks import (
    as_cotangents,
    as_inputs,
    as_tensors,
    check_aggregator,
    check_chunk_size,
    check_direction,
    check_not_leaves,
)
from engines.autojac.jacobian import build_jacobian, build_jacobians
from engines.autojac.leaves import inner_edges, leaves_among, walk
from engines.autojac.rows import Rows


def backward(
    tensors: Sequence[Tensor] | Tensor,
    aggregator: Callable[[Tensor], Tensor] | None = None,
    inputs: Iterable[Tensor] | None = None,
    retain_graph: bool = False,
    parallel_chunk_size: int | None = None,
    *,
    jac_tensors: Sequence[Tensor] | Tensor | None = None,
) -> None:
    """Differentiate objectives; aggregate the Jacobian into `.grad`, or leave it in `.jac`.

    Nothing is written to an input before everything is known, and with an aggregator before the
    direction is known to be finite. Hooks on tensors run with the rows' gradients; activations
    with `retain_grad()` that are no inputs collect those of the chunks, which are readable only
    with `parallel_chunk_size=1`.

    Args:
        tensors: Objectives: one tensor or several, of any shapes. The rows of the Jacobian are
            their elements in order of flattening, m in all.
        aggregator: Maps the Jacobian, shape [m, n], to one direction, shape [n], which is added to
            `.grad`. Called as a module, so that its hooks run. With None, each input's Jacobian,
            shape [m, *input.shape], is added to its `.jac` instead, for `jac_to_grad`.
        inputs: Leaves to differentiate with respect to, in the order of the columns, or computed
            tensors with `retain_grad()`; those that require no grad are skipped. By default all
            leaves that require grad and that the graph reaches.
        retain_graph: Whether the graph outlives the call.
        parallel_chunk_size: Rows differentiated at once. 1 is sequential and needs the least
            memory. None takes 16 rows where they are small, and an eighth of the Jacobian, at most
            16 rows, where they are large. Where an operation cannot be vectorised, rows are
            differentiated one by one after one warning that names it.
        jac_tensors: What multiplies the Jacobian from the left: one for each tensor, shape
            [m, *tensor.shape]. By default the identity.

    Raises:
        TypeError: A tensor or an input is something else, a tensor or one of `jac_tensors` is
            complex, an input's `.jac` is no tensor, the aggregator cannot be called or returns no
            tensor, or the chunk size is no integer.
        ValueError: There is no tensor, one is repeated, an input is computed and retains no
            gradient, all inputs require no grad, the chunk size is below 1, a shape in
            `jac_tensors` does not fit, an input's `.jac` has another number of rows, or the
            aggregator returns a wrong shape.
        UnsupportedGraphError: A tensor has no graph, or the graph was freed, changed in place, or
            holds a re-entrant checkpoint.
        NonFiniteGradientError: The direction is NaN or infinite; no `.grad` was touched.

    Example:
        >>> import torch
        >>> from engines.autojac import backward
        >>> model = torch.nn.Linear(3, 2)
        >>> losses = model(torch.randn(8, 3)).square().mean(0)
        >>> backward(losses, lambda jacobian: jacobian.mean(0), retain_graph=True)
        >>> model.weight.grad.shape
        torch.Size([2, 3])
        >>> backward(losses)
        >>> model.weight.jac.shape
        torch.Size([2, 2, 3])

    Source: arXiv 2406.16232, Section 2.
    Cost: m backward passes, vectorised in chunks; m·n elements of memory and those of one chunk.
        An existing `.jac` comes on top.
    """
    check_chunk_size(parallel_chunk_size)
    if aggregator is not None:
        check_aggregator(aggregator)
    objectives = as_tensors(tensors)
    rows = Rows(objectives, as_cotangents(jac_tensors, objectives, "jac_tensors", batched=True))
    found = None if inputs is None else as_inputs(inputs)
    if found is None:
        check_not_leaves(objectives)
    nodes = walk(objectives, stop=inner_edges(found or ()))
    leaves = leaves_among(nodes) if found is None else found
    del nodes, found  # they would keep the graph alive
    if aggregator is None:
        check_room_for_jacobians(leaves, len(rows))
        jacobians = build_jacobians(rows, leaves, retain_graph, parallel_chunk_size)
        add_jacobians(leaves, jacobians)
        return
    jacobian = build_jacobian(rows, leaves, retain_graph, parallel_chunk_size)
    direction = aggregator(jacobian)
    expected = tuple(jacobian.shape[1:])
    del jacobian  # before gradients are made, so that they do not add to the peak
    check_direction(direction, expected)
    add_direction(leaves, direction.detach())
