"""The peak of memory alone, of a step that is made anyway."""

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from jdviz.profiling.events import peak_bytes

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
    return result, peak_bytes(recorded)
