"""Parameters that are multiplied or added entry by entry, and the affine part of normalisations."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_dtype, output_shape
from engines.autogram.places import Place
from engines.autogram.rules.base import Rule, readable
from engines.autogram.rules.factors import COMPLEX, UNREADABLE, Declined, Factors, Part, Role
from engines.autogram.rules.options import Counts, Option, rows_option
from engines.autogram.rules.registry import register
from engines.autogram.rules.workspace import Workspace

# Products of D and X are made and added up for so many entries at a time: they stay in a cache.
_BLOCK_ENTRIES = 2**16


class BroadcastRule(Rule):
    """Gradients that are sums of D, or of X ∘ D, over the dimensions that a parameter lacks.

    Such parameters are small, so their rows are built: m times as many entries as the parameter.
    """

    def place(self, node: Node, place: Place) -> Place | None:
        """See `Rule.place`: any dimension that the parameters lack, checked in `role`."""
        return place

    @abstractmethod
    def aligned(self, node: Node, shape: torch.Size) -> tuple[int, ...]:
        """Shape of a parameter as it is broadcast.

        Args:
            node: The consumer.
            shape: Of the parameter.

        Returns:
            One size for each dimension of the node's output.
        """

    def objection(
        self, node: Node, parameter: Tensor, transposed: bool, place: Place
    ) -> Declined | None:
        """Say why a parameter is none that is broadcast along the samples.

        Args:
            node: The consumer.
            parameter: The parameter.
            transposed: Whether the consumer sees it transposed.
            place: Where the samples are.

        Returns:
            The reason; None if it is real, dense, and has size 1 along the samples' dimension.
        """
        if not parameter.is_floating_point() or output_dtype(node).is_complex:
            return COMPLEX
        if transposed or parameter.layout != torch.strided:
            return Declined("reads a transposed or sparse parameter")
        if place.axis is not None and self.aligned(node, parameter.shape)[place.axis] != 1:
            return Declined("reads a parameter that has entries for every sample")
        return None

    def options(
        self, nodes: Sequence[Node], parts: Sequence[Part], counts: Counts
    ) -> tuple[Option, ...]:
        """See `Rule.options`: only "rows"."""
        entries = [math.prod(output_shape(node)) for node in nodes]
        read = counts.losses * sum(entries)
        options = []
        for part in parts:
            # A scale is multiplied with what it scaled, normalised anew perhaps.
            scaled = [n for n, role in zip(entries, part.roles, strict=True) if role == "scale"]
            largest = max(scaled, default=0)
            passing = largest + min(counts.losses * largest, _BLOCK_ENTRIES)
            options.append(rows_option(counts, part.shape.numel(), 2 * read, passing))
        return (reduce(Option.plus, options),)

    def accumulate(
        self,
        total: Tensor,
        parts: Sequence[Part],
        factors: Sequence[Factors],
        contraction: str,
        workspace: Workspace,
    ) -> None:
        """See `Rule.accumulate`: there is no option but "rows", so this is never called.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"got the contraction {contraction}, expected rows; mend the plan.")

    def rows(self, part: Part, factors: Sequence[Factors], contraction: str = "rows") -> Tensor:
        """See `Rule.rows`: sums over positions and over what the parameter is broadcast along.

        Cost: one multiply-add for each entry of D, two for a scale; m rows of the parameter's size.
        """
        pairs = zip(part.roles, factors, strict=True)
        return reduce(torch.add, (self._row(role, f, part.shape) for role, f in pairs))

    def gradients(
        self, weights: Tensor, parts: Sequence[Part], factors: Sequence[Factors]
    ) -> list[Tensor]:
        """See `Rule.gradients`: of the rows, which are small."""
        return [(weights @ self.rows(part, factors)).view(part.shape) for part in parts]

    def _row(self, role: Role, factors: Factors, shape: torch.Size) -> Tensor:
        """Rows through one node, shape [m, entries]."""
        d = factors.outputs
        sizes = self.aligned(factors.node, shape)
        kept = [size for dim, size in enumerate(sizes) if dim != factors.axis]
        # Dimensions [k, b, t] come first, then the others in order.
        summed = [2, *(3 + dim for dim, size in enumerate(kept) if size == 1)]
        if role != "scale":
            return d.sum(summed).reshape(factors.objectives, -1)
        x, samples = factors.inputs, d.shape[1]
        each = max(1, _BLOCK_ENTRIES // max(1, d[:, :1].numel()))
        blocks = [slice(start, start + each) for start in range(0, samples, each)]
        sums = [(d[:, block] * x[block]).sum(summed) for block in blocks]
        rows = sums[0] if len(sums) == 1 else torch.cat(sums, 1)
        return rows.reshape(factors.objectives, -1)


@register("AddBackward0", "ExpandBackward0", "MulBackward0", "SubBackward0")
class ElementwiseRule(BroadcastRule):
    """A parameter added to or multiplied with a tensor, broadcast, or expanded by itself."""

    name = "elementwise"

    def role(
        self, node: Node, slot: int, parameter: Tensor, transposed: bool, place: Place
    ) -> Role | Declined:
        """See `Rule.role`."""
        objection = self.objection(node, parameter, transposed, place)
        if objection is not None:
            return objection
        if node.name() == "MulBackward0":
            (other,) = self.reads(node, slot)
            if not readable(node, other):
                return UNREADABLE
            factor: Tensor = attribute(node, f"_saved_{other}")
            if factor.layout != torch.strided:
                return Declined("reads a sparse tensor")
            return COMPLEX if factor.is_complex() else "scale"
        # The second operand of a sum or difference has a factor; an expansion has one operand.
        added = node.name() == "AddBackward0" and attribute(node, "_saved_alpha") == 1
        return "bias" if slot == 0 or added else Declined("takes it with a factor or a sign")

    def reads(self, node: Node, slot: int) -> tuple[str, ...]:
        """See `Rule.reads`: the other factor of a product."""
        if node.name() != "MulBackward0":
            return ()
        return ("self",) if slot else ("other",)

    def aligned(self, node: Node, shape: torch.Size) -> tuple[int, ...]:
        """See `BroadcastRule.aligned`."""
        return (1,) * (len(output_shape(node)) - len(shape)) + tuple(shape)

    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """See `Rule.inputs`: the other factor."""
        factor: Tensor = attribute(node, "_saved_self" if slot else "_saved_other")
        return factor.detach().to(dtype).expand(output_shape(node))


@register("RepeatBackward0")
class RepeatRule(BroadcastRule):
    """A vector repeated once or more for every sample, as instance normalisation does."""

    name = "repetition"

    def role(
        self, node: Node, slot: int, parameter: Tensor, transposed: bool, place: Place
    ) -> Role | Declined:
        """See `Rule.role`."""
        real = parameter.is_floating_point() and not transposed
        if not real or len(output_shape(node)) != 1 or parameter.ndim != 1:
            return COMPLEX if not real else Declined("repeats more than a vector")
        # One run of whole copies for every sample, whatever the order of the samples.
        runs = place.owners.reshape(-1, len(parameter))
        alike = bool((runs == runs[:, :1]).all())
        return "bias" if alike else Declined("repeats it across samples")

    def place(self, node: Node, place: Place) -> Place | None:
        """See `Rule.place`: along the only dimension."""
        return Rule.place(self, node, place)

    def aligned(self, node: Node, shape: torch.Size) -> tuple[int, ...]:
        """See `BroadcastRule.aligned`."""
        return tuple(output_shape(node))

    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """See `Rule.inputs`: none is needed."""
        return torch.empty(0, dtype=dtype)

    def _row(self, role: Role, factors: Factors, shape: torch.Size) -> Tensor:
        """The sum over the copies of a sample."""
        return factors.outputs.reshape(factors.objectives, -1, shape.numel()).sum(1)


@register("NativeLayerNormBackward0", "NativeGroupNormBackward0", "NativeBatchNormBackward0")
class NormRule(BroadcastRule):
    """The weight and bias of a normalisation whose statistics do not mix samples."""

    name = "normalisation"

    def role(
        self, node: Node, slot: int, parameter: Tensor, transposed: bool, place: Place
    ) -> Role | Declined:
        """See `Rule.role`."""
        objection = self.objection(node, parameter, transposed, place)
        if objection is not None or slot == 0:
            return objection or Declined("normalises the parameter itself")
        if node.name() == "NativeBatchNormBackward0" and attribute(node, "_saved_training"):
            return Declined("uses the statistics of the batch")
        if not readable(node, *self.reads(node, slot)):
            return UNREADABLE
        return "bias" if slot == 2 else "scale"

    def reads(self, node: Node, slot: int) -> tuple[str, ...]:
        """See `Rule.reads`: what the normalised input is made of."""
        if slot == 2:
            return ()
        stored = node.name() == "NativeBatchNormBackward0"
        return ("input", *(("running_mean", "running_var") if stored else ("result1", "result2")))

    def aligned(self, node: Node, shape: torch.Size) -> tuple[int, ...]:
        """See `BroadcastRule.aligned`."""
        ndim = len(output_shape(node))
        if node.name() == "NativeLayerNormBackward0":
            return (1,) * (ndim - len(shape)) + tuple(shape)
        return (1, *shape, *(1,) * (ndim - 2))

    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """See `Rule.inputs`: the normalised input."""
        x = attribute(node, "_saved_input").detach().to(dtype)
        if node.name() == "NativeBatchNormBackward0":
            mean = attribute(node, "_saved_running_mean").detach().to(dtype)
            variance = attribute(node, "_saved_running_var").detach().to(dtype)
            rate = (variance + attribute(node, "_saved_eps")).rsqrt()
            sizes = self.aligned(node, mean.shape)
            return (x - mean.view(sizes)).mul_(rate.view(sizes))
        mean, rate = (attribute(node, f"_saved_result{n}").detach().to(dtype) for n in (1, 2))
        if node.name() == "NativeLayerNormBackward0":
            return (x - mean).mul_(rate)
        groups = x.reshape(*mean.shape, -1)
        return (groups - mean.unsqueeze(2)).mul_(rate.unsqueeze(2)).view(x.shape)
