"""The buttons that save a figure: what they are told; tests/app/test_files.py presses them."""

import json

from streamlit.testing.v1 import AppTest

from jdviz.components.assets import read_asset


def page() -> None:
    from jdviz.components.image_buttons import image_buttons

    image_buttons("plot-one", title="Losses <b>", file_name="jdviz-one", key="images-one")


def test_what_is_sent():
    app = AppTest.from_function(page).run()
    assert not app.exception
    (element,) = app.get("bidi_component")
    assert json.loads(element.proto.json) == {
        "name": "images-one",
        "plot": "plot-one",
        "title": "Losses <b>",
        "file": "jdviz-one",
    }


def test_nothing_is_loaded_from_elsewhere():
    for ending in ("js", "css", "html"):
        assert "://" not in read_asset(f"image_buttons.{ending}")


def test_the_figures_are_found_where_the_live_figure_keeps_them():
    kept = 'Symbol.for("jdviz.figures")'
    assert kept in read_asset("live_plot.js")
    assert kept in read_asset("image_buttons.js")
