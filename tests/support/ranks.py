"""Processes of one gloo group on the loopback address, kept for many tests.

A process that loads torch takes seconds to start, so ranks are forked from one that has loaded it,
and they stay between calls, where the next test finds them ready. Nothing here waits without a
limit: a rank that dies is seen at once, one that hangs is killed by its number. Each rank runs
`tests.support.rank_process`; calls and answers travel as pickled bytes, tensors by value.
"""

import os
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe, get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tests.support.rank_process import Settings, answer_calls
from tests.support.waiting import wait_until

# The process that ranks are forked from: it has loaded what tests of groups use, and run nothing.
_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["pytest", "engines.autogram", "tests.support.rank_process"])
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
# How long the others may go on once a rank has failed, and how long ranks may take to end.
GRACE_S = 2.0

# What a rank answers: ("value", it), ("error", type, message), ("died", exit code).
Answer = tuple[Any, ...]


class RanksError(AssertionError):
    """A rank raised, died or did not answer in time; the message has what is known of every one."""


class Ranks:
    """A group of processes that call the same function at the same time.

    Args:
        world_size: How many ranks.
        timeout_s: After how long an operation of the group fails in a rank that waits for others.
        limit_s: After how long a call is given up and its processes are killed.

    Example:
        `Ranks(2).run(function, 3)` calls `function(rank, 2, 3)` in both, where `function` is one of
        a module, and the default group is initialised.
    """

    def __init__(self, world_size: int, timeout_s: float = 30.0, limit_s: float = 90.0) -> None:
        self.world_size = world_size
        self.timeout_s = timeout_s
        self.limit_s = limit_s
        self._members: list[_Member] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def run(
        self, function: Callable[..., Any], *args: Any, allow_failure: bool = False
    ) -> list[Any]:
        """Call a function in every rank.

        Args:
            function: Of a module; called as `function(rank, world_size, *args)`.
            args: What can be pickled, the same for every rank.
            allow_failure: Whether failures are answers; else they raise.

        Returns:
            What the ranks returned, in rank order. With `allow_failure` for each rank one of
            `("value", value)`, `("error", type name, message)` and `("died", exit code)`, the last
            negative for a signal.

        Raises:
            RanksError: A rank did not answer in time, or, without `allow_failure`, raised or died.
                The next call finds new processes.
        """
        try:
            answers = self._asked(
                pickle.dumps((function, args)), None if allow_failure else GRACE_S
            )
        except BaseException:
            self.close()  # an answer that comes after a test was given up is not the next one's
            raise
        if any(answer is None or answer[0] != "value" for answer in answers):
            message = self._report(answers)
            self.close()
            if not allow_failure or None in answers:
                raise RanksError(message)
        if allow_failure:
            return [answer[:3] for answer in answers if answer is not None]
        return [answer[1] for answer in answers if answer is not None]

    def close(self) -> None:
        """End all processes; none is left after it."""
        for member in self._members:
            member.end()
        self._members = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _start(self) -> None:
        """New processes; they meet at a file, as a port could be someone else's."""
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-")
        folder = Path(self._folder.name)
        self._members = [
            _Member(rank, self.world_size, self.timeout_s, folder)
            for rank in range(self.world_size)
        ]

    def _asked(self, call: bytes, grace_s: float | None) -> "list[Answer | None]":
        """The answers to a call, None from whom there was none when time was up.

        With `grace_s`, time is up so many seconds after the first failure.
        """
        if not self._members:
            self._start()
        for member in self._members:
            member.send(call)
        answers: list[Answer | None] = [None] * self.world_size
        end_s = time.monotonic() + self.limit_s
        while None in answers and (left_s := end_s - time.monotonic()) > 0:
            silent = [rank for rank, answer in enumerate(answers) if answer is None]
            ready = wait([self._members[rank].pipe for rank in silent], left_s)
            for rank in silent:
                if self._members[rank].pipe in ready:
                    answer = answers[rank] = self._members[rank].answer()
                    if answer[0] != "value" and grace_s is not None:
                        end_s = min(end_s, time.monotonic() + grace_s)
        return answers

    def _report(self, answers: "list[Answer | None]") -> str:
        """What is known of every rank, with tracebacks."""
        for member, answer in zip(self._members, answers, strict=True):
            if answer is None:
                member.show_stack()
        parts = []
        for rank, (member, answer) in enumerate(zip(self._members, answers, strict=True)):
            if answer is None:
                parts.append(f"rank {rank} did not answer and was killed here:\n{member.said()}")
            elif answer[0] == "died":
                parts.append(f"rank {rank} died with exit code {answer[1]}:\n{member.said()}")
            elif answer[0] == "error":
                parts.append(f"rank {rank} raised {answer[1]}: {answer[2]}\n{answer[3]}")
            else:
                parts.append(f"rank {rank} returned")
        return "\n".join(["got ranks that failed:", *parts])


class _Member:
    """One process, and the pipe to it."""

    def __init__(self, rank: int, world_size: int, timeout_s: float, folder: Path) -> None:
        self.pipe, theirs = Pipe()
        self._error = folder / f"{rank}.txt"
        self._error.touch()
        settings = Settings(
            rank, world_size, timeout_s, str(folder / "store"), str(self._error), LOOPBACK
        )
        self._process = _FORKS.Process(target=answer_calls, args=(theirs, settings), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, call: bytes) -> None:
        """Hand a call on; a dead process is noticed when its answer is read."""
        try:
            self.pipe.send_bytes(call)
        except BrokenPipeError:
            return

    def answer(self) -> Answer:
        """What the process answered, or that it died."""
        try:
            found: Answer = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            self._process.join(GRACE_S)
            return ("died", self._process.exitcode)
        return found

    def show_stack(self) -> None:
        """Have a process that hangs write where it is, whatever it waits for."""
        before = self.said()
        if self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGUSR1)
        with suppress(TimeoutError):
            wait_until(lambda: self.said() != before, "a stack", GRACE_S)

    def said(self) -> str:
        """The last of what the process wrote."""
        return self._error.read_text(errors="replace")[-4000:]

    def end(self) -> None:
        """Let the process end, and kill it if it does not."""
        self.pipe.close()
        self._process.join(GRACE_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
