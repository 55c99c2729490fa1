"""What a rule provides, and the factors it works on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.autograd.graph import Node

# Largest block a contraction builds beside its operands. Measured: blocks beyond this are paid in
# page faults and win nothing.
WORKSPACE_BYTES = 16 * 2**20

Role = Literal["weight", "bias"]


@dataclass(frozen=True, eq=False)
class Factors:
    """Inputs and output gradients of one node, the samples brought to the front.

    Attributes:
        node: The node, for its other saved attributes.
        inputs: X, shape [b, t, …]: b samples of t rows each; empty if there are only biases.
        outputs: D, shape [k, b, t, …]: the same for k objectives per sample.
    """

    node: Node
    inputs: Tensor
    outputs: Tensor

    @property
    def objectives(self) -> int:
        """Number of objectives m = k·b."""
        return self.outputs.shape[0] * self.outputs.shape[1]


class Rule(ABC):
    """One family of operations whose inner products need no Jacobian.

    A rule reads every saved attribute its algebra depends on, and declines what it does not know.
    It assumes that row p of the node's output depends on row p of its input only; where samples
    sit among the rows is proved elsewhere.
    """

    @abstractmethod
    def role(self, node: Node, slot: int, parameter: Tensor, transposed: bool) -> Role | None:
        """Say what a parameter does in a node.

        Args:
            node: The consumer.
            slot: Which argument of the consumer the parameter is.
            parameter: The parameter.
            transposed: Whether the consumer sees it transposed.

        Returns:
            Its role, or None: declined, the parameter takes the general path.
        """

    @abstractmethod
    def inputs(self, node: Node) -> Tensor:
        """Read the input a node saved.

        Args:
            node: A node in which some parameter has a role.

        Returns:
            X, shape [rows, …], rows as in the node's output.
        """

    @abstractmethod
    def accumulate(
        self,
        total: Tensor,
        roles: Mapping[Role, Sequence[bool]],
        factors: Sequence[Factors],
    ) -> None:
        """Add the inner products of the gradients of parameters used by the same nodes.

        Args:
            total: Gramian to add to in place, shape [m, m].
            roles: For every role present, whether each node sees the parameter transposed.
            factors: Factors of the nodes; the gradient of a parameter is the sum over them.
        """

    @abstractmethod
    def bias_rows(self, factors: Factors) -> Tensor:
        """Build the gradients of a bias through one node.

        Args:
            factors: The node's factors.

        Returns:
            One row per objective, shape [m, o].
        """


def readable(node: Node, *names: str) -> bool:
    """Tell whether saved tensors can be read without side effects.

    Reading one that has hooks (activation checkpointing, offloading) outside its backward pass
    recomputes or copies a whole block, and inside it clashes with the node's own reading.

    Args:
        node: The node.
        names: Attributes without the prefix `_saved_`.

    Returns:
        Whether none of them has hooks and none is missing.
    """
    for name in names:
        saved = getattr(node, f"_raw_saved_{name}", None)
        if saved is None or getattr(saved, "unpack_hook", None) is not None:
            return False
    return True


def blocks(count: int, bytes_each: int) -> list[slice]:
    """Cut a range so that a block stays within the workspace.

    Args:
        count: Length of the range.
        bytes_each: Workspace that one element needs.

    Returns:
        Consecutive slices, none of them empty.
    """
    size = max(1, WORKSPACE_BYTES // max(1, bytes_each))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def add_outer(total: Tensor, rows: Tensor) -> None:
    """Add the inner products of rows to a Gramian.

    Args:
        total: Gramian, shape [m, m], changed in place.
        rows: Part of the gradients, shape [m, n].

    Cost: m²n multiply-adds.
    """
    total.addmm_(rows, rows.T)
