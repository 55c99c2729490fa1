"""Where the samples are in the gradient of a tensor, and what is known when they are nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Owners = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Place:
    """Every index of one dimension belongs to at most one sample.

    Attributes:
        axis: The dimension; None if the whole tensor belongs to one sample.
        owners: For every index of that dimension its sample, -1 where no loss reaches; shape
            [size], or [1] for a whole tensor.
    """

    axis: int | None
    owners: Owners

    @classmethod
    def each(cls, axis: int, samples: int) -> "Place":
        """One index of a dimension for each sample, in order.

        Args:
            axis: The dimension.
            samples: b, its size.

        Returns:
            The place.
        """
        return cls(axis, np.arange(samples))

    @classmethod
    def whole(cls, sample: int) -> "Place":
        """A tensor that belongs to one sample.

        Args:
            sample: Which.

        Returns:
            The place.
        """
        return cls(None, np.array([sample]))

    @property
    def samples(self) -> set[int]:
        """The samples that own something."""
        return set(self.owners.tolist()) - {-1}

    def simplified(self) -> "Place":
        """Say of a tensor whose indices all belong to one sample that it does as a whole.

        Returns:
            The place without its dimension if that tells nothing.
        """
        first = int(self.owners[0])
        alone = self.axis is not None and first >= 0 and bool((self.owners == first).all())
        return Place.whole(first) if alone else self


@dataclass(frozen=True)
class Shared:
    """A tensor without samples: its gradient is a sum over them, as that of a weight is.

    Attributes:
        origin: Index of the node that made it, or of one above that has no samples either.
    """

    origin: int


@dataclass(frozen=True)
class Unknown:
    """A tensor about which nothing is certain: what is below takes the general path.

    Attributes:
        reason: Why, in words.
        sample: The one whose gradient it is all the same, None if that is not known either.
    """

    reason: str
    sample: int | None = None


State = Place | Shared | Unknown


def merged(first: State, second: State) -> State | None:
    """Combine what two consumers of one tensor say.

    Args:
        first: State by one consumer.
        second: State by another.

    Returns:
        The state of the sum of both gradients, None if samples are mixed in it.
    """
    for one, other in ((first, second), (second, first)):
        if isinstance(one, Unknown):
            return one if one.sample == _owner(other) else Unknown(one.reason)
    for one, other in ((first, second), (second, first)):
        if isinstance(one, Place) and not one.samples:
            return other  # nobody's, as of an operation whose gradient is zero
    if isinstance(first, Shared) and isinstance(second, Shared):
        return first
    if not (isinstance(first, Place) and isinstance(second, Place)):
        return None
    if first.axis == second.axis:
        known, added = first.owners, second.owners
        if ((known != added) & (known >= 0) & (added >= 0)).any():
            return None
        return Place(first.axis, np.maximum(known, added))
    sample = max(first.owners.max(), second.owners.max())
    within = all(np.isin(p.owners, (sample, -1)).all() for p in (first, second))
    return Place.whole(int(sample)) if within else None


def _owner(state: State) -> int | None:
    """The sample that all of a tensor belongs to, None if there is none."""
    if isinstance(state, Unknown):
        return state.sample
    if isinstance(state, Place) and len(state.samples) == 1:
        return next(iter(state.samples))
    return None


class Split:
    """Brings the samples of tensors with one place to the front.

    Args:
        place: The place.
        samples: b.
    """

    def __init__(self, place: Place, samples: int) -> None:
        self._axis = place.axis
        self._samples = samples
        self._owner = int(place.owners[0]) if len(place.owners) else -1
        self._rows: Owners | None = None
        self._inner = False
        self._positions = 1
        if place.axis is None:
            return
        owners = place.owners
        each, rest = divmod(len(owners), samples)
        self._positions = each
        order = np.arange(samples)
        if not rest and np.array_equal(owners, np.repeat(order, each)):
            return
        if not rest and np.array_equal(owners, np.tile(order, each)):
            self._inner = True
            return
        # Row `len(owners)` stands for zeros: samples with fewer rows than others are filled up.
        counts = np.bincount(owners[owners >= 0], minlength=samples)
        rows = np.full((samples, int(counts.max(initial=0))), len(owners))
        for sample in range(samples):
            own = np.flatnonzero(owners == sample)
            rows[sample, : len(own)] = own
        self._rows = rows
        self._positions = rows.shape[1]

    @property
    def axis(self) -> int | None:
        """The dimension that has the samples, None for none."""
        return self._axis

    @property
    def positions(self) -> int:
        """Rows of one sample, t, along the dimension that has the samples; 1 for none."""
        return self._positions

    def stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        """Split tensors with this place, one for each loss.

        Args:
            tensors: k of them, as `__call__` takes them.

        Returns:
            Shape [k, b, t, …].
        """
        if len(tensors) > 1:
            return torch.stack([self(tensor) for tensor in tensors])
        (tensor,) = tensors
        if self._axis == 0 and self._rows is None and not self._inner:
            return tensor.reshape(1, self._samples, self._positions, *tensor.shape[1:])
        return self(tensor).unsqueeze(0)

    def __call__(self, tensor: Tensor) -> Tensor:
        """Split one tensor.

        Args:
            tensor: Shape [..., N, ...] with N along the place's dimension.

        Returns:
            Shape [b, t, …], the other dimensions in order; a view where samples lie regularly. Of a
            tensor that belongs to one sample, shape [b, 1, …] with all dimensions, the other
            samples zero.
        """
        if self._axis is None:
            if self._samples == 1:
                return tensor[None, None]
            spread = tensor.new_zeros(self._samples, 1, *tensor.shape)
            spread[self._owner, 0] = tensor
            return spread
        if self._axis == 0 and self._rows is None and not self._inner:
            return tensor.reshape(self._samples, self._positions, *tensor.shape[1:])
        rows = tensor.movedim(self._axis, 0)
        if self._rows is not None:
            index = torch.from_numpy(self._rows).to(rows.device)
            padded = torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])
            return padded[index]
        if self._inner:
            return rows.unflatten(0, (-1, self._samples)).transpose(0, 1)
        return rows.unflatten(0, (self._samples, -1))
