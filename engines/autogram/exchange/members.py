"""The processes that take a step together: how they reach each other, and how a lost one shows."""

import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from engines.autogram.exchange.notes import Notes
from engines.autogram.exchange.wire import LARGEST_TAG, Wire, timeout_of
from engines.errors import RankFailedError

# Under deterministic algorithms nothing is measured: about what a loopback device does.
_LATENCY_S = 2e-4
_BYTES_PER_S = 1e9
_PROBE_ENTRIES = 2**18
_PROBE_TURNS = 5
# Messages are told apart by step and by number in it: ranks without objectives skip some of them.
_TAGS_OF_A_STEP, _TAGS_OF_A_SWAP = 2**14, 4
_Result = TypeVar("_Result")


class Members:
    """One group of processes, as one of them sees it.

    Messages about a step have a wire of their own, so that a rank that left out a step and is in
    another collective call of the script is missed, not misunderstood. Tensors on a CPU take it
    too, those of an accelerator the script's group.

    Whatever fails ends in an error that names a rank; `Notes` tells which. After that, the group is
    of no use.

    Args:
        group: Of at least two ranks, this process among them.

    Attributes:
        rank: Of this process.
        size: N, how many ranks there are.
    """

    def __init__(self, group: "dist.ProcessGroup") -> None:
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self._group = group
        self._timeout = timeout_of(group)
        self._wire: Wire | None = None
        self._store = dist.PrefixStore("jdviz", group.get_group_store())
        self._notes = Notes(self._store, self.rank, self.size)
        self._call = 0
        self._step = 0
        self._swaps = 0
        self._waits_since_s = 0.0
        self._lost = ""
        self._link: tuple[float, float] | None = None

    @property
    def others(self) -> list[int]:
        """The other ranks, the next one first."""
        return [(self.rank + step) % self.size for step in range(1, self.size)]

    def is_of(self, group: "dist.ProcessGroup") -> bool:
        """Whether it stands for this group."""
        return self._group is group

    @property
    def exists(self) -> bool:
        """Whether the group was not destroyed."""
        try:
            return len(dist.get_process_group_ranks(self._group)) == self.size
        except (KeyError, ValueError):
            return False

    def has_same_ranks_as(self, group: "dist.ProcessGroup") -> bool:
        """Whether another group has the same ranks."""
        return dist.get_process_group_ranks(group) == dist.get_process_group_ranks(self._group)

    def begin_call(self) -> None:
        """Begin a call that all ranks take part in.

        Raises:
            RankFailedError: A rank is gone.
        """
        self._connect()
        self._call += 1

    def note(self, text: str) -> None:
        """Tell the other ranks why this one fails in the current call.

        Args:
            text: What happened.
        """
        self._notes.leave(self._call, text)

    def read_note(self, rank: int) -> str:
        """Read what a rank noted in the current call.

        Args:
            rank: The rank.

        Returns:
            The text, empty if there is none.
        """
        return self._notes.read(self._call, rank)

    def all_told(self, mine: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Tell every rank something, and hear the same of each; it begins or goes on with a step.

        Args:
            mine: What the others get, int64 on the CPU.
            sizes: How many numbers each rank tells.

        Returns:
            What every rank told, this one too.

        Raises:
            RankFailedError: A rank is gone, or did not arrive in time.
        """
        self._step, self._swaps = self._step + 1, 0
        found = [
            mine if rank == self.rank else mine.new_empty(size) for rank, size in enumerate(sizes)
        ]
        self.swap(
            {rank: [mine] for rank in self.others}, {rank: [found[rank]] for rank in self.others}
        ).wait()
        return found

    def swap(
        self, outgoing: Mapping[int, Sequence[Tensor]], incoming: Mapping[int, Sequence[Tensor]]
    ) -> "Letters":
        """Begin to send tensors and to receive others.

        Every rank calls this in the same order. Tensors are contiguous, none of them empty, and
        not written to before the letters have arrived.

        Args:
            outgoing: For some ranks what they get.
            incoming: For some ranks where what they send is put.

        Returns:
            What has to be waited for.

        Raises:
            RankFailedError: A rank is gone.
        """
        self._begin_to_wait()
        sends, receives = [], []
        for peer, tensors in incoming.items():
            receives += [(peer, t, number) for number, t in enumerate(tensors)]
        for peer, tensors in outgoing.items():
            sends += [(peer, t, number) for number, t in enumerate(tensors)]
        first = (self._step * _TAGS_OF_A_STEP + self._swaps * _TAGS_OF_A_SWAP) % LARGEST_TAG
        self._swaps += 1
        device = next((t.device for _, t, _ in (*receives, *sends)), torch.device("cpu"))
        staged = self._is_staged(device)
        inboxes = [(peer, _on_wire(t, staged, copy=False), first + n) for peer, t, n in receives]
        outboxes = [(peer, _on_wire(t, staged, copy=True), first + n) for peer, t, n in sends]
        peers = [peer for peer, *_ in (*inboxes, *outboxes)]
        if not peers:
            return Letters(self, [], [])
        works = self._watched(peers[0], lambda: self._posted(inboxes, outboxes))
        named = (
            list(zip(peers, works, strict=True))
            if len(works) == len(peers)
            else [(peers[0], work) for work in works]
        )
        copies = [
            (t, box) for (_, t, _), (_, box, _) in zip(receives, inboxes, strict=True) if staged
        ]
        kept = [t for _, t, _ in (*inboxes, *outboxes)]
        return Letters(self, named, copies, kept)

    def _posted(
        self,
        inboxes: Sequence[tuple[int, Tensor, int]],
        outboxes: Sequence[tuple[int, Tensor, int]],
    ) -> list[Any]:
        """Begin to receive and to send."""
        if self._wire is not None and (inboxes or outboxes)[0][1].device.type == "cpu":
            return self._wire.post(inboxes, outboxes)
        return dist.batch_isend_irecv(
            [
                dist.P2POp(kind, tensor, group=self._group, tag=tag, group_peer=peer)
                for kind, boxes in ((dist.irecv, inboxes), (dist.isend, outboxes))
                for peer, tensor, tag in boxes
            ]
        )

    def sum(self, tensor: Tensor) -> "Sum":
        """Begin to add up a tensor over all ranks, in place, to the same bits on each.

        Both backends compute every part of the sum once and hand it on.

        Args:
            tensor: Contiguous, of the same shape on every rank.

        Returns:
            What has to be waited for.

        Raises:
            RankFailedError: A rank is gone.
        """
        self._begin_to_wait()
        box = _on_wire(tensor, self._is_staged(tensor.device), copy=True)
        work = self._watched(None, lambda: self._summed(box))
        return Sum(self, work, tensor, box)

    def gathered(self, thing: object) -> list[Any]:
        """Collect one object of each rank; all of them trust each other, as torch's pickles do.

        Args:
            thing: What pickle takes.

        Returns:
            Those of all ranks, in order.

        Raises:
            RankFailedError: A rank is gone.
        """
        mine = torch.frombuffer(bytearray(pickle.dumps(thing)), dtype=torch.uint8)
        size = torch.tensor([len(mine)])
        sizes = {rank: torch.zeros_like(size) for rank in self.others}
        self._tell(size, sizes)
        found = {rank: mine.new_empty(int(length)) for rank, length in sizes.items()}
        self._tell(mine, found)
        found[self.rank] = mine
        return [pickle.loads(found[rank].numpy().tobytes()) for rank in range(self.size)]

    def _tell(self, mine: Tensor, found: Mapping[int, Tensor]) -> None:
        """Send to all others, and wait for what they send."""
        self.swap(
            {rank: [mine] for rank in self.others}, {rank: [box] for rank, box in found.items()}
        ).wait()

    def _summed(self, box: Tensor) -> Any:
        """Begin to add up."""
        if self._wire is not None and box.device.type == "cpu":
            return self._wire.add_up(box)
        return dist.all_reduce(box, group=self._group, async_op=True)

    def link(self, like: Tensor) -> tuple[float, float]:
        """Measure once how long a message takes; every rank calls it at the same time.

        Args:
            like: For device and dtype.

        Returns:
            Seconds for the smallest, and bytes in a second.
        """
        if torch.are_deterministic_algorithms_enabled():
            return _LATENCY_S, _BYTES_PER_S
        if self._link is None:
            # NCCL wants a call of all ranks before some of them send.
            self.sum(like.new_zeros(1)).wait()
            small = self._shift_s(like.new_zeros(1))
            size = _PROBE_ENTRIES * like.element_size()
            large = self._shift_s(like.new_zeros(_PROBE_ENTRIES))
            self._link = small, size / max(large - small, 1e-6)
        return self._link

    def _shift_s(self, tensor: Tensor) -> float:
        """Seconds in which every rank sends a tensor to the next one."""
        received = torch.empty_like(tensor)
        spent = []
        for _ in range(_PROBE_TURNS):
            begin = time.perf_counter()
            after, before = (self.rank + 1) % self.size, (self.rank - 1) % self.size
            self.swap({after: [tensor]}, {before: [received]}).wait()
            if tensor.device.type == "cuda":
                torch.cuda.synchronize(tensor.device)
            spent.append(time.perf_counter() - begin)
        return sorted(spent)[_PROBE_TURNS // 2]

    def _connect(self) -> None:
        """Connect at the first use: the losses of all ranks may be asked for before any step."""
        self.refuse_if_lost()
        if self._wire is None:
            self._wire = self._meet()

    def _meet(self) -> Wire:
        """Connect once all ranks are there: torch does not say who is missing."""
        try:
            self._notes.meet(self._timeout)
            return Wire(self._store, self.rank, self.size, self._timeout)
        except RuntimeError as error:
            absent = self._notes.absent()
            self._give_up(absent[0] if absent else None, error, late=bool(absent))

    def _is_staged(self, device: torch.device) -> bool:
        """Whether tensors of a device are copied to the CPU, as the script's group takes none."""
        return device.type != "cpu" and "nccl" not in str(dist.get_backend(self._group))

    def _begin_to_wait(self) -> None:
        """Refuse to wait for a rank that is gone, and look at the clock."""
        self._connect()
        self._waits_since_s = time.monotonic()

    def _watched(self, peer: int | None, run: Callable[[], _Result]) -> _Result:
        """Run what waits for other ranks, and name the one that fails."""
        try:
            return run()
        except (RuntimeError, ValueError) as error:
            self.lose(peer, error)

    def refuse_if_lost(self) -> None:
        """Raise again what ended the group.

        Raises:
            RankFailedError: A rank is gone.
        """
        if self._lost:
            raise RankFailedError(self._lost)

    def lose(
        self, peer: int | None, error: Exception, *, left: str = "no .grad was touched"
    ) -> NoReturn:
        """End the group here because a rank does not answer.

        Args:
            peer: The rank, None if any may be it.
            error: What torch said.
            left: What became of `.grad`, in words.

        Raises:
            RankFailedError: Always, naming the rank that was the first to be missed.
        """
        late = "imed out" in str(error)
        wire, self._wire = self._wire, None
        closed = [] if late or wire is None else wire.closed()
        waited_s = time.monotonic() - self._waits_since_s
        missing: int | None
        try:
            self._notes.arrive(waited_s)
            if wire is not None:
                wire.close()  # those that wait for this rank learn at once that it waits no more
            missing, late = self._notes.missing(
                peer, closed, waited_s, self._timeout.total_seconds(), late=late
            )
        except RuntimeError:
            # Nobody to ask: the process that keeps the store is gone, most often the first.
            if wire is not None:
                wire.close()
            missing = min(closed, default=peer)
        self._give_up(missing, error, late=late, left=left)

    def _give_up(
        self,
        missing: int | None,
        error: Exception,
        *,
        late: bool,
        left: str = "no .grad was touched",
    ) -> NoReturn:
        """Say for good which rank is missing."""
        why = f"did not arrive within {self._timeout.total_seconds():g} s" if late else "has ended"
        said = "a rank" if missing is None else f"rank {missing}"
        blame = self._notes.agree(f"{said} of {self.size} {why}")
        self._lost = (
            f"got no answer in a step of several processes: {blame}; expected every rank to take "
            f"every step; {left}. Start all processes again, from a checkpoint, and "
            f"look for the reason in that rank's own output ({str(error).splitlines()[0][:200]})."
        )
        raise RankFailedError(self._lost) from error


class Letters:
    """Messages on their way.

    Args:
        members: The group.
        works: What torch waits with, and whose message it is.
        copies: Where messages are copied when they have arrived, and from where.
        kept: What has to live until then.
    """

    def __init__(
        self,
        members: Members,
        works: list[tuple[int, Any]],
        copies: list[tuple[Tensor, Tensor]],
        kept: Sequence[Tensor] = (),
    ) -> None:
        self._members = members
        self._works = works
        self._copies = copies
        self._kept = list(kept)

    def wait(self) -> None:
        """Wait until all have arrived.

        Raises:
            RankFailedError: A rank is gone.
        """
        for peer, work in self._works:
            try:
                work.wait()
            except RuntimeError as error:
                self._members.lose(peer, error)
        for target, box in self._copies:
            target.copy_(box)
        self._works, self._copies, self._kept = [], [], []


class Sum:
    """A sum over all ranks on its way.

    Args:
        members: The group.
        work: What torch waits with.
        target: Where it goes.
        box: Where it is made.
    """

    def __init__(self, members: Members, work: Any, target: Tensor, box: Tensor) -> None:
        self._members = members
        self._work = work
        self._target = target
        self._box = box

    def wait(self) -> None:
        """Wait until it is there.

        Raises:
            RankFailedError: A rank is gone.
        """
        try:
            self._work.wait()
        except RuntimeError as error:
            self._members.lose(None, error)
        if self._box is not self._target:
            self._target.copy_(self._box)


def _on_wire(tensor: Tensor, staged: bool, *, copy: bool) -> Tensor:
    """The tensor itself, or one on the CPU for it."""
    if not staged:
        return tensor
    return tensor.cpu() if copy else torch.empty_like(tensor, device="cpu")
