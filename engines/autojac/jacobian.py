"""Builds the Jacobian of several tensors once, in place, some rows at a time."""

import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from engines.failures import explained_graph_failures

# Rows differentiated at once unless the caller says otherwise. More would hold a second copy of
# the Jacobian while it is written; fewer would lose the gain of one vectorised pass.
DEFAULT_CHUNK_ROWS = 16

# An objective: which tensor, and which of its elements.
_Row = tuple[int, int]


def build_jacobian(
    tensors: Sequence[Tensor],
    inputs: Sequence[Tensor],
    retain_graph: bool,
    parallel_chunk_size: int | None,
) -> Tensor:
    """Differentiate every element of some tensors with respect to some inputs.

    Args:
        tensors: Objectives; rows are in the order of their flattened elements.
        inputs: Leaves; columns are in the order of their flattened entries.
        retain_graph: Whether the graph outlives the last row.
        parallel_chunk_size: Rows differentiated at once, None for `DEFAULT_CHUNK_ROWS`.

    Returns:
        The Jacobian, shape [m, n], in the widest dtype of the inputs. An input that an objective
        does not reach has zeros.

    Raises:
        UnsupportedGraphError: The graph was freed or changed in place.
        RuntimeError: An operation that could be vectorised before cannot be for the last rows.

    Cost: m·n elements, and those of one chunk beside them.
    """
    rows = [(t, e) for t, tensor in enumerate(tensors) for e in range(tensor.numel())]
    dtype = inputs[0].dtype if inputs else torch.get_default_dtype()
    for entry in inputs[1:]:
        dtype = torch.promote_types(dtype, entry.dtype)
    device = inputs[0].device if inputs else tensors[0].device
    width = sum(entry.numel() for entry in inputs)
    jacobian = torch.zeros(len(rows), width, dtype=dtype, device=device)
    if not inputs:
        return jacobian
    vectorised = True
    with explained_graph_failures(), torch.no_grad():
        for start, stop in _chunks(len(rows), parallel_chunk_size, retain_graph):
            keep = retain_graph or stop < len(rows)
            failure: RuntimeError | None = None
            if vectorised and stop - start > 1:
                try:
                    gradients = _batched(tensors, rows[start:stop], inputs, keep)
                    _fill(jacobian[start:stop], inputs, gradients)
                    continue
                except RuntimeError as error:
                    if not keep:
                        raise
                    vectorised, failure = False, error
            for row in range(start, stop):
                more = keep or row < stop - 1
                gradients = _single(tensors, rows[row], inputs, more)
                _fill(jacobian[row : row + 1], inputs, gradients)
            if failure is not None:
                # Only now is it known that the graph itself is sound.
                _warn_sequential(failure)
    return jacobian


def _chunks(count: int, size: int | None, retain_graph: bool) -> list[tuple[int, int]]:
    """Cut rows into chunks, the first of which never has to free the graph.

    A vectorised pass that fails after freeing part of the graph would leave nothing to fall back
    on, so where one chunk would do, its last row goes alone. Where there are several, the first has
    shown that the operations can be vectorised; one that then refuses the last chunk alone, for the
    values it holds, raises, and no `.grad` was written.
    """
    size = DEFAULT_CHUNK_ROWS if size is None else size
    cuts = [*range(0, count, size), count]
    if not retain_graph and len(cuts) == 2 and count > 1:
        cuts.insert(1, count - 1)
    return list(pairwise(cuts))


def _single(
    tensors: Sequence[Tensor], row: _Row, inputs: Sequence[Tensor], keep: bool
) -> list[Tensor | None]:
    """Differentiate one objective; gradients of shape [1, …]."""
    which, element = row
    tensor = tensors[which]
    cotangent = torch.zeros(tensor.numel(), dtype=tensor.dtype, device=tensor.device)
    cotangent[element] = 1
    found = torch.autograd.grad(
        tensor,
        inputs,
        grad_outputs=cotangent.reshape(tensor.shape),
        retain_graph=keep,
        allow_unused=True,
    )
    return [None if gradient is None else gradient.unsqueeze(0) for gradient in found]


def _batched(
    tensors: Sequence[Tensor], rows: Sequence[_Row], inputs: Sequence[Tensor], keep: bool
) -> list[Tensor | None]:
    """Differentiate several objectives in one vectorised pass; gradients of shape [q, …]."""
    used = list(dict.fromkeys(which for which, _ in rows))
    cotangents = []
    for which in used:
        tensor = tensors[which]
        flat = torch.zeros(len(rows), tensor.numel(), dtype=tensor.dtype, device=tensor.device)
        for position, (other, element) in enumerate(rows):
            if other == which:
                flat[position, element] = 1
        cotangents.append(flat.reshape(len(rows), *tensor.shape))
    return list(
        torch.autograd.grad(
            [tensors[which] for which in used],
            inputs,
            grad_outputs=cotangents,
            retain_graph=keep,
            allow_unused=True,
            is_grads_batched=True,
        )
    )


def _fill(target: Tensor, inputs: Sequence[Tensor], gradients: list[Tensor | None]) -> None:
    """Write gradients side by side into rows of the Jacobian, freeing each at once."""
    start = 0
    gradients.reverse()
    for entry in inputs:
        gradient = gradients.pop()
        stop = start + entry.numel()
        if gradient is not None:
            dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
            target[:, start:stop] = dense.reshape(len(target), -1)
        start = stop


def _warn_sequential(failure: RuntimeError) -> None:
    """Say once why rows are differentiated one by one."""
    reason = str(failure).strip().partition("\n")[0]
    warnings.warn(
        f"got an operation that cannot be differentiated in chunks ({reason}), so rows are "
        "differentiated one by one; pass parallel_chunk_size=1 to choose this without the attempt.",
        stacklevel=4,
    )
