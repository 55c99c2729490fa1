"""From the profiler's tree of events to every change of the memory, with who made it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch._C._profiler import RecordScope, _EventType, _ExtraFields_TorchOp
from torch.profiler import profile

from engines.autogram import MARK_PREFIX
from jdviz.profiling.marks import LAYER_PREFIX, PHASE_PREFIX, STEP
from jdviz.profiling.results import Phase, Source

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
_OF_A_NODE = "autograd::engine::evaluate_function: "


@dataclass(frozen=True, slots=True)
class Change:
    """One block allocated or freed.

    Attributes:
        time_ms: From the beginning of the step.
        size: Bytes, positive where it was allocated.
        address: Of the block.
        source: Who did it.
    """

    time_ms: float
    size: int
    address: int
    source: Source


@dataclass(frozen=True)
class Recorded:
    """What the allocator did during one step.

    Attributes:
        changes: In order of time.
        phases: The parts of the step, in order.
        end_ms: Its duration.
    """

    changes: list[Change]
    phases: list[Phase]
    end_ms: float


def read_profile(prof: profile) -> Recorded:
    """Reads the one step that a profile holds.

    The tree of events is the only place where the profiler reports every allocation: its list of
    events has about a fifth of them. In the forward pass marks say which layer is at work. Later a
    node of autograd's graph is, or the engine on its behalf, and the node's sequence number, which
    the operation that made it states too, leads to the layer.

    Args:
        prof: A finished profile with `profile_memory=True` of one `record_function(STEP)`, whose
            parts are `record_function(PHASE_PREFIX + name)` and whose layers are marked by
            `layer_marks`.

    Returns:
        The step's changes.

    Raises:
        ValueError: The profile does not hold exactly one step.
    """
    steps = [event for event, _ in _walk(_roots(prof)) if event.name == STEP]
    if len(steps) != 1:
        raise ValueError(f"got {len(steps)} steps in the profile, expected one; mark it with STEP")
    step = steps[0]
    start_ns = step.start_time_ns
    changes: list[Change] = []
    phases: list[Phase] = []
    layers: dict[int, str] = {}
    for event, above in _walk(step.children):
        if event.name.startswith(PHASE_PREFIX):
            ends_ms = [(t - start_ns) / 1e6 for t in (event.start_time_ns, event.end_time_ns)]
            phases.append(Phase(event.name.removeprefix(PHASE_PREFIX), ends_ms[0], ends_ms[1]))
        elif _allocates(event):
            block = event.extra_fields
            time_ms = (event.start_time_ns - start_ns) / 1e6
            source = Source(_layer(above, layers), _operation(above))
            changes.append(Change(time_ms, block.alloc_size, block.ptr, source))
        elif _makes_nodes(event):
            # What carries a number without making its node comes before what makes it.
            layers[event.extra_fields.sequence_number] = _layer(above, layers)
    return Recorded(changes, phases, (step.end_time_ns - start_ns) / 1e6)


def peak_bytes(prof: profile) -> int:
    """The greatest number of bytes alive at once, of those allocated during a profile.

    Args:
        prof: A finished profile with `profile_memory=True`.
    """
    live = peak = 0
    for event, _ in _walk(_roots(prof)):
        if _allocates(event):
            live += event.extra_fields.alloc_size
            peak = max(peak, live)
    return peak


def _roots(prof: profile) -> list[Any]:
    kineto = prof.profiler.kineto_results if prof.profiler is not None else None
    return [] if kineto is None else kineto.experimental_event_tree()


def _allocates(event: Any) -> bool:
    """Whether an event is a block allocated or freed."""
    return bool(event.tag == _EventType.Allocation)


def _walk(roots: list[Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yields every event below the roots with its ancestors, outermost first, in order of time."""
    stack: list[tuple[Any, tuple[Any, ...]]] = [(event, ()) for event in reversed(roots)]
    while stack:
        event, ancestors = stack.pop()
        yield event, ancestors
        below = (*ancestors, event)
        stack.extend((child, below) for child in reversed(event.children))


def _makes_nodes(event: Any) -> bool:
    """Whether an operation of a forward pass may have made a node of the graph."""
    fields = event.extra_fields
    return (
        isinstance(fields, _ExtraFields_TorchOp)
        and fields.sequence_number >= 0
        and fields.scope == RecordScope.FUNCTION
        and not event.name.startswith(_OF_A_NODE)
    )


def _layer(above: tuple[Any, ...], layers: dict[int, str]) -> str:
    """The path of the module that a chain of events works for."""
    for event in reversed(above):
        if event.name.startswith(LAYER_PREFIX):
            return event.name.removeprefix(LAYER_PREFIX)
        if event.name.startswith(MARK_PREFIX):
            return layers.get(int(event.name.rpartition("#")[2]), "")
        fields = event.extra_fields
        if (
            isinstance(fields, _ExtraFields_TorchOp)
            and fields.scope == RecordScope.BACKWARD_FUNCTION
            and fields.sequence_number in layers
        ):
            return layers[fields.sequence_number]
        if event.name.startswith(_OF_A_NODE) and fields.sequence_number in layers:
            return layers[fields.sequence_number]
    return ""


def _operation(above: tuple[Any, ...]) -> str:
    """Returns the innermost operation that computes something, else the innermost of all."""
    operations = [event.name for event in reversed(above) if event.name.startswith("aten::")]
    computing = [name for name in operations if name not in _RESERVING]
    return next(iter(computing + operations), "")
