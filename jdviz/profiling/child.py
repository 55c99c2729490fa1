"""The child process of a measurement: reads one request, measures, writes one answer, ends.

Request, one line of JSON: `{"spec": ..., "memory_limit_bytes": ... or null}`. Answer, one line:
`{"measurement": ...}` or `{"error": "memory" or "step", "message": ...}`. The request's stream
stays open; when it ends, the parent is gone and the child ends too.
"""

import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from jdviz.problems.base import parameter_count
from jdviz.profiling.memory import STEP, Timeline, read_timeline, thin
from jdviz.profiling.spec import Measurement, MeasureSpec
from jdviz.profiling.steps import MeasuredStep

WARM_UPS = 2
# Share of the wall time that the timed steps must have had a core for.
UNDISTURBED_SHARE = 0.9


def measure_here(spec: MeasureSpec, memory_limit_bytes: int | None = None) -> Measurement:
    """Measures in this process; two profilers in one process crash it, so let it have no other.

    Args:
        spec: A valid specification.
        memory_limit_bytes: Bytes the process may allocate once model and data are there; the
            limit stays on the process afterwards.

    Returns:
        The measurement.
    """
    torch.set_num_threads(spec.threads)
    step = MeasuredStep(spec)
    if memory_limit_bytes is not None:
        _limit_memory(memory_limit_bytes)
    for _ in range(WARM_UPS):
        step.run()
        step.clear()
    # The collector runs when it likes and frees blocks then, which would move the curve.
    gc.collect()
    gc.disable()
    try:
        timeline = _profile(step)
        durations_ms, disturbed = _time(step, spec.repeats)
    finally:
        gc.enable()
    times_ms, live_bytes = thin(timeline.times_ms, timeline.live_bytes)
    parameters = list(step.model.parameters())
    return Measurement(
        spec=spec,
        times_ms=[round(time_ms, 6) for time_ms in times_ms],
        live_bytes=live_bytes,
        phases=timeline.phases,
        peak_bytes=timeline.peak_bytes,
        peak_ms=round(timeline.peak_ms, 6),
        peak_phase=timeline.peak_phase,
        peak_operation=timeline.peak_operation,
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        objectives=step.problem.objectives(spec.batch_size),
        parameters=parameter_count(step.model),
        durations_ms=durations_ms,
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        disturbed=disturbed,
    )


def _profile(step: MeasuredStep) -> Timeline:
    """Runs the step under the profiler; the first of two profiles pays for loading it."""
    for _ in range(2):
        step.clear()
        # Shapes are not recorded: keeping them keeps tensors alive and raises the peak.
        with (
            profile(
                activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=False
            ) as prof,
            record_function(STEP),
        ):
            step.run()
    step.clear()
    return read_timeline(prof)


def _time(step: MeasuredStep, repeats: int) -> tuple[list[float], bool]:
    """Times steps without a profiler.

    Returns:
        Milliseconds of each step, and whether they waited for a core.
    """
    durations_ms: list[float] = []
    busy_s = 0.0
    # The first step after a profile takes about twice as long as the others.
    step.run()
    for _ in range(repeats):
        step.clear()
        busy_start_s, start_s = time.process_time(), time.perf_counter()
        step.run()
        durations_ms.append((time.perf_counter() - start_s) * 1e3)
        busy_s += time.process_time() - busy_start_s
    step.clear()
    return durations_ms, busy_s * 1e3 < UNDISTURBED_SHARE * sum(durations_ms)


def _limit_memory(limit_bytes: int) -> None:
    """Lets the process allocate so much more than it has, where the system can do that.

    Torch reserves address space that it never uses, so the limit is on data (Linux), counted from
    what is there now.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return
    import resource

    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    present = int(lines["VmData"].split()[0]) * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = present + limit_bytes
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _end_with_parent() -> None:
    """Waits for the end of the request's stream in a thread, then ends the process."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Measures what a request asks for.

    Args:
        request: Specification and memory limit.

    Returns:
        The answer, ready for JSON.
    """
    spec = MeasureSpec.from_dict(request["spec"])
    try:
        return {"measurement": measure_here(spec, request["memory_limit_bytes"]).to_dict()}
    except MemoryError:
        return {"error": "memory", "message": ""}
    except Exception as error:  # the parent turns whatever happened into a sentence
        # Torch reports a refused allocation as a plain RuntimeError.
        kind = "memory" if "allocate memory" in str(error) else "step"
        return {"error": kind, "message": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Reads the request from standard input and writes the answer to standard output."""
    # Whatever else prints, in Python or below, goes to the error stream and not into the answer.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        request = b""
        while not request.endswith(b"\n"):
            # Unbuffered, so that nothing but the request is taken from the stream.
            part = os.read(0, 65536)
            if not part:
                sys.exit(1)
            request += part
        _end_with_parent()
        json.dump(answer(json.loads(request)), out)


if __name__ == "__main__":
    main()
