"""How ranks agree on a step before anything of it is sent, and hear of one that fails."""

import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engines.autogram.exchange.description import Description, differences
from engines.autogram.exchange.members import Members
from engines.autogram.exchange.routes import Routes, plan_routes
from engines.autogram.rates import Rates
from engines.autogram.schedule import Schedule
from engines.errors import RankFailedError, RanksDisagreeError

# Of what was planned for earlier steps; a training loop has one or two.
_MOST_KEPT = 64
_NUMBERS = 5
# What torch's generator of the CPU is set to and read from, as int64.
_STATE = -(-torch.get_rng_state().numel() // 8)


@dataclass(frozen=True)
class Wishes:
    """What ranks need not agree on beforehand, since one is enough.

    Attributes:
        split: Whether the Gramian is kept apart by modules.
        told: Whether somebody is told of the losses of all ranks.
    """

    split: bool
    told: bool


@dataclass(eq=False)
class Agreements:
    """What the ranks of one engine agreed on at earlier calls.

    Attributes:
        routes: By what every rank described.
        past: A number for the descriptions of all of them, in order.
        described: Descriptions of this rank, with the schedules that they are of, by call,
            schedule, parameters and shape of the losses.
    """

    routes: dict[tuple[int, ...], Routes] = field(default_factory=dict)
    past: int = 0
    described: dict[Hashable, tuple[Schedule, Description]] = field(default_factory=dict)

    def add(self, key: tuple[int, ...], routes: Routes) -> None:
        """Keep what was planned.

        Args:
            key: What every rank described.
            routes: The plan.
        """
        if len(self.routes) >= _MOST_KEPT:
            self.forget()
        self.routes[key] = routes
        self.past = zlib.crc32(repr(key).encode(), self.past)

    def forget(self) -> None:
        """Plan anew from now on."""
        self.routes.clear()
        self.past = 0

    def description(
        self, schedule: Schedule | None, key: Hashable, make: Callable[[], Description]
    ) -> Description:
        """Describe a part, or remember how it was described.

        Args:
            schedule: What is done; None where there is nothing to remember.
            key: All else that a description depends on.
            make: Makes it.

        Returns:
            The description.
        """
        if schedule is None:
            return make()
        whole = (id(schedule), key)
        known = self.described.get(whole)
        # In a copy of an engine the numbers are those of the schedules that were copied.
        if known is None or known[0] is not schedule:
            if len(self.described) >= _MOST_KEPT:
                self.described.clear()
            known = self.described[whole] = (schedule, make())
        return known[1]


@dataclass(frozen=True, eq=False)
class Opening:
    """What the ranks agreed on at the beginning of a call.

    Attributes:
        wishes: Of any of them.
        routes: What travels; None if wishes are new, and a rank has to read its graph again.
        state: Random state of rank 0.
        sent_bytes: What all ranks together sent for it.
    """

    wishes: Wishes
    routes: Routes | None
    state: Tensor
    sent_bytes: int


def open_call(
    members: Members,
    agreements: Agreements,
    wishes: Wishes,
    description: Description | Exception,
    rates: Rates | None,
    like: Tensor,
) -> Opening:
    """Tell the others what this rank does, and plan what travels.

    Args:
        members: The group of processes.
        agreements: What is known from earlier calls of this engine.
        wishes: Of this rank.
        description: Of its part, or why there is none.
        rates: Of its machine; None if it has no objectives.
        like: A tensor in the dtype and on the device of the sums.

    Returns:
        The agreement.

    Raises:
        RankFailedError: Another rank is gone, or could not begin.
        RanksDisagreeError: Models or losses differ.
        Exception: That of this rank, where there is one; the others have heard of it.
    """
    failed = isinstance(description, Exception)
    if isinstance(description, Exception):
        note_failure(members, description)
    digest = 0 if isinstance(description, Exception) else description.digest
    numbers = [failed, wishes.split, wishes.told, digest, agreements.past]
    state = _state() if members.rank == 0 else torch.empty(0, dtype=torch.int64)
    mine = torch.cat([torch.tensor(numbers, dtype=torch.int64), state])
    sizes = [_NUMBERS + (_STATE if rank == 0 else 0) for rank in range(members.size)]
    told = members.all_told(mine, sizes)
    sent_bytes = 8 * sum(sizes) * (members.size - 1)
    table = torch.stack([one[:_NUMBERS] for one in told]).tolist()
    if isinstance(description, Exception):
        raise description
    refuse_failed(members, [bool(row[0]) for row in table])
    together = Wishes(any(row[1] for row in table), any(row[2] for row in table))
    state = told[0][_NUMBERS:]
    if any(bool(row[1]) != together.split for row in table):
        return Opening(together, None, state, sent_bytes)
    # A copy of an engine on one rank knows of other steps than the engines of the others.
    if len({row[4] for row in table}) > 1:
        agreements.forget()
    key = tuple(row[3] for row in table)
    routes = agreements.routes.get(key)
    if routes is None:
        routes = _plan(members, description, rates, like)
        agreements.add(key, routes)
    return Opening(together, routes, state, sent_bytes)


def _plan(members: Members, description: Description, rates: Rates | None, like: Tensor) -> Routes:
    """Hear all descriptions, compare them, and choose what travels."""
    link = members.link(like)
    heard = members.gathered((description, rates, link))
    descriptions = [one[0] for one in heard]
    found = differences(descriptions)
    if found:
        raise RanksDisagreeError(
            f"got ranks that do not take the same step: {'; '.join(found)}; expected the same "
            "modules, losses and call on every rank, samples and positions apart; nothing was "
            "sent. Build and call everything alike on every rank."
        )
    known = [(one[1], one[2]) for one in heard if one[1] is not None]
    if not known:
        known = [(Rates(1.0, 1.0, 1.0), (1.0, 1.0))]  # nobody has a sample: nothing is priced
    return plan_routes(members.rank, descriptions, *known[0], like.element_size())


def refuse_failed(members: Members, failed: Sequence[bool]) -> None:
    """Raise if another rank could not go on.

    Args:
        members: The group of processes.
        failed: For every rank whether it has failed.

    Raises:
        RankFailedError: One has; with what it said.
    """
    ranks = [rank for rank, bad in enumerate(failed) if bad]
    if not ranks:
        return
    said = "; ".join(f"rank {rank}: {members.read_note(rank)}" for rank in ranks)
    raise RankFailedError(
        f"got a failure on another process, expected every rank to finish the step; {said}. No "
        ".grad was touched on any rank."
    )


def note_failure(members: Members, error: Exception) -> None:
    """Leave a note for the others about what ends this rank's step.

    Args:
        members: The group of processes.
        error: What happened.
    """
    text = str(error).strip().splitlines() or [""]
    members.note(f"{type(error).__name__}: {text[0][:300].rstrip('.')}")


def agree_on_weights(members: Members, weights: Tensor | None, error: Exception | None) -> int:
    """Make sure that every rank made the same weights, and none has failed.

    Args:
        members: The group of processes.
        weights: Of this rank, None if it failed.
        error: Why.

    Returns:
        Bytes that all ranks together sent.

    Raises:
        RankFailedError: Another rank failed.
        RanksDisagreeError: Weights differ.
        Exception: That of this rank.
    """
    if error is not None:
        note_failure(members, error)
    number = 0
    if weights is not None:
        # A copy: a view as bytes wants a dimension, and strides that one entry need not have.
        flat = weights.detach().cpu().reshape(-1).clone(memory_format=torch.contiguous_format)
        number = zlib.crc32(flat.view(torch.uint8).numpy().tobytes())
    mine = torch.tensor([error is not None, number], dtype=torch.int64)
    told = members.all_told(mine, [2] * members.size)
    if error is not None:
        raise error
    refuse_failed(members, [bool(one[0]) for one in told])
    others = [rank for rank, one in enumerate(told) if int(one[1]) != int(told[0][1])]
    if others:
        ranks = f"rank{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}"
        raise RanksDisagreeError(
            f"got other weights on {ranks} than on rank 0 for the same Gramian, expected the same "
            "everywhere; no .grad was touched. Give random methods and methods with a memory the "
            "same generator, settings and past on every rank."
        )
    return 16 * members.size * (members.size - 1)


def _state() -> Tensor:
    """The state of torch's generator of the CPU as numbers."""
    raw = torch.get_rng_state()
    padded = torch.zeros(8 * _STATE, dtype=torch.uint8)
    padded[: len(raw)] = raw
    return padded.view(torch.int64)


def with_state(members: Members, state: Tensor, run: Callable[[], Tensor]) -> Tensor:
    """Call a weighting with the random numbers that rank 0 would draw.

    Args:
        members: The group of processes.
        state: Random state of rank 0, as it was told.
        run: Calls it.

    Returns:
        What it returned. Rank 0's own state has moved on; that of the others is as before.
    """
    if members.rank == 0:
        return run()
    own = torch.get_rng_state()
    # A copy: torch reads the memory from its beginning, whatever part of it a tensor is.
    torch.set_rng_state(state.view(torch.uint8)[: len(own)].clone())
    try:
        return run()
    finally:
        torch.set_rng_state(own)
