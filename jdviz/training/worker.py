"""The worker process: one run, from its first step to its last, outside the server.

Protocol, one JSON object a line. In: first the job `{"run", "config", "store", "pace", "paused",
"max_seconds"}`, then `{"command": "pause" | "resume" | "step" | "stop"}` or `{"pace": steps per
second}`. Out:
`{"event": "ready"}` once torch is loaded, `{"event": "status", "status", "message"}` on a change.
When its input ends, the server is gone, and so is the worker.
"""

import json
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

import torch

from engines.errors import EngineError
from jdviz.problems import ProblemError
from jdviz.runs import RunStore, StoreError
from jdviz.training import ConfigError, RunConfig, StepRecord, warm_up
from jdviz.training.checkpoints import CHECKPOINT_EVERY, MOST_BYTES, keeps_checkpoints, pack
from jdviz.training.limits import RunLimits
from jdviz.training.loop import Trainer

# As often as a page redraws: every writing costs milliseconds, whatever it writes.
FLUSH_S = 0.25
# What a run computes meanwhile is computed again from the last checkpoint as fast.
CHECKPOINT_S = 0.5
HEARTBEAT_S = 1.0
RETRY_S = 1.0
GIVE_UP_S = 20.0  # how long the last steps of a run wait for a store that refuses
GRACE_S = 2.0  # a step in flight may finish this long after the server has gone

_ENDINGS = {
    "stopped": "",
    "interrupted": "The server was closed during the run; the steps recorded until then are kept.",
}


class Worker:
    """Drives one run and obeys commands between its steps.

    Args:
        job: The first line from the server.
        commands: Later lines, in order; None when the input has ended.
        say: Sends one event to the server.
    """

    def __init__(self, job: dict[str, Any], commands: "queue.Queue[Any]", say: Any) -> None:
        self.run_id = str(job["run"])
        self.config = RunConfig.from_dict(job["config"])
        self.store = RunStore(Path(job["store"]))
        self.pace = float(job.get("pace", 0.0))
        self.paused = bool(job.get("paused", False))
        self.limits = RunLimits(max_seconds=job.get("max_seconds"))
        self.commands = commands
        self.say = say
        self.pending: list[StepRecord] = []
        self.states: list[tuple[int, bytes]] = []
        self.flushed_s = 0.0
        self.kept_s = -math.inf
        self.single = False
        self.ended = ""

    def run(self) -> None:
        """Train until the run ends, is stopped, or the server goes away."""
        self._announce("paused" if self.paused else "running")
        try:
            status, message = self._train()
        except (ConfigError, EngineError, ProblemError) as error:
            status, message = "failed", str(error)
        except Exception as error:
            traceback.print_exc()
            status, message = "failed", _plain(error)
        if self.ended:
            status, message = self.ended, _ENDINGS[self.ended]
        self._flush(limit_s=GIVE_UP_S)
        if self.pending:
            message = f"{message} The last {len(self.pending)} steps could not be written.".strip()
        self._announce(status, message)

    def _train(self) -> tuple[str, str]:
        """Make the steps; returns the final status and what there is to say about it."""
        self.config.validate()
        run, trained_s = Trainer(self.config), 0.0
        while run.step < self.config.steps and self._may_step():
            started_s = time.monotonic()
            self._keep_state(run)
            record = run.advance()
            self._keep(record)
            if record.gramian is None:
                return "diverged", run.divergence
            if run.step < self.config.steps:
                self._rest(started_s)
            trained_s += time.monotonic() - started_s
            if self.limits.max_seconds is not None and trained_s > self.limits.max_seconds:
                return "stopped", self.limits.time_is_up
        return "finished", ""

    def _may_step(self) -> bool:
        """Wait out a pause; False when the run shall end."""
        while True:
            waiting = self.paused and not self.single
            if waiting:
                self._flush()
            self._obey(block_s=HEARTBEAT_S if waiting else 0.0)
            if self.ended:
                return False
            if not self.paused or self.single:
                self.single = False
                return True
            # Quietly: a paused run that misses a heartbeat is still a paused run.
            self._try(lambda: self.store.beat(self.run_id), quiet=True)

    def _obey(self, block_s: float) -> None:
        was_paused = self.paused
        self._listen(block_s)
        if self.paused != was_paused and not self.ended:
            self._flush()
            self._announce("paused" if self.paused else "running")

    def _listen(self, block_s: float) -> None:
        """Take one command, if there is one within `block_s` seconds."""
        try:
            line = self.commands.get(timeout=block_s) if block_s else self.commands.get_nowait()
        except queue.Empty:
            return
        if line is None:
            self.ended = "interrupted"
        elif "pace" in line:
            self.pace = float(line["pace"])
        elif line["command"] == "stop":
            self.ended = "stopped"
        elif line["command"] == "step":
            self.single = self.paused
        else:
            self.paused = line["command"] == "pause"

    def _keep_state(self, run: Trainer) -> None:
        """Take a checkpoint where one is due; it is written with the step that follows."""
        if run.step % CHECKPOINT_EVERY or not keeps_checkpoints(self.config):
            return
        if time.monotonic() - self.kept_s < CHECKPOINT_S:
            return
        state = pack(run)
        if len(state) <= MOST_BYTES:
            self.states.append((run.step, state))
            self.kept_s = time.monotonic()

    def _keep(self, record: StepRecord) -> None:
        self.pending.append(record)
        if self.paused or time.monotonic() - self.flushed_s > FLUSH_S:
            self._flush()

    def _rest(self, started_s: float) -> None:
        """Keep to the pace, listening for commands meanwhile."""
        while self.pace > 0 and not self.paused and not self.ended:
            left_s = started_s + 1.0 / self.pace - time.monotonic()
            if left_s <= 0:
                return
            if time.monotonic() - self.flushed_s > FLUSH_S:
                self._flush()
            self._obey(block_s=min(left_s, FLUSH_S))

    def _flush(self, limit_s: float = math.inf) -> None:
        """Write what is pending; a store that refuses is tried again until Stop is pressed.

        Args:
            limit_s: Give up after so many seconds.
        """
        if not self.pending:
            return
        announced, end_s = False, time.monotonic() + limit_s
        while not self._try(self._write, quiet=announced):
            announced = True
            was_ended, self.ended = self.ended, ""
            self._listen(RETRY_S)
            given_up = bool(self.ended)
            self.ended = self.ended or was_ended
            if given_up or time.monotonic() > end_s:
                return
        self.pending, self.states = [], []
        self.flushed_s = time.monotonic()
        if announced:
            self._announce("paused" if self.paused else "running")

    def _write(self) -> None:
        """Write what is pending; what was written before a failure is written again."""
        self.store.append(self.run_id, self.pending)
        for step, state in self.states:
            self.store.save_checkpoint(self.run_id, step, state)

    def _try(self, write: Any, *, quiet: bool = False) -> bool:
        try:
            write()
        except StoreError as error:
            if not quiet:
                self.say({"event": "status", "status": "waiting", "message": str(error)})
            return False
        return True

    def _announce(self, status: str, message: str = "") -> None:
        self._try(lambda: self.store.set_status(self.run_id, status, message))
        self.say({"event": "status", "status": status, "message": message})


