"""Parameters without a rule: rows by autograd where the samples are, cut by their entries."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from engines.autogram.exchange.blocks import Blocks
from engines.autogram.exchange.members import Members
from engines.autogram.exchange.routes import Routes
from engines.autogram.objectives import Objectives
from engines.autogram.rows import write_rows
from engines.autogram.rules import add_outer, cut_of
from engines.autogram.rules.general import entries_of, general_groups, general_rows
from engines.errors import MemoryCapError

# Gives rows of this rank's objectives from one number to another.
Rows = Callable[[Sequence[Tensor], int, int], Tensor]


def rows_by_autograd(like: Tensor, output: Tensor, objectives: Objectives) -> Rows:
    """Make rows with one autograd call for each.

    Args:
        like: For dtype and device.
        output: The objectives.
        objectives: Their numbering.

    Returns:
        What makes them.
    """
    return lambda group, start, stop: general_rows(like, output, objectives, group, start, stop)


def rows_by_rules(
    like: Tensor, output: Tensor, objectives: Objectives, modules: Sequence[nn.Module]
) -> Rows:
    """Make rows of all samples at once, and by autograd what has no rule.

    Args:
        like: For dtype and device.
        output: The objectives.
        objectives: Their numbering.
        modules: Whose parameters they are.

    Returns:
        What makes them: some rows at a time only by autograd.
    """
    one_by_one = rows_by_autograd(like, output, objectives)
    dim = objectives.dim

    def make(group: Sequence[Tensor], start: int, stop: int) -> Tensor:
        if dim is None or stop - start < objectives.count:
            return one_by_one(group, start, stop)
        sizes = [entries_of(parameter) for parameter in group]
        rows = like.new_zeros(objectives.count, sum(sizes))
        targets = rows.split(sizes, 1)
        left = write_rows(output, modules, dim, group, lambda i: targets[i], retain_graph=True)
        if objectives.order is not None:
            rows = rows[objectives.order]
        columns = rows.split(sizes, 1)
        for index in left:
            columns[index].copy_(one_by_one([group[index]], start, stop))
        return rows

    return make


def zero_rows(like: Tensor) -> Rows:
    """Make zeros, on a rank whose step has failed and that only lets the others finish.

    Args:
        like: For dtype and device.

    Returns:
        What makes them.
    """
    return lambda group, start, stop: like.new_zeros(stop - start, sum(map(entries_of, group)))


def share_general(
    members: Members,
    routes: Routes,
    parameters: Sequence[Tensor],
    blocks: Blocks,
    make: Rows,
) -> None:
    """Add the inner products of parameters without a rule; every rank with objectives calls it.

    Args:
        members: The group of processes.
        routes: Samples and losses of all ranks, and what rows may take.
        parameters: The parameters, the same on all ranks.
        blocks: What is added to.
        make: Makes this rank's rows.

    Raises:
        MemoryCapError: Two rows of a parameter exceed the caller's cap, on every rank.
        RankFailedError: A rank is gone.

    Cost: the passes of `accumulate_general` on each rank, and of every block of rows what
        "gradients" sends; where rows do not fit, blocks travel once for every other block.
    """
    like = blocks.by_rank
    most = max(routes.counts)
    for group in general_groups(parameters, most, like.element_size(), routes.general_bytes):
        n = sum(map(entries_of, group))
        row_bytes = n * like.element_size()
        pieces = _pieces(routes, row_bytes)
        exceeds = most * row_bytes > routes.general_bytes
        if exceeds and routes.strict and 2 * row_bytes > routes.general_bytes:
            raise MemoryCapError(
                f"got memory_cap={routes.general_bytes:,}, expected at least "
                f"{2 * row_bytes:,} bytes for two gradients of a parameter of shape "
                f"{tuple(group[0].shape)} without a rule; raise the cap or leave it out."
            )
        exchange = _Columns(members, routes, like, n, pieces)
        for number in range(pieces):
            rows = exchange.rows(group, number, make)
            where = exchange.where(number)
            if pieces == 1:
                add_outer(blocks.by_rank, rows)
                continue
            blocks.by_rank[where.unsqueeze(1), where] += rows @ rows.T
            for other in range(number + 1, pieces):
                found = exchange.rows(group, other, make)
                across = exchange.where(other)
                products = rows @ found.T
                blocks.by_rank[where.unsqueeze(1), across] += products
                blocks.by_rank[across.unsqueeze(1), where] += products.T


def general_sent_bytes(
    routes: Routes, parameters: Sequence[Tensor], itemsize: int
) -> list[tuple[int, ...]]:
    """Count what ranks send for parameters without a rule.

    Args:
        routes: Samples and losses of all ranks, and what rows may take.
        parameters: The parameters, in the order of `share_general`.
        itemsize: Bytes of an entry.

    Returns:
        For every parameter bytes of every rank; known to ranks without objectives too.
    """
    workers, found = routes.workers, []
    for group in general_groups(parameters, max(routes.counts), itemsize, routes.general_bytes):
        n, start = sum(map(entries_of, group)), 0
        pieces = _pieces(routes, n * itemsize)
        for size in map(entries_of, group):
            sent = [0] * len(routes.counts)
            for place, rank in enumerate(workers):
                kept = cut_of(n, place, len(workers))
                stays = max(0, min(kept.stop, start + size) - max(kept.start, start))
                for number in range(pieces):
                    block = cut_of(routes.counts[rank], number, pieces)
                    # Once for itself, and once for every block before it.
                    rows = (number + 1) * (block.stop - block.start)
                    sent[rank] += itemsize * rows * (size - stays)
            found.append(tuple(sent))
            start += size
    return found


def _pieces(routes: Routes, row_bytes: int) -> int:
    """Into how many blocks rows are cut, since not more fit; two of them are held at a time."""
    most = max(routes.counts)
    if most * row_bytes <= routes.general_bytes:
        return 1
    return -(-most // max(1, routes.general_bytes // (2 * row_bytes)))


class _Columns:
    """Gives this rank its part of the entries of rows of all ranks."""

    def __init__(self, members: Members, routes: Routes, like: Tensor, n: int, pieces: int) -> None:
        self._members = members
        self._routes = routes
        self._like = like
        self._n = n
        self._pieces = pieces
        self._workers = routes.workers
        self._place = self._workers.index(routes.rank)

    def _height(self, rank: int, number: int) -> slice:
        """Which of a rank's objectives are in a block."""
        return cut_of(self._routes.counts[rank], number, self._pieces)

    def where(self, number: int) -> Tensor:
        """Numbers of the objectives of a block, by rank."""
        found = []
        for rank in self._workers:
            start, block = self._routes.starts[rank], self._height(rank, number)
            found.append(torch.arange(start + block.start, start + block.stop))
        return torch.cat(found).to(self._like.device)

    def rows(self, group: Sequence[Tensor], number: int, make: Rows) -> Tensor:
        """This rank's part of a block of rows."""
        routes, count = self._routes, len(self._workers)
        block = self._height(routes.rank, number)
        own = make(group, block.start, block.stop)
        mine = cut_of(self._n, self._place, count)
        width = mine.stop - mine.start
        heights = [len(range(*self._height(r, number).indices(10**12))) for r in self._workers]
        found = self._like.new_empty(sum(heights), width)
        pieces = list(found.split(heights))
        pieces[self._place].copy_(own[:, mine])
        outgoing, incoming = {}, {}
        for place, rank in enumerate(self._workers):
            piece = cut_of(self._n, place, count)
            if rank == routes.rank:
                continue
            if own[:, piece].numel():
                outgoing[rank] = [own[:, piece].contiguous()]
            if pieces[place].numel():
                incoming[rank] = [pieces[place]]
        self._members.swap(outgoing, incoming).wait()
        return found
