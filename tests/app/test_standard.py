"""A link, a reload and the way back through what was done, and the keyboard in a rail."""

import re

import pytest
from playwright.sync_api import expect

from jdviz.pages import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
FIGURE = ".js-plotly-plot .main-svg"


def settled(page):
    page.locator(FIGURE).first.wait_for()
    expect(page.locator("[data-testid='stSpinner']")).to_have_count(0)


def test_a_link_a_reload_and_the_way_back(page, server):
    wanted = "t_aggregator=MGDA&t_seed=7&t_optimizer=adam"
    page.goto(f"{server.url}/train?{wanted}")
    settled(page)

    def shown():
        expect(page.get_by_role("combobox", name="Aggregator", exact=True)).to_have_value("MGDA")
        for part in wanted.split("&"):
            assert part in page.url
        assert page.locator(".st-key-t_seed input").input_value() == "7"

    shown()
    page.reload()
    settled(page)
    shown()
    page.get_by_role("link", name="Lens", exact=True).first.click()
    expect(page).to_have_url(re.compile("/lens"))
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES["lens"].question)
    settled(page)
    # One press, however many settings the address had.
    page.go_back()
    expect(page).to_have_url(re.compile("/train"))
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES["train"].question)
    settled(page)
    expect(page.get_by_role("combobox", name="Aggregator", exact=True)).to_have_value("MGDA")
    expect(page.locator(".st-key-t_seed input")).to_have_value("7")
    page.get_by_role("link", name="Engines", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES["engines"].question)
    settled(page)
    page.get_by_role("tab", name="Plan").click()
    expect(page).to_have_url(re.compile(r"/engines\?e_view=Plan$"))
    # What was done on the page is undone first.
    page.go_back()
    expect(page).to_have_url(re.compile("/engines$"))
    expect(page.get_by_role("tab", name="This step")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page).to_have_url(re.compile(r"/train\?.*t_seed=7"))
    assert page.errors == []


def test_the_keyboard_reaches_every_control_of_the_rail(page, server):
    page.goto(f"{server.url}/train")
    settled(page)
    page.get_by_text("Model, optimizer and run").click()
    expect(page.locator(".st-key-t_seed input")).to_be_visible()
    count = "document.querySelectorAll('.st-key-rail :is(input, button:not([disabled]))').length"
    left = page.evaluate(count)
    assert left > 15
    reached = set()
    # The buttons that step a number are beside the arrow keys, which do the same.
    page.get_by_role("combobox", name="Problem").focus()
    for _ in range(2 * left):
        name = page.evaluate("document.activeElement.closest('[class*=st-key-]')?.className")
        reached |= set(re.findall(r"st-key-([\w-]+)", name or ""))
        page.keyboard.press("Tab")
    named = {"t_problem", "t_aggregator", "t_engine", "t_beside", "t_conflict", "t_size"}
    named |= {"t_batch", "t_optimizer", "t_rate", "t_steps", "t_seed", "t_pace", "start", "step"}
    assert named - reached == set()