def _plain(error: Exception) -> str:
    """One sentence for an error that training did not foresee."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "A step needs more memory than there is. Choose a smaller batch or model."
    return f"Training stopped on an unexpected error: {type(error).__name__}: {error}"


def _read_commands(stream: TextIO, commands: "queue.Queue[Any]") -> None:
    for line in stream:
        if line.strip():
            commands.put(json.loads(line))
    commands.put(None)
    # The main thread may be inside one long operation; a worker never outlives its server for long.
    time.sleep(GRACE_S)
    os._exit(0)


def main() -> None:
    """Announce readiness, wait for a job, run it, exit."""
    # Only the server talks to the worker; Ctrl-C in the terminal reaches it as a closed input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    # Whatever a library prints must not end up in the protocol.
    os.dup2(2, 1)
    torch.set_num_threads(1)
    lock = threading.Lock()

    def say(event: dict[str, Any]) -> None:
        with lock:
            try:
                channel.write(json.dumps(event) + "\n")
            except BrokenPipeError:
                os._exit(0)

    commands: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_read_commands, args=(sys.stdin, commands), daemon=True).start()
    warm_up()
    say({"event": "ready"})
    job = commands.get()
    if job is None or "run" not in job:
        return
    try:
        worker = Worker(job, commands, say)
    except (ConfigError, StoreError) as error:
        say({"event": "status", "status": "failed", "message": str(error)})
        return
    worker.run()
    # All is written and said. Taking torch apart would hold this run's place for another second.
    os._exit(0)


if __name__ == "__main__":
    main()
