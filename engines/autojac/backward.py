"""The Jacobian-descent counterpart of `torch.autograd.backward`."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from engines.autojac.checks import (
    as_inputs,
    as_tensors,
    check_aggregator,
    check_chunk_size,
    check_direction,
)
from engines.autojac.jacobian import build_jacobian
from engines.autojac.leaves import leaves_among, walk


def backward(
    tensors: Sequence[Tensor] | Tensor,
    aggregator: Callable[[Tensor], Tensor],
    inputs: Iterable[Tensor] | None = None,
    retain_graph: bool = False,
    parallel_chunk_size: int | None = None,
) -> None:
    """Aggregate the Jacobian of some tensors and add the result to `.grad` of the inputs.

    No `.grad` of an input is written before the direction is known and finite. Hooks on tensors
    run with the rows' gradients; activations with `retain_grad()` collect those of the chunks,
    which are readable only with `parallel_chunk_size=1`.

    Args:
        tensors: Objectives: one tensor or several, of any shapes. The rows of the Jacobian are
            their elements in order of flattening, m in all.
        aggregator: Maps the Jacobian, shape [m, n], to one direction, shape [n]. Called as a
            module, so that its hooks run.
        inputs: Leaves to differentiate with respect to, in the order of the columns; by default
            all leaves that require grad and that the graph reaches.
        retain_graph: Whether the graph outlives the call.
        parallel_chunk_size: Rows differentiated at once. 1 is sequential and needs the least
            memory. None takes chunks of 16 rows, so that the Jacobian exists once and not twice.
            A larger number may be faster on a GPU. Where an operation cannot be vectorised, rows
            are differentiated one by one after one warning.

    Raises:
        TypeError: A tensor or an input is something else, a tensor is complex, the aggregator
            cannot be called or returns no tensor, or the chunk size is no integer.
        ValueError: There is no tensor, one is repeated, an input is no leaf or requires no grad,
            the chunk size is below 1, or the aggregator returns a wrong shape.
        UnsupportedGraphError: A tensor has no graph, or the graph was freed, changed in place, or
            holds a re-entrant checkpoint.
        NonFiniteGradientError: The direction is NaN or infinite; no `.grad` was touched.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 2)
        >>> losses = model(torch.randn(8, 3)).square().mean(0)
        >>> backward(losses, lambda jacobian: jacobian.mean(0))
        >>> model.weight.grad.shape
        torch.Size([2, 3])

    Source: arXiv 2406.16232, Section 2.
    Cost: m backward passes, vectorised in chunks, and m·n elements of memory.
    """
    check_chunk_size(parallel_chunk_size)
    check_aggregator(aggregator)
    objectives = as_tensors(tensors)
    found = None if inputs is None else as_inputs(inputs)
    nodes = walk(objectives)
    leaves = leaves_among(nodes) if found is None else found
    del nodes, found  # they would keep the graph alive
    jacobian = build_jacobian(objectives, leaves, retain_graph, parallel_chunk_size)
    direction = aggregator(jacobian)
    expected = tuple(jacobian.shape[1:])
    del jacobian  # before gradients are made, so that they do not add to the peak
    check_direction(direction, expected)
    _accumulate(leaves, direction.detach())


def _accumulate(leaves: Sequence[Tensor], direction: Tensor) -> None:
    """Add the pieces of a direction, shape [n], to the leaves' gradients."""
    pieces = direction.split([leaf.numel() for leaf in leaves]) if leaves else ()
    with torch.no_grad():
        for leaf, piece in zip(leaves, pieces, strict=True):
            gradient = piece.view_as(leaf).to(leaf)
            if leaf.grad is None:
                # A copy: leaves must not share the storage of one direction.
                leaf.grad = gradient.clone(memory_format=torch.preserve_format)
            elif leaf.grad.layout == torch.strided:
                leaf.grad += gradient
            else:
                # A sparse gradient of an earlier backward pass: only the first summand of a sum
                # decides that it is dense.
                leaf.grad = gradient + leaf.grad
