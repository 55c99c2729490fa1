"""What a visitor does, in a real browser, on a real server."""

import re
import time

import pytest
from playwright.sync_api import expect

from jdviz.runs import RunStore
from tests.support.waiting import wait_until

# A browser on a busy machine with two cores is slow.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


def button(page, key: str):
    return page.locator(f".st-key-{key} [data-testid^=stBaseButton]")


def run_of(page) -> str:
    return re.search(r"t_run=([\w-]+)", page.url).group(1)


def counter(page) -> int:
    found = re.search(r"Step ([\d,]+) of", page.inner_text("body"))
    return int(found.group(1).replace(",", "")) if found else 0


def matrix(page, key: str) -> str:
    """The values that the browser's figure holds, as plotly.js knows them."""
    return page.evaluate(
        """key => {
            const host = document.querySelector(`.st-key-${key}`);
            const plots = [];
            const walk = node => {
                if (node.data && node._fullLayout) plots.push(node);
                if (node.shadowRoot) walk(node.shadowRoot);
                for (const child of node.children || []) walk(child);
            };
            if (host) walk(host);
            return plots.length ? JSON.stringify(plots[0].calcdata[0][0].z) : "";
        }""",
        key,
    )


def test_a_visitor_trains_and_measures(server, page):
    page.goto(f"{server.url}/?t_steps=5000")
    expect(page.get_by_role("heading", level=1)).to_contain_text("several objectives")
    page.get_by_role("link", name="Train").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("pull apart")
    expect(page.get_by_text("Example: a recorded run")).to_be_visible()
    wait_until(lambda: matrix(page, "plot-gramian"), "the example's Gramian")

    button(page, "start").click()
    wait_until(lambda: counter(page) > 0, "the first step")
    early_step, early = counter(page), matrix(page, "plot-gramian")
    wait_until(lambda: counter(page) > early_step + 10, "more steps")
    wait_until(lambda: matrix(page, "plot-gramian") != early, "the Gramian to move")
    button(page, "stop").click()
    expect(page.get_by_text(re.compile("stopped"))).to_be_visible()
    assert 0 < counter(page) < 5000
    # The whole page is drawn once more when its run has ended.
    expect(button(page, "stop")).to_be_disabled()
    expect(button(page, "start")).to_be_enabled()

    page.get_by_role("link", name="Engines").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("memory and time")
    # The smallest step that is measured: what is proven is the way from the button to the figure.
    page.goto(f"{server.url}/engines?e_size=small&e_batch=8")
    button(page, "measure").click()
    measured = page.get_by_text("Measured on this machine since the server started")
    expect(measured).to_be_visible(timeout=180_000)
    expect(page.get_by_text("Example, measured earlier")).to_have_count(0)
    expect(page.get_by_text("Memory during the step")).to_be_visible()
    sentence = page.inner_text("body")
    found = re.search(r"autogram needs .*?([\d.]+)× the memory of autojac", sentence)
    assert found, sentence
    assert float(found.group(1)) < 1
    assert page.errors == []


def test_a_closed_tab_ends_its_run(server, page):
    page.goto(f"{server.url}/train?t_problem=conflict_regression&t_steps=5000")
    button(page, "start").click()
    wait_until(lambda: counter(page) > 0, "the first step")
    run_id, store = run_of(page), RunStore(server.data / "runs.sqlite")
    assert store.run(run_id).config["problem"] == "conflict_regression"
    assert store.run(run_id).status == "running"
    page.close()
    wait_until(lambda: store.run(run_id).status == "stopped", "the run to end")


def test_a_reload_keeps_the_run(server, page):
    page.goto(f"{server.url}/train?t_problem=conflict_regression&t_steps=5000")
    button(page, "start").click()
    wait_until(lambda: counter(page) > 0, "the first step")
    run_id = run_of(page)
    page.reload()
    wait_until(lambda: counter(page) > 0, "the run's counter")
    assert run_of(page) == run_id
    before = counter(page)
    # Beyond the time after which a departed visitor's run ends.
    time.sleep(7)
    wait_until(lambda: counter(page) > before + 20, "more steps")
    button(page, "stop").click()
    expect(page.get_by_text(re.compile("stopped"))).to_be_visible()


