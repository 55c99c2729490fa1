"""Adds up the ranks' gradients, those of data-parallel wrappers by the wrappers themselves."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engines.autogram.exchange.members import Members, Sum
from engines.errors import UnsupportedGroupError

# So much is added up at a time, while the gradients of the next are made.
BUCKET_BYTES = 4 * 2**20
_FEWEST_TIMED = 2


def wrapped_parameters(members: Members, modules: Sequence[nn.Module]) -> set[int]:
    """Find the parameters whose gradients DistributedDataParallel averages.

    Args:
        members: The group of processes.
        modules: Those of an engine.

    Returns:
        Identities of the parameters.

    Raises:
        UnsupportedGroupError: A wrapper's group has other ranks, or its graph is declared static.
    """
    found: set[int] = set()
    for wrapper in _wrappers(modules):
        if not members.has_same_ranks_as(wrapper.process_group):
            raise UnsupportedGroupError(
                "got DistributedDataParallel with another process group than the engine's, "
                "expected the same ranks; pass process_group=ddp.process_group."
            )
        if wrapper.static_graph:
            raise UnsupportedGroupError(
                "got DistributedDataParallel(static_graph=True), expected False: its first pass "
                "through the graph starts a reduction, and the engine's first pass is for the "
                "Gramian; leave it out."
            )
        found.update(_averaged_by(wrapper))
    return found


def _wrappers(modules: Sequence[nn.Module]) -> list[DistributedDataParallel]:
    """The wrappers among modules and what is in them."""
    every = (inner for module in modules for inner in module.modules())
    return [inner for inner in every if isinstance(inner, DistributedDataParallel)]


def _averaged_by(wrapper: DistributedDataParallel) -> set[int]:
    """Identities of a wrapper's parameters."""
    ignored = set(wrapper.parameters_to_ignore)
    return {
        id(parameter)
        for name, parameter in wrapper.module.named_parameters()
        if parameter.requires_grad and name not in ignored
    }


class Listeners:
    """The wrappers that should add up the gradients that are handed out next.

    A wrapper does so once after each forward pass of its own; after one of the module inside, and
    at a second backward pass through one graph, it leaves to every rank its own part, silently.
    What it leaves behind are the moments at which gradients were ready, in nanoseconds; those of
    fewer than three parameters may be equal by chance.

    Args:
        modules: Those of an engine.
        leaves: What gets gradients.
    """

    def __init__(self, modules: Sequence[nn.Module], leaves: Sequence[Tensor]) -> None:
        given = {id(leaf) for leaf in leaves}
        # Under no_sync a forward pass switches the flag off.
        self._before = [
            (wrapper, list(wrapper.reducer.get_backward_stats()))
            for wrapper in _wrappers(modules)
            if wrapper.require_forward_param_sync
            and len(known := _averaged_by(wrapper)) > _FEWEST_TIMED
            and given & known
        ]

    @property
    def silent(self) -> bool:
        """Whether one has not noticed the gradients."""
        return any(
            list(wrapper.reducer.get_backward_stats()) == before for wrapper, before in self._before
        )


@contextmanager
def without_hooks(leaves: Sequence[Tensor]) -> Iterator[None]:
    """Keep hooks of leaves from running: they are for the gradient of all ranks, once.

    Args:
        leaves: Tensors that may have some.

    Yields:
        While they have none.
    """
    held = [
        (leaf._backward_hooks, dict(leaf._backward_hooks))
        for leaf in leaves
        if leaf._backward_hooks
    ]
    for hooks, _ in held:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, kept in held:
            hooks.update(kept)


@dataclass(eq=False)
class _Bucket:
    """Leaves whose gradients are added up together."""

    leaves: list[Tensor]
    missing: int
    sum: Sum | None = None
    flat: Tensor | None = None


