"""Collects output gradients until a group of parameters has all it needs, then contracts them."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from engines.autogram.graph import Graph
from engines.autogram.layout import Layout, Search
from engines.autogram.plan import Group, Plan
from engines.autogram.rules import Factors, Role, Rule, find
from engines.autogram.rules.base import add_outer


class Accumulation:
    """The running sum of one Gramian: nothing else survives a node.

    Args:
        total: Gramian to add to in place, shape [m, m].
        graph: Graph of the objectives.
        plan: Groups to contract.
        search: Looks for the samples where their place is not proved; None where it is.
        samples: b.
    """

    def __init__(
        self,
        total: Tensor,
        graph: Graph,
        plan: Plan,
        search: Search | None,
        samples: int,
    ) -> None:
        self._total = total
        self._graph = graph
        self._search = search
        self._searched = frozenset(search.nodes if search else ())
        self._samples = samples
        self._held: dict[int, list[Tensor | None]] = {index: [] for index in plan.nodes}
        self._complete: set[int] = set()
        self._groups = list(plan.groups)
        self._needed = set(plan.nodes)
        self._failed: list[Group] = []

    def receiver(self, *, last: bool) -> Callable[[int, Tensor | None], None]:
        """Make the function that takes the output gradients of one pass.

        Args:
            last: Whether this pass is the last, so that groups can be contracted.

        Returns:
            A function of a node's index and its output gradient.
        """

        def receive(index: int, gradient: Tensor | None) -> None:
            if self._search is not None and index in self._searched:
                self._search.compare(index, gradient)
                if self._search.layout(index) is None:
                    self._drop(index)
            if index in self._needed:
                self._held[index].append(gradient)
            if last:
                self._complete.add(index)
                self._contract_ready()

        return receive

    def unfinished(self) -> list[int]:
        """Parameters of groups that never had all they need, or no rule can take, by index."""
        groups = [*self._failed, *self._groups]
        return [member.parameter for group in groups for member in group.members]

    def _drop(self, index: int) -> None:
        """Give up the groups of a node in which samples are mixed."""
        self._failed += [group for group in self._groups if index in group.nodes]
        self._groups = [group for group in self._groups if index not in group.nodes]
        self._release()

    def _release(self) -> None:
        """Free what no remaining group needs."""
        self._needed = {index for group in self._groups for index in group.nodes}
        for index in self._held.keys() - self._needed:
            self._held[index] = []

    def _contract_ready(self) -> None:
        """Contract every group whose nodes are complete and free what no other group needs."""
        ready = [group for group in self._groups if self._complete.issuperset(group.nodes)]
        if not ready:
            return
        self._groups = [group for group in self._groups if group not in ready]
        for group in ready:
            self._contract(group)
        self._release()

    def _contract(self, group: Group) -> None:
        """Add the inner products of one group."""
        factors, rules, columns = [], [], []
        # A bias needs no input, and one that is not needed may not have been saved.
        weighty = any("weight" in member.roles for member in group.members)
        for column, index in enumerate(group.nodes):
            found = find(self._graph.nodes[index].name())
            built = None if found is None else self._factors(index, found, weighty)
            if built is not None and found is not None:
                factors.append(built)
                rules.append(found)
                columns.append(column)
        if not factors:
            return
        # A parameter has one shape, so it is a weight everywhere or a bias everywhere, and only a
        # bias can be used by operations of different rules.
        if len(set(map(id, rules))) > 1:
            parts = (rule.bias_rows(f) for rule, f in zip(rules, factors, strict=True))
            add_outer(self._total, reduce(torch.add, parts))
            return
        roles: dict[Role, list[bool]] = {
            member.roles[columns[0]]: [member.transposed[c] for c in columns]
            for member in group.members
        }
        rules[0].accumulate(self._total, roles, factors)

    def _factors(self, index: int, rule: Rule, weighty: bool) -> Factors | None:
        """Bring the samples of a node's input and output gradients to the front."""
        held = self._held[index]
        known = next((gradient for gradient in held if gradient is not None), None)
        if known is None or known.numel() == 0:
            return None  # autograd knows the gradient to be zero, or there are no rows
        node = self._graph.nodes[index]
        layout = Layout.OUTER
        if self._search is not None and index in self._searched:
            layout = self._search.layout(index) or layout
        outputs = [
            layout.split((known.new_zeros(()).expand_as(known) if d is None else d), self._samples)
            for d in held
        ]
        stacked = outputs[0].unsqueeze(0) if len(outputs) == 1 else torch.stack(outputs)
        inputs = known.new_empty(0)
        if weighty:
            inputs = layout.split(rule.inputs(node).detach(), self._samples)
        return Factors(node, inputs.to(self._total), stacked.to(self._total))
