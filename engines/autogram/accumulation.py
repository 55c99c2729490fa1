"""Collects output gradients until a group of parameters has all it needs, then contracts them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from engines.autogram.marks import label_of, named
from engines.autogram.plan import Member
from engines.autogram.reading import Reading
from engines.autogram.rules import (
    RULES,
    Factors,
    Part,
    Rule,
    Workspace,
    add_outer,
    add_tied,
    sides,
)
from engines.autogram.schedule import Share, Task

# Makes the gradients of some parameters from the weights of the objectives.
Weighted = Callable[[Tensor], list[Tensor]]


@dataclass(eq=False, slots=True)
class Present:
    """A share with the factors of those of its nodes that have a gradient.

    Attributes:
        share: The share.
        parts: The parameters' parts in these nodes.
        factors: Factors of these nodes, at least one.
    """

    share: Share
    parts: tuple[Part, ...]
    factors: list[Factors]

    def rows(self, place: int) -> Tensor:
        """Build the gradients of one parameter.

        Args:
            place: Which one of the group.

        Returns:
            Shape [m, entries].
        """
        share = self.share
        return share.rule.rows(self.parts[place], self.factors, share.option.contraction)

    def accumulate(self, total: Tensor, workspace: Workspace) -> None:
        """Add the inner products of these uses.

        Args:
            total: Gramian to add to in place, shape [m, m].
            workspace: Where blocks are.
        """
        share = self.share
        share.rule.accumulate(total, self.parts, self.factors, share.option.contraction, workspace)

    def gradients(self, weights: Tensor) -> list[Tensor]:
        """Add up the gradients of all parameters through these uses with weights.

        Args:
            weights: One for each objective, shape [m].

        Returns:
            One for each parameter, in its shape.
        """
        return self.share.rule.gradients(weights, self.parts, self.factors)


class Accumulation:
    """The running sums of Gramians, and what is kept for the weighted gradients.

    Args:
        reading: The graph and what is done with it.
        tasks: Those of one round.
        totals: For every task the Gramian to add to in place, shape [m, m].
        workspace: Where blocks are.
    """

    def __init__(
        self,
        reading: Reading,
        tasks: Sequence[Task],
        totals: Sequence[Tensor],
        workspace: Workspace,
    ) -> None:
        self._graph = reading.graph
        self._splits = reading.splits
        self._workspace = workspace
        self._open = list(zip(tasks, totals, strict=True))
        self._waiting: dict[int, list[int]] = {}
        for number, task in enumerate(tasks):
            for index in task.group.nodes:
                self._waiting.setdefault(index, []).append(number)
        self._missing = [len(task.group.nodes) for task in tasks]
        self._needed = {index: len(numbers) for index, numbers in self._waiting.items()}
        self._done = [False] * len(tasks)
        self._held: dict[int, list[Tensor | None]] = {index: [] for index in self._waiting}
        self._inputs: dict[tuple[int, int], Tensor] = {}
        self.weighted: list[tuple[tuple[Member, ...], Weighted]] = []

    @property
    def nodes(self) -> dict[int, tuple[int, ...]]:
        """Nodes whose output gradients are needed, in walk order, and of which results."""
        return {index: self._rule(index).results for index in sorted(self._waiting)}

    @property
    def reads_gradients(self) -> bool:
        """Whether a rule needs what a node saved together with its gradients."""
        return any(len(results) > 1 for results in self.nodes.values())

    def _rule(self, index: int) -> Rule:
        """The rule of a node, which the plan says it has."""
        return RULES[self._graph.nodes[index].name()]

    def read_inputs(self, indices: Iterable[int]) -> None:
        """Read what nodes saved, before a pass that frees it.

        Args:
            indices: The nodes.
        """
        for index in indices:
            for number in self._waiting[index]:
                task, total = self._open[number]
                slot = task.group.readers[task.group.nodes.index(index)]
                if slot is None or (index, slot) in self._inputs:
                    continue
                node = self._graph.nodes[index]
                self._inputs[index, slot] = self._rule(index).inputs(node, slot, total.dtype)

    def receiver(self, *, last: bool) -> Callable[[int, Sequence[Tensor | None]], None]:
        """Make the function that takes the output gradients of one pass.

        Args:
            last: Whether this pass is the last, so that groups can be contracted.

        Returns:
            A function of a node's index and the gradients of its results.
        """

        def receive(index: int, gradients: Sequence[Tensor | None]) -> None:
            gradient = gradients[0]
            if len(gradients) > 1:
                gradient = self._rule(index).output_gradient(self._graph.nodes[index], gradients)
            if gradient is not None and gradient.layout != torch.strided:
                gradient = gradient.to_dense()
            self._held[index].append(gradient)
            if not last:
                return
            self.read_inputs((index,))
            for number in self._waiting[index]:
                self._missing[number] -= 1
                if self._missing[number] == 0:
                    self._contract_named(number, label_of(self._graph.nodes[index]))
                    self._done[number] = True
                    self._release(self._open[number][0])

        return receive

    def _contract_named(self, number: int, label: str) -> None:
        """Contract a group, and show this and the work on what it keeps under a name."""
        kept = len(self.weighted)
        with named(label):
            self._contract(*self._open[number])
        if not label:
            return
        for place in range(kept, len(self.weighted)):
            members, make = self.weighted[place]
            self.weighted[place] = (members, _named(make, label))

    def unfinished(self) -> list[int]:
        """Parameters of tasks that never had all they need, by index."""
        return [
            member.parameter
            for (task, _), done in zip(self._open, self._done, strict=True)
            if not done
            for member in task.group.members
        ]

    def _release(self, task: Task) -> None:
        """Free the gradients and inputs that no other task needs."""
        for index in task.group.nodes:
            self._needed[index] -= 1
            if self._needed[index] == 0:
                self._held[index] = []
                for key in [key for key in self._inputs if key[0] == index]:
                    del self._inputs[key]

    def _present(self, task: Task, total: Tensor) -> list[Present]:
        """The shares of a group with the factors of those of its nodes that have a gradient."""
        found = []
        for share in task.shares:
            factors = [self._factors(task, column, total) for column in share.columns]
            present = [one for one in factors if one is not None]
            if len(present) == len(factors):
                found.append(Present(share, share.parts, present))
            elif present:
                places = [place for place, one in enumerate(factors) if one is not None]
                parts = tuple(part.among(places) for part in share.parts)
                found.append(Present(share, parts, present))
        return found

    def _contract(self, task: Task, total: Tensor) -> None:
        """Add the inner products of one group, and keep what its gradients need."""
        found = self._present(task, total)
        members = task.group.members
        if not found:
            held = [d for index in task.group.nodes for d in self._held[index]]
            if task.keep != "nothing" and any(d is not None for d in held):
                # There are no rows: the gradient is zero, not absent.
                shapes = [part.shape for part in task.shares[0].parts]
                self.weighted.append((members, of_nothing(shapes)))
        elif all(one.share.option.kept_rows for one in found):
            kept = []
            for place in range(len(members)):
                rows = reduce(torch.add, (one.rows(place) for one in found))
                add_outer(total, rows)
                if task.keep == "rows":
                    kept.append(rows)
            if kept:
                self.weighted.append((members, of_rows(kept)))
        else:
            for one in found:
                one.accumulate(total, self._workspace)
            if len(found) > 1:
                add_cross_terms(total, found)
            if task.keep == "factors":
                self.weighted.append((members, of_factors(found)))

    def _factors(self, task: Task, column: int, total: Tensor) -> Factors | None:
        """Bring the samples of a node's input and output gradients to the front."""
        index = task.group.nodes[column]
        held = self._held[index]
        known = next((gradient for gradient in held if gradient is not None), None)
        if known is None or known.numel() == 0:
            return None  # autograd knows the gradient to be zero, or there are no rows
        split = self._splits[index]
        if len(held) == 1:
            outputs = split.stacked((known,))
        else:
            zeros = known.new_zeros(()).expand_as(known)
            outputs = split.stacked([zeros if d is None else d for d in held])
        if outputs.dtype is not total.dtype or outputs.device != total.device:
            outputs = outputs.to(total)
        inputs = known
        slot = task.group.readers[column]
        if slot is not None:
            inputs = split(self._inputs[index, slot])
            if inputs.device != total.device:
                inputs = inputs.to(total.device)
        return Factors(self._graph.nodes[index], split.axis, inputs, outputs)


