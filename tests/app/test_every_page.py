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

# What still moves by itself.
MOVING = """() => [...document.querySelectorAll("button, a, summary")].filter(
  (one) => parseFloat(getComputedStyle(one).transitionDuration) > 0.001,
).length"""

# What can be clicked or typed into, numbered; how many there are.
CONTROLS = """() => {
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

BACKGROUND = "getComputedStyle(document.querySelector('.main-svg')).backgroundColor"

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
        page.wait_for_timeout(250)
        former, found = found, page.evaluate(STRUCTURE)
        if found == former:
            break
    return found


def expect_structure(page, expected):
    """The page comes to consist of this, and of nothing else."""
    found = structure(page)
    for _ in range(20):
        if found == expected:
            break
        page.wait_for_timeout(500)
        found = structure(page)
    assert found == expected


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
        # Who wants a phone to be calm has it in the dark.
        motion = "reduce" if width == "phone" else "no-preference"
        context = browser.new_context(viewport=size, color_scheme=theme, reduced_motion=motion)
        contexts.append(context)
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        # The first page is at the root.
        open_whole(page, f"{server.url}/{address.removeprefix('overview')}")
        return page

    yield open_as
    for context in contexts:
        context.close()


@pytest.mark.parametrize("key", PAGES)
def test_a_page(opened, key):
    """One visit for all of it, because opening a page takes most of the time."""
    page = opened("light", "laptop", "overview" if key != "overview" else "directions")
    first = page.evaluate("location.pathname")
    page.get_by_role("link", name=PAGES[key].name, exact=True).first.click()
    expect(page.locator("h1")).to_have_text(PAGES[key].question)
    whole(page)
    found = structure(page)
    assert found["titles"] == [PAGES[key].question]
    assert found["alerts"] == []
    assert all(len(figure["alt"]) > 40 for figure in found["figures"])
    assert all(figure["traces"] for figure in found["figures"])
    check_axe(page)
    # On a busy machine a browser may only now have loaded what a control is made of.
    found = structure(page)
    check_keyboard(page)
    page.reload()
    whole(page)
    expect_structure(page, found)

    phone, projector = opened("dark", "phone", key), opened("dark", "projector", key)
    expect_structure(phone, found)
    expect_structure(projector, found)
    assert phone.evaluate(MOVING) == 0
    check_axe(phone)
    light, dark = page.evaluate(BACKGROUND), phone.evaluate(BACKGROUND)
    assert light != dark == projector.evaluate(BACKGROUND)
    assert [one.evaluate(OVERFLOW) for one in (page, phone, projector)] == [0, 0, 0]

    page.go_back()
    page.wait_for_function(f"location.pathname === {first!r}", timeout=60_000)
    expect(page.locator("h1")).not_to_have_text(PAGES[key].question)
    assert [one.errors for one in (page, phone, projector)] == [[], [], []]


def check_axe(page):
    """Nothing serious and nothing critical."""
    # What lies below a dialog would not be looked at.
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert violations(page) == []


def check_keyboard(page):
    """The tab key reaches everything that can be clicked or typed into."""
    wanted = page.evaluate(CONTROLS)
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
