"""Rows of a table: an embedding, alone or tied to the linear layer that reads it back."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_dtype, output_shape
from engines.autogram.places import Place
from engines.autogram.rules.base import (
    COMPLEX,
    UNREADABLE,
    WORKSPACE_BYTES,
    Counts,
    Declined,
    Factors,
    Part,
    Price,
    Role,
    Rule,
    add_outer,
    blocks,
    readable,
)
from engines.autogram.rules.registry import register


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
        return "weight" if readable(node, "indices") else UNREADABLE

    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """See `Rule.inputs`: the indices, -1 for those that receive no gradient."""
        indices: Tensor = attribute(node, "_saved_indices")
        padding = int(attribute(node, "_saved_padding_idx"))
        return indices.masked_fill(indices == padding, -1).long()

    def accumulate(self, total: Tensor, parts: Sequence[Part], factors: Sequence[Factors]) -> None:
        """See `Rule.accumulate`.

        The gradients are built for some of the rows that occur at a time: disjoint entries of the
        table, so their shares of J Jᵀ add up.

        Cost: m²·u·d multiply-adds for u rows that occur, in a bounded workspace; nothing of the
            size of the table.
        """
        indices, d = joined(factors)
        losses, samples, positions, columns = d.shape
        seen, which = indices.unique(return_inverse=True)
        which = which.flatten()
        order = which.argsort()
        bounds = torch.searchsorted(which[order], torch.arange(len(seen) + 1, device=which.device))
        flat = d.reshape(losses, samples * positions, columns)
        for part in blocks(len(seen), len(total) * columns * d.element_size()):
            chosen = order[bounds[part.start] : bounds[part.stop]]
            size = part.stop - part.start
            block = d.new_zeros(losses, samples * size, columns)
            rows = chosen // positions * size + which[chosen] - part.start
            block.index_add_(1, rows, flat[:, chosen])
            add_outer(total, block.view(len(total), size * columns))

    def rows(self, role: Role, factors: Factors, shape: torch.Size) -> Tensor:
        """See `Rule.rows`: a table has neither role.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"got the role {role} for a table, expected weight; mend the plan.")

    def price(self, node: Node, role: Role, shape: torch.Size, counts: Counts) -> Price:
        """See `Rule.price`."""
        looked_up = math.prod(output_shape(node)[:-1])
        rows = min(looked_up, shape[0])
        m = counts.objectives
        flops = counts.losses * looked_up * shape[1] + m * m * rows * shape[1]
        workspace = min(counts.itemsize * m * rows * shape[1], WORKSPACE_BYTES)
        return Price("rows that occur", flops, workspace)


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
    losses, samples = d.shape[:2]
    seen, which = indices.unique(return_inverse=True)
    grid = total.view(losses, samples, losses, samples)
    for loss in range(losses):
        for sample in range(samples):
            rows = left[loss % len(left), sample][:, seen].T
            gradient = rows @ right[loss % len(right), sample]
            cross = torch.einsum("kbtd,btd->kb", d, gradient[which])
            grid[:, :, loss, sample] += cross
            grid[loss, sample] += cross
