"""Writes the gradients of a parameter into memory that is there, without a copy where it is large."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.autogram.rules.base import Factors, Part, Rule
from engines.autogram.rules.conv import ConvolutionRule, weight_gradient
from engines.autogram.rules.conv_options import ROWS_ONE_BY_ONE, ROWS_UNFOLDED
from engines.autogram.rules.embedding import EmbeddingRule, joined
from engines.autogram.rules.geometry import Geometry
from engines.autogram.rules.linear import LinearRule, sides
from engines.autogram.rules.unfolding import unfolded_sides
from engines.autogram.rules.workspace import BLOCK_BYTES


def fill(
    rows: Tensor, rule: Rule, part: Part, factors: Sequence[Factors], contraction: str, *, add: bool
) -> None:
    """Write, or add, the gradients of one parameter for one loss of every sample.

    Args:
        rows: Where, shape [b, entries], each row contiguous, in any dtype and on any device.
        rule: The rule of all uses.
        part: The parameter.
        factors: Factors of its uses, for one loss.
        contraction: How rows are built.
        add: Whether to add to what is there instead.

    Cost: as `Rule.rows`, of which at most `BLOCK_BYTES` or one row exist beside the target.
    """
    outputs = factors[0].outputs
    fits = rows.dtype == outputs.dtype and rows.device == outputs.device
    if fits and "weight" in part.roles:
        if isinstance(rule, LinearRule):
            return _products(rows, *sides(part.transposed, factors), add=add)
        if isinstance(rule, ConvolutionRule) and contraction == ROWS_UNFOLDED:
            geometries = [Geometry.of(f.node, part.shape) for f in factors]
            return _products(rows, *unfolded_sides(geometries, factors), add=add)
        if isinstance(rule, ConvolutionRule) and contraction == ROWS_ONE_BY_ONE:
            return _convolutions(rows, part, factors, add=add)
        if isinstance(rule, EmbeddingRule) and _bytes(rows) > BLOCK_BYTES:
            return _lookups(rows, part, factors, add=add)
    samples = len(rows)
    height = max(1, BLOCK_BYTES * samples // max(1, _bytes(rows)))
    for start in range(0, samples, height):
        block = slice(start, min(start + height, samples))
        built = rule.rows(part, _of_samples(factors, block, samples), contraction)
        _put(rows[block], built, add=add)
    return None


def _bytes(rows: Tensor) -> int:
    """Size of what is written."""
    return rows.numel() * rows.element_size()


def _put(rows: Tensor, built: Tensor, *, add: bool) -> None:
    """Write or add."""
    if add:
        rows.add_(built.to(rows.device))
    else:
        rows.copy_(built)


def _of_samples(factors: Sequence[Factors], block: slice, samples: int) -> Sequence[Factors]:
    """Factors of consecutive samples."""
    if block == slice(0, samples):
        return factors
    return [
        # Where there are only biases, the inputs are anything.
        Factors(
            f.node,
            f.axis,
            f.inputs[block] if f.inputs.shape[:1] == (samples,) else f.inputs,
            f.outputs[:, block],
        )
        for f in factors
    ]


def _products(rows: Tensor, left: Tensor, right: Tensor, *, add: bool) -> None:
    """A_sᵀB_s for A of shape [1, b, t, o] and B of shape [1, b, t, i]."""
    a, b = left[0].mT, right[0]
    target = rows.unflatten(1, (a.shape[1], b.shape[2]))
    if add:
        target.baddbmm_(a, b)
    elif a.shape[2] == 1:
        # No sum: a product entry by entry is written once and as fast as memory takes it. Measured,
        # 64 samples, 256×256: 0.14 ms against 0.27.
        torch.mul(a, b, out=target)
    else:
        torch.bmm(a, b, out=target)


def _convolutions(rows: Tensor, part: Part, factors: Sequence[Factors], *, add: bool) -> None:
    """Gradients of a kernel, one sample at a time."""
    for turn, f in enumerate(factors):
        geometry = Geometry.of(f.node, part.shape)
        kernel = f.inputs.new_zeros(()).expand(part.shape)
        for row, d, x in zip(rows, f.outputs[0], f.inputs, strict=True):
            gradient = weight_gradient(d, x, kernel, geometry, geometry.groups)
            _put(row, gradient.flatten(), add=add or turn > 0)


def _lookups(rows: Tensor, part: Part, factors: Sequence[Factors], *, add: bool) -> None:
    """Gradients of a table: few of its rows are not zero."""
    indices, d = joined(factors)
    if not add:
        rows.zero_()
    for row, own, gradient in zip(rows, indices, d[0], strict=True):
        row.view(part.shape).index_add_(0, own, gradient)