class Reduction:
    """Sums of the gradients of all ranks, begun as soon as the gradients are there.

    Args:
        members: The group of processes.
        leaves: Parameters in an order on which the ranks agree, each once.
    """

    def __init__(self, members: Members, leaves: Sequence[Tensor]) -> None:
        self._members = members
        self._found: dict[int, Tensor] = {}
        self._of: dict[int, _Bucket] = {}
        self._buckets: list[_Bucket] = []
        self._sparse: set[int] = set()
        self._next = 0
        filled = 0
        for leaf in leaves:
            last = self._buckets[-1].leaves[-1] if self._buckets else None
            alike = last is not None and (last.dtype, last.device) == (leaf.dtype, leaf.device)
            if not alike or filled >= BUCKET_BYTES:
                self._buckets.append(_Bucket([], 0))
                filled = 0
            bucket = self._buckets[-1]
            bucket.leaves.append(leaf)
            bucket.missing += 1
            self._of[id(leaf)] = bucket
            filled += leaf.numel() * leaf.element_size()

    @property
    def sent_bytes(self) -> int:
        """What all ranks together send for it."""
        return sum(
            2 * (self._members.size - 1) * _size(bucket) * _real(bucket).itemsize
            for bucket in self._buckets
        )

    def take(self, leaf: Tensor, gradient: Tensor | None) -> None:
        """Take this rank's gradient of one leaf.

        Args:
            leaf: The parameter.
            gradient: Of its shape, None where the losses do not depend on it.

        Raises:
            RankFailedError: A rank is gone.
        """
        bucket = self._of[id(leaf)]
        bucket.missing -= 1
        if gradient is not None:
            if gradient.layout != torch.strided:
                self._sparse.add(id(leaf))
                gradient = gradient.to_dense()
            self._found[id(leaf)] = gradient
        while self._next < len(self._buckets) and self._buckets[self._next].missing <= 0:
            self._begin(self._buckets[self._next], failed=False)
            self._next += 1

    def finish(self, *, failed: bool) -> tuple[list[tuple[Tensor, Tensor]], bool]:
        """Wait for the sums.

        Args:
            failed: Whether this rank has failed; it sends zeros for what it has not.

        Returns:
            Leaves that have a gradient on any rank with the sum, and whether any rank has failed.

        Raises:
            RankFailedError: A rank is gone.
        """
        for bucket in self._buckets[self._next :]:
            self._begin(bucket, failed=failed)
        reached: list[tuple[Tensor, Tensor]] = []
        bad = failed
        for bucket in self._buckets:
            if bucket.sum is None or bucket.flat is None:
                continue
            bucket.sum.wait()
            *pieces, flags = bucket.flat.split([*map(_entries, bucket.leaves), _flags(bucket)])
            told = flags.tolist()
            bad = bad or told[-1] > 0
            for leaf, piece, present in zip(bucket.leaves, pieces, told, strict=False):
                if present > 0:
                    reached.append((leaf, self._as_gradient(leaf, piece)))
        return reached, bad

    def _begin(self, bucket: _Bucket, *, failed: bool) -> None:
        """Put gradients in a row, what is known of them behind, and begin to add up."""
        dtype, device = _real(bucket), bucket.leaves[0].device
        flat = torch.zeros(_size(bucket), dtype=dtype, device=device)
        *pieces, flags = flat.split([*map(_entries, bucket.leaves), _flags(bucket)])
        told = [float(id(leaf) in self._found) for leaf in bucket.leaves]
        flags.copy_(torch.tensor([*told, float(failed)]))
        for leaf, piece in zip(bucket.leaves, pieces, strict=True):
            gradient = self._found.pop(id(leaf), None)
            if gradient is not None:
                real = torch.view_as_real(gradient) if gradient.is_complex() else gradient
                piece.copy_(real.reshape(-1))
        bucket.flat, bucket.sum = flat, self._members.sum(flat)

    def _as_gradient(self, leaf: Tensor, piece: Tensor) -> Tensor:
        """A sum in the form of the leaf's gradient."""
        if leaf.is_complex():
            return torch.view_as_complex(piece.view(*leaf.shape, 2))
        found = piece.view(leaf.shape)
        return found.to_sparse(1) if id(leaf) in self._sparse else found


def _entries(leaf: Tensor) -> int:
    """Real entries of a leaf."""
    return math.prod(leaf.shape) * (2 if leaf.is_complex() else 1)


def _flags(bucket: _Bucket) -> int:
    """One number for each leaf, whether there is a gradient, and one for a failure."""
    return len(bucket.leaves) + 1


def _size(bucket: _Bucket) -> int:
    """Entries of a bucket with its flags."""
    return sum(map(_entries, bucket.leaves)) + _flags(bucket)


def _real(bucket: _Bucket) -> torch.dtype:
    """In which a bucket is added up."""
    return bucket.leaves[0].real.dtype if bucket.leaves[0].is_complex() else bucket.leaves[0].dtype
