"""Every page in a real browser: themes, widths, accessibility, reload, back, and the keyboard."""

import pytest
from playwright.sync_api import expect, sync_playwright

from jdviz.pages import PAGES
from tests.support.axe import violations
from tests.support.browser import launch

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

WIDTHS = {"phone": (390, 844), "laptop": (1366, 768), "projector": (1920, 1080)}

# What a page consists of, whatever its colours and its width.
STRUCTURE = """() => {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((one) => one.innerText);
  return {
    titles: texts("h1"),
    figures: [...document.querySelectorAll(".live-plot")].map((plot) => ({
      alt: plot.getAttribute("aria-label"),
      traces: (plot.querySelector(".js-plotly-plot")?.data ?? []).map((one) => one.type),
    })),
    controls: [...document.querySelectorAll("[data-testid=stMain] label")].map(
      (one) => one.innerText,
    ),
    alerts: texts("[data-testid=stAlert], [data-testid=stException]"),
  };
}"""

# Whether something is wider than the page, which would make a phone scroll to the side.
OVERFLOW = """() => {
  const main = document.querySelector("[data-testid=stMain]");
  return main.scrollWidth - main.clientWidth;
}"""


def open_whole(page, address):
    """Open a page and wait until nothing on it is under way."""
    page.goto(address)
    whole(page)


def whole(page):
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.locator("h1")).to_have_count(1)
    page.wait_for_function(
        """() => {
          const plots = [...document.querySelectorAll(".live-plot")];
          const seen = plots.filter((plot) => plot.clientWidth > 0);
          return seen.length > 0 && seen.every((plot) => plot.querySelector(".main-svg"));
        }""",
        timeout=60_000,
    )


def structure(page):
    """What the page consists of, once its parts that a browser loads late are there."""
    found = page.evaluate(STRUCTURE)
    for _ in range(100):
        page.wait_for_timeout(400)
        former, found = found, page.evaluate(STRUCTURE)
        if found == former:
            break
    return found


@pytest.fixture(scope="module")
def browser(server):
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture
def opened(browser, server):
    """Opens a page as somebody new, with a theme and a width."""
    contexts = []

    def open_as(theme, width, address):
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        contexts.append(browser.new_context(viewport=size, color_scheme=theme))
        page = contexts[-1].new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        # The first page is at the root.
        open_whole(page, f"{server.url}/{address.removeprefix('overview')}")
        return page

    yield open_as
    for context in contexts:
        context.close()


@pytest.mark.parametrize("key", PAGES)
def test_a_page_is_the_same_in_both_themes_and_three_widths(opened, key):
    pages = [
        opened(theme, width, key)
        for theme, width in (("light", "laptop"), ("dark", "phone"), ("dark", "projector"))
    ]
    structures = [structure(page) for page in pages]
    assert structures[0]["titles"] == [PAGES[key].question]
    assert structures[0]["alerts"] == []
    assert all(figure["alt"] for figure in structures[0]["figures"])
    assert all(figure["traces"] for figure in structures[0]["figures"])
    assert structures[1] == structures[0]
    assert structures[2] == structures[0]
    for page in pages:
        assert page.evaluate(OVERFLOW) <= 0
        assert page.errors == []
    # What lies below a dialog would not be looked at.
    expect(pages[0].get_by_role("dialog")).to_have_count(0)
    assert violations(pages[0]) == []
    assert violations(pages[1]) == []
    backgrounds = [
        page.evaluate("getComputedStyle(document.querySelector('.main-svg')).backgroundColor")
        for page in pages
    ]
    assert backgrounds[0] != backgrounds[1] == backgrounds[2]


@pytest.mark.parametrize("key", PAGES)
def test_a_page_stays_when_it_is_loaded_again_and_the_way_back_leads_out(opened, key):
    page = opened("light", "laptop", "overview" if key != "overview" else "directions")
    first = page.evaluate("location.pathname")
    page.get_by_role("link", name=PAGES[key].name, exact=True).first.click()
    expect(page.locator("h1")).to_have_text(PAGES[key].question)
    whole(page)
    before = structure(page)
    page.reload()
    whole(page)
    assert structure(page) == before
    page.go_back()
    page.wait_for_function(f"location.pathname === {first!r}", timeout=60_000)
    expect(page.locator("h1")).not_to_have_text(PAGES[key].question)
    assert page.errors == []


@pytest.mark.parametrize("key", PAGES)
def test_the_keyboard_reaches_every_control(opened, key):
    page = opened("light", "laptop", key)
    # What can be clicked or typed into and is not inside something else that can.
    wanted = page.evaluate(
        """() => {
          const seen = (one) => one.checkVisibility({
            contentVisibilityAuto: true, opacityProperty: true, visibilityProperty: true,
          }) && !one.disabled && !one.closest("details:not([open]) > :not(summary)");
          const main = document.querySelector("[data-testid=stMain]");
          const found = main.querySelectorAll("button, input, summary, a[href], [role=slider]");
          const ours = [...found].filter(
            (one) => seen(one) && one.tabIndex >= 0 && !one.closest(".modebar")
              // Of a group of choices one can be reached, and arrow keys lead to the others.
              && one.getAttribute("role") !== "radio" && one.type !== "radio",
          );
          ours.forEach((one, place) => one.setAttribute("data-wanted", place));
          return ours.length;
        }"""
    )
    assert wanted > 0
    reached = set()
    page.locator("h1").click()
    for _ in range(2 * wanted + 40):
        page.keyboard.press("Tab")
        place = page.evaluate("document.activeElement.getAttribute('data-wanted')")
        if place is not None:
            reached.add(int(place))
        if len(reached) == wanted:
            break
    assert reached == set(range(wanted))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_answer_of_a_lesson_is_accessible(opened, theme):
    page = opened(theme, "laptop", "tour?u_lesson=methods&u_guess=1&u_answer=shown")
    assert violations(page) == []


def test_a_violation_is_found_and_named(opened):
    page = opened("light", "laptop", "overview")
    page.evaluate(
        "document.querySelector('main, section, body')"
        ".insertAdjacentHTML('beforeend', '<img id=bare width=9 height=9 src=data:,>')"
    )
    assert any("image-alt (critical): <img id=" in one for one in violations(page))
