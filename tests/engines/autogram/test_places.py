"""Structure tests: what is said of places, and how tensors are split by them."""

import numpy as np
import pytest
import torch

from engines.autogram.places import Place, Shared, Split, Unknown, merged


def place(axis: int | None, *owners: int) -> Place:
    return Place(axis, np.array(owners))


def same(one: Place, other: Place) -> bool:
    return one.axis == other.axis and np.array_equal(one.owners, other.owners)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (place(0, 0, 1), place(0, 0, 1), place(0, 0, 1)),
        (place(0, 0, -1), place(0, -1, 1), place(0, 0, 1)),
        (place(0, 0, 1), place(0, 1, 0), None),
        (place(0, 0, 1), place(1, 0, 1), None),
        (place(0, 2, -1), place(1, -1, 2, 2), place(None, 2)),
        (place(None, 1), place(None, 1), place(None, 1)),
        (place(None, 1), place(None, 0), None),
        (place(None, 1), place(0, 1, -1), place(None, 1)),
        (place(None, 1), place(0, 1, 0), None),
        (place(0, 0, 1), Shared(3), None),
    ],
)
def test_two_consumers(first: Place, second: Place | Shared, expected: Place | None) -> None:
    for one, other in ((first, second), (second, first)):
        found = merged(one, other)
        assert (found is None) == (expected is None)
        if expected is not None:
            assert isinstance(found, Place)
            assert same(found, expected)


def test_what_is_unknown_stays_unknown() -> None:
    unknown = Unknown("is hooked")
    for other in (place(0, 0, 1), Shared(1), unknown):
        assert merged(unknown, other) is unknown
        assert merged(other, unknown) is unknown
    assert merged(Shared(1), Shared(2)) == Shared(1)


@pytest.mark.parametrize(
    ("found", "shape"),
    [
        (place(0, 0, 0, 1, 1, 2, 2), (3, 2, 4)),
        (place(0, 0, 1, 2, 0, 1, 2), (3, 2, 4)),
        (place(0, 2, 0, -1, 2, 2, 1), (3, 3, 4)),
        (place(0, -1, -1, -1, -1, -1, 1), (3, 1, 4)),
        (place(1, 2, 0, 1, -1), (3, 1, 6)),
        (place(None, 1), (3, 1, 6, 4)),
    ],
)
def test_split_brings_every_row_to_its_sample(found: Place, shape: tuple[int, ...]) -> None:
    tensor = torch.arange(1.0, 25.0).view(6, 4)
    parts = Split(found, 3)(tensor)
    assert parts.shape == shape
    for sample in range(3):
        if found.axis is None:
            own = tensor if sample == 1 else torch.zeros(0)
        else:
            index = torch.from_numpy(np.flatnonzero(found.owners == sample))
            own = tensor.index_select(found.axis, index)
        given = parts[sample]
        assert given[given != 0].sort().values.equal(own.flatten().sort().values)


def test_simplified() -> None:
    assert same(place(1, 2, 2).simplified(), place(None, 2))
    for kept in (place(1, 2, -1), place(0, 0, 1), place(0, -1, -1), place(None, 3)):
        assert kept.simplified() is kept
