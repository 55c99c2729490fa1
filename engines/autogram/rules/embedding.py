"""Rows of a table: an embedding, alone or tied to the linear layer that reads it back."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_dtype, output_shape
from engines.autogram.places import Place
from engines.autogram.rules.base import Rule, add_outer, readable
from engines.autogram.rules.contraction import reads_back, weighted_sum
from engines.autogram.rules.factors import COMPLEX, UNREADABLE, Declined, Factors, Part, Role
from engines.autogram.rules.options import Counts, Option, rows_option
from engines.autogram.rules.registry import register
from engines.autogram.rules.spreading import Extent, cut_of
from engines.autogram.rules.workspace import BLOCK_BYTES, Workspace


@register("EmbeddingBackward0")
class EmbeddingRule(Rule):
    """Gradients that are non-zero only in the rows that the batch looked up."""

    name = "embedding"

    def place(self, node: Node, place: Place) -> Place | None:
        """See `Rule.place`: any dimension but the last, which the table's columns have."""
        last = len(output_shape(node)) - 1
        return place if place.axis is None or place.axis < last else None

    def role(
        self, node: Node, slot: int, parameter: Tensor, transposed: bool, place: Place
    ) -> Role | Declined:
        """See `Rule.role`."""
        if output_dtype(node).is_complex or not parameter.is_floating_point():
            return COMPLEX
        if transposed:
            return Declined("reads the transposed table")
        # Divided by how often an index occurs in the whole batch, rows would mix samples.
        if attribute(node, "_saved_scale_grad_by_freq"):
            return Declined("scales gradients by frequency")
        return "weight" if readable(node, *self.reads(node, slot)) else UNREADABLE

    def may_keep_rows(self, nodes: Sequence[Node]) -> bool:
        """See `Rule.may_keep_rows`."""
        return not all(attribute(node, "_saved_sparse") for node in nodes)

    def reads(self, node: Node, slot: int) -> tuple[str, ...]:
        """See `Rule.reads`."""
        return ("indices",)

    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """See `Rule.inputs`: the indices, -1 for those that receive no gradient."""
        indices: Tensor = attribute(node, "_saved_indices")
        padding = int(attribute(node, "_saved_padding_idx"))
        return indices.masked_fill(indices == padding, -1).long()

    def options(
        self, nodes: Sequence[Node], parts: Sequence[Part], counts: Counts
    ) -> tuple[Option, ...]:
        """See `Rule.options`."""
        (part,) = parts
        table, columns = part.shape
        looked_up = counts.samples * sum(counts.positions)
        occurring = min(looked_up, table)
        m, size = counts.objectives, counts.itemsize
        read = counts.losses * looked_up * columns
        blocks = 1 + m * occurring * columns * size // BLOCK_BYTES
        return (
            Option(
                contraction="rows that occur",
                multiply_adds=m * m * occurring * columns,
                moved_bytes=size * (3 * read + 2 * m * occurring * columns),
                calls=8 + 5 * blocks,
                workspace_bytes=size * min(m * columns * occurring, BLOCK_BYTES // size),
                rows_bytes=0,
                gradient_multiply_adds=0,
                gradient_moved_bytes=size * (3 * read + table * columns),
            ),
            rows_option(counts, table * columns, 3 * read),
        )

    def axes(self, nodes: Sequence[Node], parts: Sequence[Part]) -> tuple[int, ...]:
        """See `Rule.axes`."""
        return (0, 1)

    def spans(self, node: Node, part: Part, column: int, axis: int) -> tuple[bool, bool]:
        """See `Rule.spans`: columns; which rows a lookup meets is in its indices."""
        return False, axis == 1

    def extent(self, node: Node, part: Part, column: int, axis: int | None, rows: int) -> Extent:
        """See `Rule.extent`: a row is one lookup."""
        between = [s for dim, s in enumerate(output_shape(node)[:-1]) if dim != axis]
        return Extent(rows * math.prod(between), (), (part.shape[1],), 0)

    def shared(
        self, parts: Sequence[Part], factors: Sequence[Factors], axis: int, number: int, count: int
    ) -> tuple[list[tuple[Sequence[Part], Sequence[Factors]]], Part]:
        """See `Rule.shared`: of all lookups those of some rows."""
        if axis == 0:
            rows = cut_of(parts[0].shape[0], number, count)
            factors = [_among_rows(f, rows) for f in factors]
        return super().shared(parts, factors, axis, number, count)

    def accumulate(
        self,
        total: Tensor,
        parts: Sequence[Part],
        factors: Sequence[Factors],
        contraction: str,
        workspace: Workspace,
    ) -> None:
        """See `Rule.accumulate`.

        The gradients are built for some of the rows that occur at a time: disjoint entries of the
        table, so their shares of J Jᵀ add up.

        Cost: m²·u·d multiply-adds for u rows that occur, in a bounded workspace; nothing of the
            size of the table.
        """
        indices, d = joined(factors)
        losses, samples, positions, columns = d.shape
        flat = d.reshape(losses, samples * positions, columns)
        if reads_back(d) and _add_pairs(total, indices, flat):
            return
        seen, which = occurrences(indices, parts[0].shape[0])
        sample = torch.arange(samples, device=d.device).repeat_interleave(positions)
        order = which.argsort() if reads_back(d) else None
        bounds = [] if order is None else _bounds(which[order], len(seen))
        for part in workspace.cut(len(seen), len(total) * columns * d.element_size()):
            # One row more takes what this block is not about.
            size = part.stop - part.start
            chosen = slice(None) if order is None else order[bounds[part.start] : bounds[part.stop]]
            row = which[chosen] - part.start
            row = torch.where((row < 0) | (row >= size), size, row)
            (block,) = workspace.take(d, (losses, samples * (size + 1), columns))
            block.zero_()
            block.index_add_(1, sample[chosen] * (size + 1) + row, flat[:, chosen])
            built = block.view(losses * samples, size + 1, columns)[:, :size]
            add_outer(total, built.reshape(len(total), -1))

    def rows(self, part: Part, factors: Sequence[Factors], contraction: str = "rows") -> Tensor:
        """See `Rule.rows`."""
        indices, d = joined(factors)
        losses, samples, positions, columns = d.shape
        table = part.shape[0]
        first = torch.arange(samples, device=d.device).unsqueeze(1) * table
        built = d.new_zeros(losses, samples * table, columns)
        rows = (first + indices).flatten()
        built.index_add_(1, rows, d.reshape(losses, samples * positions, columns))
        return built.view(losses * samples, table * columns)

    def write_rows(
        self,
        target: Tensor,
        part: Part,
        factors: Sequence[Factors],
        contraction: str,
        *,
        add: bool,
    ) -> None:
        """See `Rule.write_rows`: few rows of a table are not zero."""
        indices, d = joined(factors)
        if not add:
            target.zero_()
        for row, own, gradient in zip(target, indices, d[0], strict=True):
            row.view(part.shape).index_add_(0, own.to(row.device), gradient.to(row))

    def gradients(
        self, weights: Tensor, parts: Sequence[Part], factors: Sequence[Factors]
    ) -> list[Tensor]:
        """See `Rule.gradients`."""
        (part,) = parts
        indices, d = joined(factors)
        combined = weighted_sum(weights, d).flatten(0, 1)
        if all(attribute(f.node, "_saved_sparse") for f in factors):
            kept = torch.cat([f.inputs.flatten(1) for f in factors], 1).flatten() >= 0
            found = indices.flatten()[kept].unsqueeze(0)
            shape = tuple(part.shape)
            return [torch.sparse_coo_tensor(found, combined[kept], shape, check_invariants=False)]
        return [combined.new_zeros(part.shape).index_add_(0, indices.flatten(), combined)]


def _among_rows(factors: Factors, rows: slice) -> Factors:
    """Lookups of some rows of the table, numbered from the first of them."""
    indices = factors.inputs
    within = (indices >= rows.start) & (indices < rows.stop)
    found = torch.where(within, indices - rows.start, -1)
    return Factors(factors.node, factors.axis, found, factors.outputs)


# Rows of the batch are multiplied pair by pair while each meets at most so many others.
_FEW_PAIRS = 16


def _add_pairs(total: Tensor, indices: Tensor, flat: Tensor) -> bool:
    """Add the products of all pairs of lookups of the same row, if there are few.

    Args:
        total: Gramian to add to in place, shape [m, m].
        indices: Shape [b, t].
        flat: D, shape [k, b·t, d].

    Returns:
        Whether it was done.
    """
    rows, order = indices.flatten().sort()
    _, counts = rows.unique_consecutive(return_counts=True)
    pairs = int(counts.square().sum())
    if pairs > _FEW_PAIRS * len(rows):
        return False
    # Every lookup meets all those of its row, itself among them.
    partners = counts.repeat_interleave(counts)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    first = torch.arange(len(rows)).repeat_interleave(partners)
    within = torch.arange(pairs) - (partners.cumsum(0) - partners)[first]
    one, other = order[first], order[starts[first] + within]
    samples, positions = indices.shape
    losses = len(flat)
    grid = total.view(losses, samples, losses, samples)
    rows_of, columns_of = one // positions, other // positions
    for left in range(losses):
        for right in range(losses):
            products = (flat[left, one] * flat[right, other]).sum(1)
            grid[left, :, right].index_put_((rows_of, columns_of), products, accumulate=True)
    return True


def joined(factors: Sequence[Factors]) -> tuple[Tensor, Tensor]:
    """Join lookups of one table along positions.

    Args:
        factors: Indices, shape [b, t, …], and output gradients, shape [k, b, t, …, d].

    Returns:
        Indices, shape [b, t], of rows that receive a gradient, and D, shape [k, b, t, d], zero for
        the others, whose index is 0.
    """
    indices = torch.cat([f.inputs.flatten(1) for f in factors], 1)
    d = torch.cat([f.outputs.flatten(2, -2) for f in factors], 2)
    silent = indices < 0
    return indices.masked_fill(silent, 0), d.masked_fill(silent.unsqueeze(-1), 0)


def occurrences(indices: Tensor, table: int) -> tuple[Tensor, Tensor]:
    """Number the rows of a table that occur.

    `torch.unique` has a result whose size only the numbers tell, which stops a device's queue; on
    a device the size is the largest possible one instead.

    Args:
        indices: Rows, any shape.
        table: Rows that there are.

    Returns:
        The rows that occur, shape [u] (numbers beyond them are 0), and for every index which of
        them it is, shape [indices.numel()].
    """
    flat = indices.flatten()
    if reads_back(flat):
        return flat.unique(return_inverse=True)
    ordered, order = flat.sort()
    steps = torch.zeros_like(ordered)
    steps[1:] = (ordered[1:] != ordered[:-1]).long()
    which = torch.empty_like(flat).scatter_(0, order, steps.cumsum(0))
    seen = flat.new_zeros(min(table, len(flat))).scatter_(0, which, flat)
    return seen, which


def _bounds(ordered: Tensor, count: int) -> list[int]:
    """Where each number begins in an ordered list of them, and where the last one ends."""
    starts: list[int] = torch.searchsorted(
        ordered, torch.arange(count + 1, device=ordered.device)
    ).tolist()
    return starts


def add_tied(total: Tensor, lookups: Sequence[Factors], left: Tensor, right: Tensor) -> None:
    """Add the cross terms of a table's lookups and its products with other tensors.

    The gradient of objective (l, s) through lookups is Σ_p e(index_p) D_pᵀ, through products
    Σ_q L_q R_qᵀ, so the inner product with objective (l', r) is Σ_pq L_q[index_p] (D_p · R_q).

    Args:
        total: Gramian to add to in place, shape [m, m].
        lookups: Factors of the embeddings.
        left: L, what spans the table's rows, shape [k or 1, b, t, V].
        right: R, what spans its columns, shape [k or 1, b, t, d].

    Source: arXiv 1510.01799 for one-hot inputs; summed over uses as in arXiv 2406.16232.
    Cost: m·t·u·d multiply-adds for u rows that occur, and workspace for u·d and b·t·d entries: no
        row of the table that was not looked up is touched.
    """
    indices, d = joined(lookups)
    losses, samples, positions, columns = d.shape
    seen, which = occurrences(indices, left.shape[3])
    grid = total.view(losses, samples, losses, samples)
    flat = d.reshape(losses * samples, positions * columns)
    for loss in range(losses):
        for sample in range(samples):
            rows = left[loss % len(left), sample][:, seen].T
            gradient = (rows @ right[loss % len(right), sample])[which]
            products = gradient.view(samples, positions * columns)
            cross = (flat.view(losses, samples, -1) * products).sum(-1)
            grid[:, :, loss, sample] += cross
            grid[loss, sample] += cross
