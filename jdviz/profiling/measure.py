"""Runs measurements in child processes, one at a time, and takes their answers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from jdviz.profiling.queue import TOLD_EVERY_S, Turnstile
from jdviz.profiling.results import Comparison, Failure, Inspection, Measurement, Times
from jdviz.profiling.spec import METHOD_LABELS, MeasurementError, MeasureSpec
from jdviz.training.children import child_environment

SMALLER = "choose a smaller batch or model"
TIMEOUT_S = 120.0
# How long a time pass waits for training runs to end.
PATIENCE_S = 60.0
_GIBIBYTE = 2**30

#: Called with what is going on, about twice a second; what it raises ends the measurement.
Watch = Callable[[str], None]

# Two measurements at once would disturb each other's times, and share the memory both count on.
_QUEUE = Turnstile()


@dataclass(frozen=True)
class Limits:
    """What a child process may take.

    Attributes:
        memory_bytes: Bytes that it may allocate for model, batch and step; None sets no limit.
            Only Linux keeps to it, on a GPU every system.
        timeout_s: Seconds after which it is ended; waiting for another is not counted.
    """

    memory_bytes: int | None = None
    timeout_s: float = TIMEOUT_S


def measure(
    spec: MeasureSpec, limits: Limits | None = None, watch: Watch | None = None
) -> Measurement:
    """Measures the memory of a step in a fresh process; waits while another measurement runs.

    A process of its own keeps the server alive whatever the step does: the profiler allows one
    user per process, a crash stays in the child, and its memory is given back whole.

    Args:
        spec: What to measure.
        limits: What the child may take.
        watch: Told what is going on.

    Returns:
        The measurement; two of the same specification on one machine agree in all bytes.

    Raises:
        MeasurementError: The specification is not valid, or the child gave no result; the message
            is one sentence for a person.
    """
    spec.validate()
    request = {"kind": "memory", "spec": spec.to_dict(), "device": spec.device}
    what = f"{METHOD_LABELS[spec.method]}: "
    where = f"at batch {spec.batch_size:,}"
    found = _ask(request, spec.threads, limits or Limits(), watch, what, where)
    return Measurement.from_dict(found)


def measure_times(
    specs: Sequence[MeasureSpec],
    rounds: int | None = None,
    limits: Limits | None = None,
    watch: Watch | None = None,
    quiet: Callable[[], bool] | None = None,
) -> Times:
    """Times a step by several methods, turn by turn in one fresh process without a profiler.

    Machines are noisy, and a slow minute hits all methods of a round alike, so ratios hold where
    durations do not.

    Args:
        specs: What to time; they differ in their method only, at least one.
        rounds: How often each; None for as many as fit in ten seconds, from 7 to 100.
        limits: What the child may take.
        watch: Told what is going on.
        quiet: Whether nothing else uses the cores. It is waited for, a minute at most; what was
            disturbed all the same is labelled.

    Returns:
        The durations.

    Raises:
        MeasurementError: A specification is not valid, they differ in more than their method, or
            the child gave no result.
    """
    for spec in specs:
        spec.validate()
    if len({replace(spec, method="sgd") for spec in specs}) != 1:
        raise MeasurementError(
            f"got {len(specs)} specifications, expected at least one, and that they differ in "
            "their method only; time others apart."
        )
    calm = _wait_until(quiet, watch)
    request = {
        "kind": "times",
        "specs": [spec.to_dict() for spec in specs],
        "rounds": rounds,
        "device": specs[0].device,
    }
    where = f"at batch {specs[0].batch_size:,}"
    found = _ask(request, specs[0].threads, limits or Limits(), watch, "Timing: ", where)
    times = Times.from_dict(found)
    if not times.disturbed and (not calm or (quiet is not None and not quiet())):
        return replace(
            times, disturbed="Training runs used the cores meanwhile, so times may be longer."
        )
    return times


def compare(
    specs: Sequence[MeasureSpec],
    rounds: int | None = None,
    limits: Limits | None = None,
    watch: Watch | None = None,
    quiet: Callable[[], bool] | None = None,
) -> Comparison:
    """Measures a step by several methods: the memory of each, then times of those that gave one.

    Args:
        specs: What to measure; they differ in their method only.
        rounds: As for `measure_times`; 0 leaves times out.
        limits: What every child may take.
        watch: As for `measure`.
        quiet: As for `measure_times`.

    Returns:
        What was found. A method that fails is named with its reason, the others stand.

    Raises:
        MeasurementError: A specification is not valid.
    """
    measurements: list[Measurement] = []
    failures: list[Failure] = []
    for spec in specs:
        spec.validate()
    for spec in specs:
        try:
            measurements.append(measure(spec, limits, watch))
        except MeasurementError as error:
            failures.append(Failure(spec, error.kind, str(error)))
    times = None
    timed = [one.spec for one in measurements]
    if timed and rounds != 0:
        try:
            times = measure_times(timed, rounds, limits, watch, quiet)
        except MeasurementError as error:
            failures.append(Failure(timed[0], error.kind, str(error)))
    return Comparison(measurements, times, failures)


def inspect(
    problem: str,
    size: str | None = None,
    batch_size: int | None = None,
    threads: int = 1,
    limits: Limits | None = None,
) -> Inspection:
    """Reads what is known of a problem without taking a step, in a fresh process.

    Args:
        problem: Name of a subject.
        size: Its model size, its own default if None.
        batch_size: Samples in the batch, its own default if None.
        threads: Threads that torch may use.
        limits: What the child may take.

    Returns:
        What was found.

    Raises:
        MeasurementError: It cannot be built; the message is one sentence for a person.
    """
    request = {"kind": "inspection", "problem": problem, "size": size, "batch_size": batch_size}
    return Inspection.from_dict(ask_aside(request, threads, limits or Limits()))


def measuring() -> bool:
    """Says whether a measurement is running in this process at the moment."""
    return _QUEUE.busy


def ask_aside(request: Mapping[str, Any], threads: int, limits: Limits) -> Any:
    """Asks a child for what needs neither the queue nor quiet: it yields the cores to others.

    Args:
        request: As `jdviz.profiling.child` says, without limit and threads.
        threads: Threads that torch may use.
        limits: What the child may take.

    Returns:
        What it found.

    Raises:
        MeasurementError: It gave no result.
    """
    whole = {**request, "memory_limit_bytes": limits.memory_bytes, "threads": threads}
    answer, returncode = _run_child(whole, limits.timeout_s, threads, lambda: None, yielding=True)
    if "found" in answer:
        return answer["found"]
    raise _error(answer, returncode, limits, f"{request['problem']}: ", "")


def _ask(
    request: Mapping[str, Any],
    threads: int,
    limits: Limits,
    watch: Watch | None,
    what: str,
    where: str,
) -> Any:
    """Waits for its turn, runs the child and returns what it found."""
    whole = {**request, "memory_limit_bytes": limits.memory_bytes, "threads": threads}
    tell: Watch = watch or (lambda _: None)

    def told(before: int) -> None:
        waiting = "one measurement is" if before == 1 else f"{before} measurements are"
        tell(f"{what}waiting, {waiting} before this one")

    with _QUEUE.turn(told):
        begin_s = time.monotonic()

        def running() -> None:
            tell(f"{what}measuring {where}, {time.monotonic() - begin_s:.0f} s")

        answer, returncode = _run_child(whole, limits.timeout_s, threads, running)
    if "found" in answer:
        return answer["found"]
    raise _error(answer, returncode, limits, what, where)


def _wait_until(quiet: Callable[[], bool] | None, watch: Watch | None) -> bool:
    """Waits until nothing else uses the cores, or patience ends; whether nothing does."""
    end_s = time.monotonic() + PATIENCE_S
    while quiet is not None and not quiet():
        if time.monotonic() >= end_s:
            return False
        if watch is not None:
            watch("Timing: waiting for the training runs on this server to end")
        time.sleep(TOLD_EVERY_S)
    return True


def _run_child(
    request: Mapping[str, Any],
    timeout_s: float,
    threads: int,
    running: Callable[[], None],
    *,
    yielding: bool = False,
) -> tuple[dict[str, Any], int | None]:
    """Starts the child, hands it the request and waits for its end.

    Returns:
        The answer, empty where there is none, and the exit status, None after the time was up.
    """
    # A file takes the answer whatever its length while the parent only waits.
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(
            # -P: the packages come from PYTHONPATH and never from the folder the server runs in.
            [sys.executable, "-P", "-m", "jdviz.profiling.child"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
            env=child_environment(threads),
            start_new_session=True,
        )
        try:
            if yielding:
                _yield_cores(child.pid)
            _send(child.stdin, request)
            returncode = _wait_for(child, timeout_s, running)
        finally:
            # Also when the server is being stopped: a child never outlives this call.
            _end(child)
        out.seek(0)
        return _parse(out.read()), returncode


def _yield_cores(pid: int) -> None:
    """Lets a child run only where nothing else wants to, where the system can do that."""
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, 19)


def _wait_for(
    child: subprocess.Popen[bytes], timeout_s: float, running: Callable[[], None]
) -> int | None:
    """Waits for the end of a child; its exit status, or None when the time is up."""
    end_s = time.monotonic() + timeout_s
    while (left_s := end_s - time.monotonic()) > 0:
        try:
            return child.wait(min(TOLD_EVERY_S, left_s))
        except subprocess.TimeoutExpired:
            running()
    return None


def _send(stream: IO[bytes] | None, request: Mapping[str, Any]) -> None:
    """Writes the request and leaves the stream open: its end tells the child to end."""
    if stream is None:
        return
    # A child that ended at once breaks the pipe; its exit status says more.
    with contextlib.suppress(BrokenPipeError):
        stream.write(json.dumps(request).encode() + b"\n")
        stream.flush()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the child and whatever it started, and closes the stream to it."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()


def _parse(text: bytes) -> dict[str, Any]:
    """Reads the answer; a child that was ended while writing gave none."""
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _error(
    answer: Mapping[str, Any], returncode: int | None, limits: Limits, what: str, where: str
) -> MeasurementError:
    """Says in one sentence why there is no result."""
    at = f" {where}" if where else ""
    limit = "" if limits.memory_bytes is None else f", limit {_size(limits.memory_bytes)}"
    kind = answer.get("error")
    if kind == "memory":
        return MeasurementError(f"{what}out of memory{at}{limit}; {SMALLER}.", "memory")
    if kind == "step":
        said = answer["message"].removesuffix(".")
        return MeasurementError(f"{what}failed{at} with {said}.", "step")
    if kind is not None:
        return MeasurementError(str(answer["message"]), kind)
    if returncode is None:
        return MeasurementError(
            f"{what}stopped{at} after {limits.timeout_s:g} s, the time limit; {SMALLER}.", "time"
        )
    if returncode == -signal.SIGKILL:
        return MeasurementError(
            f"{what}ended by the system{at}, most likely for lack of memory{limit}; {SMALLER}.",
            "memory",
        )
    if limits.memory_bytes is not None and returncode in (-signal.SIGABRT, -signal.SIGSEGV):
        # Libraries below torch do not all survive an allocation that is refused.
        return MeasurementError(
            f"{what}crashed{at}, most likely for lack of memory{limit}; {SMALLER}.", "memory"
        )
    status = f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
    return MeasurementError(
        f"{what}the measuring process ended{at} without a result ({status}); try again.", "ended"
    )


def _size(size: int) -> str:
    """A memory limit in words."""
    return f"{size / _GIBIBYTE:g} GiB" if size >= _GIBIBYTE else f"{size / 2**20:,.0f} MiB"
