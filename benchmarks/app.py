"""How long a visitor waits, and whether the server bears a class and a long day."""

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.neighbour import measure_neighbour
from benchmarks.opening import measure_opening
from benchmarks.pad import measure_pad
from benchmarks.report import Report
from benchmarks.serving import Server
from benchmarks.soak import SETTLED, measure_soak
from benchmarks.throughput import measure_throughput
from benchmarks.visitors import VISITORS, measure_class
from jdviz.profiling import MeasurementError
from tests.support.browser import find_chromium, launch

WAIT_S = 60.0
Rows = list[list[str]]


def measure_app(parts: Sequence[str], rounds: int, cycles: int) -> Report:
    """Use the app in a headless browser.

    Args:
        parts: Some of waits, pages, pad, rate, class and soak.
        rounds: How often Start is pressed and every page is opened.
        cycles: How many visits the soak has.

    Returns:
        Seconds, with the least and the greatest of the rounds, and what the parts count.

    Raises:
        MeasurementError: If there is no browser, or the app does not come as far.
    """
    if find_chromium() is None:
        raise MeasurementError("The app is measured in Chromium or Chrome; install one of them.")
    rows: Rows = []
    figures: dict[str, Any] = {}
    with sync_playwright() as playwright:
        for part in parts:
            browser = launch(playwright)
            with tempfile.TemporaryDirectory() as folder:
                if part == "waits":
                    found, told = _waits(browser, Path(folder), rounds)
                elif part == "pages":
                    found, told = _pages(browser, Path(folder), rounds)
                elif part == "pad":
                    found, told = _pad(browser, Path(folder), rounds)
                elif part == "rate":
                    found, told = _rate(Path(folder), rounds)
                elif part == "class":
                    found, told = _class(browser, Path(folder))
                else:
                    found, told = _soak(browser, Path(folder), cycles)
            browser.close()
            rows += found
            figures |= told
    columns = ["what", "median", "least", "greatest", "target"]
    return Report(f"The app in a headless browser, {rounds} rounds", columns, rows, figures)


def _waits(browser: Browser, folder: Path, rounds: int) -> tuple[Rows, Mapping[str, Any]]:
    """From the server's start to the first step, and beside a heavy neighbour."""
    began_s = time.perf_counter()
    with Server(folder) as server:
        served_s = time.perf_counter() - began_s
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        began_s = time.perf_counter()
        page.goto(f"{server.url}/train")
        page.wait_for_selector(".st-key-plot-weights .main-svg", timeout=WAIT_S * 1000)
        drawn_s = time.perf_counter() - began_s
        time.sleep(5.0)  # the spare worker loads torch meanwhile
        waits_s = [_first_step(page) for _ in range(rounds)]
        page.close()
        neighbour = measure_neighbour(browser, server.url, rounds)
    rows = [
        ["server start to its first answer, s", f"{served_s:.2f}", "", "", ""],
        ["first page opened to its last figure drawn, s", f"{drawn_s:.2f}", "", "", ""],
        _row("Start to first drawn step, s", waits_s, "≤ 1.5"),
        _row("a number changed to its answer, s", neighbour.alone_s),
        _row("the same while another visitor's autojac runs into its limit, s", neighbour.beside_s),
        _row("a page opened to its title meanwhile, s", neighbour.opened_s),
    ]
    return rows, {
        "served_s": served_s,
        "drawn_s": drawn_s,
        "first_step_s": waits_s,
        "answer_alone_s": neighbour.alone_s,
        "answer_beside_s": neighbour.beside_s,
        "opened_beside_s": neighbour.opened_s,
    }


def _pages(browser: Browser, folder: Path, rounds: int) -> tuple[Rows, Mapping[str, Any]]:
    """Every page beside a bare one."""
    with Server(folder) as server:
        opened_s = measure_opening(browser, server, folder, rounds)
    bare = opened_s["bare"]
    rows = [_row("a bare page opened to its figure, s", bare)]
    for name, found_s in opened_s.items():
        if name != "bare":
            more_s = [one - other for one, other in zip(found_s, bare, strict=True)]
            rows.append(_row(f"{name}: more than the bare page, s", more_s, "≤ 0.7"))
    return rows, {"opened_s": dict(opened_s)}


