"""What a rule provides."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import output_shape
from engines.autogram.places import Place, State, Unknown
from engines.autogram.rules.factors import Declined, Factors, Part, Role
from engines.autogram.rules.options import Counts, Option
from engines.autogram.rules.spreading import Spreading
from engines.autogram.rules.workspace import BLOCK_BYTES, Workspace


class Rule(Spreading, ABC):
    """One family of operations whose inner products need no Jacobian.

    A rule reads every saved attribute its algebra depends on, and declines what it does not know.
    It assumes that row p of the node's output depends on row p of its input only; where samples
    sit among the rows is proved elsewhere.

    Attributes:
        name: What people call the family.
    """

    name: str
    # Results of a node whose gradients are needed. More than one are combined by the rule.
    results: tuple[int, ...] = (0,)

    def state(self, states: Mapping[int, State]) -> State:
        """Say where the samples are, given where they are in the gradients of the results.

        Args:
            states: By number of the result, those that receive a gradient.

        Returns:
            The state that `place` and `role` work with.
        """
        return states.get(0, Unknown("receives no gradient"))

    def may_keep_rows(self, nodes: Sequence[Node]) -> bool:
        """Tell whether a weighted gradient made of rows is what autograd's would be.

        Args:
            nodes: The nodes of a group.

        Returns:
            Whether it is: not where that is sparse.
        """
        return True

    def section(self, node: Node, slot: int) -> int:
        """Tell parameters apart that share a node but not its inputs.

        Args:
            node: The consumer.
            slot: Which argument of the consumer a parameter is.

        Returns:
            A number, equal for parameters that are contracted together.
        """
        return 0

    def output_gradient(self, node: Node, gradients: Sequence[Tensor | None]) -> Tensor | None:
        """Combine the gradients of the results into the one that inputs are multiplied with.

        Args:
            node: The node; what it saved is there.
            gradients: Of `results`, None for zero.

        Returns:
            D, its dimensions as `place` says, or None for zero.
        """
        return gradients[0]

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

    def reads(self, node: Node, slot: int) -> tuple[str, ...]:
        """Name the saved tensors that the gradient of a parameter depends on.

        Args:
            node: A node in which the parameter has a role.
            slot: Which argument it is.

        Returns:
            Attributes without the prefix `_saved_`.
        """
        return ()

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
    def options(
        self, nodes: Sequence[Node], parts: Sequence[Part], counts: Counts
    ) -> tuple[Option, ...]:
        """Name every way in which the parameters of a group can be contracted.

        Args:
            nodes: The nodes of the group that this rule reads.
            parts: The parameters.
            counts: Samples, objectives and positions.

        Returns:
            At least one, and at least one that keeps rows.
        """

    @abstractmethod
    def accumulate(
        self,
        total: Tensor,
        parts: Sequence[Part],
        factors: Sequence[Factors],
        contraction: str,
        workspace: Workspace,
    ) -> None:
        """Add the inner products of the gradients of parameters used by the same nodes.

        Args:
            total: Gramian to add to in place, shape [m, m].
            parts: The parameters.
            factors: Factors of the nodes; the gradient of a parameter is the sum over them.
            contraction: One of the options that do not keep rows.
            workspace: Where blocks are.
        """

    @abstractmethod
    def rows(self, part: Part, factors: Sequence[Factors], contraction: str = "rows") -> Tensor:
        """Build the gradients of one parameter, summed over its uses.

        Args:
            part: The parameter.
            factors: Factors of the nodes.
            contraction: One of the options that keep rows, where there are several.

        Returns:
            One row per objective, shape [m, entries of the parameter].
        """

    def write_rows(
        self,
        target: Tensor,
        part: Part,
        factors: Sequence[Factors],
        contraction: str,
        *,
        add: bool,
    ) -> None:
        """Build the gradients of one parameter where they belong, for one loss of each sample.

        Args:
            target: Where they go, shape [b, entries], in any dtype and on any device.
            part: The parameter.
            factors: Factors of the nodes, k = 1.
            contraction: One of the options that keep rows.
            add: Whether they are added to what is there.

        Cost: beside the target at most `BLOCK_BYTES`, or the gradient of one sample.
        """
        samples = len(target)
        size = target.numel() * target.element_size()
        height = max(1, BLOCK_BYTES * samples // max(1, size))
        for start in range(0, samples, height):
            block = slice(start, min(start + height, samples))
            built = self.rows(part, [f.among(block) for f in factors], contraction)
            put(target[block], built, add=add)

    @abstractmethod
    def gradients(
        self, weights: Tensor, parts: Sequence[Part], factors: Sequence[Factors]
    ) -> list[Tensor]:
        """Add up the gradients of every objective with weights, without building rows.

        Args:
            weights: One for each objective, shape [m].
            parts: The parameters.
            factors: Factors of the nodes.

        Returns:
            For every parameter the weighted gradient, in its shape; sparse where autograd's is.
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


def put(target: Tensor, built: Tensor, *, add: bool) -> None:
    """Write or add what was built.

    Args:
        target: Where it goes, in any dtype and on any device.
        built: Of its shape.
        add: Whether it is added to what is there.
    """
    if add:
        target.add_(built.to(target.device))
    else:
        target.copy_(built)


# Products of a few long rows reach a fraction of the product rate in one call; cut along their
# length into pieces of this size, nearly all of it. Measured, 8 rows of 2.4 million: 8.9 ms in
# one call, 5.1 in pieces.
_PIECE = 4096
_FEW_ROWS = 64


def add_outer(total: Tensor, rows: Tensor) -> None:
    """Add the inner products of rows to a Gramian.

    Args:
        total: Gramian, shape [m, m], changed in place.
        rows: Part of the gradients, shape [m, n].

    Cost: m²n multiply-adds.
    """
    m, n = rows.shape
    pieces = n // _PIECE
    if pieces < 2 or m > _FEW_ROWS:
        total.addmm_(rows, rows.T)
        return
    even = rows[:, : pieces * _PIECE].view(m, pieces, _PIECE).transpose(0, 1)
    total += torch.bmm(even, even.mT).sum(0)
    if n > pieces * _PIECE:
        rest = rows[:, pieces * _PIECE :]
        total.addmm_(rest, rest.T)


def part_of(role: Role, parts: Sequence[Part]) -> Part | None:
    """Find the parameter with a role, where it has the same in all nodes.

    Args:
        role: The role.
        parts: The parameters of a group.

    Returns:
        The parameter, None if there is none.
    """
    for part in parts:
        if role in part.roles:
            return part
    return None
