"""Linear maps: `y = x Wᵀ + b` and `y = x W`, as autograd records them."""

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_dtype, output_shape
from engines.autogram.rules.base import Factors, Role, Rule, add_outer, readable
from engines.autogram.rules.contraction import add_products
from engines.autogram.rules.registry import register


@register("AddmmBackward0", "MmBackward0")
class LinearRule(Rule):
    """A matrix product whose second operand is the parameter, and the bias beside it.

    The gradient of sample s is D_sᵀX_s for W of shape [o, i] and X_sᵀD_s for W of shape [i, o]:
    the same form with its factors exchanged, so that uses of both orientations (a tied
    autoencoder) are joined along positions and cross terms come of themselves.
    """

    def role(self, node: Node, slot: int, parameter: Tensor, transposed: bool) -> Role | None:
        """See `Rule.role`."""
        real = parameter.is_floating_point() and not output_dtype(node).is_complex
        if not real or parameter.layout != torch.strided:
            return None
        if node.name() == "MmBackward0":
            return "weight" if slot == 1 and readable(node, "self") else None
        if attribute(node, "_saved_alpha") != 1 or attribute(node, "_saved_beta") != 1:
            return None
        if slot == 2:
            return "weight" if readable(node, "mat1") else None
        # Any other shape was broadcast, along the samples perhaps.
        return "bias" if slot == 0 and tuple(parameter.shape) == output_shape(node)[1:] else None

    def inputs(self, node: Node) -> Tensor:
        """See `Rule.inputs`."""
        saved = "_saved_self" if node.name() == "MmBackward0" else "_saved_mat1"
        tensor: Tensor = attribute(node, saved)
        return tensor

    def accumulate(
        self,
        total: Tensor,
        roles: Mapping[Role, Sequence[bool]],
        factors: Sequence[Factors],
    ) -> None:
        """See `Rule.accumulate`."""
        with_bias = "bias" in roles
        if "weight" in roles:
            flags = roles["weight"]
            # A bias is a further column of ones in X, as long as X is on one side throughout.
            joined = with_bias and all(flags)
            left, right = _sides(flags, factors)
            add_products(total, left, right, ones=joined)
            with_bias = with_bias and not joined
        if with_bias:
            add_outer(total, reduce(torch.add, map(self.bias_rows, factors)))

    def bias_rows(self, factors: Factors) -> Tensor:
        """See `Rule.bias_rows`."""
        return factors.outputs.sum(2).flatten(0, 1)


def _sides(flags: Sequence[bool], factors: Sequence[Factors]) -> tuple[Tensor, Tensor]:
    """Join the factors of all uses along positions, rows of W on the left, columns right."""
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
