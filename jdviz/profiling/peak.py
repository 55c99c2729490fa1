"""The peak of memory alone, of a step that is made anyway."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

T = TypeVar("T")


def with_peak(step: Callable[[], T]) -> tuple[T, int | None]:
    """Runs a step and counts every block that torch allocates and frees meanwhile.

    Measured on two cores: that adds some 10 ms to the step, and 0.1 s to the first one.

    Args:
        step: What to run.

    Returns:
        What it returns, and the greatest number of bytes that were alive at once of those that it
        allocated; None where a profiler runs already, because two in one process crash it.
    """
    if torch.autograd.profiler._is_profiler_enabled:
        return step(), None
    # Else the profiler's library says that it starts and stops, in the server's log.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = step()
    kineto = recorded.profiler.kineto_results if recorded.profiler is not None else None
    live = peak = 0
    # Only the tree has every allocation, as `events.py` explains.
    stack: list[Any] = kineto.experimental_event_tree()[::-1] if kineto is not None else []
    while stack:
        event = stack.pop()
        if event.tag == _EventType.Allocation:
            live += event.extra_fields.alloc_size
            peak = max(peak, live)
        stack.extend(reversed(event.children))
    return result, peak
