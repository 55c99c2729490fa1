"""A class on one server: twenty browsers, four trainings, two workers."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, Page

from benchmarks.serving import Server
from jdviz.profiling import MeasurementError

VISITORS = 20
PRESSING = 4
WAIT_S = 180.0
# Long runs at a pace that leaves the processor to the browsers; they are stopped at the end.
TRAIN = "/train?t_steps=5000&t_pace=calm"
ROUNDS = ("/", "/train", "/runs", "/lens", "/directions", "/trajectories", "/engines")
ERRORS = "[data-testid=stException], [data-testid=stAlertContentError]"


@dataclass(frozen=True)
class Class:
    """What a class saw.

    Attributes:
        arrived_s: Address to title, for each visitor in turn.
        opened_s: The same of single visits while everybody is there and runs go on.
        running: Runs that went on at once.
        queued: Places in the queue that visitors saw.
        errors: Errors that any page showed.
        mixed: Visitors who saw a run that was not theirs.
    """

    arrived_s: list[float]
    opened_s: list[float]
    running: int
    queued: list[int]
    errors: int
    mixed: int


def measure_class(browser: Browser, server: Server) -> Class:
    """Let a class arrive, some of it train, and the rest look around.

    Args:
        browser: Drives every visitor, each in a context of its own.
        server: Started with two workers and `--shared`.

    Returns:
        What was seen.

    Raises:
        MeasurementError: A page or a run did not come within three minutes.
    """
    with ExitStack() as stack:
        pages = [stack.enter_context(visit(browser)) for _ in range(VISITORS)]
        # One after the other: the browsers have the same cores as the server.
        arrived_s = [_opened_s(page, f"{server.url}{TRAIN}") for page in pages]
        for page in pages:
            page.locator(".st-key-start button").wait_for()
        training = pages[:PRESSING]
        for page in training:
            page.locator(".st-key-start button").click()
        _wait(
            lambda: (
                sum(_steps(page) > 0 for page in training) == 2
                and sum(bool(_places(page)) for page in training) == PRESSING - 2
            ),
            "two runs to go on and two to wait",
        )
        opened_s = [
            _opened_s(page, f"{server.url}{ROUNDS[visitor % len(ROUNDS)]}")
            for visitor, page in enumerate(pages[PRESSING:])
        ]
        runs = [found.group(1) for page in training if (found := _run(page.url))]
        strangers = [page for page in pages[PRESSING:] if _run(page.url)]
        seen = Class(
            arrived_s,
            opened_s,
            running=sum(_steps(page) > 0 for page in training),
            queued=sorted(place for page in training for place in _places(page)),
            errors=sum(page.locator(ERRORS).count() for page in pages),
            mixed=len(strangers) + PRESSING - len(set(runs)),
        )
        for page in training:
            page.locator(".st-key-stop button").click()
        return seen


@contextmanager
def visit(browser: Browser) -> Iterator[Page]:
    """A visitor with an empty browser of their own.

    Args:
        browser: Drives the visitor.

    Yields:
        An empty page.
    """
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    try:
        page = context.new_page()
        page.set_default_timeout(WAIT_S * 1000)
        yield page
    finally:
        context.close()


def _opened_s(page: Page, address: str) -> float:
    """Seconds from an address to the title of its page."""
    began_s = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator("h1").first.wait_for()
    return time.perf_counter() - began_s


def _wait(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end_s:
            raise MeasurementError(f"got nothing after {WAIT_S:g} s, expected {what}; try again.")
        time.sleep(0.1)


def _run(address: str) -> re.Match[str] | None:
    return re.search(r"t_run=([\w-]+)", address)


def _steps(page: Page) -> int:
    found = re.search(r"Step ([\d,]+) of", page.inner_text("body"))
    return int(found.group(1).replace(",", "")) if found else 0


def _places(page: Page) -> list[int]:
    found = re.search(r"place (\d+) of \d+ in the queue", page.inner_text("body"))
    return [int(found.group(1))] if found else []