def test_another_tab_of_the_same_person_watches_a_run_and_controls_it(server, page):
    page.goto(f"{server.url}/train?t_problem=conflict_regression&t_steps=5000")
    button(page, "start").click()
    wait_until(lambda: counter(page) > 0, "the first step")
    other = page.context.browser.new_page()
    other.goto(page.url)
    wait_until(lambda: counter(other) > 0, "the run in the other tab")
    seen = counter(other)
    wait_until(lambda: counter(other) > seen, "the other's figures to move")
    button(other, "stop").click()
    expect(page.get_by_text(re.compile("stopped"))).to_be_visible()
    other.close()


def test_an_address_out_of_range_is_said_and_replaced(server, page):
    page.goto(f"{server.url}/train?t_batch=5000&t_aggregator=Magic&t_seed=7")
    expect(
        page.get_by_text("Batch size 5000 is outside 2 to 256; using 64 instead")
    ).to_be_visible()
    expect(page.get_by_text("Aggregator “Magic” is not one of")).to_be_visible()
    assert "t_seed=7" in page.url


def test_pause_and_step(server, page):
    page.goto(f"{server.url}/train?t_problem=conflict_regression&t_through=true&t_steps=5000")
    button(page, "step").click()
    wait_until(lambda: counter(page) == 1, "the first step")
    button(page, "step").click()
    wait_until(lambda: counter(page) == 2, "the second step")
    # The update that is gone through is the newest while the run is paused.
    expect(page.get_by_text("Shown is step 1; the newest is step 1.")).to_be_visible()
    time.sleep(1.5)
    assert counter(page) == 2
    button(page, "pause").click()
    wait_until(lambda: counter(page) > 5, "more steps")
    # While it goes on, the update stays where it was.
    left_behind = page.get_by_text(re.compile(r"Shown is step (\d+); the newest is step (?!\1\.)"))
    expect(left_behind).to_be_visible()
    button(page, "pause").click()
    expect(button(page, "pause")).to_have_text("Resume")
    newest = page.get_by_text(re.compile(r"Shown is step (\d+); the newest is step \1\."))
    expect(newest).to_be_visible()
    button(page, "train-previous").click()
    expect(newest).to_have_count(0)
    # The browser's address follows the page by a message of its own.
    expect(page).to_have_url(re.compile("t_at="))


def test_zoom_survives_new_data(server, page):
    page.goto(f"{server.url}/train?t_problem=conflict_regression&t_steps=5000")
    button(page, "start").click()
    wait_until(lambda: counter(page) > 3, "some steps")
    find = """(range) => {
        const host = document.querySelector('.st-key-plot-losses');
        let plot = null;
        const walk = node => {
            if (node.data && node._fullLayout) plot = node;
            if (node.shadowRoot) walk(node.shadowRoot);
            for (const child of node.children || []) walk(child);
        };
        if (host) walk(host);
        if (!plot || !plot.data.some(trace => trace.name === "task 1")) return null;
        return [plot._fullLayout.xaxis.range, plot.getBoundingClientRect()];
    }"""
    # In a slow browser the counter is ahead of the figure, which still shows the example.
    wait_until(lambda: page.evaluate(find), "the run's own figure")
    _, box = page.evaluate(find)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 6, y, steps=5)
    page.mouse.up()
    time.sleep(0.3)
    zoomed, _ = page.evaluate(find)
    assert zoomed[0] > 0
    before = counter(page)
    wait_until(lambda: counter(page) > before + 20, "more steps")
    assert page.evaluate(find)[0] == pytest.approx(zoomed)
    button(page, "stop").click()
