"""Writes to the two fields of a tensor that results go to: `.grad` and `.jac`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.autojac.jacobian import column_count

# A name of ours that torch's tensors do not declare.
_JAC = "jac"


def stored_jacobian(tensor: Tensor) -> Tensor | None:
    """Read the Jacobian that `backward` or `mtl_backward` left.

    Args:
        tensor: Any tensor.

    Returns:
        The Jacobian, shape [m, *tensor.shape], or None.

    Raises:
        TypeError: The field holds something else.
        ValueError: The field has another shape.
    """
    found: object = getattr(tensor, _JAC, None)
    if found is None:
        return None
    if not isinstance(found, Tensor):
        raise TypeError(
            f"got {type(found).__name__} in .jac, expected a tensor; leave the field to backward "
            "and mtl_backward."
        )
    if found.ndim == 0 or found.shape[1:] != tensor.shape:
        raise ValueError(
            f"got .jac of shape {tuple(found.shape)} on a tensor of shape {tuple(tensor.shape)}, "
            f"expected (m, {', '.join(map(str, tensor.shape))}); delete it and differentiate again."
        )
    return found


def check_room_for_jacobians(inputs: Sequence[Tensor], row_count: int) -> None:
    """Refuse inputs whose `.jac` has another number of rows, before anything is differentiated.

    Args:
        inputs: Where Jacobians are to be added.
        row_count: Their rows, m.

    Raises:
        TypeError: A field holds something else.
        ValueError: A field has another shape.
    """
    for position, entry in enumerate(inputs):
        stored = stored_jacobian(entry)
        if stored is not None and len(stored) != row_count:
            raise ValueError(
                f"got .jac with {len(stored)} rows on input {position}, expected {row_count} as in "
                "this call; aggregate it with jac_to_grad first, or delete it."
            )


def add_jacobians(inputs: Sequence[Tensor], jacobians: Sequence[Tensor]) -> None:
    """Add Jacobians to `.jac`; where there is none, the given tensor is it.

    Args:
        inputs: Tensors.
        jacobians: One for each, shape [m, *input.shape].

    Raises:
        TypeError: A field `.jac` holds something else.
        ValueError: One has another shape.
    """
    with torch.no_grad():
        for entry, jacobian in zip(inputs, jacobians, strict=True):
            stored = stored_jacobian(entry)
            if stored is None:
                setattr(entry, _JAC, jacobian)
            else:
                stored += jacobian


def drop_jacobians(tensors: Sequence[Tensor]) -> None:
    """Delete `.jac`.

    Args:
        tensors: Tensors that have one.
    """
    for tensor in tensors:
        delattr(tensor, _JAC)


def add_direction(inputs: Sequence[Tensor], direction: Tensor) -> None:
    """Add the pieces of a direction to `.grad`.

    Args:
        inputs: Tensors, in the order of the direction's pieces.
        direction: Real numbers, shape [n].
    """
    pieces = direction.split([column_count(entry) for entry in inputs]) if inputs else ()
    add_pieces(inputs, pieces)


def add_pieces(inputs: Sequence[Tensor], pieces: Sequence[Tensor]) -> None:
    """Add flat gradients to `.grad`.

    Args:
        inputs: Tensors.
        pieces: One for each, real numbers, shape [columns].
    """
    for entry, piece in zip(inputs, pieces, strict=True):
        if entry.is_complex():
            # A copy: the parts of a complex number must be aligned in storage.
            parts = piece.reshape(*entry.shape, 2).to(entry.dtype.to_real()).clone()
            add_gradient(entry, torch.view_as_complex(parts))
        else:
            add_gradient(entry, piece.view_as(entry))


def add_gradient(entry: Tensor, gradient: Tensor) -> None:
    """Add a gradient to `.grad` as autograd would.

    Args:
        entry: A tensor.
        gradient: Of its shape, in any dtype, on any device, dense or sparse.
    """
    added = gradient.detach().to(entry)
    with torch.no_grad():
        if entry.grad is None:
            # A copy: inputs must not share the storage of one direction.
            entry.grad = added.clone()
        elif entry.grad.layout == torch.strided:
            entry.grad += added
        else:
            # A sparse gradient of an earlier backward pass: only the first summand of a sum
            # decides that it is dense.
            entry.grad = added + entry.grad
