"""Start, stop, reload, close, again and again: does the server stay as it was?"""

import re
import subprocess
import sys
import time
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, expect

from benchmarks.protocol import open_tab
from benchmarks.serving import Server
from jdviz.profiling import MeasurementError

WAIT_MS = 60_000
TOLD_EVERY = 10
# To load the page twice takes a browser four times as long as all that the server does in a visit.
BROWSER_EVERY = 10
QUERY = "t_steps=5000&t_pace=calm"
STANDING = r"Step [\d,]+ of|Starting a worker|in the queue"
SETTLED = 50  # by then everything that is loaded once is loaded


@dataclass(frozen=True)
class Soak:
    """What the cycles left behind.

    Attributes:
        cycles: How many there were.
        seconds: How long they took.
        memory_bytes: Resident memory of the server after each cycle.
        processes: The server's child processes at the end, once the last visitor was gone.
    """

    cycles: int
    seconds: float
    memory_bytes: list[int]
    processes: int

    @property
    def growth(self) -> float:
        """Memory at the end ÷ memory once settled, the median of ten cycles each."""
        settled = sorted(self.memory_bytes[SETTLED - 10 : SETTLED])[5]
        return sorted(self.memory_bytes[-10:])[5] / settled


def measure_soak(browser: Browser, server: Server, cycles: int) -> Soak:
    """Visit the Train page many times, each time with a run that is stopped.

    Args:
        browser: Makes every tenth visit; a Chromium. The others speak as a tab does, without one.
        server: Running.
        cycles: How many visits, more than 60.

    Returns:
        What was left.

    Raises:
        MeasurementError: Fewer cycles than say anything.
    """
    if cycles <= SETTLED + 10:
        raise MeasurementError(
            f"got {cycles} cycles, expected more than {SETTLED + 10}; the first {SETTLED} settle."
        )
    memory_bytes = []
    began_s = time.monotonic()
    # One browser whose tabs come and go. Drawing is left out: it takes time in the browser
    # alone, and what is looked at here is the server.
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    for count in range(1, cycles + 1):
        if count % BROWSER_EVERY:
            _visit(server.url)
        else:
            _visit_in(context, server.url)
        memory_bytes.append(_resident_bytes(server.process.pid))
        if count % TOLD_EVERY == 0:
            # A soak that is cut off has told how far it came.
            sys.stderr.write(
                f"visit {count} of {cycles}: {time.monotonic() - began_s:.0f} s, "
                f"{memory_bytes[-1] / 2**20:.0f} MiB\n"
            )
    context.close()
    seconds = time.monotonic() - began_s
    time.sleep(15.0)  # the last visitor's session and worker end
    return Soak(cycles, seconds, memory_bytes, _children(server.process.pid))


def _visit(url: str) -> None:
    """Start, stop, close and open again, without a browser."""
    with open_tab(url, "train", QUERY) as tab:
        tab.press("start")
        tab.wait_for(STANDING)
        tab.press("stop")
        tab.wait_for("stopped")
        query = tab.query
    with open_tab(url, "train", query) as tab:
        tab.wait_for("stopped")


def _visit_in(context: BrowserContext, url: str) -> None:
    """The same in a tab of a browser."""
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    protocol = context.new_cdp_session(page)
    protocol.send("Network.enable")
    protocol.send("Network.setBlockedURLs", {"urls": ["*plotly*"]})
    page.goto(f"{url}/train?{QUERY}", wait_until="commit")
    page.locator(".st-key-start button").click()
    page.get_by_text(re.compile(STANDING)).first.wait_for()
    page.locator(".st-key-stop button:enabled").click()
    expect(page.get_by_text(re.compile("stopped")).first).to_be_visible(timeout=WAIT_MS)
    page.reload(wait_until="commit")
    page.locator("h1").first.wait_for()
    page.close()


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; `ps` counts in KiB on Linux and macOS."""
    told = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return 1024 * int(told.stdout)


def _children(pid: int) -> int:
    """How many child processes a process has, zombies included."""
    told = subprocess.run(["ps", "-e", "-o", "ppid="], capture_output=True, text=True, check=True)
    return told.stdout.split().count(str(pid))
