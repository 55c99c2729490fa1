"""What an engine does where several processes take every step together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor, nn

from engines.autogram.exchange.agreement import Agreements, Wishes
from engines.autogram.exchange.call import Call, begin
from engines.autogram.exchange.finishing import finish, weigh
from engines.autogram.exchange.gathering import gather
from engines.autogram.exchange.general import general_sent_bytes
from engines.autogram.exchange.groups import GroupOf, members_of
from engines.autogram.exchange.members import Members
from engines.autogram.explanation import UsePlan, explained
from engines.autogram.observers import Observers, added_up
from engines.autogram.reading import Reader


@dataclass(frozen=True)
class Exchange:
    """What the last call of an engine in a group of processes exchanged.

    Attributes:
        ranks: N, how many processes took part.
        rank: Of this process among them.
        sent_bytes: What all of them together sent: for the Gramian, the agreement and the
            gradients, those that DistributedDataParallel adds up among them. Sums over all ranks
            count 2·(N - 1) times their size, as rings send.
    """

    ranks: int
    rank: int
    sent_bytes: int


class Grouped:
    """The calls of one engine that all ranks of its group take part in.

    Args:
        modules: Whose parameters are tracked.
        batch_dim: Dimension of the output that indexes samples, or None.
        reader: The engine's.
        group: The group, None for all processes.

    Attributes:
        exchange: What the last call exchanged, None before.

    Raises:
        TypeError: The group is none.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        batch_dim: int | None,
        reader: Reader,
        group: "dist.ProcessGroup | None",
    ) -> None:
        if not (group is None or isinstance(group, dist.ProcessGroup)):
            raise TypeError(
                f"got process_group={group!r}, expected a group that this process is in, or None; "
                "pass what torch.distributed.new_group returned."
            )
        self._modules = modules
        self._batch_dim = batch_dim
        self._reader = reader
        self._group = GroupOf(group)
        self._agreements = Agreements()
        self.exchange: Exchange | None = None

    def members(self) -> Members | None:
        """Find the processes that a call is shared with.

        Returns:
            Them; None where there is no group, or only this process in it.

        Raises:
            GroupError: This process is not in the group.
        """
        found = members_of(self._group.group)
        if found is None:
            self.exchange = None  # of an earlier call, in a group that is no more
        return found

    def compute_gramian(
        self, members: Members, output: Tensor, observers: Observers, *, by_module: bool
    ) -> dict[str, Tensor]:
        """Compute the Gramian of the objectives of all ranks.

        Args:
            members: The processes.
            output: The objectives of this rank.
            observers: Who is told.
            by_module: Whether the shares of the modules are kept apart.

        Returns:
            The generalized Gramian under "", or the shares of the modules under their paths.

        Raises:
            Exception: As `Engine.compute_gramian`.
        """
        asked = observers.asking() if observers else frozenset()
        wishes = Wishes(split=by_module or bool(asked), told=bool(observers))
        call = self._begin(members, output, wishes, "compute_gramian")
        gathered = gather(call, retain_graph=True)
        shares = _generalized(call, gathered.totals)
        gramian = added_up(shares)
        self.exchange = Exchange(members.size, members.rank, call.sent_bytes)
        if observers and gathered.losses is not None:
            observers.tell(asked, gathered.losses, gramian, None, shares if asked else None)
        return shares if by_module else {"": gramian}

    def backward(
        self,
        members: Members,
        losses: Tensor,
        weighting: Callable[[Tensor, "tuple[int, ...]"], Tensor],
        observers: Observers,
        *,
        retain_graph: bool,
    ) -> tuple[Tensor, Tensor]:
        """Take a step with the objectives of all ranks.

        Args:
            members: The processes.
            losses: The objectives of this rank.
            weighting: Makes weights of a Gramian, and checks that they have the shape that it is
                given.
            observers: Who is told.
            retain_graph: Whether the graph outlives the call.

        Returns:
            The generalized Gramian and the weights of all objectives.

        Raises:
            Exception: As `Engine.backward`.
        """
        asked = observers.asking() if observers else frozenset()
        wishes = Wishes(split=bool(asked), told=bool(observers))
        call = self._begin(members, losses, wishes, "backward")
        gathered = gather(call, retain_graph=retain_graph)
        shares = _generalized(call, gathered.totals)
        gramian = added_up(shares)
        shape = call.everyone.shape
        weights = weigh(call, gramian, lambda found: weighting(found, shape))
        total = added_up(gathered.totals)
        finish(call, gathered.brought, total, weights, retain_graph=retain_graph)
        self.exchange = Exchange(members.size, members.rank, call.sent_bytes)
        if observers and gathered.losses is not None:
            observers.tell(asked, gathered.losses, gramian, weights, shares if asked else None)
        return gramian, weights

    def explain(self, members: Members, losses: Tensor) -> tuple[UsePlan, ...]:
        """Describe what a step would do on this rank, use by use, and what it would send.

        Args:
            members: The processes.
            losses: The objectives of this rank.

        Returns:
            One record per use, none where there are no objectives.

        Raises:
            Exception: As `Engine.explain`.
        """
        call = self._begin(members, losses, Wishes(split=False, told=False), "explain")
        if call.reading is None:
            return ()
        itemsize, parameters, routes = call.dtype.itemsize, call.tracked.parameters, call.routes
        general = sorted(routes.general)
        rows = general_sent_bytes(routes, [parameters[index] for index in general], itemsize)
        return explained(
            call.reading,
            call.objectives,
            call.tracked.names,
            parameters,
            itemsize,
            [(route.travels, route.sent_bytes[members.rank]) for route in routes.routes],
            {index: sent[members.rank] for index, sent in zip(general, rows, strict=True)},
        )

    def _begin(self, members: Members, output: Tensor, wishes: Wishes, name: str) -> Call:
        """Agree with the other ranks on a call."""
        return begin(
            members,
            self._modules,
            output,
            self._batch_dim,
            self._reader,
            self._agreements,
            wishes,
            name,
        )


def _generalized(call: Call, totals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring Gramians into the caller's shape."""
    return {label: call.everyone.generalized(total) for label, total in totals.items()}
