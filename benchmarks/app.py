"""How long a visitor waits: for the server, a page, a first step, and beside a heavy neighbour."""

import re
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

from benchmarks.neighbour import measure_neighbour
from benchmarks.report import Report
from benchmarks.serving import Server
from jdviz.profiling import MeasurementError
from tests.support.browser import find_chromium, launch

WAIT_S = 60.0


def measure_app(rounds: int) -> Report:
    """Open the app in a headless browser and press Start several times.

    Args:
        rounds: How often Start is pressed.

    Returns:
        Seconds, with the least and the greatest of the rounds.

    Raises:
        MeasurementError: If there is no browser, or the app does not come as far.
    """
    if find_chromium() is None:
        raise MeasurementError("The app is measured in Chromium or Chrome; install one of them.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        began_s = time.perf_counter()
        with Server(Path(folder)) as server:
            served_s = time.perf_counter() - began_s
            browser = launch(playwright)
            page = browser.new_page(viewport={"width": 1366, "height": 768})
            began_s = time.perf_counter()
            page.goto(f"{server.url}/train")
            page.wait_for_selector(".st-key-plot-weights .main-svg", timeout=WAIT_S * 1000)
            drawn_s = time.perf_counter() - began_s
            time.sleep(5.0)  # the spare worker loads torch meanwhile
            waits_s = [_first_step(page) for _ in range(rounds)]
            page.close()
            neighbour = measure_neighbour(browser, server.url, rounds)
            browser.close()
    rows = [
        ["server start to its first answer", f"{served_s:.2f}", "", ""],
        ["first page opened to its last figure drawn", f"{drawn_s:.2f}", "", ""],
        _row("Start to first drawn step", waits_s),
        _row("a number changed to its answer", neighbour.alone_s),
        _row("the same while another visitor's autojac runs into its limit", neighbour.beside_s),
        _row("a page opened to its title meanwhile", neighbour.opened_s),
    ]
    figures = {
        "served_s": served_s,
        "drawn_s": drawn_s,
        "first_step_s": waits_s,
        "answer_alone_s": neighbour.alone_s,
        "answer_beside_s": neighbour.beside_s,
        "opened_beside_s": neighbour.opened_s,
    }
    columns = ["what", "median s", "least", "greatest"]
    return Report(f"The app in a headless browser, {rounds} rounds", columns, rows, figures)


def _row(what: str, waits_s: list[float]) -> list[str]:
    """Several waits as a line of the table."""
    return [what, *(f"{value:.2f}" for value in (median(waits_s), min(waits_s), max(waits_s)))]


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
