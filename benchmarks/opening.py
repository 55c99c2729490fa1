"""How much longer a page takes to open than a bare Streamlit page with one figure."""

import time
from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Browser

from benchmarks.serving import Server
from benchmarks.visitors import visit
from jdviz.pages.registry import PAGES

WAIT_MS = 60_000
_BARE = """
import plotly.graph_objects as go
import streamlit as st

st.title("bare")
st.plotly_chart(go.Figure(go.Scatter(y=[1, 3, 2])))
"""


def measure_opening(
    browser: Browser, server: Server, folder: Path, rounds: int
) -> Mapping[str, list[float]]:
    """Open every page and a bare one in turn, each time in an empty browser.

    Args:
        browser: Drives the visitors.
        server: The app, running.
        folder: Where the bare page is written and served from.
        rounds: How often each is opened; a first round does not count.

    Returns:
        Seconds from the address to the first figure drawn, "bare" and by key of the page.
    """
    beside = folder / "bare"
    beside.mkdir()
    script = beside / "bare.py"
    script.write_text(_BARE, "utf-8")
    opened_s: dict[str, list[float]] = {"bare": [], **{key: [] for key in PAGES}}
    with Server(beside, script=script) as bare:
        for count in range(rounds + 1):
            for name, found_s in opened_s.items():
                # The first page has no name in the address.
                own = f"{server.url}/{name.removeprefix('overview')}"
                address = bare.url if name == "bare" else own
                with visit(browser) as page:
                    began_s = time.perf_counter()
                    page.goto(address, wait_until="commit")
                    page.locator(".main-svg").first.wait_for(timeout=WAIT_MS)
                    if count:
                        found_s.append(time.perf_counter() - began_s)
    return opened_s
