"""Follows the samples from the losses back through the graph, to every use of a parameter.

By induction from the output, whose samples lie along the batch dimension. Nothing is kept but the
proofs of single operations, so a graph that depends on data or on arguments is read as it is.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import Edge, Graph, output_metadata
from engines.autogram.hooks import hooked
from engines.autogram.objectives import Objectives
from engines.autogram.passage import (
    ONE_OF_A_DIMENSION,
    PASSAGES,
    PICKING,
    PURE,
    Step,
    Verdict,
    follow,
    follow_whole,
    looks_at_numbers,
    uses_batch_statistics,
)
from engines.autogram.places import Place, Shared, State, Unknown, merged
from engines.autogram.probing import COPY_SLICES, TRANSPARENT, Proofs

_NESTED = Unknown("has a nested tensor as its result, or lies below one")
Kind = Literal["norm", "operation", "sum", "rows", "inputs"]


@dataclass(frozen=True)
class Mixing:
    """One place where samples meet.

    Attributes:
        node: Index of the operation.
        kind: "norm" for a normalisation over the batch, "operation" for another operation that
            mixes rows, "sum" for a tensor without samples that single samples use although they
            went into it, "rows" for a tensor whose rows reach the losses of several samples,
            "inputs" for an operation that sums over samples what another reads by sample.
    """

    node: int
    kind: Kind


@dataclass(eq=False)
class Separation:
    """What is known about the samples in every gradient on the way to a parameter.

    Attributes:
        states: By index of the node and number of its result.
        mixed: Where samples meet, in the order met.
        certain: Whether structure alone decided everything, so that it holds for every graph of
            the same structure without hooks.
    """

    states: dict[tuple[int, int], State] = field(default_factory=dict)
    mixed: list[Mixing] = field(default_factory=list)
    certain: bool = True

    def state(self, node: int) -> State:
        """What is known about the gradient of an operation's first result.

        Args:
            node: Index of the operation.

        Returns:
            The state.
        """
        return self.states.get((node, 0), Unknown("receives no gradient"))

    def states_of(self, node: int, results: Collection[int]) -> dict[int, State]:
        """What is known about the gradients of some of an operation's results.

        Args:
            node: Index of the operation.
            results: Which.

        Returns:
            The states of those that receive one.
        """
        states = self.states
        return {each: states[node, each] for each in results if (node, each) in states}


class _Walk:
    """One walk over a graph."""

    def __init__(self, graph: Graph, leads: list[bool], proofs: Proofs) -> None:
        self._graph, self._leads, self._proofs = graph, leads, proofs
        self._pure = graph.made_of_parameters(PURE)
        self.found = Separation()

    def arrive(self, child: int, output: int, state: State) -> None:
        """Add what one more consumer of a tensor says."""
        states = self.found.states
        if isinstance(state, Place) and state.axis is not None:
            shape = _shape(self._graph.nodes[child], output) or ()
            if not _alike(state, shape):
                state = Unknown("has samples in a place that its shape does not have")
        if self._pure[child] and isinstance(state, Place):
            # A function of parameters alone has no samples, whichever rows of it they read.
            state = Shared(child)
        known = states.get((child, output))
        if known is None:
            states[child, output] = state
            return
        joint = merged(known, state)
        if joint is None and _tensorwise(known) and _tensorwise(state):
            # Samples that went through a model one by one meet in what has no samples: a computed
            # weight, a table. Tasks averaged over a batch look the same; both are exact below.
            joint = Shared(child)
        if joint is None:
            sums = [s for s in (known, state) if isinstance(s, Shared)]
            # A sum is named where it is taken: below the node that hands it to every sample.
            if sums:
                self._mix(sums[0].origin, "sum")
            else:
                self._mix(child, "rows")
            # As if nothing had been mixed, so that what mixes further below is named too.
            joint = known if isinstance(known, Place) else state
        states[child, output] = joint

    def visit(self, index: int, outputs: Mapping[int, State]) -> None:
        """Pass the states of an operation's results on to its inputs."""
        node = self._graph.nodes[index]
        edges = [edge for edge in self._graph.edges[index] if self._leads[edge.child]]
        unknown = self._unknown(node, outputs)
        self.found.certain &= unknown is None and callable(node)
        if unknown is not None:
            # Of this result too: a hook acts on its gradient before the operation sees it.
            self.found.states.update(((index, output), unknown) for output in outputs)
            rows = (0,) if _is_nested(node, 0) else _shape(node, 0) or (0,)
            across = unknown.sample is None and rows[0] > 1
            if uses_batch_statistics(node) and across:
                self._mix(index, "norm")
            for edge in edges:
                self.arrive(edge.child, edge.output, unknown)
            return
        places = {o: s.simplified() for o, s in outputs.items() if isinstance(s, Place)}
        if len(places) < len(outputs):
            shared = next(s for s in outputs.values() if isinstance(s, Shared))
            for edge in edges:
                self.arrive(edge.child, edge.output, shared)
        if places:
            self._pass_places(index, node, edges, places)

    def _unknown(self, node: Node, outputs: Mapping[int, State]) -> Unknown | None:
        """Why nothing is certain below an operation, None if something may be."""
        for output, state in outputs.items():
            if isinstance(state, Unknown):
                # Several results may be several samples'.
                return state if len(outputs) == 1 else Unknown(state.reason)
            if _is_nested(node, output):
                return _NESTED
            # Of one sample's own tensor too: a hook may make something of the zeros that the other
            # samples' losses send there.
            if isinstance(state, Place) and hooked(node):
                sample = max(state.samples) if len(state.samples) == 1 else None
                return Unknown(f"has its gradient from a hook on {node.name()}", sample)
        return None

    def _pass_places(
        self, index: int, node: Node, edges: list[Edge], places: Mapping[int, Place]
    ) -> None:
        """Pass places on by the table, and by numbers where it cannot tell."""
        # A batch normalisation may have no input on the way to a parameter but its own weight.
        first = places.get(0)
        several = first is not None and len(first.samples) > 1 and first.axis != 1
        if several and uses_batch_statistics(node):
            self._mix(index, "norm")
        unsure: list[tuple[Edge, Verdict | None]] = []
        for edge in edges:
            if self._pure[edge.child]:
                self.arrive(edge.child, edge.output, Shared(edge.child))
                continue
            if _is_nested(self._graph.nodes[edge.child], edge.output):
                self.arrive(edge.child, edge.output, _NESTED)
                continue
            below = _shape(self._graph.nodes[edge.child], edge.output)
            if below is None:
                continue  # nothing arrives at a tensor without entries
            found = [self._one(node, edge, output, p, below) for output, p in places.items()]
            if any(one is None or one is Verdict.PERHAPS for one in found):
                summed = all(one is Verdict.PERHAPS for one in found)
                unsure.append((edge, Verdict.SUMMED if summed else None))
                continue
            for one, place in zip(found, places.values(), strict=True):
                self._settle(index, edge, one, place, below)
        if unsure:
            self._ask(index, node, unsure, places, len(unsure) < len(edges))

    def _one(
        self, node: Node, edge: Edge, output: int, place: Place, below: tuple[int, ...]
    ) -> Place | Verdict | None:
        """What the table says about one result and one input."""
        samples = place.samples
        # Of one sample's own gradient, what picks an index says more by the index than by its rows.
        if place.axis is None or (len(samples) == 1 and node.name() in ONE_OF_A_DIMENSION):
            # Python code may make something of zeros, and is perhaps inside a write to a part.
            python = not callable(node) and node.name() not in PASSAGES
            if python or node.name() in PICKING or node.name() == COPY_SLICES:
                return None
            return follow_whole(node, output, max(samples), below)
        step = _step(node, edge.slot, output, place, below)
        self.found.certain &= not looks_at_numbers(step)
        found = follow(step)
        if found is Verdict.MIXED and len(samples) < 2:
            return Place.whole(max(samples)) if samples else place
        return found

    def _settle(
        self,
        index: int,
        edge: Edge,
        found: Place | Verdict | None,
        place: Place,
        below: tuple[int, ...],
    ) -> None:
        """Record what was found for one input, below a result with samples in some place."""
        if found is Verdict.MIXED:
            norm = uses_batch_statistics(self._graph.nodes[index])
            self._mix(index, "norm" if norm else "operation")
            if _alike(place, below):
                # As if nothing had been mixed, so that what mixes further below is named too.
                self.arrive(edge.child, edge.output, place)
        elif isinstance(found, Place):
            self.arrive(edge.child, edge.output, found)
        else:
            self.arrive(edge.child, edge.output, Shared(edge.child))

    def _ask(
        self,
        index: int,
        node: Node,
        edges: list[tuple[Edge, Verdict | None]],
        places: Mapping[int, Place],
        others: bool,
    ) -> None:
        """Ask an operation by numbers about some inputs, each with what holds if it says no."""
        self.found.certain &= node.name() in TRANSPARENT
        answers = self._proofs.find(node, places, tuple(edge.slot for edge, _ in edges))
        if answers is None:
            owners = {sample for place in places.values() for sample in place.samples}
            alone = max(owners) if len(owners) == 1 else None
            reason = f"lies below {node.name()}, which cannot be asked by numbers"
            unknown = Unknown(reason, alone)
            for edge, _ in edges:
                self.arrive(edge.child, edge.output, unknown)
            return
        separate = others or any(place is not None for place in answers.values())
        for edge, otherwise in edges:
            place = answers[edge.slot]
            if isinstance(place, Unknown):
                self.arrive(edge.child, edge.output, place)
                continue
            verdict: Place | Verdict = Verdict.SUMMED if place is None else place
            below = _shape(self._graph.nodes[edge.child], edge.output) or ()
            # An input of fewer dimensions is broadcast: its rows are not the result's.
            like = next(
                (
                    place
                    for output, place in places.items()
                    if len(below) >= len(_shape(node, output) or ()) and _alike(place, below)
                ),
                None,
            )
            # Where no input has samples, the one with rows like the result's is mixed.
            if place is None and otherwise is None and not separate and like is not None:
                verdict = Verdict.MIXED
            self._settle(index, edge, verdict, like or next(iter(places.values())), below)

    def _mix(self, node: int, kind: Kind) -> None:
        """Record a place once."""
        mixing = Mixing(node, kind)
        if mixing not in self.found.mixed:
            self.found.mixed.append(mixing)


