"""Gradients of the Directions page moved by mouse, finger and keys, in a real browser."""

import math
import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

PLANE = ".st-key-plot-directions"


def open_directions(page, server, query=""):
    page.goto(f"{server.url}/directions?{query}")
    expect(page.locator(".st-key-plot-gramian .main-svg").first).to_be_visible()
    expect(page.locator(f"{PLANE} .handles-knob").first).to_be_visible()
    settled(page)


def settled(page):
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def knob(page, index):
    return page.locator(f"{PLANE} .handles-knob").nth(index)


def middle(page, index):
    box = knob(page, index).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def origin(page):
    """Where the axes cross, in pixels of the page."""
    box = page.locator(f"{PLANE} .nsewdrag").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drawn_tip(page, index):
    """The tip of a gradient as plotly has drawn it, by angle and length."""
    x, y = page.evaluate(
        """([plane, index]) => {
          const trace = document.querySelector(plane + " .live-plot-canvas").data[1];
          return [trace.x[3 * index + 1], trace.y[3 * index + 1]];
        }""",
        [PLANE, index],
    )
    return math.degrees(math.atan2(y, x)), math.hypot(x, y)


def wait_for_tip(page, index, angle, length):
    """Until the figure shows a gradient where its handle is."""
    page.wait_for_function(
        """([plane, index, angle, length]) => {
          const trace = document.querySelector(plane + " .live-plot-canvas").data[1];
          const x = trace.x[3 * index + 1], y = trace.y[3 * index + 1];
          const turn = Math.atan2(y, x) * 180 / Math.PI;
          return Math.abs(turn - angle) < 0.01 && Math.abs(Math.hypot(x, y) - length) < 0.006;
        }""",
        arg=[PLANE, index, angle, length],
        timeout=60_000,
    )


def test_a_gradient_is_dragged_and_stays_after_reload(server, page):
    open_directions(page, server, "d_m=2&d_a1=0&d_l1=2&d_a2=90&d_l2=1")
    expect(page.get_by_text("are a wedge; every method shown stays among them")).to_be_visible()
    x, y = middle(page, 1)
    zero_x, zero_y = origin(page)
    page.mouse.move(x, y)
    page.mouse.down()
    # A quarter turn to the left, by way of a point between.
    page.mouse.move(zero_x - 30, zero_y - 30)
    page.mouse.move(zero_x - (zero_y - y), zero_y)
    # The figure follows while the button is still down; the address waits for the end.
    wait_for_tip(page, 1, 180.0, 1.0)
    expect(page.get_by_text("worse are a line;")).to_be_visible()
    assert "d_a2=90" in page.evaluate("location.search")
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"d_a2=-?180"))
    assert knob(page, 1).get_attribute("aria-valuetext") == "g₂, -180 degrees, length 1"
    settled(page)

    page.reload()
    expect(page.get_by_text("worse are a line;")).to_be_visible()
    expect(knob(page, 1)).to_have_attribute("aria-valuetext", "g₂, -180 degrees, length 1")
    # The drag was one action, and the way back undoes it.
    settled(page)
    page.go_back()
    expect(knob(page, 1)).to_have_attribute("aria-valuetext", "g₂, 90 degrees, length 1")
    assert page.errors == []


def test_keys_turn_and_stretch_a_gradient(server, page):
    open_directions(page, server, "d_m=2&d_a1=10&d_l1=2&d_a2=90&d_l2=1")
    handle = knob(page, 0)
    handle.focus()
    for key, told in (
        ("ArrowLeft", "g₁, 11 degrees, length 2"),
        ("Shift+ArrowRight", "g₁, 1 degrees, length 2"),
        ("ArrowUp", "g₁, 1 degrees, length 2.05"),
        ("Shift+ArrowDown", "g₁, 1 degrees, length 1.55"),
    ):
        page.keyboard.press(key)
        expect(handle).to_have_attribute("aria-valuetext", told)
        settled(page)
    wait_for_tip(page, 0, 1.0, 1.55)
    expect(handle).to_be_focused()
    expect(page).to_have_url(re.compile(r"d_a1=1(\.0)?&"))
    expect(page).to_have_url(re.compile(r"d_l1=1\.55"))
    assert page.errors == []


def test_a_finger_drags_on_a_phone(server, page):
    page.set_viewport_size({"width": 390, "height": 844})
    open_directions(page, server, "d_m=2&d_a1=0&d_l1=2&d_a2=90&d_l2=1")
    knob(page, 1).scroll_into_view_if_needed()
    x, y = middle(page, 1)
    zero_x, zero_y = origin(page)
    client = page.context.new_cdp_session(page)
    client.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def touch(kind, *points):
        where = [{"x": left, "y": top} for left, top in points]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

    scrolled = page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop")
    touch("touchStart", (x, y))
    touch("touchMove", (zero_x, zero_y - (zero_y - y) / 2))
    touch("touchEnd")
    # Half as long, and the page has not been scrolled instead.
    expect(knob(page, 1)).to_have_attribute("aria-valuetext", "g₂, 90 degrees, length 0.5")
    expect(page).to_have_url(re.compile(r"d_l2=0\.5"))
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == scrolled
    assert page.errors == []


def test_the_numbers_are_the_twin_of_the_handles(server, page):
    open_directions(page, server, "d_m=2&d_a1=0&d_l1=2&d_a2=90&d_l2=1")
    page.get_by_text("Gradients as numbers").click()
    box = page.get_by_label("g₂ angle, °")
    box.fill("135")
    box.press("Enter")
    expect(knob(page, 1)).to_have_attribute("aria-valuetext", "g₂, 135 degrees, length 1")
    wait_for_tip(page, 1, 135.0, 1.0)
    page.get_by_label("g₂ length").fill("0")
    page.get_by_label("g₂ length").press("Enter")
    expect(knob(page, 1)).to_have_attribute("aria-valuetext", "g₂, 135 degrees, length 0")
    assert page.errors == []


def test_a_recorded_step_is_taken_along_to_be_dragged(server, page):
    page.goto(f"{server.url}/directions?d_run=example&d_step=10")
    page.get_by_role("button", name="Drag the 8 longest of these").click()
    expect(page.locator(f"{PLANE} .handles-knob")).to_have_count(8)
    expect(page).to_have_url(re.compile("d_m=8"))
    expect(page).not_to_have_url(re.compile("d_run"))
    told = knob(page, 0).get_attribute("aria-valuetext")
    settled(page)
    page.reload()
    expect(knob(page, 0)).to_have_attribute("aria-valuetext", told)
    assert page.errors == []
