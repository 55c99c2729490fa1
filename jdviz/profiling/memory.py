"""From the profiler's tree of events to the memory of a step over time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch._C._profiler import _EventType
from torch.profiler import profile

from jdviz.profiling.spec import Phase

STEP = "jdviz::step"
PHASE_PREFIX = "jdviz::phase::"
MAX_POINTS = 2000

# Operations that only reserve memory for the operation that called them.
_RESERVING = frozenset(
    f"aten::{name}"
    for name in (
        "empty",
        "empty_like",
        "empty_strided",
        "resize_",
        "new_empty",
        "new_empty_strided",
    )
)


@dataclass(frozen=True)
class Timeline:
    """Memory alive over one step.

    Attributes:
        times_ms: When it changed, from the beginning of the step; the first is 0.
        live_bytes: Bytes alive from each of those times on; the first is 0.
        phases: The parts of the step, in order.
        peak_bytes: Greatest value.
        peak_ms: When it was reached first.
        peak_phase: In which part of the step; "" between parts.
        peak_operation: Operation whose allocation reached it; "" where none was running.
    """

    times_ms: list[float]
    live_bytes: list[int]
    phases: list[Phase]
    peak_bytes: int
    peak_ms: float
    peak_phase: str
    peak_operation: str


def read_timeline(prof: profile) -> Timeline:
    """Reads the memory of the one step that a profile holds.

    The tree of events is the only place where the profiler reports every allocation: its list of
    events has about a fifth of them. A block that was allocated before the step and is freed in it
    was never added, so it is not subtracted either; the curve is what the step itself holds.

    Args:
        prof: A finished profile with `profile_memory=True` of one `record_function(STEP)`, whose
            parts are `record_function(PHASE_PREFIX + name)`.

    Returns:
        The timeline, not thinned.

    Raises:
        ValueError: The profile does not hold exactly one step.
    """
    kineto = prof.profiler.kineto_results if prof.profiler is not None else None
    roots = kineto.experimental_event_tree() if kineto is not None else []
    steps = [event for event, _ in _walk(roots) if event.name == STEP]
    if len(steps) != 1:
        raise ValueError(f"got {len(steps)} steps in the profile, expected one; mark it with STEP")
    step = steps[0]
    start_ns = step.start_time_ns

    def to_ms(time_ns: int) -> float:
        return (time_ns - start_ns) / 1e6

    times_ms, live_bytes = [0.0], [0]
    phases: list[Phase] = []
    alive: dict[int, int] = {}
    total = peak = 0
    peak_ms, peak_phase, peak_operation = 0.0, "", ""
    for event, ancestors in _walk(step.children):
        if event.name.startswith(PHASE_PREFIX):
            name = event.name.removeprefix(PHASE_PREFIX)
            phases.append(Phase(name, to_ms(event.start_time_ns), to_ms(event.end_time_ns)))
        if event.tag != _EventType.Allocation:
            continue
        block = event.extra_fields
        if block.alloc_size > 0:
            alive[block.ptr] = block.alloc_size
            total += block.alloc_size
        elif block.ptr in alive:
            total -= alive.pop(block.ptr)
        else:
            continue
        times_ms.append(to_ms(event.start_time_ns))
        live_bytes.append(total)
        if total > peak:
            names = [ancestor.name for ancestor in ancestors]
            peak, peak_ms = total, times_ms[-1]
            peak_phase, peak_operation = _phase(names), _operation(names)
    times_ms.append(to_ms(step.end_time_ns))
    live_bytes.append(total)
    return Timeline(times_ms, live_bytes, phases, peak, peak_ms, peak_phase, peak_operation)


def thin(
    times_ms: list[float], live_bytes: list[int], limit: int = MAX_POINTS
) -> tuple[list[float], list[int]]:
    """Thins a curve and keeps its shape.

    The points are cut into stretches of equal number; of each stay the first least and the first
    greatest, and the ends of the curve stay too. So the peak and every trough survive to within
    one stretch.

    Args:
        times_ms: Times, ascending.
        live_bytes: Values at those times.
        limit: Greatest number of points that may remain, at least 4.

    Returns:
        Times and values that remain, in order.

    Raises:
        ValueError: The limit is below 4.
    """
    if limit < 4:
        raise ValueError(f"got limit {limit}, expected at least 4; give a larger one")
    count = len(times_ms)
    if count <= limit:
        return times_ms, live_bytes
    stretches = (limit - 2) // 2
    kept = {0, count - 1}
    for number in range(stretches):
        rows = range(number * count // stretches, (number + 1) * count // stretches)
        kept.add(min(rows, key=live_bytes.__getitem__))
        kept.add(max(rows, key=live_bytes.__getitem__))
    order = sorted(kept)
    return [times_ms[row] for row in order], [live_bytes[row] for row in order]


def _walk(roots: list[Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yields every event below the roots with its ancestors, outermost first, in order of time."""
    stack: list[tuple[Any, tuple[Any, ...]]] = [(event, ()) for event in reversed(roots)]
    while stack:
        event, ancestors = stack.pop()
        yield event, ancestors
        below = (*ancestors, event)
        stack.extend((child, below) for child in reversed(event.children))


def _phase(names: list[str]) -> str:
    """Returns the part of the step that a chain of names lies in."""
    for name in reversed(names):
        if name.startswith(PHASE_PREFIX):
            return name.removeprefix(PHASE_PREFIX)
    return ""


def _operation(names: list[str]) -> str:
    """Returns the innermost operation that computes something, else the innermost of all."""
    operations = [name for name in reversed(names) if name.startswith("aten::")]
    computing = [name for name in operations if name not in _RESERVING]
    return next(iter(computing + operations), "")
