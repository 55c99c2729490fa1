"""How contractions are spread over processes: shares of a weight, and blocks of two batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.rules.factors import Factors, Part


@dataclass(frozen=True)
class Extent:
    """How large what a node contributes to a weight's gradients is, by sample.

    Attributes:
        positions: t, rows of a sample in its factors.
        inputs: Shape of a row of inputs: X has shape [b, t, *inputs].
        outputs: Shape of a row of output gradients: D has shape [k, b, t, *outputs].
        products: Products that are added up in every entry of a sample's gradient; 0 if most
            entries are zero.
    """

    positions: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    products: int


class Spreading:
    """What a rule says of its contractions where several processes share them.

    Without it, each process builds the rows of its own samples, and sends parts of them.
    """

    def axes(self, nodes: Sequence[Node], parts: Sequence[Part]) -> tuple[int, ...]:
        """Name the dimensions of the weight along which its inner products are a sum of shares.

        A share needs only a part of the factors that span this dimension, so processes that
        contract one share each send each other parts.

        Args:
            nodes: The nodes of the group that this rule reads.
            parts: The parameters.

        Returns:
            Dimensions of the part with the role "weight"; none where rows have to be built.
        """
        return ()

    def spans(self, node: Node, part: Part, column: int, axis: int) -> tuple[bool, bool]:
        """Say which factors of a node span a dimension of the weight.

        Args:
            node: The node.
            part: The weight.
            column: Which of the group's nodes it is.
            axis: One of `axes`.

        Returns:
            Whether inputs do, in their dimension 2, and whether output gradients do, in their
            dimension 3.
        """
        return False, True

    def extent(self, node: Node, part: Part, column: int, axis: int | None, rows: int) -> Extent:
        """Say how large the factors of a node are; only where `axes` names some.

        Args:
            node: The node.
            part: The weight.
            column: Which of the group's nodes it is.
            axis: The dimension of D along which the samples are, None for none.
            rows: Of one sample along it.

        Returns:
            The extent.

        Raises:
            ValueError: Rows have to be built.
        """
        raise ValueError("got a rule whose rows are built, expected one with axes; mend the plan.")

    def crosses(self, nodes: Sequence[Node], parts: Sequence[Part]) -> bool:
        """Tell whether `product_sides` can be called.

        Args:
            nodes: The nodes of the group that this rule reads.
            parts: The parameters.

        Returns:
            Whether inner products of the samples of two batches need their factors alone.
        """
        return False

    def product_sides(self, part: Part, factors: Sequence[Factors]) -> tuple[Tensor, Tensor]:
        """Bring factors into the form of products; only where `crosses` says that this can be done.

        Args:
            part: The weight.
            factors: Factors of all its nodes.

        Returns:
            A, shape [k or 1, b, t, …], and B: the gradient of a sample is AᵀB over positions.

        Raises:
            ValueError: It cannot.
        """
        raise ValueError("got a contraction of rows round the ring, expected gradients; mend it.")

    def shared(
        self, parts: Sequence[Part], factors: Sequence[Factors], axis: int, number: int, count: int
    ) -> tuple[list[tuple[Sequence[Part], Sequence[Factors]]], Part]:
        """Narrow parameters and factors to one share.

        Args:
            parts: The parameters.
            factors: Factors of the nodes; those that span the dimension are cut already.
            axis: One of `axes`.
            number: Which share it is.
            count: Of all shares.

        Returns:
            What `accumulate` is called with, one call after the other, and the weight's part.
        """
        narrow = [_narrowed(part, axis, number, count) for part in parts]
        return [(narrow, factors)], next(part for part in narrow if "weight" in part.roles)


def cut_of(size: int, number: int, count: int) -> slice:
    """Cut a range into nearly equal pieces.

    Args:
        size: Its length.
        number: Which piece.
        count: Of all pieces.

    Returns:
        The piece, empty where there are more pieces than entries.
    """
    return slice(size * number // count, size * (number + 1) // count)


def _narrowed(part: Part, axis: int, number: int, count: int) -> Part:
    """A share of a weight, or of the bias beside output gradients that are cut."""
    sizes = list(part.shape)
    dim = axis if "weight" in part.roles else 0
    piece = cut_of(sizes[dim], number, count)
    sizes[dim] = piece.stop - piece.start
    return Part(torch.Size(sizes), part.roles, part.transposed)
