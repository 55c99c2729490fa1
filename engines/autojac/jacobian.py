"""Builds Jacobians, each allocated once and filled in place."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from engines.autojac.memory import fresh
from engines.autojac.passes import differentiate
from engines.autojac.rows import Rows


def build_jacobian(
    rows: Rows,
    inputs: Sequence[Tensor],
    retain_graph: bool,
    parallel_chunk_size: int | None,
) -> Tensor:
    """Differentiate with respect to some inputs, side by side in one matrix.

    Args:
        rows: What is differentiated, m rows.
        inputs: Columns are in the order of their flattened entries, n in all. A complex entry has
            two, its real and its imaginary part.
        retain_graph: Whether the graph outlives the last row.
        parallel_chunk_size: Rows differentiated at once, None for a choice.

    Returns:
        The Jacobian, shape [m, n], in the widest real dtype of the inputs. An input that a row
        does not reach has zeros.

    Raises:
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.

    Cost: m·n elements, and those of one chunk beside them.
    """
    device = inputs[0].device if inputs else rows.outputs[0].device
    width = sum(map(column_count, inputs))
    jacobian = fresh((len(rows), width), common_dtype(inputs), device).zero_()
    columns = jacobian.split([column_count(entry) for entry in inputs], dim=1) if inputs else ()

    def write(index: int, start: int, gradient: Tensor) -> None:
        target = columns[index][start : start + len(gradient)]
        target.copy_(flattened(gradient))

    differentiate(rows, inputs, write, retain_graph, parallel_chunk_size)
    return jacobian


def build_jacobians(
    rows: Rows,
    inputs: Sequence[Tensor],
    retain_graph: bool,
    parallel_chunk_size: int | None,
) -> list[Tensor]:
    """Differentiate with respect to some inputs, one Jacobian each.

    They share no storage, so that each can be freed alone, and none is allocated before its first
    rows are there: where one chunk holds all rows but the last, it is freed while they are made.

    Args:
        rows: What is differentiated, m rows.
        inputs: With respect to what.
        retain_graph: Whether the graph outlives the last row.
        parallel_chunk_size: Rows differentiated at once, None for a choice.

    Returns:
        For each input a Jacobian, shape [m, *input.shape], in its dtype and on its device. One
        that a row does not reach has zeros.

    Raises:
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.

    Cost: m·n elements, and those of one chunk beside them.
    """
    found: dict[int, Tensor] = {}

    def zeros(entry: Tensor) -> Tensor:
        return fresh((len(rows), *entry.shape), entry.dtype, entry.device).zero_()

    def write(index: int, start: int, gradient: Tensor) -> None:
        if index not in found:
            found[index] = zeros(inputs[index])
        found[index][start : start + len(gradient)] = dense(gradient)

    differentiate(rows, inputs, write, retain_graph, parallel_chunk_size)
    return [found[k] if k in found else zeros(entry) for k, entry in enumerate(inputs)]


def column_count(entry: Tensor) -> int:
    """Columns that an input has in a matrix: two for each complex entry, else one."""
    return entry.numel() * (2 if entry.is_complex() else 1)


def common_dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    """The real dtype in which the columns of some tensors fit; the default dtype for none."""
    if not tensors:
        return torch.get_default_dtype()
    return reduce(torch.promote_types, (tensor.dtype.to_real() for tensor in tensors))


def dense(gradient: Tensor) -> Tensor:
    """A gradient with all its zeros."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def flattened(jacobian: Tensor) -> Tensor:
    """Write rows of any shape and dtype side by side.

    Args:
        jacobian: Shape [q, …].

    Returns:
        Real numbers, shape [q, columns], a view where the layout allows it.
    """
    full = dense(jacobian)
    if full.is_complex():
        full = torch.view_as_real(full.resolve_conj())
    return full.flatten(1) if full.ndim > 1 else full.unsqueeze(1)
