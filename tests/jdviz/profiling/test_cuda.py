"""The history of a CUDA allocator, made by hand: no device is needed to read one."""

from typing import Any

from jdviz.profiling.cuda import read_history
from jdviz.profiling.events import Change
from jdviz.profiling.memory import read_timeline
from jdviz.profiling.results import Phase, Source

# One second after the epoch, in the units of the two clocks.
START_US, START_NS = 1_000_000, 1_000_000_000
BEGAN_NS = [
    ("forward", START_NS),
    ("backward", START_NS + 3_000_000),
    ("", START_NS + 5_000_000),
]
SPANS = [
    ("0", START_NS + 400_000, START_NS + 1_600_000),
    ("Sequential", START_NS + 300_000, START_NS + 2_000_000),
]


def entry(action: str, at_us: int, address: int, size: int, *functions: str) -> dict[str, Any]:
    frames = [{"name": name, "filename": "model.py", "line": 1} for name in functions]
    return {
        "action": action,
        "addr": address,
        "size": size,
        "time_us": START_US + at_us,
        "frames": frames,
    }


HISTORY = [
    entry("alloc", -10, 1, 512, "before"),
    entry("alloc", 500, 2, 1024, "forward", "run"),
    entry("segment_alloc", 600, 3, 2**21, "forward"),
    entry("alloc", 1800, 4, 2048, "relu"),
    entry("free_requested", 3500, 2, 1024),
    entry("free_completed", 3500, 2, 1024),
    entry("alloc", 4000, 2, 4096),
    entry("free_completed", 4500, 1, 512),
    entry("alloc", 5001, 5, 9999, "after"),
]


def test_changes_are_those_of_the_step_with_the_innermost_layer_and_function() -> None:
    recorded = read_history(HISTORY, BEGAN_NS, SPANS)
    assert recorded.changes == [
        Change(0.5, 1024, 2, Source("0", "forward")),
        Change(1.8, 2048, 4, Source("Sequential", "relu")),
        Change(3.5, -1024, 2, Source("", "")),
        Change(4.0, 4096, 2, Source("", "")),
        Change(4.5, -512, 1, Source("", "")),
    ]
    assert recorded.phases == [Phase("forward", 0.0, 3.0), Phase("backward", 3.0, 5.0)]
    assert recorded.end_ms == 5.0


def test_the_curve_of_a_history() -> None:
    timeline = read_timeline(read_history(HISTORY, BEGAN_NS, SPANS), gradients=[2])
    # What was there before the step is freed in it and was never counted.
    assert timeline.times_ms == [0.0, 0.5, 1.8, 3.5, 4.0, 5.0]
    assert timeline.live_bytes == [0, 1024, 3072, 2048, 6144, 6144]
    assert (timeline.peak_bytes, timeline.peak_ms, timeline.peak_phase) == (6144, 4.0, "backward")
    assert timeline.peak_split == {
        "activations": 2048,
        "jacobian": 0,
        "gramian": 0,
        "gradients": 4096,
        "workspace": 0,
    }


def test_a_step_that_allocates_nothing_is_flat() -> None:
    recorded = read_history([], BEGAN_NS, [])
    assert recorded.changes == []
    assert read_timeline(recorded).live_bytes == [0, 0]
