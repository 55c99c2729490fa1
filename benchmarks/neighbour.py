"""How long a page takes to answer while another visitor's measurement runs into its limit."""

import time
from dataclasses import dataclass

from playwright.sync_api import Browser, Page

from jdviz.profiling import MeasurementError

WAIT_S = 180.0
# Its Jacobian would have 8192 × 151,306 numbers, 4.6 GiB.
HUGE = "/engines?e_size=large&e_batch=8192&e_limit=512&e_timeout=60&e_aggregator=Mean"
VISITED = "/directions"
STOPPED = "autojac: out of memory at batch 8,192, limit 512 MiB"


@dataclass(frozen=True)
class Neighbour:
    """What the two visitors saw.

    Attributes:
        alone_s: A number changed to the table of what follows from it, nothing else going on.
        beside_s: The same while the other one's measurement ran.
        opened_s: Page opened to its title by a new visitor meanwhile.
    """

    alone_s: list[float]
    beside_s: list[float]
    opened_s: list[float]


def measure_neighbour(browser: Browser, url: str, rounds: int) -> Neighbour:
    """Uses a page again and again, alone and beside a measurement that is too large.

    Args:
        browser: Drives both visitors.
        url: Of the server.
        rounds: How often the page is used alone.

    Returns:
        Seconds.

    Raises:
        MeasurementError: The measurement was not stopped at its limit.
    """
    used = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    used.goto(f"{url}{VISITED}")
    used.locator("table").first.wait_for(timeout=WAIT_S * 1000)
    used.get_by_text("Gradients as numbers").click()
    _answered_s(used)  # the first ones draw what is not there yet
    alone_s = [wait_s for _ in range(rounds) for wait_s in _answered_s(used)]
    heavy = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    heavy.goto(f"{url}{HUGE}")
    heavy.get_by_role("button", name="Measure", exact=True).click(timeout=WAIT_S * 1000)
    stopped = heavy.get_by_text(STOPPED).first
    beside_s: list[float] = []
    opened_s: list[float] = []
    end_s = time.monotonic() + WAIT_S
    while not stopped.is_visible():
        if time.monotonic() > end_s:
            raise MeasurementError(
                f"got no sentence after {WAIT_S:g} s, expected “{STOPPED}”; look at the page."
            )
        beside_s += _answered_s(used)
        opened_s.append(_opened_s(browser, url))
    heavy.context.close()
    used.context.close()
    return Neighbour(alone_s, beside_s, opened_s)


def _answered_s(page: Page) -> list[float]:
    """Seconds from another angle of a gradient, and the former again, to the changed table."""
    table = page.locator("table").first
    angle = page.locator(".st-key-d_a1 input")
    waits_s = []
    for degrees in ("25", "20"):
        before = table.inner_text()
        angle.fill(degrees)
        began_s = time.perf_counter()
        angle.press("Enter")
        while table.inner_text() == before:
            if time.perf_counter() - began_s > WAIT_S:
                raise MeasurementError("The page did not answer within three minutes; look at it.")
            time.sleep(0.01)
        waits_s.append(time.perf_counter() - began_s)
        time.sleep(0.3)  # what else follows from it
    return waits_s


def _opened_s(browser: Browser, url: str) -> float:
    """Seconds from the address to the title of a page, as a new visitor."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    began_s = time.perf_counter()
    page.goto(f"{url}{VISITED}")
    page.locator("h1").first.wait_for(timeout=WAIT_S * 1000)
    waited_s = time.perf_counter() - began_s
    context.close()
    return waited_s
