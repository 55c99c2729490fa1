"""Convolutions of every kind: 1d to 3d, grouped, strided, dilated, padded, transposed."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_dtype, output_shape
from engines.autogram.places import Place
from engines.autogram.rules.base import (
    COMPLEX,
    UNREADABLE,
    Counts,
    Declined,
    Factors,
    Part,
    Price,
    Role,
    Rule,
    add_outer,
    add_rows,
    blocks,
    part_of,
    readable,
    rows_price,
)
from engines.autogram.rules.contraction import add_products, contraction_price
from engines.autogram.rules.geometry import Geometry
from engines.autogram.rules.registry import register
from engines.autogram.rules.unfolding import positions_allow, unfolded_sides, worth_unfolding


@register("ConvolutionBackward0")
class ConvolutionRule(Rule):
    """Per-sample weight gradients by one grouped convolution, or the linear form."""

    name = "convolution"

    def role(
        self, node: Node, slot: int, parameter: Tensor, transposed: bool, place: Place
    ) -> Role | Declined:
        """See `Rule.role`."""
        if output_dtype(node).is_complex or not parameter.is_floating_point():
            return COMPLEX
        if transposed or slot == 0:
            return Declined("has the parameter in an unusual place")
        if slot == 1:
            return "weight" if readable(node, "input", "weight") else UNREADABLE
        return "bias"

    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """See `Rule.inputs`."""
        tensor: Tensor = attribute(node, "_saved_input")
        return tensor.detach().to(dtype)

    def accumulate(self, total: Tensor, parts: Sequence[Part], factors: Sequence[Factors]) -> None:
        """See `Rule.accumulate`.

        Gradients are built for some output channels (or groups) at a time: they are disjoint
        entries of the weight, so their shares of J Jᵀ add up and nothing is computed twice.
        """
        weight, bias = part_of("weight", parts), part_of("bias", parts)
        geometries = [] if weight is None else [Geometry.of(f.node) for f in factors]
        pairs = list(zip(geometries, factors, strict=False))
        if pairs and all(worth_unfolding(g, f) for g, f in pairs):
            left, right = unfolded_sides(geometries, factors)
            add_products(total, left, right, ones=bias is not None)
            return
        if bias is not None:
            add_rows(total, self, bias, factors)
        if not pairs:
            return
        # Uses of one weight share its shape; where their channels are cut differently, the blocks
        # of one would not be those of another.
        whole = len({(g.groups, g.transposed) for g in geometries}) > 1
        for block in [None] if whole else _channel_blocks(geometries[0], factors[0]):
            built = (_weight_rows(f, g, block) for g, f in pairs)
            add_outer(total, reduce(torch.add, built))

    def rows(self, role: Role, factors: Factors, shape: torch.Size) -> Tensor:
        """See `Rule.rows`."""
        d = factors.outputs
        return d.sum((2, *range(4, d.dim()))).flatten(0, 1)

    def price(self, node: Node, role: Role, shape: torch.Size, counts: Counts) -> Price:
        """See `Rule.price`."""
        output = output_shape(node)
        positions = max(1, output[0] // counts.samples) * math.prod(output[2:])
        if role == "bias":
            return rows_price(counts, shape.numel(), positions * shape.numel())
        geometry = Geometry.of(node)
        wide = math.prod(shape[1:])
        folded = rows_price(counts, shape.numel(), positions * shape.numel())
        few = positions_allow(
            geometry, positions, counts.samples * positions * wide * counts.itemsize
        )
        if not few:
            return folded
        left = torch.Size((counts.losses, counts.samples, positions, shape[0]))
        right = torch.Size((1, counts.samples, positions, wide))
        return contraction_price(left, right, counts.itemsize)


def _channel_blocks(geometry: Geometry, factors: Factors) -> list[slice]:
    """Cut output channels, or groups where there are several, to fit the workspace."""
    bytes_total = factors.objectives * geometry.weight.numel() * factors.outputs.element_size()
    pieces = geometry.groups if geometry.groups > 1 else factors.outputs.shape[3]
    return blocks(pieces, bytes_total // pieces)


def _weight_rows(factors: Factors, geometry: Geometry, block: slice | None) -> Tensor:
    """Gradients of the weight (of one block of it), samples folded into groups.

    Args:
        factors: X, shape [b, t, c, …], and D, shape [k, b, t, o, …].
        geometry: Attributes of the convolution.
        block: Output channels if there is one group, else groups; None for all.

    Returns:
        Shape [m, entries of the block].

    Cost: k times the multiply-adds of the batch's weight gradient.
    """
    x, d, groups = factors.inputs, factors.outputs, geometry.groups
    if block is not None and groups == 1:
        d = d[:, :, :, block]
    elif block is not None:
        c, o = x.shape[2] // groups, d.shape[3] // groups
        x = x[:, :, block.start * c : block.stop * c]
        d = d[:, :, :, block.start * o : block.stop * o]
        groups = block.stop - block.start
    samples, channels, outputs = x.shape[0], x.shape[2], d.shape[3]
    kernel = geometry.weight[2:]
    if geometry.transposed:
        shape = (channels, outputs // groups, *kernel)
    else:
        shape = (outputs, channels // groups, *kernel)
    # Rows of one sample become the batch, samples become groups: one call, no gradient summed.
    folded = _plain_strides(x.transpose(0, 1).flatten(1, 2))
    # The weight's values do not enter its own gradient; only its shape is read.
    weight = x.new_zeros(()).expand(samples * shape[0], *shape[1:])
    built = [
        torch.ops.aten.convolution_backward(
            _plain_strides(loss.transpose(0, 1).flatten(1, 2)),
            folded,
            weight,
            None,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            geometry.transposed,
            geometry.output_padding,
            samples * groups,
            [False, True, False],
        )[1].reshape(samples, -1)
        for loss in d
    ]
    return built[0] if len(built) == 1 else torch.cat(built)


def _plain_strides(operand: Tensor) -> Tensor:
    """Make an operand contiguous, with the usual strides along dimensions of size 1 too.

    Torch 2.13's kernel for transposed convolutions in float64 takes any others for channels-last,
    and then refuses the gradient it made itself ("grad_weight needs to be contiguous").
    """
    return operand.contiguous().view(-1).view(operand.shape)
