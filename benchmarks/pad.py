"""How long after a pointer has moved the Directions page shows the gradient that it drags."""

import time
from dataclasses import dataclass

from playwright.sync_api import Browser, Page

from benchmarks.serving import Server
from benchmarks.visitors import visit
from jdviz.profiling import MeasurementError

WAIT_MS = 60_000
MOVES = 40
_FLOW_MOVES, _FLOW_PAUSE_S = 120, 1 / 60
_PLANE = ".st-key-plot-directions"

# Both times are the browser's own. A frame is asked for so that the figure is on the screen.
_WATCH = """() => {
  const canvas = document.querySelector("%s .live-plot-canvas");
  window.painted = [];
  canvas.on("plotly_afterplot", () => window.painted.push(performance.now()));
  window.addEventListener("pointermove", () => (window.moved = performance.now()), true);
}"""


@dataclass(frozen=True)
class PadTimes:
    """What was measured.

    Attributes:
        redrawn_ms: From a move of the pointer to the figure that shows it, a value for each move.
        redraws_per_s: Redraws a second while the pointer moves without a pause.
    """

    redrawn_ms: list[float]
    redraws_per_s: float


def measure_pad(browser: Browser, server: Server, rounds: int) -> PadTimes:
    """Drag a gradient.

    Args:
        browser: Drives the visitor.
        server: The app, running.
        rounds: How many times forty moves are made, each after the answer to the one before.

    Raises:
        MeasurementError: If the page has nothing to drag.
    """
    with visit(browser) as page:
        page.goto(f"{server.url}/directions")
        page.locator(".st-key-plot-gramian .main-svg").first.wait_for(timeout=WAIT_MS)
        time.sleep(2.0)  # what a page still does after its last figure
        page.evaluate(_WATCH % _PLANE)
        x, y = _grab(page)
        redrawn_ms = [
            _one_move(page, x + 3 * (count % 12), y + 4 * (count % 7))
            for _ in range(rounds)
            for count in range(1, MOVES + 1)
        ]
        before, began_s = page.evaluate("window.painted.length"), time.perf_counter()
        for count in range(_FLOW_MOVES):
            page.mouse.move(x + 3 * (count % 12), y + 4 * (count % 7))
            time.sleep(_FLOW_PAUSE_S)
        took_s = time.perf_counter() - began_s
        drawn = page.evaluate("window.painted.length") - before
        page.mouse.up()
    return PadTimes(redrawn_ms, drawn / took_s)


def _grab(page: Page) -> tuple[float, float]:
    """Take the last gradient; where the pointer is now."""
    box = page.locator(f"{_PLANE} .handles-knob").last.bounding_box()
    if box is None:
        raise MeasurementError("The Directions page has no gradient that can be dragged.")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    return x, y


def _one_move(page: Page, x: float, y: float) -> float:
    before = page.evaluate("window.painted.length")
    page.mouse.move(x, y)
    page.wait_for_function(f"window.painted.length > {before}", timeout=WAIT_MS)
    took = page.evaluate(f"window.painted[{before}] - window.moved")
    # What follows the figure, the bars for instance, is not in the way of the next move.
    page.wait_for_timeout(100)
    return float(took)
