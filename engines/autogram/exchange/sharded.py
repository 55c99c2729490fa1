"""Tells parameters that are split over ranks, and refuses them with the reason."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from engines.errors import UnsupportedGroupError


class _Kind(NamedTuple):
    """A way to split parameters.

    Attributes:
        splits: Who splits them.
        reason: What was measured.
    """

    splits: str
    reason: str


_FSDP2 = _Kind(
    "fully_shard (FSDP2) splits",
    "such a graph ends in whole copies that FSDP keeps to itself, so the Gramian of the shards "
    "would be zero, and a gradient that does not come with FSDP's own backward pass is not there "
    "when the optimiser steps",
)
_FSDP1 = _Kind(
    "FullyShardedDataParallel (FSDP1) splits",
    "such a graph ends in views of a flat tensor that is freed between the passes, so the Gramian "
    "would fail or be zero",
)
_DTENSOR = _Kind(
    "DTensor splits",
    "torch gives no address of what such a graph saves, and a rank may hold a part of a gradient",
)


def refuse_sharded(
    parameters: Sequence[Tensor],
    names: Callable[[], Sequence[str]],
    modules: Sequence[nn.Module],
) -> None:
    """Raise if parameters are split over ranks, whether or not they are whole at the moment.

    Tried with torch 2.13 on two gloo ranks. The graph of a model under `fully_shard` ends in whole
    copies of the parameters, not in those of `model.parameters()`, which are DTensors: no use of
    these is found, and the Gramian is zero. With `reshard_after_forward=False` the copies are the
    module's parameters until a backward pass ends, and the Gramian of a rank's own samples is
    exact; but `.grad` of a copy that is written by the engine is not reduced, so the shards'
    `.grad` stays None and the optimiser steps without it. Where the copies are freed, every pass
    towards inner nodes gathers all of them again, once for each wrapped module: ranks with another
    number of passes, as with uneven batches on the general path, wait for each other in vain.

    Args:
        parameters: The tracked parameters.
        names: Gives their paths; called for an error only.
        modules: Whose parameters they are.

    Raises:
        UnsupportedGroupError: A parameter is a DTensor, or a parameter of a module under
            `fully_shard` or FullyShardedDataParallel.

    Cost: two look-ups, unless the process has imported `torch.distributed.tensor`.
    """
    # Both FSDPs import it.
    tensor = sys.modules.get("torch.distributed.tensor")
    if tensor is None:
        return
    split = list(_split(parameters, modules, tensor.DTensor))
    if not split:
        return
    first, kind = split[0]
    many = f"{len(split)} parameters" if len(split) > 1 else "a parameter"
    raise UnsupportedGroupError(
        f"got {many} that {kind.splits} over ranks, {names()[first]} first, expected parameters "
        f"that every rank holds whole, as {kind.reason}; replicate the model by hand or with "
        "DistributedDataParallel."
    )


def _split(
    parameters: Sequence[Tensor], modules: Sequence[nn.Module], kind_of_tensor: type[Tensor]
) -> Iterator[tuple[int, _Kind]]:
    """Indices of the parameters that are split, each with the way."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    under = set() if fsdp is None else _under_fully_shard(modules, fsdp.FSDPModule)
    for index, parameter in enumerate(parameters):
        if id(parameter) in under:
            yield index, _FSDP2
        elif isinstance(parameter, kind_of_tensor):
            yield index, _DTENSOR
        elif fsdp is not None and getattr(parameter, "_fsdp_flattened", False):
            yield index, _FSDP1


def _under_fully_shard(modules: Sequence[nn.Module], wrapped: type[nn.Module]) -> set[int]:
    """Identities of the parameters of all modules that are wrapped.

    Those that are whole at the moment look like any other, also where an engine is given a part of
    a wrapped module. Torch lists all modules that are wrapped; should a version not, only those
    within the given modules are found.
    """
    composable: Any = sys.modules.get("torch.distributed._composable_state")
    owners = getattr(composable, "_module_state_mapping", None)
    if owners is None:
        owners = [inner for module in modules for inner in module.modules()]
    return {
        id(parameter)
        for owner in list(owners)  # weak: others may go meanwhile
        if isinstance(owner, wrapped)
        for parameter in owner.parameters()
    }