def separate(
    graph: Graph, output: Tensor, objectives: Objectives, wanted: Collection[int], proofs: Proofs
) -> Separation:
    """Find where the samples are in the output gradients on the way to some nodes.

    Args:
        graph: Graph of the output.
        output: The objectives.
        objectives: Their numbering, b > 1 samples along a dimension.
        wanted: Indices of nodes, those that use tracked parameters.
        proofs: Proofs by numbers of earlier calls; new ones are added.

    Returns:
        What is known, and every place where samples meet. If there is one, the states below it
        are those of a graph in which it does not mix.

    Raises:
        RuntimeError: Saved tensors were freed.

    Cost: no pass over the graph. About 40 µs per node on the way, most of them to rule hooks out,
        and the operations that are asked by numbers.
    """
    leads = graph.leading_to(wanted)
    walk = _Walk(graph, leads, proofs)
    if objectives.dim is not None:
        start = Place.each(objectives.dim, objectives.samples)
        walk.found.states[0, output.output_nr] = start
    for index in reversed(graph.postorder):
        if not leads[index]:
            continue
        states = walk.found.states
        numbers = range(len(output_metadata(graph.nodes[index])))
        outputs = {n: states[index, n] for n in numbers if (index, n) in states}
        # A node without a state receives zeros: what is above it has no entries.
        node = graph.nodes[index]
        present = {
            n: state
            for n, state in outputs.items()
            if _is_nested(node, n) or _shape(node, n) is not None
        }
        if present:
            walk.visit(index, present)
    return walk.found


def _alike(place: Place, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has as many rows as another one where that has its samples."""
    axis = place.axis
    return axis is not None and axis < len(shape) and shape[axis] == len(place.owners)


def _tensorwise(state: State) -> bool:
    """Whether a state says nothing of a tensor's rows: all of it is one sample's, or no one's."""
    return isinstance(state, Shared) or (isinstance(state, Place) and state.axis is None)


def _step(node: Node, slot: int, output: int, place: Place, below: tuple[int, ...]) -> Step:
    """One edge on the way back."""
    above = tuple(int(size) for size in output_metadata(node)[output].shape)
    return Step(node, slot, output, place.axis or 0, place.owners, above, below)


def _is_nested(node: Node, output: int) -> bool:
    """Whether a result is a nested tensor, which has no shape of numbers."""
    known = output_metadata(node)[output]
    return bool(known.is_nested_tensor or known.is_cpp_nested_tensor)


def _shape(node: Node, output: int) -> tuple[int, ...] | None:
    """Shape of a result if it has entries."""
    shape = tuple(int(size) for size in output_metadata(node)[output].shape)
    return shape if prod(shape) else None
