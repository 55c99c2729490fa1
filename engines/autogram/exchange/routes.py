"""Decides what travels between ranks for every group of parameters: the same on every rank."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engines.autogram.exchange.description import Description, TaskShape, have_one_plan
from engines.autogram.rates import Rates
from engines.autogram.rules import Extent, cut_of

Travels = Literal["gradients", "factors", "ring"]

# Small messages wait for others until they are this large together: each costs its latency.
SHIPMENT_BYTES = 2**20


@dataclass(frozen=True)
class Route:
    """What travels for one group of parameters.

    With b samples of t positions on each of N ranks, k objectives each, M in all:

    * "gradients": rows are built where the samples are, and every rank gets a part of all of them;
      k·b·n·(N - 1)/N entries are sent.
    * "factors": what spans a dimension of the weight is cut along it, and every rank gets a part;
      the other factor goes to all. Entries sent: b·t·(whole·(N - 1) + cut·(N - 1)/N).
    * "ring": factors go to the next ranks, one after the other, as far as half of the ring, since
      the Gramian is symmetric; b·t·(X + D)·(N - 1)/2 entries, on the average of both halves.

    Attributes:
        travels: Which of them.
        axis: For factors the dimension of the weight that is cut, else 0.
        sent_bytes: For every rank what it sends.
        work_bytes: What has to be held to contract it, on the rank that holds most.
        seconds: Predicted for building, sending and contracting.
    """

    travels: Travels
    axis: int
    sent_bytes: tuple[int, ...]
    work_bytes: int
    seconds: float


@dataclass(frozen=True)
class Routes:
    """What travels in a step.

    Attributes:
        rank: Of this process.
        samples: b of every rank.
        losses: k of every rank.
        shapes: Of every group, on one rank.
        routes: For every group.
        positions: For every group, node and rank the rows of a sample.
        shipments: Groups that travel together, in the order in which they are sent.
        rounds: Groups by the passes in which they are done.
        reached: Parameters that any rank's losses reach, by index.
        alike: Whether all graphs contract the same groups. If not, there are none, and every
            parameter is treated as one without a rule.
        general: Parameters without a rule, by index.
        general_bytes: What their rows may take.
        strict: Whether that is a limit set by a caller.
        certain: Whether passes are known to bring all that is expected, on every rank.
    """

    rank: int
    samples: tuple[int, ...]
    losses: tuple[int, ...]
    shapes: tuple[TaskShape, ...]
    routes: tuple[Route, ...]
    positions: tuple[tuple[tuple[int, ...], ...], ...]
    shipments: tuple[tuple[int, ...], ...]
    rounds: tuple[tuple[int, ...], ...]
    reached: tuple[int, ...]
    alike: bool
    general: tuple[int, ...]
    general_bytes: int
    strict: bool
    certain: bool

    @property
    def counts(self) -> tuple[int, ...]:
        """Objectives of every rank."""
        return tuple(b * k for b, k in zip(self.samples, self.losses, strict=True))

    @property
    def workers(self) -> tuple[int, ...]:
        """Ranks that have objectives; the others neither send nor contract."""
        return tuple(rank for rank, count in enumerate(self.counts) if count)

    @property
    def starts(self) -> tuple[int, ...]:
        """Number of every rank's first objective."""
        return tuple(sum(self.counts[:rank]) for rank in range(len(self.counts)))

    @property
    def objectives(self) -> int:
        """Objectives of all ranks together, M."""
        return sum(self.counts)

    def extent(self, number: int, node: int, rank: int) -> Extent:
        """Say how large the factors of one node are on a rank.

        Args:
            number: Of the group.
            node: Which of its nodes.
            rank: The rank.

        Returns:
            The extent.
        """
        known = self.shapes[number].extents[node]
        return replace(known, positions=self.positions[number][node][rank])

    @property
    def sent_bytes(self) -> int:
        """What all ranks together send for their groups."""
        return sum(sum(route.sent_bytes) for route in self.routes)


@dataclass(frozen=True)
class Hop:
    """One step of the ring: to whom a rank sends, and what it contracts.

    Attributes:
        to: The rank that gets this rank's factors.
        of: The rank whose factors arrive.
        sends_half: Whether the first half of the samples is enough for the other one.
        gets_half: Whether that is what arrives.
        own_half: Whether only the second half of this rank's samples meets what arrives.
    """

    to: int
    of: int
    sends_half: bool = False
    gets_half: bool = False
    own_half: bool = False


