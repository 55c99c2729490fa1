"""Collects output gradients until a group of parameters has all it needs, then contracts them."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from engines.autogram.graph import Graph
from engines.autogram.places import Split
from engines.autogram.plan import Group, Plan
from engines.autogram.rules import Factors, Part, Rule, add_tied, find, sides
from engines.autogram.rules.base import add_outer


class Accumulation:
    """The running sums of Gramians: nothing else survives a node.

    Args:
        totals: For every group of the plan the Gramian to add to in place, shape [m, m].
        graph: Graph of the objectives.
        plan: Groups to contract.
        shapes: Of the tracked parameters.
        samples: b.
    """

    def __init__(
        self,
        totals: list[Tensor],
        graph: Graph,
        plan: Plan,
        shapes: list[torch.Size],
        samples: int,
    ) -> None:
        self._graph = graph
        self._places = plan.places
        self._shapes = shapes
        self._samples = samples
        self._held: dict[int, list[Tensor | None]] = {index: [] for index in plan.nodes}
        self._complete: set[int] = set()
        self._open = list(zip(plan.groups, totals, strict=True))

    def receiver(self, *, last: bool) -> Callable[[int, Tensor | None], None]:
        """Make the function that takes the output gradients of one pass.

        Args:
            last: Whether this pass is the last, so that groups can be contracted.

        Returns:
            A function of a node's index and its output gradient.
        """

        def receive(index: int, gradient: Tensor | None) -> None:
            if gradient is not None and gradient.layout != torch.strided:
                gradient = gradient.to_dense()
            self._held[index].append(gradient)
            if last:
                self._complete.add(index)
                self._contract_ready()

        return receive

    def unfinished(self) -> list[int]:
        """Parameters of groups that never had all they need, by index."""
        return [member.parameter for group, _ in self._open for member in group.members]

    def _contract_ready(self) -> None:
        """Contract every group whose nodes are complete and free what no other group needs."""
        ready = [pair for pair in self._open if self._complete.issuperset(pair[0].nodes)]
        if not ready:
            return
        self._open = [pair for pair in self._open if pair not in ready]
        for group, total in ready:
            self._contract(group, total)
        needed = {index for group, _ in self._open for index in group.nodes}
        for index in self._held.keys() - needed:
            self._held[index] = []

    def _contract(self, group: Group, total: Tensor) -> None:
        """Add the inner products of one group."""
        by_rule: dict[Rule, list[tuple[int, Factors]]] = {}
        for column, index in enumerate(group.nodes):
            rule = find(self._graph.nodes[index].name())
            factors = None if rule is None else self._factors(group, column, rule, total)
            if rule is not None and factors is not None:
                by_rule.setdefault(rule, []).append((column, factors))
        if not by_rule:
            return
        # A weight is one everywhere or nowhere: all others are built row by row.
        if len(by_rule) > 1 and all("weight" not in member.roles for member in group.members):
            for member in group.members:
                shape = self._shapes[member.parameter]
                rows = [
                    rule.rows(member.roles[column], factors, shape)
                    for rule, found in by_rule.items()
                    for column, factors in found
                ]
                add_outer(total, reduce(torch.add, rows))
            return
        for rule, found in by_rule.items():
            parts = self._parts(group, [column for column, _ in found])
            rule.accumulate(total, parts, [f for _, f in found])
        if len(by_rule) > 1:
            self._add_cross_terms(group, total, by_rule)

    def _add_cross_terms(
        self, group: Group, total: Tensor, by_rule: dict[Rule, list[tuple[int, Factors]]]
    ) -> None:
        """Add the products of a table's lookups with its uses in linear maps."""
        named = {rule.name: found for rule, found in by_rule.items()}
        linear = named["linear"]
        weight = next(member for member in group.members if "weight" in member.roles)
        flags = [weight.transposed[column] for column, _ in linear]
        left, right = sides(flags, [f for _, f in linear])
        add_tied(total, [f for _, f in named["embedding"]], left, right)

    def _parts(self, group: Group, columns: list[int]) -> list[Part]:
        """What every member of a group does in some of its nodes."""
        return [
            Part(
                self._shapes[member.parameter],
                tuple(member.roles[column] for column in columns),
                tuple(member.transposed[column] for column in columns),
            )
            for member in group.members
        ]

    def _factors(self, group: Group, column: int, rule: Rule, total: Tensor) -> Factors | None:
        """Bring the samples of a node's input and output gradients to the front."""
        index = group.nodes[column]
        held = self._held[index]
        known = next((gradient for gradient in held if gradient is not None), None)
        if known is None or known.numel() == 0:
            return None  # autograd knows the gradient to be zero, or there are no rows
        node = self._graph.nodes[index]
        place = self._places[index]
        split = Split(place, self._samples)
        zeros = known.new_zeros(()).expand_as(known)
        outputs = [split(zeros if d is None else d) for d in held]
        stacked = outputs[0].unsqueeze(0) if len(outputs) == 1 else torch.stack(outputs)
        inputs = known.new_empty(0)
        # A bias needs no input, and one that is not needed may not have been saved.
        readers = [m.slots[column] for m in group.members if m.roles[column] != "bias"]
        if readers:
            inputs = split(rule.inputs(node, readers[0], total.dtype)).to(total.device)
        return Factors(node, place.axis, inputs, stacked.to(total))
