"""The Trajectories page: its controls and its address; in a browser, a click and the clock."""

import json
import math
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from jdviz.landscapes import LANDSCAPES
from jdviz.pages.trajectories_controls import ADD, MOVE, ProblemSettings
from jdviz.trajectories import TWO_OBJECTIVE_METHODS, simulate
from tests.support.pages import drawn, numbers, open_page, texts

without_browser = pytest.mark.usefixtures("app_data")


def figure(app, key):
    """A figure of the page as plotly gets it."""
    return json.loads(drawn(app, f"trajectories-{key}")["figure"])


def trace(app, key, name):
    """The one trace of a name."""
    (found,) = [one for one in figure(app, key)["data"] if one.get("name") == name]
    return found


def assert_well(app):
    assert not app.exception
    assert not app.error
    assert not app.warning


@without_browser
def test_a_useful_picture_before_any_click():
    app = open_page("trajectories")
    assert_well(app)
    path = simulate("cqf", "MGDA", (-0.3, 7.0), rate=0.125, steps=200)
    shown = trace(app, "parameters", "MGDA, start 1")
    np.testing.assert_array_equal(numbers(shown["x"]), np.float32(path.points[:, 0]))
    np.testing.assert_array_equal(numbers(shown["y"]), np.float32(path.points[:, 1]))
    beside = trace(app, "objectives", "MGDA, start 1")
    np.testing.assert_array_equal(numbers(beside["y"]), np.float32(path.values[:, 1]))
    below = trace(app, "distances", "MGDA, start 1")
    np.testing.assert_array_equal(numbers(below["customdata"]), path.distances)
    assert app.slider[0].value == 200
    assert "After 200 steps from 3 starts" in texts(app.markdown)
    assert dict(app.query_params) == {}


@without_browser
def test_the_whole_state_is_in_the_address():
    query = {
        "p_problem": "hqf",
        "p_methods": ["Mean", "Sum"],
        "p_rates": "own",
        "p_hqf_rate_Sum": "0.002",
        "p_hqf_n": "2",
        "p_hqf_x2": "4.5",
        "p_hqf_steps": "30",
        "p_step": "12",
        "p_view": "apart",
    }
    app = open_page("trajectories", **query)
    assert_well(app)
    assert app.slider[0].value == 12
    expected = simulate("hqf", "Sum", (4.5, -1.5), rate=0.002, steps=30).points[:13]
    shown = trace(app, "parameters", "Sum, start 2")
    np.testing.assert_array_equal(numbers(shown["x"]), np.float32(expected[:, 0]))
    # The mean's own rate is the problem's.
    mean = trace(app, "parameters", "Mean, start 1")
    expected = simulate("hqf", "Mean", (-6.0, 4.0), rate=0.005, steps=30).points[:13]
    np.testing.assert_array_equal(numbers(mean["y"]), np.float32(expected[:, 1]))
    assert len(figure(app, "parameters")["layout"]["annotations"]) == 2
    assert app.query_params["p_step"] == "12"


@without_browser
@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"p_problem": "moon"}, "Problem “moon” is not one of cqf"),
        ({"p_methods": "Krum"}, "Aggregators “Krum” is not one of"),
        ({"p_cqf_rate": "-1"}, "η -1 is outside"),
        ({"p_cqf_x1": "9"}, "start 1, x₁ 9 is outside -2 to 2"),
        ({"p_step": "201"}, "there is no step “201”, only 0 to 200"),
        ({"p_step": "<b>"}, r"there is no step “\<b\>”"),
        ({"p_speed": "900"}, "Steps a second “900” is not one of 4, 8, 20, 40"),
    ],
)
def test_an_address_that_cannot_be_followed_is_said(query, sentence):
    app = open_page("trajectories", **query)
    assert sentence in texts(app.warning)
    assert not app.exception
    assert not app.error


@without_browser
def test_buttons_move_the_step_and_play_moves_it_alone():
    app = open_page("trajectories", p_problem="ewq", p_speed="20")
    app.button(key="trajectories:back").click().run()
    assert app.slider[0].value == 49
    assert app.query_params["p_step"] == "49"
    app.button(key="trajectories:step").click().run()
    assert app.slider[0].value == 50
    assert "p_step" not in app.query_params
    assert app.button(key="trajectories:step").disabled
    # From the end it begins anew; every redraw of the whole page leaves the step alone.
    app.button(key="trajectories:play").click().run()
    assert app.button(key="trajectories:pause").label == "Pause"
    assert app.slider[0].value == 0
    assert app.slider[0].disabled
    app.run()
    assert app.slider[0].value == 0
    app.button(key="trajectories:pause").click().run()
    assert app.button(key="trajectories:play").label == "Play"
    app.slider[0].set_value(7).run()
    assert app.query_params["p_step"] == "7"
    shown = trace(app, "parameters", "Mean, start 1")
    assert len(numbers(shown["x"])) == 8
    assert_well(app)


