"""What rules work on: the factors of a node, and a parameter's part in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

# A bias is added to the result, broadcast; a scale multiplies it entry by entry.
Role = Literal["weight", "bias", "scale"]


@dataclass(frozen=True)
class Declined:
    """A rule's answer where its algebra does not hold.

    Attributes:
        reason: Why, in words that follow the name of the operation.
    """

    reason: str


UNREADABLE = Declined("keeps what is needed behind hooks, as in a checkpoint, or not at all")
COMPLEX = Declined("works with complex numbers")


@dataclass(eq=False, slots=True)
class Factors:
    """Inputs and output gradients of one node, the samples brought to the front.

    Attributes:
        node: The node, for its other saved attributes.
        axis: The dimension of D along which the samples were found, None for none.
        inputs: X, shape [b, t, …]: b samples of t rows each; anything if there are only biases.
        outputs: D, shape [k, b, t, …]: the same for k objectives per sample.
    """

    node: Node
    axis: int | None
    inputs: Tensor
    outputs: Tensor

    @property
    def objectives(self) -> int:
        """Number of objectives m = k·b."""
        return self.outputs.shape[0] * self.outputs.shape[1]

    def among(self, samples: slice) -> "Factors":
        """Look at some samples only.

        Args:
            samples: Which, consecutive.

        Returns:
            Their factors.
        """
        # Where there are only biases, the inputs are anything.
        own = self.inputs.shape[:1] == self.outputs.shape[1:2]
        inputs = self.inputs[samples] if own else self.inputs
        return Factors(self.node, self.axis, inputs, self.outputs[:, samples])


@dataclass(frozen=True)
class Part:
    """A parameter's part in the nodes of a group.

    Attributes:
        shape: Its shape.
        roles: For every node what the parameter does there.
        transposed: For every node whether it sees the parameter transposed.
    """

    shape: torch.Size
    roles: tuple[Role, ...]
    transposed: tuple[bool, ...]

    def among(self, columns: Sequence[int]) -> "Part":
        """Look at some of the nodes only.

        Args:
            columns: Which.

        Returns:
            The part in these.
        """
        return Part(
            self.shape,
            tuple(self.roles[column] for column in columns),
            tuple(self.transposed[column] for column in columns),
        )
