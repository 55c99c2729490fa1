"""How the entries of an output are numbered while a Gramian is computed."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Objectives:
    """The m = k·b objectives of an output: k losses for each of b independent samples.

    Inside the engine objective (k, s) has number `k·b + s`, so that samples are contiguous; the
    caller's order is that of `output.flatten()`. With `batch_dim=None` there is one "sample", the
    whole batch, and both orders agree.

    Attributes:
        shape: Shape of the output.
        losses: k, objectives per sample.
        samples: b.
        dim: Dimension of the output that indexes the samples, from 0, None for none.
        order: Position in `output.flatten()` of every objective, shape [m].
    """

    shape: torch.Size
    losses: int
    samples: int
    dim: int | None
    order: Tensor

    @classmethod
    def of(cls, output: Tensor, batch_dim: int | None) -> "Objectives":
        """Number the entries of an output.

        Args:
            output: Objectives, any shape.
            batch_dim: Dimension that indexes independent samples, in range, or None.

        Returns:
            The numbering.
        """
        count = output.numel()
        positions = torch.arange(count, device=output.device).reshape(output.shape)
        if batch_dim is None:
            return cls(output.shape, count, 1, None, positions.reshape(-1))
        dim = batch_dim % output.ndim
        samples = output.shape[dim]
        order = positions.movedim(dim, -1).reshape(-1)
        return cls(output.shape, count // samples if samples else 0, samples, dim, order)

    @property
    def count(self) -> int:
        """Number of objectives m."""
        return self.losses * self.samples

    def cotangent(self, factors: Tensor, first: int, like: Tensor) -> Tensor:
        """Spread factors of consecutive objectives over the shape of the output.

        Args:
            factors: One factor per objective, shape [q]; all others get zero.
            first: Number of the first of the q objectives.
            like: The output, for dtype and device.

        Returns:
            A cotangent of the output, its shape.
        """
        flat = torch.zeros(self.count, dtype=like.dtype, device=like.device)
        flat[self.order[first : first + len(factors)]] = factors.to(like)
        return flat.reshape(self.shape)

    def generalized(self, gramian: Tensor) -> Tensor:
        """Bring a Gramian into the caller's order and shape.

        Args:
            gramian: Inner products in the engine's order, shape [m, m].

        Returns:
            The generalized Gramian, shape [m1, …, mk, mk, …, m1].
        """
        if self.losses > 1 and self.samples > 1:
            inverse = torch.empty_like(self.order)
            inverse[self.order] = torch.arange(self.count, device=self.order.device)
            gramian = gramian[inverse][:, inverse]
        ndim = len(self.shape)
        folded = gramian.reshape((*self.shape, *self.shape))
        return folded.permute((*range(ndim), *reversed(range(ndim, 2 * ndim))))
