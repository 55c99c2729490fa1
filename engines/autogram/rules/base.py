"""What a rule provides, and the factors it works on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import output_shape
from engines.autogram.places import Place

# Largest block a contraction builds beside its operands. Measured: blocks beyond this are paid in
# page faults and win nothing.
WORKSPACE_BYTES = 16 * 2**20

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


@dataclass(frozen=True, eq=False)
class Factors:
    """Inputs and output gradients of one node, the samples brought to the front.

    Attributes:
        node: The node, for its other saved attributes.
        axis: The dimension of D along which the samples were found, None for none.
        inputs: X, shape [b, t, …]: b samples of t rows each; empty if there are only biases.
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


@dataclass(frozen=True)
class Counts:
    """How many objectives a contraction serves.

    Attributes:
        losses: k, objectives per sample.
        samples: b.
        itemsize: Bytes of an element of the Gramian.
    """

    losses: int
    samples: int
    itemsize: int

    @property
    def objectives(self) -> int:
        """Number of objectives m = k·b."""
        return self.losses * self.samples


@dataclass(frozen=True)
class Price:
    """What a contraction is predicted to cost.

    Attributes:
        contraction: Its name.
        flops: Multiply-adds.
        workspace_bytes: Largest block beside the operands.
        alternatives: Multiply-adds of the other contractions, by name.
    """

    contraction: str
    flops: int
    workspace_bytes: int
    alternatives: tuple[tuple[str, int], ...] = ()


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


class Rule(ABC):
    """One family of operations whose inner products need no Jacobian.

    A rule reads every saved attribute its algebra depends on, and declines what it does not know.
    It assumes that row p of the node's output depends on row p of its input only; where samples
    sit among the rows is proved elsewhere.

    Attributes:
        name: What people call the family.
    """

    name: str

    def place(self, node: Node, place: Place) -> Place | None:
        """Bring the place of the samples into the form that the rule works with.

        Args:
            node: The consumer.
            place: Where the samples are in its output gradient.

        Returns:
            The place, by default along the first dimension, or None: declined.
        """
        if place.axis is None:
            shape = output_shape(node)
            return Place(0, place.owners.repeat(shape[0])) if shape else None
        return place if place.axis == 0 else None

    @abstractmethod
    def role(
        self, node: Node, slot: int, parameter: Tensor, transposed: bool, place: Place
    ) -> Role | Declined:
        """Say what a parameter does in a node.

        Args:
            node: The consumer.
            slot: Which argument of the consumer the parameter is.
            parameter: The parameter.
            transposed: Whether the consumer sees it transposed.
            place: Where the samples are, as `place` gave it.

        Returns:
            Its role, or why it is declined: then the parameter takes the general path.
        """

    @abstractmethod
    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """Read what the gradients need besides D.

        Args:
            node: A node in which some parameter has a role.
            slot: Which argument that parameter is.
            dtype: In which it will be used.

        Returns:
            X, its dimensions as those of the node's output up to the one that has the samples.
        """

    def data(self, node: Node, slot: int) -> Tensor | None:
        """The tensor itself that a node read where a parameter was multiplied with it.

        Args:
            node: A node that the rule knows.
            slot: Which argument the parameter is.

        Returns:
            The saved tensor, None where it cannot be read or another parameter may be in its place.
        """
        return None

    @abstractmethod
    def accumulate(self, total: Tensor, parts: Sequence[Part], factors: Sequence[Factors]) -> None:
        """Add the inner products of the gradients of parameters used by the same nodes.

        Args:
            total: Gramian to add to in place, shape [m, m].
            parts: The parameters.
            factors: Factors of the nodes; the gradient of a parameter is the sum over them.
        """

    @abstractmethod
    def rows(self, role: Role, factors: Factors, shape: torch.Size) -> Tensor:
        """Build the gradients of a bias or scale through one node.

        Args:
            role: "bias", or "scale" where the rule gives that role.
            factors: The node's factors.
            shape: Shape of the parameter.

        Returns:
            One row per objective, shape [m, entries of the parameter].
        """

    @abstractmethod
    def price(self, node: Node, role: Role, shape: torch.Size, counts: Counts) -> Price:
        """Predict what the inner products of one use cost.

        Args:
            node: The consumer.
            role: Of the parameter.
            shape: Of the parameter.
            counts: Samples and objectives.

        Returns:
            Contraction, multiply-adds and workspace.
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


def part_of(role: Role, parts: Sequence[Part]) -> Part | None:
    """Find the parameter with a role, where it has the same in all nodes.

    Args:
        role: The role.
        parts: The parameters of a group.

    Returns:
        The parameter, None if there is none.
    """
    return next((part for part in parts if role in part.roles), None)


def add_rows(total: Tensor, rule: Rule, part: Part, factors: Sequence[Factors]) -> None:
    """Add the inner products of a parameter whose gradients are built, summed over its uses.

    Args:
        total: Gramian to add to in place, shape [m, m].
        rule: The rule.
        part: The parameter.
        factors: Factors of the nodes.
    """
    pairs = zip(part.roles, factors, strict=True)
    rows = [rule.rows(role, f, part.shape) for role, f in pairs]
    add_outer(total, reduce(torch.add, rows))


def rows_price(counts: Counts, entries: int, building: int) -> Price:
    """Price of building the gradients row by row and multiplying them.

    Args:
        counts: Samples and objectives.
        entries: Of the parameter.
        building: Multiply-adds that the gradient of one objective costs.

    Returns:
        The price.
    """
    m = counts.objectives
    return Price(
        "per-sample",
        m * building + m * m * entries,
        min(counts.itemsize * m * entries, WORKSPACE_BYTES),
    )