@without_browser
def test_while_it_plays_less_is_sent_unless_the_numbers_are_read():
    app = open_page("trajectories", p_step="150")
    assert len(numbers(trace(app, "parameters", "UPGrad, start 1")["x"])) == 151
    app.button(key="trajectories:play").click().run()
    keys = ("parameters", "objectives", "distances")
    assert len(numbers(trace(app, "parameters", "UPGrad, start 1")["x"])) < 50
    assert sum(len(drawn(app, f"trajectories-{key}")["figure"]) for key in keys) < 60_000
    app.session_state["numbers-trajectories-parameters"] = True
    app.run()
    assert len(numbers(trace(app, "parameters", "UPGrad, start 1")["x"])) == 151
    assert len(numbers(trace(app, "objectives", "UPGrad, start 1")["x"])) < 50
    assert_well(app)


@without_browser
def test_divergence_is_said_and_marked():
    app = open_page("trajectories", p_problem="ewq", p_methods="Mean", p_ewq_rate="3")
    assert_well(app)
    # From 3 by −2 a step: −6, 12, and −24 is beyond 20. From −4: 8, −16, 32. From −3.5: 7, −14, 28.
    assert (
        "diverged: Mean from start 1 at step 3, Mean from start 2 at step 3, "
        "Mean from start 3 at step 3." in texts(app.markdown)
    )
    # The crosses are where the first steps leave the map: to −6, 8 and 7.
    assert numbers(trace(app, "parameters", "diverged")["x"]) == [-5.0, 5.0, 5.0]


@without_browser
def test_another_problem_has_starts_rates_and_steps_of_its_own():
    app = open_page("trajectories", p_step="20")
    app.selectbox(key="p_problem").set_value("fonseca").run()
    assert_well(app)
    assert app.slider[0].value == 100
    assert app.number_input(key="p_fonseca_rate").value == LANDSCAPES["fonseca"].rate
    assert app.query_params["p_problem"] == "fonseca"


@without_browser
def test_at_most_eight_methods_and_none():
    app = open_page("trajectories", p_methods=list(TWO_OBJECTIVE_METHODS), p_cqf_steps="3")
    assert_well(app)
    assert "Drawn are the first 8 of 22." in texts(app.caption)
    legend = [one for one in figure(app, "distances")["data"] if one.get("showlegend") is not False]
    assert [one["name"] for one in legend] == list(TWO_OBJECTIVE_METHODS[:8])
    app.multiselect(key="p_methods").set_value([]).run()
    assert "Choose one or more aggregators" in texts(app.info)
    assert_well(app)


@without_browser
def test_the_code_of_each_figure_makes_it():
    app = open_page(
        "trajectories", p_problem="ewq", p_step="9", p_UPGrad_pref_vector="own", p_view="apart"
    )
    for key in ("parameters", "objectives", "distances"):
        app.session_state[f"numbers-trajectories-{key}"] = True
    app.run()
    assert_well(app)
    assert len(app.code) == 3
    for key, code in zip(("parameters", "objectives", "distances"), app.code, strict=True):
        names = {}
        exec(code.value, names)
        made = names["figure"].to_plotly_json()["data"]
        shown = figure(app, key)["data"]
        assert [one.get("name") for one in made] == [one.get("name") for one in shown]
        for one, other in zip(made, shown, strict=True):
            if one.get("x") is not None:
                np.testing.assert_array_equal(numbers(one["x"]), numbers(other["x"]))


@without_browser
def test_the_gradients_of_a_step_lead_to_directions():
    app = open_page("trajectories", p_problem="ewq", p_step="0", p_look="Mean", p_from="2")
    # At (−4, 4): g₁ = (−8, 0) and g₂ = (0, 8).
    said = "Mean from start 2 is at x = (−4.00, 4.00). There g₁ = (−8.00, 0) and g₂ = (0, 8.00)"
    assert said in texts(app.caption)
    (link,) = [one for one in app.get("page_link") if "Directions" in one.proto.label]
    assert link.proto.query_string.split("&") == [
        "d_m=2",
        "d_a1=180",
        "d_l1=8",
        "d_a2=90",
        "d_l2=8",
    ]


