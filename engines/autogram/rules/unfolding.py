"""Convolutions of one group as linear maps of unfolded inputs, where positions are few."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.autogram.rules.base import WORKSPACE_BYTES, Factors
from engines.autogram.rules.geometry import Geometry

# Measured on a CPU, ms, unfolded against folded into groups, batches of 8 to 64: 16→32 at 8²: 0.8
# against 1.6; 256→256 at 7²: 4.9 against 31; 64→64 at 14²: 4.1 against 2.0 and at 28²: 9.0 against
# 3.4, both with F.unfold.
_MOST_POSITIONS = 128


def worth_unfolding(geometry: Geometry, factors: Factors) -> bool:
    """Tell whether the linear form serves a convolution better than the folded one.

    Args:
        geometry: Attributes of the convolution.
        factors: Its factors.

    Returns:
        Whether it applies, positions are few, and the unfolded input fits the workspace.
    """
    positions = math.prod(factors.outputs.shape[2:3] + factors.outputs.shape[4:])
    entries = factors.inputs.shape[0] * positions * math.prod(geometry.weight[1:])
    return positions_allow(geometry, positions, entries * factors.inputs.element_size())


def positions_allow(geometry: Geometry, positions: int, unfolded_bytes: int) -> bool:
    """Tell whether the linear form applies and pays.

    Args:
        geometry: Attributes of the convolution.
        positions: Of one sample.
        unfolded_bytes: Size of the unfolded input.

    Returns:
        Whether there is one group, positions are few, and the unfolded input fits the workspace.
    """
    plain = geometry.groups == 1 and not geometry.transposed
    return plain and positions <= _MOST_POSITIONS and unfolded_bytes <= WORKSPACE_BYTES


def unfolded_sides(
    geometries: Sequence[Geometry], factors: Sequence[Factors]
) -> tuple[Tensor, Tensor]:
    """Make the linear form's factors, uses joined along positions.

    Args:
        geometries: Attributes of every use.
        factors: Their factors.

    Returns:
        Output gradients, shape [k, b, t, o], and unfolded inputs, shape [1, b, t, i], with
        i = channels times kernel positions, in the weight's order.
    """
    lefts, rights = [], []
    for g, f in zip(geometries, factors, strict=True):
        lefts.append(f.outputs.flatten(4).transpose(3, 4).flatten(2, 3))
        samples, rows = f.inputs.shape[:2]
        patches = _patches(f.inputs.flatten(0, 1), g, f.outputs.shape[4:])
        x = patches.unflatten(0, (samples, rows)).transpose(2, 3).flatten(1, 2)
        rights.append(x.unsqueeze(0))
    if len(factors) == 1:
        return lefts[0], rights[0]
    return torch.cat(lefts, 2), torch.cat(rights, 2)


def _patches(x: Tensor, geometry: Geometry, spatial: torch.Size) -> Tensor:
    """What the kernel sees at every position, shape [N, channels·kernel, positions].

    One copy of a strided view: measured 1.6 times as fast as `F.unfold`, and for any rank.
    """
    margins = [side for width in reversed(geometry.padding) for side in (width, width)]
    padded = F.pad(x, margins)
    steps = padded.stride()[2:]
    windows = padded.as_strided(
        (*x.shape[:2], *geometry.weight[2:], *spatial),
        (
            *padded.stride()[:2],
            *(step * width for step, width in zip(steps, geometry.dilation, strict=True)),
            *(step * width for step, width in zip(steps, geometry.stride, strict=True)),
        ),
    )
    return windows.reshape(len(x), math.prod(geometry.weight[1:]), -1)
