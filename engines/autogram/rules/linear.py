"""Linear maps: `y = x Wᵀ + b` and `y = x W`, as autograd records them."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_dtype, output_shape
from engines.autogram.places import Place
from engines.autogram.rules.base import Rule, add_outer, part_of, readable
from engines.autogram.rules.contraction import (
    add_products,
    product_options,
    product_rows,
    weighted_positions,
    write_products,
)
from engines.autogram.rules.factors import COMPLEX, UNREADABLE, Declined, Factors, Part, Role
from engines.autogram.rules.options import Counts, Option, rows_option
from engines.autogram.rules.registry import register
from engines.autogram.rules.spreading import Extent, cut_of
from engines.autogram.rules.workspace import Workspace


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

    def reads(self, node: Node, slot: int) -> tuple[str, ...]:
        """See `Rule.reads`."""
        if node.name() == "MmBackward0":
            return ("self",)
        return ("mat1",) if slot == 2 else ()

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

    def options(
        self, nodes: Sequence[Node], parts: Sequence[Part], counts: Counts
    ) -> tuple[Option, ...]:
        """See `Rule.options`."""
        weight, bias = part_of("weight", parts), part_of("bias", parts)
        positions = sum(counts.positions)
        offered: tuple[Option, ...] = ()
        if weight is not None:
            # One copy of X serves all losses, unless it stands beside output gradients.
            flags = self.flags(weight.transposed)
            mixed = len(set(flags)) > 1
            first = counts.losses if mixed or all(flags) else 1
            second = counts.losses if mixed or not any(flags) else 1
            left = torch.Size((first, counts.samples, positions, weight.shape[0]))
            right = torch.Size((second, counts.samples, positions, weight.shape[1]))
            offered = product_options(left, right, counts.itemsize)
        if bias is None:
            return offered
        read = counts.objectives * positions * bias.shape.numel()
        beside = rows_option(counts, bias.shape.numel(), read)
        return tuple(one.plus(beside) for one in offered) or (beside,)

    def flags(self, transposed: Sequence[bool]) -> tuple[bool, ...]:
        """Say for every use whether output gradients span the rows of the weight.

        Args:
            transposed: Whether the consumer sees the weight transposed.

        Returns:
            Whether the gradient is DᵀX, else XᵀD.
        """
        return tuple(transposed)

    def axes(self, nodes: Sequence[Node], parts: Sequence[Part]) -> tuple[int, ...]:
        """See `Rule.axes`."""
        return () if part_of("weight", parts) is None else (0, 1)

    def spans(self, node: Node, part: Part, column: int, axis: int) -> tuple[bool, bool]:
        """See `Rule.spans`: output gradients span the rows of a weight that is used transposed."""
        outputs = self.flags(part.transposed)[column] == (axis == 0)
        return not outputs, outputs

    def extent(self, node: Node, part: Part, column: int, axis: int | None, rows: int) -> Extent:
        """See `Rule.extent`."""
        outputs, inputs = part.shape if self.flags(part.transposed)[column] else part.shape[::-1]
        return Extent(rows, (inputs,), (outputs,), rows)

    def crosses(self, nodes: Sequence[Node], parts: Sequence[Part]) -> bool:
        """See `Rule.crosses`."""
        return part_of("weight", parts) is not None

    def product_sides(self, part: Part, factors: Sequence[Factors]) -> tuple[Tensor, Tensor]:
        """See `Rule.product_sides`."""
        return sides(self.flags(part.transposed), factors)

    def shared(
        self, parts: Sequence[Part], factors: Sequence[Factors], axis: int, number: int, count: int
    ) -> tuple[list[tuple[Sequence[Part], Sequence[Factors]]], Part]:
        """See `Rule.shared`: a bias has the share of the output gradients that there are."""
        weight, bias = part_of("weight", parts), part_of("bias", parts)
        if weight is None:
            raise ValueError("got a group without a weight, expected one; mend the plan.")
        calls, narrow = super().shared([weight], factors, axis, number, count)
        if bias is None:
            return calls, narrow
        cut = [self.spans(f.node, weight, c, axis)[1] for c, f in enumerate(factors)]
        if all(cut):
            return super().shared(parts, factors, axis, number, count)
        piece = cut_of(bias.shape.numel(), number, count)
        rest = [
            f if known else Factors(f.node, f.axis, f.inputs, f.outputs[..., piece])
            for f, known in zip(factors, cut, strict=True)
        ]
        own = Part(torch.Size((piece.stop - piece.start,)), bias.roles, bias.transposed)
        return [*calls, ([own], rest)], narrow

    def accumulate(
        self,
        total: Tensor,
        parts: Sequence[Part],
        factors: Sequence[Factors],
        contraction: str,
        workspace: Workspace,
    ) -> None:
        """See `Rule.accumulate`."""
        weight, bias = part_of("weight", parts), part_of("bias", parts)
        # A bias is a further column of ones in X, as long as X is on one side throughout.
        flags = () if weight is None else self.flags(weight.transposed)
        joined = weight is not None and bias is not None and all(flags)
        if weight is not None:
            left, right = sides(flags, factors)
            add_products(total, left, right, contraction, workspace, ones=joined)
        if bias is not None and not joined:
            add_outer(total, self.rows(bias, factors))

    def rows(self, part: Part, factors: Sequence[Factors], contraction: str = "rows") -> Tensor:
        """See `Rule.rows`."""
        if "weight" in part.roles:
            return product_rows(*sides(self.flags(part.transposed), factors)).flatten(1)
        return reduce(torch.add, (f.outputs.sum(2).flatten(0, 1) for f in factors))

    def write_rows(
        self,
        target: Tensor,
        part: Part,
        factors: Sequence[Factors],
        contraction: str,
        *,
        add: bool,
    ) -> None:
        """See `Rule.write_rows`."""
        written = "weight" in part.roles and write_products(
            target, *sides(self.flags(part.transposed), factors), add=add
        )
        if not written:
            super().write_rows(target, part, factors, contraction, add=add)

    def gradients(
        self, weights: Tensor, parts: Sequence[Part], factors: Sequence[Factors]
    ) -> list[Tensor]:
        """See `Rule.gradients`."""
        weight, bias = part_of("weight", parts), part_of("bias", parts)
        flags = () if weight is None else self.flags(weight.transposed)
        if len(set(flags)) > 1:
            left, right = sides(flags, factors)
            grid = weights.view(len(left), -1, 1, 1)
            product = (left * grid).flatten(0, 2).mT @ right.flatten(0, 2)
            return [product if part is weight else self._bias(weights, factors) for part in parts]
        combined = [weighted_positions(weights, f.outputs) for f in factors]
        found = {}
        if weight is not None:
            pairs = zip(combined, factors, strict=True)
            products = [d.mT @ f.inputs.reshape(len(d), -1) for d, f in pairs]
            product = reduce(torch.add, products)
            found["weight"] = product if flags[0] else product.mT
        if bias is not None:
            found["bias"] = reduce(torch.add, (d.sum(0) for d in combined))
        return [found["weight" if "weight" in part.roles else "bias"] for part in parts]

    @staticmethod
    def _bias(weights: Tensor, factors: Sequence[Factors]) -> Tensor:
        """Weighted gradient of a bias."""
        return reduce(torch.add, (weighted_positions(weights, f.outputs).sum(0) for f in factors))


def sides(flags: Sequence[bool], factors: Sequence[Factors]) -> tuple[Tensor, Tensor]:
    """Join the factors of all uses along positions.

    Args:
        flags: For every use whether it sees W transposed.
        factors: Factors of the uses.

    Returns:
        What spans the rows of W, shape [k or 1, b, t, rows], and what spans its columns, shape
        [k or 1, b, t, columns]: the gradient of a sample is the product of both over positions.
    """
    if len(factors) == 1:
        d, x = factors[0].outputs, factors[0].inputs.unsqueeze(0)
        return (d, x) if flags[0] else (x, d)
    losses = len(factors[0].outputs)
    mixed = len(set(flags)) > 1
    lefts, rights = [], []
    for transposed, f in zip(flags, factors, strict=True):
        # One copy of X serves all losses, unless it must stand beside output gradients.
        x = f.inputs.expand(losses if mixed else 1, *f.inputs.shape)
        lefts.append(f.outputs if transposed else x)
        rights.append(x if transposed else f.outputs)
    return torch.cat(lefts, 2), torch.cat(rights, 2)