@pytest.fixture
def starts(monkeypatch):
    """The starts of the element-wise problem, without a page around them."""
    from jdviz.pages import controls, trajectories_controls

    own = ProblemSettings(LANDSCAPES["ewq"])
    session = {own.count.key: "2"}
    for place in (1, 2):
        session |= {number.key: number.default for number in own.start(place)}
    address = {}
    for module in (controls, trajectories_controls):
        monkeypatch.setattr(module.st, "session_state", session)
        monkeypatch.setattr(module.st, "query_params", address)
    return own, session, address


def test_a_click_adds_a_start_through_the_address(starts):
    own, session, address = starts
    session["p_click"] = ADD
    own.place_start((1.234, -1.5))
    assert session[own.count.key] == "3"
    assert address == {"p_ewq_x3": "1.23", "p_ewq_y3": "-1.50"}


def test_a_click_moves_the_nearest_start(starts):
    own, session, address = starts
    session["p_click"] = MOVE
    own.place_start((-1.0, 3.0))
    assert (session["p_ewq_x2"], session["p_ewq_y2"]) == (-1.0, 3.0)
    assert (session["p_ewq_x1"], session["p_ewq_y1"]) == (3.0, -2.0)
    assert session[own.count.key] == "2"
    assert address == {}


browser = pytest.mark.browser
SHOWN = re.compile("p_step=(\\d+)")


def place_on_map(page, x, y):
    """A place of the element-wise problem's frame, in pixels of the page."""
    area = page.locator(".st-key-plot-trajectories-parameters .nsewdrag").first
    expect(area).to_be_visible()
    box = area.bounding_box()
    return box["x"] + (x + 5) / 10 * box["width"], box["y"] + (5 - y) / 10 * box["height"]


def settled(page):
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


@browser
@pytest.mark.timeout(400)
def test_a_click_places_a_start_that_a_reload_keeps(server, page):
    page.goto(f"{server.url}/trajectories?p_problem=ewq&p_methods=Mean")
    page.mouse.move(*place_on_map(page, 2.5, 2.5))
    expect(page.locator(".hoverlayer .hovertext").first).to_be_visible()
    page.mouse.click(*place_on_map(page, 2.5, 2.5))
    expect(page).to_have_url(re.compile("p_ewq_n=4(&|$)"))
    found = re.search("p_ewq_x4=([-.0-9]+).*p_ewq_y4=([-.0-9]+)", page.url)
    # Within one and a half cells of the map.
    assert all(math.isclose(float(value), 2.5, abs_tol=0.31) for value in found.groups())
    expect(page.get_by_text("After 50 steps from 4 starts")).to_be_visible()
    page.reload()
    expect(page.get_by_text("After 50 steps from 4 starts")).to_be_visible()
    assert page.errors == []


@browser
@pytest.mark.timeout(400)
def test_the_clock_runs_pauses_and_goes_on_by_key_to_directions(server, page):
    page.goto(f"{server.url}/trajectories?p_problem=ewq&p_methods=Mean")
    expect(page.locator(".st-key-plot-trajectories-parameters .nsewdrag").first).to_be_visible()
    before = page.locator(".st-key-plot-trajectories-parameters").bounding_box()
    page.get_by_role("button", name=re.compile("^Play")).click()
    thumb = page.get_by_test_id("stSliderThumbValue").first
    expect(thumb).to_have_text(re.compile("^([4-9]|[1-4][0-9])$"))
    page.get_by_role("button", name=re.compile("^Pause")).click()
    expect(page).to_have_url(SHOWN)
    step = int(SHOWN.search(page.url)[1])
    # Nothing has moved but the paths.
    assert page.locator(".st-key-plot-trajectories-parameters").bounding_box() == before
    settled(page)
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile(f"p_step={step + 1}(&|$)"))
    page.get_by_role("link", name="Open this step in Directions").click()
    expect(page).to_have_url(re.compile("/directions\\?.*d_m=2&d_a1="))
    expect(page.get_by_role("combobox", name="Gradients")).to_have_value("2")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Where do a method's steps lead in the end?"
    )
    assert page.errors == []
