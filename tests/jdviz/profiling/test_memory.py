"""The course of the memory and what its peak is made of, from changes made by hand."""

import pytest
import torch

from jdviz.profiling.events import Change, Recorded
from jdviz.profiling.memory import MOST_LAYERS, OTHER_LAYERS, read_timeline, thinned
from jdviz.profiling.results import OWNERS, Phase, Source

NOBODY = Source("", "")
M = 8
PHASES = [
    Phase("forward", 0.0, 10.0),
    Phase("gramian", 11.0, 20.0),
    Phase("weights", 21.0, 30.0),
    Phase("backward", 31.0, 40.0),
]


def made(time_ms: float, size: int, address: int, layer: str = "", operation: str = "") -> Change:
    return Change(time_ms, size, address, Source(layer, operation))


def freed(time_ms: float, size: int, address: int) -> Change:
    return Change(time_ms, -size, address, NOBODY)


def test_allocations_and_frees_are_summed_from_zero() -> None:
    changes = [made(1.0, 100, 1), made(2.0, 50, 2), freed(3.0, 100, 1), made(4.0, 20, 1)]
    timeline = read_timeline(Recorded(changes, PHASES, 41.0))
    assert timeline.times_ms == [0.0, 1.0, 2.0, 3.0, 4.0, 41.0]
    assert timeline.live_bytes == [0, 100, 150, 50, 70, 70]
    assert (timeline.peak_bytes, timeline.peak_ms) == (150, 2.0)


def test_what_was_there_before_is_not_subtracted() -> None:
    changes = [freed(1.0, 300, 9), made(2.0, 100, 9), freed(3.0, 100, 9)]
    timeline = read_timeline(Recorded(changes, PHASES, 41.0))
    assert timeline.live_bytes == [0, 100, 0, 0]


def test_of_two_equal_peaks_the_first_counts() -> None:
    changes = [made(1.0, 80, 1, "a", "x"), freed(2.0, 80, 1), made(12.0, 80, 1, "b", "y")]
    timeline = read_timeline(Recorded(changes, PHASES, 41.0))
    assert (timeline.peak_ms, timeline.peak_phase) == (1.0, "forward")
    assert timeline.peak_source == Source("a", "x")


def test_every_point_says_who_changed_it() -> None:
    changes = [made(1.0, 8, 1, "a", "x"), made(2.0, 8, 2, "b", "x"), made(3.0, 8, 3, "a", "x")]
    timeline = read_timeline(Recorded(changes, PHASES, 41.0))
    assert [timeline.sources[place] for place in timeline.changed_by] == [
        NOBODY,
        Source("a", "x"),
        Source("b", "x"),
        Source("a", "x"),
        NOBODY,
    ]
    assert len(timeline.sources) == 3


def test_a_change_between_parts_belongs_to_none() -> None:
    timeline = read_timeline(Recorded([made(10.5, 8, 1)], PHASES, 41.0))
    assert timeline.peak_phase == ""


def test_the_peak_is_split_by_who_owns_it() -> None:
    square = 4 * M * M
    changes = [
        made(1.0, 1000, 1),  # outlives the forward pass: an activation
        made(2.0, 7, 2),
        freed(3.0, 7, 2),
        made(12.0, square, 3),  # m x m and of no layer: the Gramian
        made(13.0, square, 4, "0"),  # of the same size, for a layer: workspace
        made(14.0, 30, 5),
        made(32.0, 500, 6),  # a parameter's gradient
        made(33.0, 40, 7),
        freed(34.0, 40, 7),
    ]
    timeline = read_timeline(Recorded(changes, PHASES, 41.0), objectives=M, gradients=[6])
    assert timeline.peak_split == {
        "activations": 1000,
        "jacobian": 0,
        "gramian": square,
        "gradients": 500,
        "workspace": square + 30 + 40,
    }
    assert tuple(timeline.peak_split) == OWNERS
    assert sum(timeline.peak_split.values()) == timeline.peak_bytes


def test_what_outlives_the_jacobians_part_is_the_jacobian() -> None:
    phases = [Phase("forward", 0, 10), Phase("jacobian", 11, 20), Phase("backward", 21, 30)]
    changes = [
        made(12.0, 640, 1),
        made(13.0, 50, 2),
        freed(14.0, 50, 2),
        made(22.0, 10, 3),
        made(23.0, 60, 2),
        freed(29.0, 640, 1),
    ]
    timeline = read_timeline(Recorded(changes, phases, 31.0), objectives=M)
    assert timeline.peak_bytes == 710
    assert timeline.peak_split["jacobian"] == 640
    assert timeline.peak_split["workspace"] == 70


def test_a_gradients_address_that_is_used_and_freed_before_is_no_gradient() -> None:
    changes = [made(32.0, 90, 6), freed(33.0, 90, 6), made(34.0, 20, 6)]
    timeline = read_timeline(Recorded(changes, PHASES, 41.0), gradients=[6])
    assert timeline.peak_split["workspace"] == 90
    assert timeline.peak_split["gradients"] == 0


def test_layers_are_in_the_order_of_their_bytes_and_the_smallest_are_one() -> None:
    count = MOST_LAYERS + 3
    changes = [made(1.0, 10 * number, number, f"layer {number}") for number in range(1, count + 1)]
    layers = read_timeline(Recorded(changes, PHASES, 41.0)).peak_layers
    assert layers[0] == (f"layer {count}", 10 * count)
    assert [size for _, size in layers[:-1]] == [10 * n for n in range(count, 3, -1)]
    assert layers[-1] == (OTHER_LAYERS, 10 + 20 + 30)


def test_without_a_change_the_curve_is_flat() -> None:
    timeline = read_timeline(Recorded([], PHASES, 41.0))
    assert (timeline.times_ms, timeline.live_bytes) == ([0.0, 41.0], [0, 0])
    assert (timeline.peak_bytes, timeline.peak_ms, timeline.peak_phase) == (0, 0.0, "")
    assert timeline.peak_split == dict.fromkeys(OWNERS, 0)
    assert timeline.peak_layers == []


def test_a_short_curve_is_not_thinned() -> None:
    assert thinned([0, 5, 1, 2], limit=4) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [2001, 5000, 99991])
def test_a_long_curve_keeps_its_extremes(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    live_bytes = torch.randint(0, 10**6, (count,), generator=generator).tolist()
    peak, trough = count // 3, count // 2
    live_bytes[peak], live_bytes[trough] = 10**7, -1
    kept = thinned(live_bytes)
    assert len(kept) <= 2000
    assert kept == sorted(set(kept))
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert {peak, trough} <= set(kept)


def test_a_curve_cannot_be_thinned_to_nothing() -> None:
    with pytest.raises(ValueError, match="got limit 3, expected at least 4"):
        thinned([0] * 9, limit=3)
