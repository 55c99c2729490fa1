"""Inner products of the objectives of two batches: the blocks beside the diagonal of a Gramian."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.autogram.rules.base import Rule, part_of
from engines.autogram.rules.contraction import in_range, power_for, reads_back, reflected
from engines.autogram.rules.factors import Factors, Part
from engines.autogram.rules.workspace import Workspace

Sides = tuple[Tensor, Tensor]


def add_between(
    block: Tensor,
    rule: Rule,
    parts: Sequence[Part],
    factors: Sequence[Factors],
    others: Sequence[Factors],
    workspace: Workspace,
) -> None:
    """Add the inner products of the objectives of two batches, of all parameters of a group.

    Args:
        block: Shape [m, m'], changed in place.
        rule: Of the group, one that `crosses`.
        parts: The parameters.
        factors: Factors of one batch.
        others: Factors of the other.
        workspace: Where blocks are.
    """
    weight, bias = part_of("weight", parts), part_of("bias", parts)
    if weight is not None:
        one, other = (rule.product_sides(weight, each) for each in (factors, others))
        add_cross(block, one, other, workspace)
    if bias is not None:
        block.addmm_(rule.rows(bias, factors), rule.rows(bias, others).T)


def add_cross(block: Tensor, one: Sides, other: Sides, workspace: Workspace) -> None:
    """Add ⟨A_sᵀB_s, A'_rᵀB'_r⟩ for all objectives s of one batch and r of another.

    Args:
        block: Shape [m, m'] with m = k·b and m' = k'·b', changed in place.
        one: A, shape [k or 1, b, t, o], and B, shape [k or 1, b, t, i]; 1 means the same for all
            losses of a sample.
        other: The same of the other batch, in numbers of its own but for o and i.
        workspace: Where blocks are.

    Source: arXiv 1510.01799.
    Cost: b·b'·t·t'·(o + i) multiply-adds for one loss, 2·b'·t·t' elements at least.
    """
    sides = (*one, *other)
    if any(side.numel() == 0 for side in sides):
        return
    if reads_back(block) and all(in_range(side) for side in sides):
        _add(block, one, other, workspace)
        return
    # Squares could leave the range of the dtype. Powers of two change no digit; on an accelerator
    # a look at the numbers would stop the queue, so all are scaled.
    powers = [power_for(side) for side in sides]
    a, b, c, d = (side * power for side, power in zip(sides, powers, strict=True))
    part = torch.zeros_like(block)
    _add(part, (a, b), (c, d), workspace)
    # In two steps, each of them in range: what makes a factor tiny makes the other one huge.
    block.add_(part.div_(powers[0] * powers[1]).div_(powers[2] * powers[3]))


def _add(block: Tensor, one: Sides, other: Sides, workspace: Workspace) -> None:
    """The same for factors that are in range."""
    samples, columns = one[0].shape[1], other[0].shape[1]
    grid = block.view(-1, samples, len(block[0]) // columns, columns)
    one, other = _turned(one), _turned(other)
    positions, across = one[0].shape[2], other[0].shape[2]
    width = columns * across
    for rows in workspace.cut(samples, 2 * positions * width * block.element_size()):
        height = (rows.stop - rows.start) * positions
        products, similar = workspace.take(block, (height, width), (height, width))
        for loss in range(len(grid)):
            for second in range(grid.shape[2]):
                for out, left, right in (
                    (products, one[0], other[0]),
                    (similar, one[1], other[1]),
                ):
                    a = left[loss % len(left), rows].flatten(0, 1)
                    b = right[second % len(right)].flatten(0, 1)
                    torch.mm(a, b.T, out=out)
                found = products.mul_(similar).view(-1, positions, columns, across)
                grid[loss, rows, second] += found.sum((1, 3))


def _turned(sides: Sides) -> Sides:
    """Keep digits where positions cancel, as within one batch; one position needs nothing."""
    if sides[0].shape[2] == 1:
        return sides
    return (
        reflected(sides[0], torch.empty_like(sides[0])),
        reflected(sides[1], torch.empty_like(sides[1])),
    )
