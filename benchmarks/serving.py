"""The app on a free port of this machine, with a data folder of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT_S = 120.0


class Server:
    """A running server; leaving the context ends it.

    Args:
        data: Folder for the run store and the server's log.
        workers: How many runs train at once.
        script: What is served; the app if None.
        arguments: What stands behind the `--`.

    Raises:
        TimeoutError: If it does not answer in time.
    """

    def __init__(
        self,
        data: Path,
        *,
        workers: int = 1,
        script: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.data = data
        with (data / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "streamlit", "run", str(script or "app.py")),
                    *("--server.port", str(port), "--server.headless", "true"),
                    *("--", *arguments),
                ],
                cwd=ROOT,
                env={**os.environ, "JDVIZ_DATA": str(data), "JDVIZ_WORKERS": str(workers)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    def _wait(self) -> None:
        end_s = time.monotonic() + START_LIMIT_S
        while not self.answers():
            if time.monotonic() > end_s or self.process.poll() is not None:
                self.close()
                raise TimeoutError(f"the server did not answer; see {self.data / 'server.log'}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether the server says that it is well."""
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        """End the server, and with it its workers."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
