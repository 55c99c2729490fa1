"""What a convolution's node says about it."""

from dataclasses import dataclass

import torch
from torch.autograd.graph import Node

from engines.autogram.graph import attribute


@dataclass(frozen=True)
class Geometry:
    """The attributes of a convolution, and the shape of its weight."""

    weight: torch.Size
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int

    @classmethod
    def of(cls, node: Node, weight: torch.Size) -> "Geometry":
        """Read them off a node.

        Args:
            node: A convolution.
            weight: Shape of its weight.

        Returns:
            The attributes.
        """

        def sizes(name: str) -> list[int]:
            return [int(size) for size in attribute(node, name)]

        return cls(
            weight=weight,
            stride=sizes("_saved_stride"),
            padding=sizes("_saved_padding"),
            dilation=sizes("_saved_dilation"),
            transposed=bool(attribute(node, "_saved_transposed")),
            output_padding=sizes("_saved_output_padding"),
            groups=int(attribute(node, "_saved_groups")),
        )
