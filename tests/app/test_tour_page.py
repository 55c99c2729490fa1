"""The tour without a browser, and its keys in one: predict, play, go on, and the address."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from jdviz import lessons
from jdviz.gradients import rows_from_polar
from jdviz.lessons import LESSONS
from jdviz.pages import PAGES, tour_code
from jdviz.pages.tour_figures import SCENES
from jdviz.profiling.example import example_comparison
from jdviz.runs.example import example_store
from tests.support.pages import drawn, open_page, texts

# (figures before the answer, figures of the answer, place of the right choice)
EXPECTED = {
    "conflict": (("tour-pair",), ("tour-cosines", "tour-pair"), 0),
    "mean": (
        ("tour-equal", "tour-equal-hurt"),
        ("tour-longer", "tour-longer-hurt", "tour-equal", "tour-equal-hurt"),
        1,
    ),
    "gramian": (
        ("tour-gramian-plane", "tour-gramian-map"),
        ("tour-turned-plane", "tour-turned-map", "tour-gramian-plane", "tour-gramian-map"),
        1,
    ),
    "memory": (("tour-autojac",), ("tour-mirrored",), 0),
    "methods": (("tour-case",), ("tour-methods", "tour-methods-hurt"), 2),
}


@pytest.fixture(autouse=True)
def own_data(request):
    if "page" not in request.fixturenames:
        request.getfixturevalue("app_data")


def figures(app):
    known = {name for before, after, _ in EXPECTED.values() for name in (*before, *after)}
    return {name for name in known if drawn(app, name) is not None}


def answer_of(app):
    return texts(app.info)


def test_every_lesson_has_a_scene_and_three_different_choices():
    assert list(SCENES) == list(LESSONS) == list(EXPECTED)
    assert all(len(set(lesson.choices)) == 3 for lesson in LESSONS.values())
    assert all(lesson.source for lesson in LESSONS.values())


@pytest.mark.parametrize("key", LESSONS)
def test_a_lesson_is_predicted_played_and_judged(key):
    before, after, right = EXPECTED[key]
    app = open_page("tour", u_lesson=key)
    assert figures(app) == set(before)
    assert app.button(key="tour:play").disabled
    assert not app.info
    for guess, words in ((right, "was right"), ((right + 1) % 3, "was not right")):
        app.radio(key="tour:guess").set_value(str(guess + 1)).run()
        app.button(key="tour:play").click().run()
        assert not app.exception
        assert not app.error
        assert not app.warning
        assert f"Your prediction {words}" in answer_of(app)
        assert LESSONS[key].choices[right] in answer_of(app)
        assert figures(app) == set(after)


def test_the_address_holds_lesson_prediction_and_answer():
    app = open_page("tour", u_lesson="mean", u_guess="2", u_answer="shown", u_length="1.0")
    assert app.radio(key="tour:guess").value == "2"
    assert "was right" in answer_of(app)
    assert app.number_input(key="u_length").value == 1.0
    app.button(key="tour:next").click().run()
    assert app.query_params["u_lesson"] in ("gramian", ["gramian"])
    assert not {"u_guess", "u_answer"} & set(app.query_params)
    assert app.radio(key="tour:guess").value is None
    assert not app.info
    app.button(key="tour:back").click().run()
    app.button(key="tour:back").click().run()
    assert "u_lesson" not in app.query_params
    assert app.button(key="tour:back").disabled


def test_an_address_that_cannot_be_followed_is_said():
    app = open_page("tour", u_lesson="magic", u_guess="4", u_angle="400")
    said = texts(app.warning)
    assert "Lesson “magic” is not one of conflict, mean" in said
    assert "Prediction “4” is not one of" in said
    assert "is outside 0 to 180" in said
    assert not app.exception


@pytest.mark.parametrize(
    ("angle", "words"), [(60, "agree"), (90, "neither helps nor hurts"), (120, "conflict")]
)
def test_the_first_figure_follows_the_angle(angle, words):
    app = open_page("tour")
    app.number_input(key="u_angle").set_value(angle).run()
    assert words in texts(app.markdown)
    assert f"{angle}°" in texts(app.markdown)


@pytest.mark.parametrize("key", LESSONS)
def test_the_way_on_leads_to_a_page_in_the_state_of_the_lesson(key):
    app = open_page("tour", u_lesson=key)
    way = SCENES[key].way()
    link = next(one for one in app.get("page_link") if way.label in one.proto.label)
    assert link.proto.page == PAGES[way.page].key
    there = open_page(way.page, **way.query)
    assert not there.exception
    assert not there.error
    assert not there.warning


def test_the_gradients_of_a_lesson_arrive_in_directions():
    way = SCENES["methods"].way()
    app = open_page("directions", **way.query)
    assert app.number_input(key="d_a2").value == 150.0
    assert app.number_input(key="d_l1").value == 4.0
    assert set(app.multiselect(key="d_methods").value) == set(lessons.COMPARED)


def test_conflict_of_the_recorded_step():
    G = example_store().record("example", 0).gramian
    upper = G[np.triu_indices(len(G), 1)]
    answer = lessons.conflict_answer(G)
    assert answer.reason.startswith(f"{int((upper < 0).sum())} of 496 pairs are in conflict")
    # Two gradients that agree, and none of the pairs conflicts.
    assert lessons.conflict_answer(np.array([[1.0, 0.5], [0.5, 1.0]])).right == 2


def test_the_mean_hurts_beyond_a_length():
    # g3·(g1 + g2 + g3) = L cos 145° + cos 60° + 1 changes its sign at L = 1.5 / 0.8192 = 1.831.
    assert lessons.mean_answer(lessons.three_gradients(1.83)).right == 0
    assert lessons.mean_answer(lessons.three_gradients(1.84)).right == 1


def test_turning_changes_nothing_and_stretching_does():
    before = lessons.three_gradients(1.0)
    assert lessons.gramian_answer(before, lessons.three_gradients(1.0, 37.0)).right == 1
    stretched = lessons.gramian_answer(before, 2 * before)
    assert stretched.right == 0
    flipped = lessons.gramian_answer(before, before * np.array([[-1.0], [1.0], [1.0]]))
    assert flipped.right == 2
    assert "other weights" not in lessons.gramian_answer(before, before).reason


def test_the_measured_peaks_are_those_of_the_bundled_measurement():
    found = example_comparison()
    part = found.of("fused").peak_bytes / found.of("autojac").peak_bytes
    answer = lessons.memory_answer(found)
    assert f"{100 * part:.3g} %" in answer.reason
    assert answer.right == int(part > 0.25) + int(part > 0.5)
    # The text names the sizes of the same measurement.
    one = found.of("autojac")
    text = LESSONS["memory"].text
    assert f"{one.objectives} images" in text
    assert f"{one.parameters:,} parameters" in text
    assert f"{one.objectives * one.parameters / 1e6:.3g} million numbers" in text


def test_a_question_with_two_right_choices_is_refused():
    agreeing = rows_from_polar([0.0, 60.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="expected one"):
        lessons.methods_answer(agreeing * np.array([[1.0], [0.5]]))


def test_the_table_says_what_the_registry_knows():
    table = lessons.properties_table()
    assert table.loc["UPGrad"].tolist() == ["yes", "yes", "yes"]
    assert table.loc["PCGrad"].tolist() == ["no", "yes", "no"]
    assert table.loc["MGDA", "each counts by its length"] == "no"


@pytest.mark.parametrize("key", LESSONS)
def test_the_code_of_a_figure_makes_it(key, monkeypatch):
    made = []
    real = {name: getattr(tour_code, name) for name in ("directions", "hurt", "gramian")}
    for name, make in real.items():

        def kept(*given, make=make):
            made.append(make(*given))
            return made[-1]

        monkeypatch.setattr(tour_code, name, kept)
    open_page("tour", u_lesson=key, u_guess="1", u_answer="shown")
    for code in {*made, tour_code.timelines(), tour_code.mirrored()}:
        scope = {}
        exec(code, scope)
        assert scope["figure"].data


@pytest.mark.browser
def test_a_lesson_with_the_keyboard_alone(page, server):
    page.goto(f"{server.url}/tour")
    expect(page.get_by_role("heading", name=PAGES["tour"].question)).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(1)
    page.get_by_role("radio", name="More than a half").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play")).to_be_enabled()
    expect(page).to_have_url(re.compile("u_guess=1"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Play")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Your prediction was right")).to_be_visible()
    expect(page).to_have_url(re.compile("u_answer=shown"))
    page.reload()
    expect(page.get_by_text("Your prediction was right")).to_be_visible()
    page.get_by_role("button", name="Next").focus()
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile("u_lesson=mean"))
    expect(page.get_by_text("a long gradient counts for more")).to_be_visible()
    expect(page.get_by_text("Your prediction was right")).to_have_count(0)
    page.get_by_role("link", name="Go on in Directions").click()
    expect(page.get_by_role("heading", name=PAGES["directions"].question)).to_be_visible()
    assert page.errors == []
