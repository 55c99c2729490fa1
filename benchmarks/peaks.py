"""Peak memory of one step, profiled in a child process of its own.

Two profilers at once crash the interpreter, and what one method leaves allocated would move the
curve of the next. As a program, `python -m benchmarks.peaks REQUEST`, it is that child.
"""

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.cases import Case
from benchmarks.steps import Step, make_step, sentence
from jdviz.profiling.memory import STEP, read_timeline
from jdviz.training.children import child_environment

WARM_UPS = 2
LIMIT_S = 900.0


@dataclass(frozen=True)
class Peaks:
    """Peak memory of one method on one case.

    Attributes:
        method: Which.
        peak_bytes: One value for each child; empty if it failed.
        operation: What allocated last before the peak; "" where that is not known.
        failure: Why there is no value; "" if there is one.
    """

    method: str
    peak_bytes: tuple[int, ...]
    operation: str = ""
    failure: str = ""

    @property
    def most(self) -> int:
        """Largest of the values."""
        return max(self.peak_bytes)

    @property
    def agrees(self) -> bool:
        """Whether all children found the same number of bytes."""
        return len(set(self.peak_bytes)) == 1

    def figures(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        return {
            "peak_bytes": list(self.peak_bytes),
            "operation": self.operation,
            "failure": self.failure,
        }


def measure_peaks(case: Case, method: str, repeats: int, threads: int) -> Peaks:
    """Profile one step in fresh processes, one after the other.

    Args:
        case: What is measured.
        method: One of `benchmarks.steps.METHODS`.
        repeats: How many processes, at least 1.
        threads: Threads that torch may use.

    Returns:
        Peaks without the parameters, new gradients included.
    """
    found: list[int] = []
    operation = ""
    for _ in range(repeats):
        answer = _ask(case, method, threads)
        if "failure" in answer:
            return Peaks(method, (), failure=answer["failure"])
        found.append(answer["peak_bytes"])
        operation = answer["operation"]
    return Peaks(method, tuple(found), operation)


def measure_all(case: Case, methods: Sequence[str], repeats: int, threads: int) -> dict[str, Peaks]:
    """Profile several methods.

    Args:
        case: What is measured.
        methods: Some of `benchmarks.steps.METHODS`.
        repeats: Processes for each.
        threads: Threads that torch may use.

    Returns:
        What was found, by method.
    """
    return {method: measure_peaks(case, method, repeats, threads) for method in methods}


def _ask(case: Case, method: str, threads: int) -> dict[str, Any]:
    """Start a child and take its answer."""
    request = json.dumps({"case": asdict(case), "method": method, "threads": threads})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peaks", request],
            env=child_environment(threads),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"no end after {LIMIT_S:g} s"}
    try:
        # Whatever else writes to the stream does so before the answer.
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        if done.returncode == -signal.SIGKILL:
            return {"failure": "the system ended it, most likely for lack of memory"}
        return {"failure": f"exit status {done.returncode} without an answer"}
    return answer


def profile_here(step: Step, device: str) -> dict[str, Any]:
    """Profile one step in this process, which should have no other profiler.

    Args:
        step: What runs.
        device: "cpu" or "cuda".

    Returns:
        `peak_bytes`, the greatest running sum of the allocator's events during the step, and
        `operation`.
    """
    for _ in range(WARM_UPS):
        step.clear()
        step.run()
    step.clear()
    # The collector runs when it likes and frees blocks then, which would move the curve.
    gc.collect()
    gc.disable()
    try:
        if device == "cuda":
            return {"peak_bytes": _cuda_peak_bytes(step), "operation": ""}
        with (
            profile(
                activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=False
            ) as recorded,
            record_function(STEP),
        ):
            step.run()
    finally:
        gc.enable()
    step.clear()
    timeline = read_timeline(recorded)
    return {"peak_bytes": timeline.peak_bytes, "operation": timeline.peak_operation}


def _cuda_peak_bytes(step: Step) -> int:
    """Peak of the device's own allocator, which keeps count of every block."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step.run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def main(arguments: Sequence[str]) -> None:
    """Answer one request on standard output.

    Args:
        arguments: The request as JSON: `case`, `method` and `threads`.
    """
    request = json.loads(arguments[0])
    case = Case(**request["case"])
    torch.set_num_threads(request["threads"])
    try:
        step = make_step(case, case.build(), request["method"])
        answer = profile_here(step, case.device)
    except Exception as error:  # the parent turns whatever happened into a sentence
        answer = {"failure": sentence(error)}
    os.write(1, f"\n{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1:])