def _named(make: Weighted, label: str) -> Weighted:
    """The same under a name."""

    def make_named(weights: Tensor) -> list[Tensor]:
        with named(label):
            return make(weights)

    return make_named


def of_nothing(shapes: list[torch.Size]) -> Weighted:
    """Make zeros, where there are no rows: a gradient is zero, not absent.

    Args:
        shapes: Of the gradients.

    Returns:
        What makes them.
    """
    return lambda weights: [weights.new_zeros(shape) for shape in shapes]


def of_rows(kept: list[Tensor]) -> Weighted:
    """Make weighted sums of rows.

    Args:
        kept: For every parameter its rows, shape [m, entries].

    Returns:
        What makes them.
    """
    return lambda weights: [weights @ rows for rows in kept]


def of_factors(shares: list[Present]) -> Weighted:
    """Make products of inputs and weighted output gradients, added up over the rules.

    Args:
        shares: Factors of a group.

    Returns:
        What makes them.
    """

    def make(weights: Tensor) -> list[Tensor]:
        found = [one.gradients(weights) for one in shares]
        if len(found) == 1:
            return found[0]
        # Of a sparse and a dense gradient the sum is dense.
        dense = [[one.to_dense() if one.is_sparse else one for one in each] for each in found]
        return [reduce(torch.add, each) for each in zip(*dense, strict=True)]

    return make


def add_cross_terms(total: Tensor, shares: list[Present]) -> None:
    """Add the products of a table's lookups with its uses in linear maps.

    Args:
        total: Gramian to add to in place, shape [m, m].
        shares: Factors of both.
    """
    by_name = {one.share.rule.name: one for one in shares}
    linear = by_name["linear"]
    weight = next(part for part in linear.parts if "weight" in part.roles)
    left, right = sides(weight.transposed, linear.factors)
    add_tied(total, by_name["embedding"].factors, left, right)
