"""Asks a child process for futures, one question at a time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from jdviz.profiling.queue import TOLD_EVERY_S, Turnstile
from jdviz.training.children import child_environment
from jdviz.training.config import RunConfig
from jdviz.training.futures import Futures, FuturesError

TIMEOUT_S = 60.0
FEWER = "choose fewer methods or steps"

# Two questions at once would take the cores from each other and from the runs.
_QUEUE = Turnstile()


def ask_futures(
    config: RunConfig,
    checkpoint_step: int,
    checkpoint: bytes,
    step: int,
    methods: Sequence[str],
    k: int,
    *,
    equal_length: bool = False,
    timeout_s: float = TIMEOUT_S,
    watch: Callable[[str], None] | None = None,
) -> Futures:
    """Does what `counterfactual.futures` does in a process of its own, after those asked before.

    Args:
        config: The configuration of the run.
        checkpoint_step: The step before which the checkpoint was taken.
        checkpoint: The checkpoint, from this step or an earlier one.
        step: Number of the first step to take.
        methods: Keys of `engines.aggregation.METHODS`; the run's own is added where it is missing.
        k: How many steps to take, from 1 to `MAX_STEPS_AHEAD`.
        equal_length: Whether every method's first direction gets the length of the run's own.
        timeout_s: Seconds after which the process is ended; waiting for others is not counted.
        watch: Told what is going on, about twice a second; what it raises ends the question.

    Returns:
        What became of the losses.

    Raises:
        FuturesError: There is no answer; the message is one sentence for a person.
    """
    question = {
        "config": config.to_dict(),
        "checkpoint_step": checkpoint_step,
        "step": step,
        "methods": list(methods),
        "k": k,
        "equal_length": equal_length,
        "bytes": len(checkpoint),
    }
    tell: Callable[[str], None] = watch or (lambda _: None)

    def told(before: int) -> None:
        tell(f"Waiting, {before} {'question is' if before == 1 else 'questions are'} before this")

    with _QUEUE.turn(told):
        answer, returncode = _run_child(question, checkpoint, timeout_s, tell)
    if "found" in answer:
        return Futures.from_dict(answer["found"])
    if "error" in answer:
        raise FuturesError(answer["error"])
    if returncode is None:
        raise FuturesError(
            f"The steps ahead were not found within {timeout_s:g} s, the time limit; {FEWER}."
        )
    if returncode == -signal.SIGKILL:
        raise FuturesError(
            "The process that takes the steps was ended by the system, most likely for lack of "
            f"memory; {FEWER}."
        )
    status = f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
    raise FuturesError(
        f"The process that takes the steps ended without a result ({status}); try again."
    )


def _run_child(
    question: dict[str, Any], checkpoint: bytes, timeout_s: float, tell: Callable[[str], None]
) -> tuple[dict[str, Any], int | None]:
    """Starts the child, hands it the question and waits for its end.

    Returns:
        The answer, empty where there is none, and the exit status, None after the time was up.
    """
    # A file takes the answer whatever its length while the parent only waits.
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(
            # -P: the packages come from PYTHONPATH and never from the folder the server runs in.
            [sys.executable, "-P", "-m", "jdviz.training.futures_child"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
            env=child_environment(threads=1),
            start_new_session=True,
        )
        content = json.dumps(question).encode() + b"\n" + checkpoint
        # Beside the wait: a child that does not read must run out of time too.
        sending = threading.Thread(target=_send, args=(child, content), daemon=True)
        try:
            sending.start()
            returncode = _wait_for(child, timeout_s, tell)
        finally:
            # Also when the server is being stopped: a child never outlives this call.
            _end(child, sending)
        out.seek(0)
        try:
            answer = json.loads(out.read())
        except ValueError:
            # A child that was ended while writing gave no answer.
            answer = {}
        return answer, returncode


def _send(child: subprocess.Popen[bytes], content: bytes) -> None:
    """Writes the question and leaves the stream open: its end tells the child to end."""
    # A child that ended at once breaks the pipe; its exit status says more.
    with contextlib.suppress(BrokenPipeError):
        if child.stdin is not None:
            child.stdin.write(content)
            child.stdin.flush()


def _wait_for(
    child: subprocess.Popen[bytes], timeout_s: float, tell: Callable[[str], None]
) -> int | None:
    """Waits for the end of a child; its exit status, or None when the time is up."""
    begin_s = time.monotonic()
    while (left_s := begin_s + timeout_s - time.monotonic()) > 0:
        try:
            return child.wait(min(TOLD_EVERY_S, left_s))
        except subprocess.TimeoutExpired:
            tell(f"Taking the steps, {time.monotonic() - begin_s:.0f} s")
    return None


def _end(child: subprocess.Popen[bytes], sending: threading.Thread) -> None:
    """Ends the child and closes the stream to it."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if sending.ident is not None:
        sending.join()
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
