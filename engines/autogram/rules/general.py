"""The exact path for whatever has no rule: gradients row by row, a bounded block at a time."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from engines.autogram.objectives import Objectives
from engines.autogram.rules.base import add_outer
from engines.errors import MemoryCapError

# Each group of parameters costs one pass per objective, so groups are as large as this allows,
# unless plain training needs more anyway.
GROUP_BYTES = 64 * 2**20


def accumulate_general(
    total: Tensor,
    output: Tensor,
    objectives: Objectives,
    parameters: Sequence[Tensor],
    limit_bytes: int = GROUP_BYTES,
    *,
    strict: bool = False,
) -> None:
    """Add the inner products of gradients found by one autograd call per objective.

    Args:
        total: Gramian to add to in place, shape [m, m], in the engine's order.
        output: The objectives.
        objectives: Their numbering.
        parameters: Leaves of the graph; one that an objective does not reach adds nothing.
        limit_bytes: What the rows may take together.
        strict: Whether the limit holds even where a pair of rows exceeds it.

    Raises:
        MemoryCapError: It does, and one does.

    Cost: m backward passes per group of parameters, and m·n elements of one group at a time. For a
        parameter whose rows do not fit, blocks of rows are made again for every other block: with
        q blocks m·(q + 1)/2 passes.
    """
    for group in general_groups(parameters, objectives.count, total.element_size(), limit_bytes):
        row_bytes = sum(map(entries_of, group)) * total.element_size()
        m = objectives.count
        if m * row_bytes <= limit_bytes:
            add_outer(total, general_rows(total, output, objectives, group, 0, m))
            continue
        height = limit_bytes // (2 * row_bytes)
        if height == 0 and strict:
            raise MemoryCapError(
                f"got memory_cap={limit_bytes:,}, expected at least {2 * row_bytes:,} bytes for "
                f"two gradients of a parameter of shape {tuple(group[0].shape)} without a rule; "
                "raise the cap or leave it out."
            )
        starts = range(0, m, max(1, height))
        blocks = [slice(start, min(start + max(1, height), m)) for start in starts]
        for number, block in enumerate(blocks):
            rows = general_rows(total, output, objectives, group, block.start, block.stop)
            total[block, block].addmm_(rows, rows.T)
            for other in blocks[number + 1 :]:
                found = general_rows(total, output, objectives, group, other.start, other.stop)
                products = rows @ found.T
                del found
                total[block, other] += products
                total[other, block] += products.T


def general_rows(
    like: Tensor,
    output: Tensor,
    objectives: Objectives,
    group: Sequence[Tensor],
    start: int,
    stop: int,
) -> Tensor:
    """Differentiate consecutive objectives, one autograd call for each.

    Args:
        like: For dtype and device of the rows.
        output: The objectives.
        objectives: Their numbering.
        group: Leaves of the graph.
        start: Number of the first objective.
        stop: The number after the last.

    Returns:
        Their gradients, shape [stop - start, entries of the group].
    """
    one = torch.ones(1, dtype=output.dtype, device=output.device)
    jacobian = like.new_zeros(stop - start, sum(map(entries_of, group)))
    for row in range(start, stop):
        gradients = torch.autograd.grad(
            output,
            group,
            grad_outputs=objectives.cotangent(one, row, output),
            retain_graph=True,
            allow_unused=True,
        )
        begin = 0
        for parameter, gradient in zip(group, gradients, strict=True):
            end = begin + entries_of(parameter)
            if gradient is not None:
                jacobian[row - start, begin:end] = _flat(gradient)
            begin = end
    return jacobian


def general_groups(
    parameters: Sequence[Tensor], rows: int, itemsize: int, limit_bytes: int
) -> Iterator[list[Tensor]]:
    """Cut parameters into consecutive groups whose Jacobian fits a bound.

    Args:
        parameters: The parameters.
        rows: Of the Jacobian.
        itemsize: Bytes of an entry.
        limit_bytes: The bound; a parameter that exceeds it alone is a group.

    Returns:
        The groups.
    """
    group: list[Tensor] = []
    filled = 0
    for parameter in parameters:
        size = rows * entries_of(parameter) * itemsize
        if group and filled + size > limit_bytes:
            yield group
            group, filled = [], 0
        group.append(parameter)
        filled += size
    if group:
        yield group


def entries_of(parameter: Tensor) -> int:
    """Count real entries: a complex number is two.

    Args:
        parameter: The parameter.

    Returns:
        How many there are.
    """
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def _flat(gradient: Tensor) -> Tensor:
    """Entries of a gradient in a row, as real numbers, dense."""
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    if dense.is_complex():
        dense = torch.view_as_real(dense.resolve_conj())
    return dense.reshape(-1)
