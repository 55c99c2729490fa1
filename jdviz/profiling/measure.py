"""Runs a measurement in a child process and takes its answer."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import IO, Any

from jdviz.profiling.spec import Measurement, MeasurementError, MeasureSpec
from jdviz.training.children import child_environment

SMALLER = "choose a smaller batch or model"

# Two measurements at once would disturb each other's times, and share the memory both count on.
_ONE_AT_A_TIME = threading.Lock()


def measure(
    spec: MeasureSpec, *, timeout_s: float = 120, memory_limit_bytes: int | None = None
) -> Measurement:
    """Measures a step in a fresh process; waits while another measurement of this server runs.

    A process of its own keeps the server alive whatever the step does: the profiler allows one
    user per process, a crash stays in the child, and its memory is given back whole.

    Args:
        spec: What to measure.
        timeout_s: Seconds after which the child is ended; waiting for another is not counted.
        memory_limit_bytes: Bytes that the child may allocate beyond what it holds once torch,
            model and data are loaded; None sets no limit. Only Linux keeps to it.

    Returns:
        The measurement.

    Raises:
        MeasurementError: The specification is not valid, or the child gave no result; the message
            is one sentence for a person.
    """
    spec.validate()
    request = {"spec": spec.to_dict(), "memory_limit_bytes": memory_limit_bytes}
    with _ONE_AT_A_TIME:
        answer, returncode = _run_child(request, timeout_s, spec.threads)
    if "measurement" in answer:
        return Measurement.from_dict(answer["measurement"])
    raise MeasurementError(_sentence(answer, returncode, timeout_s, memory_limit_bytes))


def measuring() -> bool:
    """Says whether a measurement is running in this process at the moment."""
    return _ONE_AT_A_TIME.locked()


def _run_child(
    request: dict[str, Any], timeout_s: float, threads: int
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
            _send(child.stdin, request)
            try:
                returncode: int | None = child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                returncode = None
        finally:
            # Also when the server is being stopped: a child never outlives this call.
            _end(child)
        out.seek(0)
        return _parse(out.read()), returncode


def _send(stream: IO[bytes] | None, request: dict[str, Any]) -> None:
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


def _sentence(
    answer: dict[str, Any], returncode: int | None, timeout_s: float, limit_bytes: int | None
) -> str:
    """Says in one sentence why there is no result."""
    if answer.get("error") == "memory":
        allowed = (
            "there is" if limit_bytes is None else f"the {limit_bytes / 2**20:,.0f} MiB allowed"
        )
        return f"The step needs more memory than {allowed}; {SMALLER}."
    if answer.get("error") == "step":
        return f"The step failed with {answer['message']}."
    if returncode is None:
        return f"The measurement took longer than {timeout_s:g} s and was ended; {SMALLER}."
    if returncode == -signal.SIGKILL:
        return f"The system ended the measurement, most likely for lack of memory; {SMALLER}."
    return f"The measuring process ended without a result (exit status {returncode}); try again."
