"""What an address hides or locks, and the table of what an address can say."""

import pytest
from playwright.sync_api import expect

from tests.support.addresses import documented, tables
from tests.support.pages import drawn, open_page, texts

data = pytest.mark.usefixtures("app_data")


@data
def test_the_document_lists_every_name(monkeypatch):
    assert documented() == tables(monkeypatch).strip() + "\n"


@data
def test_a_locked_control_is_shown_and_cannot_be_changed():
    app = open_page("train", lock="t_rate,t_aggregator", t_aggregator="MGDA")
    assert app.number_input(key="t_rate").disabled
    assert app.selectbox(key="t_aggregator").disabled
    assert app.selectbox(key="t_aggregator").value == "MGDA"
    assert not app.selectbox(key="t_problem").disabled
    assert not app.button(key="start").disabled


@data
def test_everything_can_be_locked():
    app = open_page("train", lock="all", t_through="true")
    widgets = [*app.selectbox, *app.number_input, *app.multiselect, *app.toggle]
    widgets += app.get("button_group")
    assert len(widgets) > 10
    assert [one for one in widgets if not getattr(one, "disabled", True)] == []
    assert not app.warning


@data
def test_parts_that_are_hidden_are_not_sent():
    app = open_page("engines", hide="title,prose,numbers")
    assert not app.title
    assert "Try this" not in texts(app.markdown)
    assert not [one for one in app.expander if "code and files" in one.label]
    assert drawn(app, "timelines") is not None


@data
def test_a_hidden_view_is_that_of_the_address():
    app = open_page("engines", hide="e_view", e_view="Plan")
    assert not app.tabs
    assert "uses of parameters" in texts(app.markdown)


@data
def test_a_hidden_rail_leaves_the_figure_of_the_address():
    seen = drawn(open_page("lens", l_view="gramian", l_order="cluster"), "lens-matrix")
    without = open_page("lens", l_view="gramian", l_order="cluster", hide="rail")
    assert seen is not None
    assert drawn(without, "lens-matrix") == seen


@data
def test_names_that_mean_nothing_are_said_once():
    app = open_page("train", hide="t_rate,rails,d_m", lock="t_speed")
    said = texts(app.warning)
    assert "“rails” is no part of this page" in said
    assert "“t\\_speed” is no part of this page" in said
    # Another page's names wait for it.
    assert "d_m" not in said
    assert "rate" not in said
    assert len(app.warning) == 2


@data
def test_what_is_hidden_and_locked_stays_on_other_pages_until_an_empty_list():
    app = open_page("train", hide="title", lock="l_view")
    app.query_params.clear()
    app.switch_page("jdviz/pages/lens.py").run()
    assert not app.title
    assert app.selectbox(key="l_view").disabled
    assert app.query_params["hide"] in ("title", ["title"])
    app.query_params["hide"] = ""
    app.run()
    assert app.title
    assert app.selectbox(key="l_view").disabled


@data
def test_a_name_never_becomes_part_of_the_style_sheet():
    app = open_page("train", hide="t_rate,*{}</style><b>")
    styles = "\n".join(element.proto.body for element in app.get("html"))
    assert ".st-key-t_rate { display: none; }" in styles
    assert "<b>" not in styles


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_a_lecture_in_a_frame(page, server):
    page.goto(f"{server.url}/train?embed=true&hide=title,t_rate,numbers&lock=t_aggregator")
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.get_by_text("Model, optimizer and run").click()
    expect(page.get_by_role("spinbutton", name="Seed")).to_be_visible()
    expect(page.locator(".st-key-t_rate input")).to_be_hidden()
    expect(page.get_by_role("combobox", name="Aggregator", exact=True)).to_be_disabled()
    # Only the page scrolls, not the frame around it too.
    assert page.evaluate("document.documentElement.scrollHeight <= window.innerHeight")
    page.goto(f"{server.url}/train?hide=nav,rail")
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    expect(page.get_by_role("button", name="Start")).to_be_hidden()
    expect(page.get_by_role("link", name="Engines")).to_be_hidden()
    whole, figure = (
        page.locator(place).first.bounding_box()["width"]
        for place in (".st-key-train-live", "[data-testid='stMainBlockContainer']")
    )
    assert whole > 0.85 * figure
    assert page.errors == []
