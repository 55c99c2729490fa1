"""The live figure: what it sends, and in a real browser that it changes in place."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from streamlit.testing.v1 import AppTest

from jdviz.components import live_plot as live_plot_module
from jdviz.components.assets import AssetError, publish_plotly_js, read_asset
from jdviz.components.live_plot import Move, live_plot
from tests.support.browser import launch, require_chromium
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[3]
APP = Path(__file__).with_name("live_app.py")
CANVASES = "[...document.querySelectorAll('.live-plot-canvas')]"


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jdviz.components.live_plot.publish_plotly_js", lambda: "app/static/p.js")
    app = AppTest.from_file(str(APP)).run(timeout=30)
    assert not app.exception
    sent = [json.loads(element.proto.json) for element in app.get("bidi_component")]
    assert len(sent) == 2
    for data, height, kind in zip(sent, (440, 420), ("scatter", "heatmap"), strict=True):
        assert data["height"] == height
        assert data["source"] == "app/static/p.js"
        assert data["config"]["showSendToCloud"] is False
        assert json.loads(data["figure"])["data"][0]["type"] == kind
    assert sent[0]["alt"] == "losses of 21 steps"
    assert [data["cells"] for data in sent] == [None, [7, 8, 9]]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([7, 9], [(7, 9)]),
        ([7], []),
        ([7, "9"], []),
        ([7, None], []),
        ([True, 1], []),
        ({"row": 7}, []),
        (None, []),
    ],
)
def test_only_two_numbers_are_a_click(
    monkeypatch: pytest.MonkeyPatch, sent: object, told: list[tuple[int, int]]
) -> None:
    state = {"map": SimpleNamespace(clicked=sent)}
    monkeypatch.setattr(live_plot_module.st, "session_state", state)
    found: list[tuple[int, int]] = []
    live_plot_module._answer_click("map", found.append)
    assert found == told


POLAR = [[30.0, 1.5], [-90, 0]]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (
            {"polar": POLAR, "done": False, "seq": 3},
            [Move(((30.0, 1.5), (-90.0, 0.0)), done=False, seq=3)],
        ),
        (
            {"polar": POLAR, "done": True, "seq": 4},
            [Move(((30.0, 1.5), (-90.0, 0.0)), done=True, seq=4)],
        ),
        ({"polar": POLAR, "done": "yes", "seq": 3}, [Move(((30, 1.5), (-90, 0)), False, 3)]),
        ({"polar": POLAR, "done": True, "seq": "3"}, []),
        ({"polar": POLAR, "done": True}, []),
        ({"polar": POLAR[:1], "done": True, "seq": 3}, []),
        ({"polar": [*POLAR, [0, 1]], "done": True, "seq": 3}, []),
        ({"polar": [[30.0, 1.5], [0.0, -1.0]], "done": True, "seq": 3}, []),
        ({"polar": [[30.0, 1.5], [float("nan"), 1.0]], "done": True, "seq": 3}, []),
        ({"polar": [[30.0, 1.5], [0.0, float("inf")]], "done": True, "seq": 3}, []),
        ({"polar": [[30.0, 1.5], ["0", 1.0]], "done": True, "seq": 3}, []),
        ({"polar": [[30.0, 1.5], [True, 1.0]], "done": True, "seq": 3}, []),
        ({"polar": [[30.0, 1.5], [0.0]], "done": True, "seq": 3}, []),
        ({"polar": "30", "done": True, "seq": 3}, []),
        ([1, 2], []),
        (None, []),
    ],
)
def test_only_angles_and_lengths_are_a_move(
    monkeypatch: pytest.MonkeyPatch, sent: object, told: list[Move]
) -> None:
    monkeypatch.setattr(live_plot_module.st, "session_state", {"pad": SimpleNamespace(moved=sent)})
    found: list[Move] = []
    live_plot_module._answer_move("pad", 2, found.append)
    assert found == told


def test_an_unpublished_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from jdviz.figures import angle_histogram

    def refuse() -> str:
        raise AssetError("no place")

    monkeypatch.setattr("jdviz.components.live_plot.publish_plotly_js", refuse)
    with pytest.raises(AssetError, match="no place"):
        live_plot(angle_histogram([[1.0]], "light"), key="k", height=320, alt="nothing")


def test_nothing_is_loaded_from_elsewhere() -> None:
    for name in ("live_plot.js", "live_plot.css", "live_plot.html"):
        assert "://" not in read_asset(name)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The small app behind a base path, with its own static folder."""
    require_chromium()
    folder = tmp_path_factory.mktemp("live")
    shutil.copy(APP, folder / "app.py")
    publish_plotly_js(folder / "static")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/some/base"
    options = {
        "port": port,
        "address": "127.0.0.1",
        "headless": "true",
        "baseUrlPath": "some/base",
        "enableStaticServing": "true",
        "fileWatcherType": "none",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py"]
            + [f"--server.{name}={value}" for name, value in options.items()]
            + ["--browser.gatherUsageStats=false"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    try:
        wait_until(healthy, "the server", timeout_s=60)
        yield url + "/"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_a_figure_changes_in_place(address: str) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            page = browser.new_page(viewport={"width": 1200, "height": 1100})
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "console",
                lambda line: problems.append(line.text) if line.type in ("error",) else None,
            )
            page.goto(address)
            page.wait_for_selector(".live-plot-canvas .heatmaplayer image", timeout=60_000)
            page.evaluate(f"{CANVASES}.forEach((c, i) => {{ c.mark = i; }})")
            points = f"{CANVASES}[0]._fullData[0].x.length"

            box = page.locator(".live-plot-canvas .nsewdrag").first.bounding_box()
            assert box is not None
            left, top = box["x"], box["y"]
            page.mouse.move(left + 0.2 * box["width"], top + 0.2 * box["height"])
            page.mouse.down()
            # Longer than a tick: a redraw must not end the drag.
            for part in (0.3, 0.4, 0.5):
                page.mouse.move(left + part * box["width"], top + part * box["height"], steps=4)
                page.wait_for_timeout(300)
            page.mouse.up()
            page.wait_for_timeout(200)
            zoomed = page.evaluate(f"{CANVASES}[0]._fullLayout.xaxis.range")
            before = page.evaluate(points)
            page.wait_for_function(f"{points} >= {before} + 5", timeout=30_000)
            assert zoomed[0] > 0
            assert page.evaluate(f"{CANVASES}[0]._fullLayout.xaxis.range") == zoomed
            assert page.evaluate(f"{CANVASES}.map(c => c.mark)") == [0, 1]

            # Streamlit builds the elements below a new one anew; the figures move there.
            for count in (1, 0):
                page.get_by_text("One line more").click()
                expect(page.get_by_text("This line moves")).to_have_count(count)
                before = page.evaluate(points)
                page.wait_for_function(f"{points} >= {before} + 3", timeout=30_000)
                assert page.evaluate(f"{CANVASES}.map(c => c.mark)") == [0, 1]
                assert page.evaluate(f"{CANVASES}[0]._fullLayout.xaxis.range") == zoomed
            # Longer than a figure without an element is kept.
            page.wait_for_timeout(2500)
            assert page.evaluate(f"{CANVASES}.map(c => c.mark)") == [0, 1]

            area = page.locator(".live-plot-canvas .nsewdrag").nth(1).bounding_box()
            assert area is not None
            page.mouse.click(area["x"] + 5 / 6 * area["width"], area["y"] + 1 / 6 * area["height"])
            expect(page.get_by_text("clicked: (7, 9)")).to_be_visible()

            figure = page.get_by_role("figure").first
            assert figure.get_attribute("aria-label").startswith("losses of ")
            assert page.evaluate("'moduleName' in window || window.Plotly !== undefined") is False
            # Its style sheet reached it: the layers of a figure lie above each other.
            assert (
                page.evaluate(
                    "getComputedStyle(document.querySelector('.live-plot .main-svg')).position"
                )
                == "absolute"
            )

            page.set_viewport_size({"width": 700, "height": 1100})
            page.wait_for_function(
                f"{CANVASES}.every(c => c._fullLayout.width === c.clientWidth)", timeout=10_000
            )
            assert problems == []
        finally:
            browser.close()


# Draws a figure as its text, in place of plotly.js.
STUB = """window.Plotly = {
  react: async (canvas, data) => { canvas.textContent = data; canvas.on = () => {}; },
  purge: (canvas) => { canvas.textContent = "purged"; },
};"""
# Elements of one figure, and calls for them as Streamlit makes them.
ELEMENTS = """async ([js, html]) => {
  const url = URL.createObjectURL(new Blob([js], {type: "text/javascript"}));
  const module = await import(url);
  window.elements = {};
  window.late = () => new Promise((resolve) => setTimeout(resolve, 2500));
  window.add = (name) => {
    const element = document.createElement("div");
    element.innerHTML = html;
    document.body.append(element);
    elements[name] = element;
  };
  window.call = (name, figure) => module.default({
    parentElement: elements[name],
    data: {
      name: "losses", figure: JSON.stringify({data: figure, layout: {}}), config: {},
      height: 100, alt: "", source: "stub.js", base: "", cells: null,
    },
    setTriggerValue: () => {},
  });
  window.shown = () => Object.values(elements).filter((one) => one.isConnected)
    .map((one) => one.querySelector(".live-plot-canvas")?.textContent ?? "-").join(" ");
}"""


# Steps, and what stands then in each element that is there.
ORDERS = [
    # Newer data while a call is under way: what ends that call is told last.
    ("add('one'); const a = call('one', 'old'); call('one', 'new'); a();", "new"),
    ("add('one'); const a = call('one', 'old'); a(); call('one', 'new');", "new"),
    # Built anew, the former element gone before or after the new one is there.
    (
        "add('one'); const a = call('one', 'old'); elements.one.remove(); a();"
        "add('two'); call('two', 'new');",
        "new",
    ),
    (
        "add('one'); const a = call('one', 'old'); add('two'); call('two', 'new');"
        "elements.one.remove(); a();",
        "new",
    ),
    # A call that comes when its element has gone.
    (
        "add('one'); const a = call('one', 'old'); add('two'); call('two', 'new');"
        "elements.one.remove(); call('one', 'old')(); a();",
        "new",
    ),
    # The former element is called for again while both are there, and stays or goes.
    (
        "add('one'); call('one', 'old')(); add('two'); call('two', 'new'); call('one', 'newer');",
        "newer -",
    ),
    (
        "add('one'); call('one', 'old')(); add('two'); call('two', 'new');"
        "const a = call('one', 'newer'); elements.one.remove(); a();",
        "newer",
    ),
    # Gone for good, and back after that.
    ("add('one'); const a = call('one', 'old'); elements.one.remove(); a();", ""),
    (
        "add('one'); const a = call('one', 'old'); elements.one.remove(); a(); await late();"
        "add('two'); call('two', 'new');",
        "new",
    ),
]


@pytest.fixture
def blank() -> Iterator["Page"]:
    """An empty page that has loaded the component and can make elements for it."""
    require_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.route(
            "http://test/**",
            lambda route: route.fulfill(
                body=STUB if route.request.url.endswith("stub.js") else "<body></body>",
                content_type="text/javascript" if "stub" in route.request.url else "text/html",
            ),
        )
        page.goto("http://test/")
        page.evaluate(ELEMENTS, [read_asset("live_plot.js"), read_asset("live_plot.html")])
        yield page
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize(("steps", "shown"), ORDERS)
def test_a_figure_is_where_its_element_is(blank: "Page", steps: str, shown: str) -> None:
    """Streamlit's calls in every order that a busy browser brings about."""
    # Longer than a figure without an element is kept.
    blank.evaluate(f"(async () => {{ {steps} await late(); }})()")
    assert blank.evaluate("shown()") == shown


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_words_where_the_library_does_not_load(address: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            page = browser.new_page()
            page.route("**/app/static/plotly-*", lambda route: route.abort())
            page.goto(address)
            note = page.locator(".live-plot-note").first
            note.get_by_text("could not be loaded").wait_for(timeout=60_000)
            page.unroute("**/app/static/plotly-*")
            # The next tick tries again.
            page.wait_for_selector(".live-plot-canvas .main-svg", timeout=30_000)
            assert note.is_hidden()
        finally:
            browser.close()
