"""Linear maps: `y = x Wᵀ + b` and `y = x W`, as autograd records them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_dtype, output_shape
from engines.autogram.places import Place
from engines.autogram.rules.base import (
    COMPLEX,
    UNREADABLE,
    Counts,
    Declined,
    Factors,
    Part,
    Price,
    Role,
    Rule,
    add_rows,
    part_of,
    readable,
    rows_price,
)
from engines.autogram.rules.contraction import add_products, contraction_price
from engines.autogram.rules.registry import register


@register("AddmmBackward0", "MmBackward0")
class LinearRule(Rule):
    """A matrix product whose second operand is the parameter, and the bias beside it.

    The gradient of sample s is D_sᵀX_s for W of shape [o, i] and X_sᵀD_s for W of shape [i, o]:
    the same form with its factors exchanged, so that uses of both orientations (a tied
    autoencoder) are joined along positions and cross terms come of themselves.
    """

    name = "linear"

    def role(
        self, node: Node, slot: int, parameter: Tensor, transposed: bool, place: Place
    ) -> Role | Declined:
        """See `Rule.role`."""
        real = parameter.is_floating_point() and not output_dtype(node).is_complex
        if not real or parameter.layout != torch.strided:
            return COMPLEX if not real else Declined("reads a sparse parameter")
        if node.name() == "MmBackward0":
            if slot != 1:
                return Declined("has the parameter on the left")
            return self._weight(node, "self")
        if attribute(node, "_saved_alpha") != 1 or attribute(node, "_saved_beta") != 1:
            return Declined("has a factor alpha or beta")
        if slot == 2:
            return self._weight(node, "mat1")
        # Any other shape was broadcast, along the samples perhaps.
        plain = slot == 0 and tuple(parameter.shape) == output_shape(node)[1:]
        return "bias" if plain else Declined("has the parameter in an unusual place or shape")

    @staticmethod
    def _weight(node: Node, factor: str) -> Role | Declined:
        """The role of a weight, if the other factor is there to be read."""
        if not readable(node, factor):
            return UNREADABLE
        dense = attribute(node, f"_saved_{factor}").layout == torch.strided
        return "weight" if dense else Declined("reads a sparse tensor")

    def data(self, node: Node, slot: int) -> Tensor | None:
        """See `Rule.data`."""
        name, weight = ("self", 1) if node.name() == "MmBackward0" else ("mat1", 2)
        if slot != weight or not readable(node, name):
            return None
        tensor: Tensor = attribute(node, f"_saved_{name}")
        return tensor if tensor.layout == torch.strided else None

    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """See `Rule.inputs`."""
        saved = "_saved_self" if node.name() == "MmBackward0" else "_saved_mat1"
        tensor: Tensor = attribute(node, saved)
        return tensor.detach().to(dtype)

    def accumulate(self, total: Tensor, parts: Sequence[Part], factors: Sequence[Factors]) -> None:
        """See `Rule.accumulate`."""
        weight, bias = part_of("weight", parts), part_of("bias", parts)
        # A bias is a further column of ones in X, as long as X is on one side throughout.
        joined = weight is not None and bias is not None and all(weight.transposed)
        if weight is not None:
            left, right = sides(weight.transposed, factors)
            add_products(total, left, right, ones=joined)
        if bias is not None and not joined:
            add_rows(total, self, bias, factors)

    def rows(self, role: Role, factors: Factors, shape: torch.Size) -> Tensor:
        """See `Rule.rows`."""
        return factors.outputs.sum(2).flatten(0, 1)

    def price(self, node: Node, role: Role, shape: torch.Size, counts: Counts) -> Price:
        """See `Rule.price`."""
        positions = max(1, output_shape(node)[0] // counts.samples)
        if role == "bias":
            return rows_price(counts, shape.numel(), positions * shape.numel())
        left = torch.Size((counts.losses, counts.samples, positions, shape[0]))
        right = torch.Size((1, counts.samples, positions, shape[1]))
        return contraction_price(left, right, counts.itemsize)


def sides(flags: Sequence[bool], factors: Sequence[Factors]) -> tuple[Tensor, Tensor]:
    """Join the factors of all uses along positions.

    Args:
        flags: For every use whether it sees W transposed.
        factors: Factors of the uses.

    Returns:
        What spans the rows of W, shape [k or 1, b, t, rows], and what spans its columns, shape
        [k or 1, b, t, columns]: the gradient of a sample is the product of both over positions.
    """
    losses = len(factors[0].outputs)
    mixed = len(set(flags)) > 1
    lefts, rights = [], []
    for transposed, f in zip(flags, factors, strict=True):
        # One copy of X serves all losses, unless it must stand beside output gradients.
        x = f.inputs.expand(losses if mixed else 1, *f.inputs.shape)
        lefts.append(f.outputs if transposed else x)
        rights.append(x if transposed else f.outputs)
    if len(factors) == 1:
        return lefts[0], rights[0]
    return torch.cat(lefts, 2), torch.cat(rights, 2)
