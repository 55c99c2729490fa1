"""What one group of parameters gives to a shipment, and what is made of what arrives."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.autogram.accumulation import Present
from engines.autogram.exchange.blocks import Blocks
from engines.autogram.rules import Extent, Factors
from engines.autogram.schedule import Task


@dataclass(eq=False)
class Load:
    """What this rank has of one group.

    Attributes:
        task: The group and its options; None on a rank that only takes part.
        blocks: What its inner products are added to.
        rows: For "gradients" the rows of all its parameters, shape [m, n], else None.
        shares: For the others the factors of every rule, a row for each position.
    """

    task: Task | None
    blocks: Blocks | None
    rows: Tensor | None = None
    shares: Sequence[Present] = ()

    @property
    def factors(self) -> list[Factors]:
        """Those of all nodes, in order."""
        return [factors for share in self.shares for factors in share.factors]


def by_row(factors: Factors, extent: Extent) -> Factors:
    """Bring factors into the form in which they travel.

    Args:
        factors: As the rule takes them.
        extent: Shapes of rows.

    Returns:
        X of shape [b, t, *inputs], D of shape [k, b, t, *outputs].
    """
    losses, samples = factors.outputs.shape[:2]
    t = extent.positions
    inputs = factors.inputs.reshape(samples, t, *extent.inputs)
    outputs = factors.outputs.reshape(losses, samples, t, *extent.outputs)
    return Factors(factors.node, factors.axis, inputs, outputs)


def as_numbers(tensor: Tensor, like: Tensor) -> Tensor:
    """Bits of a tensor in a row, in the dtype in which all of a shipment travels.

    Args:
        tensor: In that dtype, or indices.
        like: For the dtype.

    Returns:
        The entries, or indices of the same size seen as such.
    """
    flat = tensor.reshape(-1)
    if flat.dtype == like.dtype:
        return flat
    return flat.to(_integers(like)).view(like.dtype)


def from_numbers(flat: Tensor, whole: bool, like: Tensor) -> Tensor:
    """The reverse.

    Args:
        flat: What arrived.
        whole: Whether it is made of indices.
        like: For the dtype.

    Returns:
        The entries, indices as int64.
    """
    return flat.view(_integers(like)).long() if whole else flat


def _integers(like: Tensor) -> torch.dtype:
    """Integers of the same size."""
    return torch.int32 if like.element_size() == 4 else torch.int64