def hops(workers: Sequence[int], rank: int, turn: int) -> list[Hop]:
    """List the steps of the ring.

    At an even number of ranks those that are farthest apart both get what they need for half of
    their common block, and take turns in who sends all.

    Args:
        workers: Ranks with objectives.
        rank: One of them.
        turn: Even or odd.

    Returns:
        The steps; each pair of ranks meets once.
    """
    count, own = len(workers), list(workers).index(rank)
    found = []
    for step in range(1, count // 2 + 1):
        to, of = workers[(own + step) % count], workers[(own - step) % count]
        if 2 * step < count:
            found.append(Hop(to, of))
            continue
        all_sent = (own < count // 2) == (turn % 2 == 0)
        found.append(
            Hop(to, of, sends_half=not all_sent, gets_half=all_sent, own_half=not all_sent)
        )
    return found


def plan_routes(
    rank: int,
    descriptions: Sequence[Description],
    rates: Rates,
    link: tuple[float, float],
    itemsize: int,
) -> Routes:
    """Choose for every group what travels: what is predicted to be fastest and fits.

    Args:
        rank: Of this process.
        descriptions: Of all ranks, which do not disagree.
        rates: Of one machine, for all.
        link: Seconds of a small message, and bytes in a second.
        itemsize: Bytes of an entry.

    Returns:
        The routes; but for `rank` the same everywhere.
    """
    filled = [one for one in descriptions if one.objectives]
    samples = tuple(one.samples for one in descriptions)
    losses = tuple(one.losses for one in descriptions)
    reached = tuple(sorted({index for one in descriptions for index in one.reached}))
    alike = have_one_plan(descriptions)
    general_bytes = min((one.general_bytes for one in filled), default=0)
    strict = any(one.strict for one in filled)
    if not filled or not alike:
        empty: tuple[tuple[int, ...], ...] = ()
        return Routes(
            rank,
            samples,
            losses,
            (),
            (),
            (),
            empty,
            empty,
            reached,
            alike,
            reached,
            general_bytes,
            strict,
            True,
        )
    first = filled[0]
    workspace = min(one.workspace_bytes for one in filled)
    groups = [
        _Group(
            [one.tasks[number] if one.objectives else None for one in descriptions],
            samples,
            losses,
            rates,
            link,
            itemsize,
        )
        for number in range(len(first.tasks))
    ]
    routes = [_chosen(_offered(group), workspace) for group in groups]
    shipments = []
    waiting: list[int] = []
    for number in first.order:
        waiting.append(number)
        if max(sum(routes[n].sent_bytes[r] for n in waiting) for r in range(len(samples))) >= (
            SHIPMENT_BYTES
        ):
            shipments.append(tuple(waiting))
            waiting = []
    if waiting:
        shipments.append(tuple(waiting))
    for turn, shipment in enumerate(shipments):
        for number in shipment:
            if routes[number].travels == "ring":
                sent_bytes = _sent_round_ring(groups[number], turn)
                routes[number] = replace(routes[number], sent_bytes=sent_bytes)
    return Routes(
        rank=rank,
        samples=samples,
        losses=losses,
        shapes=first.tasks,
        routes=tuple(routes),
        positions=tuple(_positions(group.shapes) for group in groups),
        shipments=tuple(shipments),
        rounds=max((one.rounds for one in filled), key=len),
        reached=reached,
        alike=alike,
        general=first.general,
        general_bytes=general_bytes,
        strict=strict,
        certain=all(one.certain for one in filled),
    )


def _chosen(offered: Sequence[Route], workspace_bytes: int) -> Route:
    """The fastest route that fits, or the smallest."""
    fitting = [route for route in offered if route.work_bytes <= workspace_bytes]
    if fitting:
        return min(fitting, key=lambda route: route.seconds)
    return min(offered, key=lambda route: route.work_bytes)


def _positions(shapes: Sequence[TaskShape | None]) -> tuple[tuple[int, ...], ...]:
    """For every node the rows of a sample on every rank, 0 where there are no samples."""
    # Where ranks have other numbers of nodes, as of a layer called once a sample, rows travel.
    nodes = min(len(shape.extents) for shape in shapes if shape is not None)
    return tuple(
        tuple(0 if shape is None else shape.extents[node].positions for shape in shapes)
        for node in range(nodes)
    )


@dataclass(frozen=True, eq=False)
class _Group:
    """One group of parameters on all ranks, and what its routes are priced with."""

    shapes: Sequence[TaskShape | None]
    samples: Sequence[int]
    losses: Sequence[int]
    rates: Rates
    link: tuple[float, float]
    itemsize: int

    @property
    def present(self) -> list[tuple[int, TaskShape]]:
        """Ranks that have samples, with their shapes."""
        return [(rank, shape) for rank, shape in enumerate(self.shapes) if shape is not None]

    @property
    def first(self) -> TaskShape:
        """The shape that stands for all."""
        return self.present[0][1]

    @property
    def counts(self) -> list[int]:
        """Objectives of every rank."""
        return [b * k for b, k in zip(self.samples, self.losses, strict=True)]

    def entries(self, rank: int, extent: Extent) -> tuple[int, int]:
        """Entries of a node's inputs and output gradients on a rank."""
        return _entries(extent, self.samples[rank], self.losses[rank])

    def route(
        self,
        travels: Travels,
        axis: int,
        sent: Sequence[int],
        work_bytes: int,
        multiply_adds: int,
        moved_entries: int,
        calls: int,
    ) -> Route:
        """Put a price on a route."""
        seconds = self.rates.seconds(multiply_adds, self.itemsize * moved_entries, calls)
        return Route(travels, axis, tuple(sent), work_bytes, seconds + max(sent) / self.link[1])


def _offered(group: _Group) -> list[Route]:
    """Price what could travel for one group."""
    first, known = group.first, [shape for _, shape in group.present]
    rows = {(tuple((e.inputs, e.outputs) for e in s.extents), s.axes, s.spans) for s in known}
    offered = [_gradients(group)]
    if len(rows) > 1 or not first.extents:
        return offered  # other uses of a weight on some ranks, or nothing but small parameters
    offered += [_factors(group, place) for place in range(len(first.axes))]
    if all(shape.crosses for shape in known):
        offered.append(_ring(group))
    return offered


def _gradients(group: _Group) -> Route:
    """Rows of the own samples, cut along their entries."""
    first, present, counts = group.first, group.present, group.counts
    n, count, m, most = first.entries, len(present), sum(counts), max(counts)
    sent, products = [0] * len(counts), 0
    for place, (rank, shape) in enumerate(present):
        piece = cut_of(n, place, count)
        sent[rank] = group.itemsize * counts[rank] * (n - (piece.stop - piece.start))
        found = sum(extent.products for extent in shape.extents)
        products = max(products, counts[rank] * found * n)
    held = group.itemsize * ((0 if first.kept else most * n) + -(-m * n // count))
    work = (0 if first.kept else products) + m * m * n // count
    return group.route("gradients", 0, sent, held, work, 2 * most * n + 2 * m * n // count, 8)


def _factors(group: _Group, place: int) -> Route:
    """One factor to all, the other cut along a dimension of the weight."""
    first, present, itemsize = group.first, group.present, group.itemsize
    axis, count, m = first.axes[place], len(present), sum(group.counts)
    size = first.weight[axis]
    sent, gathered = [0] * len(group.shapes), 0
    for number, (rank, shape) in enumerate(present):
        piece = cut_of(size, number, count)
        rest = size - (piece.stop - piece.start)
        for spans, extent in zip(shape.spans[place], shape.extents, strict=True):
            for cut, entries in zip(spans, group.entries(rank, extent), strict=True):
                sent[rank] += itemsize * (entries // size * rest if cut else entries * (count - 1))
                gathered += entries // count if cut else entries
    products, entries = _work(group)
    work = (products + m * m * entries) // count
    moved = 2 * m * entries // count + 4 * gathered
    held = 2 * itemsize * gathered
    return group.route("factors", axis, sent, held, work, moved, 12 + 4 * count)


def _work(group: _Group) -> tuple[int, int]:
    """Multiply-adds that build all gradients, and their entries that are not zero."""
    first, products, looked_up = group.first, 0, 0
    for rank, shape in group.present:
        for extent in shape.extents:
            products += group.counts[rank] * extent.products * first.entries
            if not extent.products:
                looked_up += group.samples[rank] * extent.positions
    if products or not first.weight:
        return products, first.entries
    return 0, min(looked_up, first.weight[0]) * first.weight[1]


def _ring(group: _Group) -> Route:
    """All factors to the next ranks, as far as half of the ring."""
    # On the average of even and odd shipments; what it is in the end their order tells.
    turns = [_sent_round_ring(group, turn) for turn in (0, 1)]
    sent = [(even + odd) // 2 for even, odd in zip(*turns, strict=True)]
    weight, count = group.first.weight, len(group.present)
    largest, most = 0, 0
    for rank, shape in group.present:
        largest = max(largest, ring_entries(shape, group.samples[rank], group.losses[rank]))
        positions = sum(extent.products for extent in shape.extents)
        most = max(most, group.counts[rank] * positions)
    total = most * count
    work = most * total * (weight[0] + math.prod(weight[1:])) // 2
    held = 2 * group.itemsize * largest
    return group.route("ring", 0, sent, held, work, 3 * most * total, 12 * count)


def _sent_round_ring(group: _Group, turn: int) -> tuple[int, ...]:
    """Bytes that every rank sends in an even or odd shipment."""
    workers, sent = [rank for rank, _ in group.present], [0] * len(group.shapes)
    for rank, shape in group.present:
        for hop in hops(workers, rank, turn):
            some = group.samples[rank] // 2 if hop.sends_half else group.samples[rank]
            sent[rank] += group.itemsize * ring_entries(shape, some, group.losses[rank])
    return tuple(sent)


def ring_entries(shape: TaskShape, samples: int, losses: int) -> int:
    """How many entries the factors of some samples have.

    Args:
        shape: Of the group.
        samples: b.
        losses: k.

    Returns:
        Entries of inputs and output gradients of all nodes.
    """
    return sum(sum(_entries(extent, samples, losses)) for extent in shape.extents)


def _entries(extent: Extent, samples: int, losses: int) -> tuple[int, int]:
    """Entries of inputs and of output gradients."""
    rows = samples * extent.positions
    return rows * math.prod(extent.inputs), losses * rows * math.prod(extent.outputs)
