"""Waiting for another process, with a limit."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Return once `condition` holds; raise with `what` was awaited when it takes too long."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.02)
