"""What the ways to contract a convolution are predicted to cost."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from engines.autogram.rules.contraction import product_options
from engines.autogram.rules.geometry import Geometry
from engines.autogram.rules.options import Counts, Option
from engines.autogram.rules.workspace import BLOCK_BYTES

# How rows are built: all samples in one call, as groups; one call for each sample; or as products
# of unfolded inputs. Block by block, or whole and kept.
GROUPED, ONE_BY_ONE, UNFOLDED = "grouped", "one by one", "unfolded"
ROWS_GROUPED, ROWS_ONE_BY_ONE, ROWS_UNFOLDED = "rows", "rows, one by one", "rows, unfolded"

# Measured on a CPU, ms, 3×3 and 8 samples, grouped / one by one / unfolded (with the unfolding) /
# the batch's own gradient: 64→64 at 32²: 1.7 / 2.0 / 4.0 / 1.8; 128→128 at 16²: 1.9 / 2.1 / 3.6 /
# 1.6; 256→256 at 8²: 12 / 3.8 / 3.8 / 6.0; 384→256 at 13²: 26 / 8 / 17 / 6; 512→512 at 4²: 59 / 13
# / 21 / 7, and 1.6 in the input-output form.
_POSITIONS_FOR_GROUPS = 256
# Channels to channels: a depthwise convolution reaches a twentieth of the product rate.
_CHANNELS_FOR_RATE = 16
# A convolution costs about as much as this many small operations before it computes anything.
_CALLS_OF_A_CONVOLUTION = 6


def conv_options(
    geometries: Sequence[Geometry], outputs: Sequence[tuple[int, ...]], counts: Counts
) -> tuple[Option, ...]:
    """Price every way to contract the weight of a convolution.

    Args:
        geometries: Attributes of every use.
        outputs: Shape of the result of every use, [N, o, …].
        counts: Samples, objectives and rows per sample.

    Returns:
        The options. Those that unfold exist for one group and no transposition.
    """
    weight = geometries[0].weight
    entries, m, size = weight.numel(), counts.objectives, counts.itemsize
    spatial = [math.prod(shape[2:]) for shape in outputs]
    positions = sum(t * s for t, s in zip(counts.positions, spatial, strict=True))
    groups = geometries[0].groups
    uses = len(geometries)
    channels = math.sqrt(max(1, weight[1] * weight[0] // groups))
    narrow = min(1.0, channels / _CHANNELS_FOR_RATE)
    # Every entry of the weight meets every position once, except where the input is the wider one.
    products = counts.samples * positions * entries
    building = counts.losses * products
    rows = m * entries
    operands = sum(math.prod(shape) for shape in outputs) * (counts.losses + 1)
    cuts = max(1, rows * size // BLOCK_BYTES)
    few = min(1.0, min(spatial, default=1) / _POSITIONS_FOR_GROUPS)
    folded = Option(
        contraction=GROUPED,
        multiply_adds=building + m * rows,
        moved_bytes=size * (3 * rows + 2 * operands),
        calls=(_CALLS_OF_A_CONVOLUTION + 4) * cuts * counts.losses * uses,
        workspace_bytes=size * m * (entries // max(groups, weight[0])),
        rows_bytes=0,
        gradient_multiply_adds=products,
        gradient_moved_bytes=size * (2 * operands + entries),
        throughput=narrow * few,
    )
    single = replace(
        folded,
        contraction=ONE_BY_ONE,
        moved_bytes=size * (5 * rows + operands),
        calls=(_CALLS_OF_A_CONVOLUTION * m + 4) * cuts * uses,
        throughput=narrow,
    )
    offered = [
        folded,
        single,
        _kept(folded, ROWS_GROUPED, rows, size),
        _kept(single, ROWS_ONE_BY_ONE, rows, size),
    ]
    if all(g.groups == 1 and not g.transposed for g in geometries):
        wide = math.prod(weight[1:])
        left = torch.Size((counts.losses, counts.samples, positions, weight[0]))
        right = torch.Size((1, counts.samples, positions, wide))
        unfolded = counts.samples * positions * wide * size
        names = {"per-sample": UNFOLDED, "rows": ROWS_UNFOLDED}
        for option in product_options(left, right, size):
            offered.append(
                replace(
                    option,
                    contraction=names.get(option.contraction, option.contraction),
                    moved_bytes=option.moved_bytes + 3 * unfolded,
                    workspace_bytes=option.workspace_bytes + unfolded,
                    gradient_multiply_adds=rows if option.kept_rows else products,
                )
            )
    return tuple(offered)


def _kept(option: Option, contraction: str, rows: int, itemsize: int) -> Option:
    """The same way to build rows, whole and kept."""
    return replace(
        option,
        contraction=contraction,
        rows_bytes=max(1, itemsize * rows),
        workspace_bytes=itemsize * rows,
        gradient_multiply_adds=rows,
        gradient_moved_bytes=itemsize * rows,
    )
