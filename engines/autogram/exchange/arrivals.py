"""Contracts what arrives from other ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.autogram.accumulation import Present, add_cross_terms
from engines.autogram.exchange.blocks import Blocks
from engines.autogram.exchange.frame import Frame, start_and_size
from engines.autogram.exchange.loads import Load, by_row, from_numbers
from engines.autogram.exchange.members import Letters
from engines.autogram.exchange.routes import Hop
from engines.autogram.rates import Rates
from engines.autogram.rules import (
    Counts,
    Factors,
    Part,
    Rule,
    Workspace,
    add_between,
    add_outer,
    cut_of,
)
from engines.autogram.schedule import predicted


@dataclass(eq=False)
class Sent:
    """A shipment on its way.

    Attributes:
        turn: Its number.
        loads: What it has of every group, by number.
        letters: What has to be waited for.
        rows: Parts of rows by objective of all ranks, shape [M, w].
        whole: Of every other rank the factors that go to all, in a row.
        cut: Of every other rank the parts of the others.
        ring: For every hop what arrives.
    """

    turn: int
    loads: dict[int, Load]
    letters: list[Letters]
    rows: Tensor
    whole: dict[int, Tensor]
    cut: dict[int, Tensor]
    ring: dict[int, Tensor]


class Arrivals:
    """Adds to a Gramian what shipments bring.

    Args:
        frame: Shapes and places.
        workspace: Where blocks are.
        rates: Of this machine, for contractions that are its own affair.
    """

    def __init__(self, frame: Frame, workspace: Workspace, rates: Rates) -> None:
        self._frame = frame
        self._workspace = workspace
        self._rates = rates

    def add_rows(self, sent: Sent) -> None:
        """Add the inner products of this rank's part of all rows.

        Args:
            sent: A shipment that has arrived.
        """
        start = 0
        spans: dict[int, list[Tensor]] = {}
        blocks: dict[int, Blocks] = {}
        frame = self._frame
        for number in frame.of(sent.loads, "gradients"):
            piece = cut_of(frame.routes.shapes[number].entries, frame.place, frame.count)
            stop = start + piece.stop - piece.start
            load = sent.loads[number]
            if load.blocks is not None:
                blocks[id(load.blocks)] = load.blocks
                spans.setdefault(id(load.blocks), []).append(sent.rows[:, start:stop])
            start = stop
        for key, columns in spans.items():
            found = sent.rows if len(spans) == 1 else torch.cat(columns, 1)
            add_outer(blocks[key].by_rank, found)

    def add_factors(self, sent: Sent) -> None:
        """Put the samples of all ranks together, and contract this rank's shares of weights.

        Args:
            sent: A shipment that has arrived.
        """
        frame, routes = self._frame, self._frame.routes
        used = {rank: [0, 0] for rank in sent.whole}
        for number in frame.of(sent.loads, "factors"):
            load = sent.loads[number]
            arrived: dict[int, list[Tensor]] = {}
            for rank in sent.whole:
                arrived[rank] = []
                for shape, spans, _ in frame.shapes(number, rank):
                    start = used[rank][spans]
                    flat = (sent.cut if spans else sent.whole)[rank][start : start + shape.numel()]
                    used[rank][spans] += shape.numel()
                    arrived[rank].append(
                        from_numbers(flat, len(shape) == 2, frame.like).view(shape)
                    )
            if load.task is None or load.blocks is None:
                continue
            arrived[routes.rank] = [
                side.narrow(dim, *start_and_size(side.shape[dim], frame.place, frame.count))
                if spans
                else side
                for side, spans, dim in frame.sides(number, load)
            ]
            together = [
                _joined([arrived[rank][side] for rank in routes.workers], samples_dim=side % 2)
                for side in range(len(arrived[routes.rank]))
            ]
            self._add_share(number, load, load.blocks, together)

    def _add_share(
        self, number: int, load: Load, blocks: Blocks, together: Sequence[Tensor]
    ) -> None:
        """Contract this rank's share of one weight."""
        axis, used = self._frame.routes.routes[number].axis, 0
        narrowed = []
        for share in load.shares:
            factors = []
            for known in share.factors:
                inputs, outputs = together[2 * used], together[2 * used + 1]
                factors.append(Factors(known.node, known.axis, inputs, outputs))
                used += 1
            rule = share.share.rule
            calls, weight = rule.shared(
                share.parts, factors, axis, self._frame.place, self._frame.count
            )
            if weight.shape.numel() == 0:
                calls = calls[1:]
            for parts, chosen in calls:
                name = self._contraction(rule, parts, chosen)
                rule.accumulate(blocks.together, parts, chosen, name, self._workspace)
            if weight.shape.numel():
                narrowed.append(Present(share.share, *_narrow_part(calls)))
        if len(narrowed) > 1:
            add_cross_terms(blocks.together, narrowed)

    def _contraction(self, rule: Rule, parts: Sequence[Part], factors: Sequence[Factors]) -> str:
        """The quickest way to contract a share of a weight: entries of a product are not enough."""
        losses, samples = factors[0].outputs.shape[:2]
        positions = tuple(f.outputs.shape[2] for f in factors)
        counts = Counts(losses, samples, self._frame.like.element_size(), positions)
        options = [
            option
            for option in rule.options([f.node for f in factors], parts, counts)
            if not option.kept_rows and option.contraction != "input-output"
        ]
        fitting = [o for o in options if o.workspace_bytes <= self._workspace.budget_bytes]
        if not options:
            return "rows"
        chosen = min(fitting or options, key=lambda o: predicted(o, self._rates, fused=False))
        return chosen.contraction

    def add_own_block(self, load: Load) -> None:
        """Add the inner products within this rank's own samples.

        Args:
            load: What there is of a group that goes round the ring.
        """
        if load.blocks is None or not load.shares:
            return
        (share,) = load.shares
        m = share.factors[0].objectives
        block = self._frame.like.new_zeros(m, m)
        if share.share.option.kept_rows:
            for place in range(len(share.parts)):
                add_outer(block, share.rows(place))
        else:
            share.accumulate(block, self._workspace)
        load.blocks.add_block(block, self._frame.routes.rank, slice(None), slice(None))

    def add_ring(self, sent: Sent, hop: Hop, flat: Tensor) -> None:
        """Add the inner products of this rank's samples and those of another.

        Args:
            sent: The shipment.
            hop: A step of the ring.
            flat: What arrived.
        """
        routes, start = self._frame.routes, 0
        b, c = routes.samples[routes.rank], routes.samples[hop.of]
        own = slice(b // 2, b) if hop.own_half else slice(0, b)
        theirs = slice(0, c // 2 if hop.gets_half else c)
        for group in self._frame.of(sent.loads, "ring"):
            load, others = sent.loads[group], []
            for node, pair in enumerate(self._frame.ring_shapes(group, hop)):
                sides = []
                for shape in pair:
                    sides.append(flat[start : start + shape.numel()].view(shape))
                    start += shape.numel()
                if load.shares:
                    known = load.factors[node]
                    others.append(Factors(known.node, known.axis, *sides))
            if load.blocks is None or not load.shares or own.start == own.stop or not theirs.stop:
                continue
            (share,) = load.shares
            chosen = [
                by_row(f, routes.extent(group, node, routes.rank)).among(own)
                for node, f in enumerate(share.factors)
            ]
            block = self._frame.like.new_zeros(chosen[0].objectives, others[0].objectives)
            add_between(block, share.share.rule, share.parts, chosen, others, self._workspace)
            load.blocks.add_block(block, hop.of, own, theirs)


def _narrow_part(
    calls: Sequence[tuple[Sequence[Part], Sequence[Factors]]],
) -> tuple[tuple[Part, ...], list[Factors]]:
    """Parts and factors of the first call, which has the weight."""
    parts, factors = calls[0]
    return tuple(parts), list(factors)


def _joined(sides: Sequence[Tensor], samples_dim: int) -> Tensor:
    """Put samples of several ranks together; where positions or losses are fewer, zeros follow.

    Args:
        sides: Inputs, shape [b, t, …], or output gradients, shape [k, b, t, …].
        samples_dim: 0 or 1: the dimension of the samples.

    Returns:
        The same with all samples.
    """
    ahead = samples_dim + 2
    widest = [max(side.shape[dim] for side in sides) for dim in range(ahead)]
    padded = []
    for side in sides:
        sizes = [*widest, *side.shape[ahead:]]
        sizes[samples_dim] = side.shape[samples_dim]
        if tuple(sizes) != tuple(side.shape):
            # Zeros in D are enough: what they meet does not count. Index 0 is any row of a table.
            filled = side.new_zeros(sizes)
            filled[tuple(slice(size) for size in side.shape[:ahead])] = side
            side = filled
        padded.append(side)
    return torch.cat(padded, samples_dim)
