"""A click on the Lens page's matrix, and its keys, in a real browser."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

M = 32


def cell(page, row: int, column: int) -> tuple[float, float]:
    """The middle of a cell of the matrix, in pixels of the page."""
    area = page.locator(".st-key-plot-lens-matrix .nsewdrag").first
    expect(area).to_be_visible()
    box = area.bounding_box()
    return (
        box["x"] + (column + 0.5) * box["width"] / M,
        box["y"] + (row + 0.5) * box["height"] / M,
    )


def test_a_click_chooses_a_pair_that_stays_while_keys_go_through_the_steps(server, page):
    page.goto(f"{server.url}/lens?l_run=example&l_step=10&l_order=recorded&l_pair=1-2")
    expect(page.get_by_text("Example: step 10")).to_be_visible()
    page.mouse.move(*cell(page, 4, 9))
    # The hover text shows that the figure is ready for a click.
    expect(page.locator(".hoverlayer .hovertext").first).to_be_visible()
    page.mouse.click(*cell(page, 4, 9))
    expect(page).to_have_url(re.compile("l_pair=5-10(&|$)"))
    expect(page.get_by_text("Back to the pair in the strongest conflict")).to_be_visible()

    page.get_by_role("heading", level=1).click()
    for key, step in (("n", 11), ("n", 12), ("p", 11)):
        # Streamlit drops a key that is pressed while the page is drawn.
        expect(page.get_by_test_id("stApp")).to_have_attribute(
            "data-test-script-state", "notRunning"
        )
        page.keyboard.press(key)
        expect(page.get_by_text(f"Example: step {step}")).to_be_visible()
    # The images at these places differ from step to step; the places do not.
    expect(page).to_have_url(re.compile("l_step=11(&|$)"))
    expect(page).to_have_url(re.compile("l_pair=5-10(&|$)"))
    assert page.errors == []