def _pad(browser: Browser, folder: Path, rounds: int) -> tuple[Rows, Mapping[str, Any]]:
    """A gradient dragged on the Directions page."""
    with Server(folder) as server:
        found = measure_pad(browser, server, rounds)
    numbers = (median(found.redrawn_ms), min(found.redrawn_ms), max(found.redrawn_ms))
    rows = [
        ["pointer moved → figure redrawn, ms", *(f"{value:.0f}" for value in numbers), "≤ 100"],
        ["redraws a second during a drag", f"{found.redraws_per_s:.1f}", "", "", ""],
    ]
    return rows, {"redrawn_ms": found.redrawn_ms, "redraws_per_s": found.redraws_per_s}


def _rate(folder: Path, rounds: int) -> tuple[Rows, Mapping[str, Any]]:
    """Steps of a run in a worker beside those of the bare loop."""
    ratios = measure_throughput(folder, rounds)
    row = _row("steps a second of a run ÷ the bare loop's", ratios, "≥ 0.9")
    return [row], {"rate_ratios": ratios}


def _class(browser: Browser, folder: Path) -> tuple[Rows, Mapping[str, Any]]:
    """Twenty visitors, four of whom train."""
    with Server(folder, workers=2, arguments=["--shared"]) as server:
        seen = measure_class(browser, server)
    rows = [
        _row(f"{VISITORS} visitors arrive in turn, to the title, s", seen.arrived_s),
        _row("a page opened to its title with all there, s", seen.opened_s, "≤ 3"),
        ["runs that go on", str(seen.running), "", "", "2"],
        ["places in the queue", ", ".join(map(str, seen.queued)), "", "", "1, 2"],
        ["errors shown", str(seen.errors), "", "", "0"],
        ["visitors with a run that is not theirs", str(seen.mixed), "", "", "0"],
    ]
    return rows, {
        "arrived_s": seen.arrived_s,
        "opened_class_s": seen.opened_s,
        "running": seen.running,
        "queued": seen.queued,
        "errors": seen.errors,
        "mixed": seen.mixed,
    }


def _soak(browser: Browser, folder: Path, cycles: int) -> tuple[Rows, Mapping[str, Any]]:
    """Many visits one after the other."""
    with Server(folder, workers=2) as server:
        found = measure_soak(browser, server, cycles)
    settled, last = found.memory_bytes[SETTLED - 1], found.memory_bytes[-1]
    rows = [
        [f"{cycles} visits with a run, s", f"{found.seconds:.0f}", "", "", "≤ 600"],
        [f"server's memory after visit {SETTLED}, MiB", f"{settled / 2**20:.0f}", "", "", ""],
        [f"after visit {cycles}, MiB", f"{last / 2**20:.0f}", "", "", ""],
        ["memory at the end ÷ settled", f"{found.growth:.3f}", "", "", "≤ 1.05"],
        ["child processes left (a spare worker is one)", str(found.processes), "", "", "1"],
    ]
    return rows, {
        "soak_s": found.seconds,
        "soak_memory_bytes": found.memory_bytes,
        "soak_growth": found.growth,
        "soak_processes": found.processes,
    }


def _row(what: str, values: Sequence[float], target: str = "") -> list[str]:
    """Several values as a line of the table."""
    numbers = (median(values), min(values), max(values))
    return [what, *(f"{value:.2f}" for value in numbers), target]


def _first_step(page: Page) -> float:
    began_s = time.perf_counter()
    page.locator(".st-key-start [data-testid^=stBaseButton]").click()
    while not re.search(r"Step [1-9][\d,]* of", page.inner_text("body")):
        if time.perf_counter() - began_s > WAIT_S:
            raise MeasurementError("No step was drawn within a minute after Start.")
        time.sleep(0.01)
    waited_s = time.perf_counter() - began_s
    page.locator(".st-key-stop [data-testid^=stBaseButton]").click()
    page.get_by_text("stopped").wait_for(timeout=WAIT_S * 1000)
    time.sleep(5.0)  # the next spare worker
    # A fresh visit, so that the counter of the last run is gone.
    page.goto(page.url.split("?")[0])
    page.wait_for_selector(".st-key-plot-weights .main-svg", timeout=WAIT_S * 1000)
    return waited_s
