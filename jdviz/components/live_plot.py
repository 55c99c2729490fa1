"""A plotly figure that changes in place, for figures that are drawn again while a run goes on.

Streamlit's own chart is built anew in the browser whenever its data change, which flickers and
loses the visitor's zoom. This one keeps its element and hands the new figure to `Plotly.react`. A
page that shows both loads plotly.js twice, which takes a browser a second or more.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from jdviz.components.assets import publish_plotly_js, read_asset
from jdviz.figures.theme import CONFIG

if TYPE_CHECKING:
    from jdviz.figures.theme import Figure

# Registered once, when this module is imported: a second registration would replace the first.
# Not in a shadow root: plotly.js writes its style sheet into the document, and without it the
# layers of a figure lie below each other and neither hover text nor mode bar is where it belongs.
_mount = st.components.v2.component(
    "jdviz_live_plot",
    html=read_asset("live_plot.html"),
    css=read_asset("live_plot.css"),
    js=read_asset("live_plot.js"),
    isolate_styles=False,
)


def live_plot(
    figure: "Figure",
    *,
    key: str,
    height: int,
    alt: str,
    cells: Sequence[int] | None = None,
    on_cell: Callable[[tuple[int, int]], None] | None = None,
) -> None:
    """Shows a figure, and in later runs of the script or fragment updates it where it is.

    Args:
        figure: Its layout should keep `uirevision`, and its number of traces, from run to run.
        key: Identifies the figure on its page; the same key is the same element.
        height: Height in pixels, the same in every run.
        alt: What the figure shows, for those who do not see it; it may change from run to run.
        cells: Of a square map whose cells answer to a click: a number for every row and column.
        on_cell: Called with the numbers of row and column of the cell that was clicked, as they
            were in the figure that the visitor saw then.

    Raises:
        AssetError: If plotly.js cannot be put where the browser loads it from.
    """
    data = {
        "name": key,
        "figure": figure.to_json(validate=False),
        "config": {**CONFIG, "responsive": False},
        "source": publish_plotly_js(),
        "base": str(st.get_option("server.baseUrlPath") or "").strip("/"),
        "height": height,
        "alt": alt,
        "cells": None if cells is None else [int(cell) for cell in cells],
    }
    if on_cell is None:
        _mount(key=key, data=data, height=height)
    else:
        _mount(key=key, data=data, height=height, on_clicked_change=partial(_answer, key, on_cell))


def _answer(key: str, on_cell: Callable[[tuple[int, int]], None]) -> None:
    """Hand on a click; what a browser sends may be anything."""
    clicked = st.session_state[key].clicked
    if isinstance(clicked, list | tuple) and [type(place) for place in clicked] == [int, int]:
        on_cell((clicked[0], clicked[1]))
