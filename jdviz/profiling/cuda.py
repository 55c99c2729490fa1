"""From a CUDA allocator's own history to every change of the memory."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from jdviz.profiling.events import Change, Recorded
from jdviz.profiling.marks import Span
from jdviz.profiling.results import Phase, Source
from jdviz.profiling.steps import MeasuredStep

# A step of the models here makes some thousand; the newest are kept.
MOST_ENTRIES = 1_000_000


def record_history(step: MeasuredStep, spans: list[Span]) -> Recorded:
    """Runs a step while the device's allocator keeps its history.

    Args:
        step: What runs; its model is on the current CUDA device.
        spans: Where `layer_marks` adds the forward passes of layers.

    Returns:
        The step's changes, in blocks as the allocator rounds them.
    """
    step.clear()
    spans.clear()
    torch.cuda.synchronize()
    torch.cuda.memory._record_memory_history(
        stacks="python", max_entries=MOST_ENTRIES, clear_history=True
    )
    try:
        step.run()
        torch.cuda.synchronize()
        snapshot = torch.cuda.memory._snapshot()
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    traces = snapshot["device_traces"][torch.cuda.current_device()]
    return read_history(traces, step.marks.began_ns, spans)


def read_history(
    entries: Sequence[Mapping[str, Any]],
    began_ns: Sequence[tuple[str, int]],
    spans: Sequence[Span],
) -> Recorded:
    """Reads the entries of one device.

    The history knows the time and the Python function of every block but nothing of modules: in
    the forward pass the layer is the innermost one whose forward was running, later it stays
    unnamed.

    Args:
        entries: What the allocator did, with `action`, `addr`, `size`, `time_us` and `frames`.
        began_ns: As `PhaseMarks.began_ns`.
        spans: As `layer_marks` yields.

    Returns:
        The changes between the first and the last mark.
    """
    start_ns, end_ns = began_ns[0][1], began_ns[-1][1]

    def to_ms(time_ns: float) -> float:
        return (time_ns - start_ns) / 1e6

    changes = []
    for entry in entries:
        time_ns = 1000 * entry.get("time_us", 0)
        sign = {"alloc": 1, "free_completed": -1}.get(entry["action"], 0)
        if not sign or not start_ns <= time_ns <= end_ns:
            continue
        source = Source(_layer_at(time_ns, spans), _function(entry.get("frames", ())))
        changes.append(Change(to_ms(time_ns), sign * entry["size"], entry["addr"], source))
    phases = [
        Phase(name, to_ms(begin_ns), to_ms(next_ns))
        for (name, begin_ns), (_, next_ns) in pairwise(began_ns)
    ]
    return Recorded(changes, phases, to_ms(end_ns))


def _layer_at(time_ns: float, spans: Sequence[Span]) -> str:
    """The layer whose forward was running, the innermost where several were."""
    running = [span for span in spans if span[1] <= time_ns <= span[2]]
    return min(running, key=lambda span: span[2] - span[1])[0] if running else ""


def _function(frames: Sequence[Mapping[str, Any]]) -> str:
    """The innermost function that is not part of the recording."""
    return str(frames[0]["name"]) if frames else ""
