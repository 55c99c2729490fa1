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
        order: Position in `output.flatten()` of every objective, shape [m]; None where both orders
            agree.
    """

    shape: torch.Size
    losses: int
    samples: int
    dim: int | None
    order: Tensor | None

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
        if batch_dim is None:
            return cls(output.shape, count, 1, None, None)
        dim = batch_dim % output.ndim
        samples = output.shape[dim]
        losses = count // samples if samples else 0
        if losses <= 1 or dim == output.ndim - 1:
            return cls(output.shape, losses, samples, dim, None)
        positions = torch.arange(count, device=output.device).reshape(output.shape)
        return cls(output.shape, losses, samples, dim, positions.movedim(dim, -1).reshape(-1))

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
        if len(factors) == self.count and self.order is None:
            return factors.to(like).reshape(self.shape)
        flat = torch.zeros(self.count, dtype=like.dtype, device=like.device)
        chosen = slice(first, first + len(factors))
        flat[chosen if self.order is None else self.order[chosen]] = factors.to(like)
        return flat.reshape(self.shape)

    def ordered(self, weights: Tensor) -> Tensor:
        """Bring one number for each objective into the engine's order.

        Args:
            weights: In the shape of the output.

        Returns:
            The same, shape [m].
        """
        flat = weights.reshape(-1)
        return flat if self.order is None else flat[self.order]

    def generalized(self, gramian: Tensor) -> Tensor:
        """Bring a Gramian into the caller's order and shape.

        Args:
            gramian: Inner products in the engine's order, shape [m, m].

        Returns:
            The generalized Gramian, shape [m1, …, mk, mk, …, m1].
        """
        if len(self.shape) == 1:
            return gramian
        if self.order is not None:
            inverse = torch.empty_like(self.order)
            inverse[self.order] = torch.arange(self.count, device=self.order.device)
            gramian = gramian[inverse][:, inverse]
        ndim = len(self.shape)
        folded = gramian.reshape((*self.shape, *self.shape))
        return folded.permute((*range(ndim), *reversed(range(ndim, 2 * ndim))))
