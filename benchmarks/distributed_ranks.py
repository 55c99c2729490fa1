"""Starts the ranks of a measurement on this machine, and ends them all whatever happens."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO, Any

from torch import distributed

from benchmarks.distributed_rank import Measured
from jdviz.profiling import MeasurementError
from jdviz.training.children import child_environment

#: How often the ranks are looked at; seldom, as looking takes time on their cores.
LOOK_EVERY_S = 0.1
MODULE = "benchmarks.distributed_rank"


@dataclass(frozen=True, eq=False)
class _Rank:
    """A process and the file that takes its answer."""

    process: subprocess.Popen[bytes]
    out: IO[bytes]

    def answer(self) -> dict[str, Any]:
        """What it answered, empty where it gave no answer."""
        self.out.seek(0)
        try:
            found = json.loads(self.out.read())
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def end(self) -> None:
        """Ends the process and whatever it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()


def run_ranks(
    request: Mapping[str, Any], ranks: int, timeout_s: float, module: str = MODULE
) -> list[Measured]:
    """Starts so many processes, which find each other on the loopback address.

    Args:
        request: As `benchmarks.distributed_rank` says, without `rank`, `ranks`, `port` and
            `timeout_s`.
        ranks: How many.
        timeout_s: After so many seconds all of them are ended.
        module: What each of them runs.

    Returns:
        What each rank found, in order.

    Raises:
        MeasurementError: A rank failed, ended without an answer, or the time was up. None of them
            is left.
    """
    # The system chooses the port, and it is taken from the moment it is known.
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    whole = {**request, "ranks": ranks, "port": store.port, "timeout_s": timeout_s}
    with ExitStack() as opened:
        started = []
        for rank in range(ranks):
            out = opened.enter_context(tempfile.TemporaryFile())
            started.append(_start({**whole, "rank": rank}, module, out))
            opened.callback(started[-1].end)
        _wait(started, timeout_s)
        return [Measured(**rank.answer()) for rank in started]


def _start(request: Mapping[str, Any], module: str, out: IO[bytes]) -> _Rank:
    """Starts a rank and hands it its request; the stream stays open."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=subprocess.DEVNULL,
        env={**child_environment(request["threads"]), **_interface(request["device"])},
        start_new_session=True,
    )
    if process.stdin is not None:
        # A rank that ended at once breaks the pipe; its exit status says more.
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
    return _Rank(process, out)


def _interface(device: str) -> dict[str, str]:
    """Tells gloo to talk over the loopback device; a host name may lead it elsewhere."""
    if device != "cpu" or "GLOO_SOCKET_IFNAME" in os.environ:
        return {}
    return {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}


def _wait(started: Sequence[_Rank], timeout_s: float) -> None:
    """Waits until every rank has answered, or the first trouble."""
    end_s = time.monotonic() + timeout_s
    while True:
        codes = [rank.process.poll() for rank in started]
        ended = {rank: code for rank, code in enumerate(codes) if code is not None}
        wrong = {rank: code for rank, code in ended.items() if code or not started[rank].answer()}
        if wrong:
            raise _trouble(started, wrong)
        if len(ended) == len(started):
            return
        if time.monotonic() >= end_s:
            late = [str(rank) for rank in range(len(started)) if rank not in ended]
            raise MeasurementError(
                f"Rank {' and '.join(late)} gave no result within {timeout_s:g} s, the time limit; "
                "give more with --timeout, or a smaller batch.",
                "time",
            )
        time.sleep(LOOK_EVERY_S)


def _trouble(started: Sequence[_Rank], codes: Mapping[int, int]) -> MeasurementError:
    """Says what went wrong first: the others fail only because one did."""
    failed = {rank: started[rank].answer() for rank in codes}
    silent = [rank for rank, answer in failed.items() if "error" not in answer]
    if silent:
        code = codes[silent[0]]
        status = f"signal {-code}" if code < 0 else f"exit status {code}"
        return MeasurementError(
            f"Rank {silent[0]} of {len(started)} ended without a result ({status}), so the others "
            "were ended too; try again.",
            "ended",
        )
    first = min(failed, key=lambda rank: float(failed[rank]["at_s"]))
    said = str(failed[first]["error"]).rstrip(".: ")
    return MeasurementError(f"Rank {first} of {len(started)} failed with {said}.", "step")
