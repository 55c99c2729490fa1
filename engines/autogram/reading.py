"""Reads a graph into a plan, and remembers plans of graphs with the same structure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import Graph, Positions, attribute, read_graph
from engines.autogram.hooks import Watch, hooked
from engines.autogram.objectives import Objectives
from engines.autogram.places import Shared, Split
from engines.autogram.plan import Plan, make_plan
from engines.autogram.probing import Proofs
from engines.autogram.refusal import refuse_mixing
from engines.autogram.rules import find, readable
from engines.autogram.schedule import Budget, Schedule, make_schedule
from engines.autogram.separation import Separation, separate
from engines.autogram.signature import Walked, walk
from engines.autogram.tracked import Tracked

# Forgotten one by one, the oldest first. A training loop has one or two.
_MOST_KEPT = 64


@dataclass(frozen=True, eq=False)
class Reading:
    """What is done with one graph.

    Attributes:
        graph: The graph.
        plan: Which rule each parameter takes.
        schedule: How each group is contracted.
        splits: For every node of a group how its samples come to the front.
        separation: Where the samples are; None if there is one, the whole batch.
        certain: Whether all of it follows from the structure, in the absence of hooks.
        leaves: Everything that the objectives reach and that has a gradient.
    """

    graph: Graph
    plan: Plan
    schedule: Schedule
    splits: dict[int, Split]
    separation: Separation | None
    certain: bool
    leaves: tuple[Tensor, ...]

    @property
    def needs_more(self) -> bool:
        """Whether passes follow those for the Gramian, or may have to."""
        return not self.certain or len(self.schedule.served) < len(self.leaves)


@dataclass(frozen=True, eq=False)
class _Kept:
    """A reading without nodes, and where its nodes are in a walk."""

    reading: Reading
    places: Positions
    # Nodes through which gradients pass on the way to a use.
    passed: tuple[int, ...]
    shared: bool
    # Nodes and the names of the saved tensors that rules read.
    read: tuple[tuple[int, tuple[str, ...]], ...]


class Reader:
    """Reads graphs for one engine.

    Args:
        batch_dim: Dimension of the output that indexes samples, for messages.
        memory_cap: What the caller allows in bytes, or None.
    """

    def __init__(self, batch_dim: int | None, memory_cap: int | None) -> None:
        self._batch_dim = batch_dim
        self._memory_cap = memory_cap
        self._proofs = Proofs()
        self._kept: dict[object, _Kept] = {}

    def read(
        self,
        output: Tensor,
        objectives: Objectives,
        tracked: Tracked,
        dtype: torch.dtype,
        *,
        labels: Sequence[str] | None = None,
        fused: bool = False,
    ) -> Reading:
        """Read a graph.

        Args:
            output: The objectives.
            objectives: Their numbering.
            tracked: The parameters.
            dtype: Of the Gramian.
            labels: One for each parameter, if those with different ones may share no contraction.
            fused: Whether gradients are wanted from the same pass.

        Returns:
            What to do.

        Raises:
            BatchMixedError: Samples meet on the way to a parameter.
            MemoryCapError: Some contraction needs more than the caller allows.
            UnsupportedGraphError: The graph has a re-entrant checkpoint.
        """
        walked = walk(output, tracked.parameters)
        leaves = tuple([leaf for leaf in walked.leaves if leaf.requires_grad])
        key = self._key(walked, objectives, labels, dtype, fused)
        found = None if key is None else self._kept.get(key)
        if found is not None:
            reading = self._again(found, walked, leaves, tracked)
            if reading is not None:
                return reading
        reading = self._read(output, objectives, tracked, labels, dtype, leaves, fused)
        if key is not None and reading.certain:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = _kept_of(reading, walked)
        return reading

    @staticmethod
    def _key(
        walked: Walked,
        objectives: Objectives,
        labels: Sequence[str] | None,
        dtype: torch.dtype,
        fused: bool,
    ) -> object:
        """All that a reading depends on beside hooks, None if it cannot be compared."""
        circumstances = (
            tuple(objectives.shape),
            objectives.dim,
            None if labels is None else tuple(labels),
            dtype,
            fused,
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
        )
        key = (walked.structure, circumstances)
        try:
            hash(key)
        except TypeError:
            return None
        return key

    def _again(
        self, kept: _Kept, walked: Walked, leaves: tuple[Tensor, ...], tracked: Tracked
    ) -> Reading | None:
        """Apply a reading to another graph of the same structure, None if something is new."""
        if any(parameter._backward_hooks for parameter in tracked.parameters):
            return None
        graph = kept.reading.graph.bound_to(walked.nodes, kept.places)
        if not Watch.unhooked(walked.oldest, walked.newest, len(walked.nodes)) and (
            any(hooked(graph.nodes[index]) for index in kept.passed)
            or any(hooked(walked.nodes[moved]) for chain in kept.places.chains for moved in chain)
        ):
            return None
        if not all(_dense(graph.nodes[index], names) for index, names in kept.read):
            return None
        if kept.shared and kept.reading.separation is not None:
            # Whether two uses read the same tensor is not in the structure.
            refuse_mixing(graph, kept.reading.separation, tracked.names, self._batch_dim)
        known = kept.reading
        return Reading(
            graph,
            known.plan,
            known.schedule,
            known.splits,
            known.separation,
            known.certain,
            leaves,
        )

    def _read(
        self,
        output: Tensor,
        objectives: Objectives,
        tracked: Tracked,
        labels: Sequence[str] | None,
        dtype: torch.dtype,
        leaves: tuple[Tensor, ...],
        fused: bool,
    ) -> Reading:
        """Read a graph from scratch."""
        parameters = tracked.parameters
        graph = read_graph(output, parameters)
        separation = None
        if objectives.samples > 1:
            wanted = {use.node for use in graph.uses}
            separation = separate(graph, output, objectives, wanted, self._proofs)
            refuse_mixing(graph, separation, tracked.names, self._batch_dim)
        plan = make_plan(graph, parameters, separation, labels or ())
        certain = separation is None or separation.certain
        if separation is None and fused:
            # What a hook or Python code makes of a sum need not be the sum of what it makes. With
            # several samples they were looked for on the way.
            leads = graph.leading_to({use.node for use in graph.uses})
            passed = [node for index, node in enumerate(graph.nodes) if leads[index]]
            fused = certain = all(callable(node) and not hooked(node) for node in passed)
        splits = {
            index: Split(place, max(1, objectives.samples)) for index, place in plan.places.items()
        }
        budget = Budget.of(graph, parameters, self._memory_cap)
        schedule = make_schedule(
            graph,
            plan,
            splits,
            objectives,
            parameters,
            dtype,
            output.device,
            budget,
            fused=fused,
        )
        certain &= not any(parameter._backward_hooks for parameter in parameters)
        certain &= not any(hooked(moved) for use in graph.uses for moved in use.chain)
        return Reading(graph, plan, schedule, splits, separation, certain, leaves)


def _kept_of(reading: Reading, walked: Walked) -> _Kept:
    """Forget the nodes, and with them everything they saved."""
    graph = reading.graph
    leads = graph.leading_to({use.node for use in graph.uses})
    passed = tuple(index for index in range(len(graph.nodes)) if leads[index])
    separation = reading.separation
    shared = separation is not None and any(
        isinstance(separation.state(use.node), Shared) for use in graph.uses
    )
    places = graph.places_in(walked.nodes)
    bare = replace(graph, nodes=(), uses=tuple(replace(use, chain=()) for use in graph.uses))
    bare_reading = replace(reading, graph=bare, leaves=())
    return _Kept(bare_reading, places, passed, shared, _read_by(reading))


def _read_by(reading: Reading) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The saved tensors that rules read, by node."""
    found: dict[int, set[str]] = {}
    for group in reading.plan.groups:
        for member in group.members:
            for index, slot in zip(group.nodes, member.slots, strict=True):
                node = reading.graph.nodes[index]
                rule = find(node.name())
                if rule is not None:
                    found.setdefault(index, set()).update(rule.reads(node, slot))
    return tuple((index, tuple(sorted(names))) for index, names in found.items() if names)


def _dense(node: Node, names: Sequence[str]) -> bool:
    """Whether saved tensors are there and dense, which the structure does not say."""
    if not readable(node, *names):
        return False
    for name in names:
        saved = attribute(node, f"_saved_{name}")
        if saved is None or saved.layout != torch.strided or saved.is_complex():
            return False
    return True
