"""The Gramian of the objectives of all ranks, while it is added up on one of them."""

import torch
from torch import Tensor

from engines.autogram.exchange.routes import Routes


class Blocks:
    """What one rank adds up of the Gramian of all.

    Rows of one rank stand together: "by rank" objective (k, s) of rank r has number
    `start_r + k·b_r + s`. Contractions of all samples at once number them as a single process
    does: "together" it has number `k·B + s'`, s' being the number of the sample among all B.

    Args:
        routes: Samples and losses of all ranks.
        dtype: Of the sums.
        device: Where they are.

    Attributes:
        by_rank: Shape [M, M].
        together: Shape [K·B, K·B] with the largest K; the same tensor where each sample has one
            loss.
    """

    def __init__(self, routes: Routes, dtype: torch.dtype, device: torch.device) -> None:
        self._routes = routes
        m = routes.objectives
        self.by_rank = torch.zeros(m, m, dtype=dtype, device=device)
        self.together = self.by_rank
        if max(routes.losses, default=1) > 1:
            size = max(routes.losses) * sum(routes.samples)
            self.together = torch.zeros(size, size, dtype=dtype, device=device)

    def add_block(self, block: Tensor, other: int, own: slice, theirs: slice) -> None:
        """Add the inner products of this rank's objectives and those of another, and their mirror.

        Args:
            block: Shape [k·b, k'·b'], for some samples each.
            other: The rank; this one itself without a mirror.
            own: Which samples of this rank.
            theirs: Which samples of the other.
        """
        routes = self._routes
        rank = routes.rank
        (k, b), (q, c) = ((routes.losses[each], routes.samples[each]) for each in (rank, other))
        down, across = (
            slice(routes.starts[each], routes.starts[each] + routes.counts[each])
            for each in (rank, other)
        )
        height = len(range(*own.indices(b)))
        grid = self.by_rank[down, across].unflatten(0, (k, b)).unflatten(2, (q, c))
        folded = block.view(k, height, q, -1)
        grid[:, own, :, theirs] += folded
        if other != rank:
            mirror = self.by_rank[across, down].unflatten(0, (q, c)).unflatten(2, (k, b))
            mirror[:, theirs, :, own] += folded.permute(2, 3, 0, 1)

    def finished(self) -> Tensor:
        """This rank's part of the Gramian, by rank, symmetric, shape [M, M]."""
        total = self.by_rank
        if self.together is not self.by_rank:
            where = self._where().to(total.device)
            total = total + self.together[where][:, where]
        return (total + total.T).div_(2)

    def _where(self) -> Tensor:
        """For every objective by rank its number together, shape [M]."""
        routes, found, first = self._routes, [], 0
        total = sum(routes.samples)
        for k, b in zip(routes.losses, routes.samples, strict=True):
            numbers = torch.arange(k).unsqueeze(1) * total + torch.arange(first, first + b)
            found.append(numbers.flatten())
            first += b
        return torch.cat(found)
