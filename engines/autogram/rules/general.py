"""The exact path for whatever has no rule: gradients row by row, a bounded block at a time."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from engines.autogram.objectives import Objectives
from engines.autogram.rules.base import add_outer

# Each group of parameters costs one pass per objective, so groups are as large as this allows.
GROUP_BYTES = 64 * 2**20


def accumulate_general(
    total: Tensor,
    output: Tensor,
    objectives: Objectives,
    parameters: Sequence[Tensor],
    memory_cap: int | None = None,
) -> None:
    """Add the inner products of gradients found by one autograd call per objective.

    Args:
        total: Gramian to add to in place, shape [m, m], in the engine's order.
        output: The objectives.
        objectives: Their numbering.
        parameters: Leaves of the graph; one that an objective does not reach adds nothing.

    Cost: m backward passes per group of parameters, m·n elements of one group at a time; a single
        parameter beyond `GROUP_BYTES` is a group of its own.
    """
    one = torch.ones(1, dtype=output.dtype, device=output.device)
    for group in _groups(parameters, objectives.count, total.element_size()):
        width = sum(_entries(parameter) for parameter in group)
        jacobian = total.new_zeros(objectives.count, width)
        for row in range(objectives.count):
            gradients = torch.autograd.grad(
                output,
                group,
                grad_outputs=objectives.cotangent(one, row, output),
                retain_graph=True,
                allow_unused=True,
            )
            start = 0
            for parameter, gradient in zip(group, gradients, strict=True):
                stop = start + _entries(parameter)
                if gradient is not None:
                    jacobian[row, start:stop] = _flat(gradient)
                start = stop
        add_outer(total, jacobian)


def _groups(parameters: Sequence[Tensor], rows: int, itemsize: int) -> Iterator[list[Tensor]]:
    """Cut parameters into consecutive groups whose Jacobian fits the bound."""
    group: list[Tensor] = []
    filled = 0
    for parameter in parameters:
        size = rows * _entries(parameter) * itemsize
        if group and filled + size > GROUP_BYTES:
            yield group
            group, filled = [], 0
        group.append(parameter)
        filled += size
    if group:
        yield group


def _entries(parameter: Tensor) -> int:
    """Real entries of a parameter: a complex number is two."""
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def _flat(gradient: Tensor) -> Tensor:
    """Entries of a gradient in a row, as real numbers, dense."""
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    if dense.is_complex():
        dense = torch.view_as_real(dense.resolve_conj())
    return dense.reshape(-1)
