"""One worker process, as the server holds it."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from jdviz.training.children import child_environment


class WorkerProcess:
    """A worker process and the thread that reads its events.

    Args:
        on_ready: Called in that thread with this object once torch is loaded.
        on_status: Called in that thread with this object, a status and its message.
        on_end: Called in that thread with this object and the exit status, once.

    Attributes:
        ready: Whether it takes a job at once. For the owner to set in `on_ready`, under the lock
            that its commands are sent under.

    Raises:
        OSError: If no process can be started.
    """

    def __init__(
        self,
        on_ready: Callable[["WorkerProcess"], None],
        on_status: Callable[["WorkerProcess", str, str], None],
        on_end: Callable[["WorkerProcess", int], None],
    ) -> None:
        self.popen = subprocess.Popen(
            # -P: the packages come from PYTHONPATH and never from the folder the server runs in.
            [sys.executable, "-P", "-m", "jdviz.training.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            # One thread a worker: several runs at once must not fight over the cores.
            env=child_environment(threads=1),
            start_new_session=True,
        )
        self.ready = False
        self._on_ready = on_ready
        self._on_status = on_status
        self._on_end = on_end
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        """Write one line to the worker; a worker that is gone is noticed by its reader."""
        stdin = self.popen.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(message) + "\n")
                stdin.flush()
        except (BrokenPipeError, ValueError, OSError):
            return

    def close(self) -> None:
        """Close the worker's input, which ends it."""
        if self.popen.stdin is not None:
            try:
                self.popen.stdin.close()
            except OSError:
                # The pipe is already broken: the worker has ended by itself.
                return

    @property
    def alive(self) -> bool:
        """Whether the process runs; False already when `on_end` is called."""
        return self.popen.poll() is None

    def kill(self) -> None:
        """End the process at once, as one that has nothing to lose may be."""
        self.popen.kill()

    def join(self, timeout_s: float) -> None:
        """Wait for the process to end; after `timeout_s` seconds kill it."""
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def _read(self) -> None:
        stdout = self.popen.stdout
        try:
            if stdout is not None:
                with stdout:
                    for line in stdout:
                        self._take(line)
        finally:
            code = self.popen.wait()
            self.close()
            self._on_end(self, code)

    def _take(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            # A worker killed in the middle of a line; its end is noticed by itself.
            return
        if event["event"] == "ready":
            self._on_ready(self)
        elif event["event"] == "status":
            self._on_status(self, event["status"], event["message"])
