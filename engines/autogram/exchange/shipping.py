"""Sends what groups of parameters give, several together, and contracts what arrives meanwhile."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from engines.autogram.exchange.arrivals import Arrivals, Sent
from engines.autogram.exchange.frame import Frame, start_and_size
from engines.autogram.exchange.loads import Load, as_numbers
from engines.autogram.exchange.members import Members
from engines.autogram.exchange.routes import Hop, hops
from engines.autogram.rates import Rates
from engines.autogram.rules import Workspace, cut_of


class Shipping:
    """One step's exchange, on a rank that has objectives.

    Groups come as autograd brings them; shipments leave in the order on which the ranks agreed,
    each as soon as all its groups are there. What arrives is contracted after the next shipment
    has left, so that sending, autograd and contractions overlap.

    Args:
        members: The group of processes.
        frame: Shapes and places.
        workspace: Where blocks are.
        rates: Of this machine, for contractions that are its own affair.
    """

    def __init__(self, members: Members, frame: Frame, workspace: Workspace, rates: Rates) -> None:
        self._members = members
        self._frame = frame
        self._arrivals = Arrivals(frame, workspace, rates)
        self._waiting: dict[int, Load] = {}
        self._next = 0
        self._sent: Sent | None = None
        self.error: Exception | None = None

    def take(self, number: int, load: Load) -> None:
        """Take what one group gives, and send what can be sent.

        Args:
            number: Of the group.
            load: What there is.

        Raises:
            RankFailedError: A rank is gone.
        """
        self._waiting[number] = load
        shipments = self._frame.routes.shipments
        while self._next < len(shipments) and all(
            number in self._waiting for number in shipments[self._next]
        ):
            chosen = {number: self._waiting.pop(number) for number in shipments[self._next]}
            sent = self._send(self._next, chosen)
            self._next += 1
            before, self._sent = self._sent, sent
            self._contract(before)

    def finish(self) -> None:
        """Send zeros for groups that never came, and contract what is left.

        Raises:
            RankFailedError: A rank is gone.
        """
        for shipment in self._frame.routes.shipments[self._next :]:
            for number in shipment:
                if number not in self._waiting and self._next < len(self._frame.routes.shipments):
                    self.take(number, Load(None, None))
        before, self._sent = self._sent, None
        self._contract(before)

    def _send(self, turn: int, loads: dict[int, Load]) -> Sent:
        """Begin to send a shipment, and to receive the same of the others."""
        outgoing: dict[int, list[Tensor]] = {rank: [] for _, rank in self._frame.peers}
        incoming: dict[int, list[Tensor]] = {rank: [] for _, rank in self._frame.peers}
        rows = self._send_rows(loads, outgoing, incoming)
        whole, cut = self._send_factors(loads, outgoing, incoming)
        letters = [self._members.swap(outgoing, incoming)]
        sent = Sent(turn, loads, letters, rows, whole, cut, {})
        for number, hop in enumerate(self._hops(turn)[:1]):
            self._send_on(sent, number, hop)
        return sent

    def _send_rows(
        self,
        loads: dict[int, Load],
        outgoing: dict[int, list[Tensor]],
        incoming: dict[int, list[Tensor]],
    ) -> Tensor:
        """Cut rows by their entries, a part for every rank."""
        routes, numbers = self._frame.routes, self._frame.of(loads, "gradients")
        m = routes.counts[routes.rank]
        sizes = [routes.shapes[number].entries for number in numbers]

        def part(place: int) -> Tensor:
            """What the rank at a place gets of this rank's rows."""
            pieces = []
            for number, size in zip(numbers, sizes, strict=True):
                piece, own = cut_of(size, place, self._frame.count), loads[number].rows
                if own is None:
                    own = self._frame.like.new_zeros(()).expand(m, size)
                pieces.append(own[:, piece])
            return torch.cat(pieces, 1) if pieces else self._frame.like.new_empty(m, 0)

        kept = part(self._frame.place)
        width = kept.shape[1]
        rows = self._frame.like.new_empty(routes.objectives, width)
        for place, rank in self._frame.peers:
            found = part(place)
            if found.numel():
                outgoing[rank].append(found)
            if width:
                start = routes.starts[rank]
                incoming[rank].append(rows[start : start + routes.counts[rank]])
        start = routes.starts[routes.rank]
        rows[start : start + m] = kept
        return rows

    def _send_factors(
        self,
        loads: dict[int, Load],
        outgoing: dict[int, list[Tensor]],
        incoming: dict[int, list[Tensor]],
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Send factors to all, or cut along the dimension that they span."""
        numbers = self._frame.of(loads, "factors")
        whole: dict[int, Tensor] = {}
        cut: dict[int, Tensor] = {}
        if not numbers:
            return whole, cut
        sides = [side for n in numbers for side in self._frame.sides(n, loads[n])]
        common = [as_numbers(side, self._frame.like) for side, spans, _ in sides if not spans]
        for_all = torch.cat(common) if common else self._frame.like.new_empty(0)
        for place, rank in self._frame.peers:
            pieces = [
                side.narrow(dim, *start_and_size(side.shape[dim], place, self._frame.count))
                for side, spans, dim in sides
                if spans
            ]
            own = torch.cat([piece.reshape(-1) for piece in pieces]) if pieces else for_all[:0]
            outgoing[rank] += [each for each in (for_all, own) if each.numel()]
            sizes = [0, 0]
            for number in numbers:
                for shape, spans, _ in self._frame.shapes(number, rank):
                    sizes[spans] += shape.numel()
            whole[rank], cut[rank] = (self._frame.like.new_empty(size) for size in sizes)
            incoming[rank] += [each for each in (whole[rank], cut[rank]) if each.numel()]
        return whole, cut

    def _hops(self, turn: int) -> list[Hop]:
        """The steps of the ring, none if nothing goes round it."""
        shipment = self._frame.routes.shipments[turn]
        if all(self._frame.routes.routes[number].travels != "ring" for number in shipment):
            return []
        return hops(self._frame.routes.workers, self._frame.routes.rank, turn)

    def _send_on(self, sent: Sent, number: int, hop: Hop) -> None:
        """Begin one step of the ring."""
        routes = self._frame.routes
        half = routes.samples[routes.rank] // 2 if hop.sends_half else None
        pieces = []
        for group in self._frame.of(sent.loads, "ring"):
            for node in range(len(routes.shapes[group].extents)):
                inputs, outputs = self._frame.factors(group, node, sent.loads[group])
                pieces += [inputs[:half].reshape(-1), outputs[:, :half].reshape(-1)]
        flat = torch.cat(pieces)
        size = sum(
            shape.numel()
            for group in self._frame.of(sent.loads, "ring")
            for pair in self._frame.ring_shapes(group, hop)
            for shape in pair
        )
        sent.ring[number] = self._frame.like.new_empty(size)
        sent.letters.append(
            self._members.swap(
                {hop.to: [flat]} if flat.numel() else {},
                {hop.of: [sent.ring[number]]} if size else {},
            )
        )

    def _contract(self, sent: Sent | None) -> None:
        """Wait for a shipment, and add what it brings."""
        if sent is None:
            return
        add = self._arrivals
        for number in self._frame.of(sent.loads, "ring"):
            self._unless_failed(partial(add.add_own_block, sent.loads[number]))
        sent.letters.pop(0).wait()
        self._unless_failed(partial(add.add_rows, sent))
        self._unless_failed(partial(add.add_factors, sent))
        steps = self._hops(sent.turn)
        for number, hop in enumerate(steps):
            if number + 1 < len(steps):
                self._send_on(sent, number + 1, steps[number + 1])
            sent.letters.pop(0).wait()
            self._unless_failed(partial(add.add_ring, sent, hop, sent.ring.pop(number)))

    def _unless_failed(self, run: Callable[[], None]) -> None:
        """Contract something; once that has failed, only let the others finish."""
        if self.error is None:
            try:
                run()
            except Exception as error:
                self.error = error
