"""A plotly figure that changes in place, for figures that are drawn again while a run goes on.

Streamlit's own chart is built anew in the browser whenever its data change, which flickers and
loses the visitor's zoom. This one keeps its element and hands the new figure to `Plotly.react`. A
page that shows both loads plotly.js twice, which takes a browser a second or more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

import streamlit as st

from jdviz.components.assets import publish_plotly_js, read_asset, read_script
from jdviz.figures.plain import figure_json
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
    js=read_script("history.js", "handles.js", "live_plot.js"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Handles:
    """Arrows of a figure whose tips a visitor may drag, or move by keys.

    Attributes:
        polar: Angle in degrees and length of each, in the units of the figure's axes.
        names: What each is called aloud.
        unit: Lengths are set in multiples of this.
        seq: Number of the last move that the figure shows; 0 before any.
    """

    polar: tuple[tuple[float, float], ...]
    names: tuple[str, ...]
    unit: float
    seq: int


@dataclass(frozen=True)
class Move:
    """What a visitor made of the handles.

    Attributes:
        polar: Angle in degrees and length of each, finite, lengths not negative.
        done: Whether it was let go; otherwise more is to come.
        seq: Number of the move, to be given back with the figure that shows it.
    """

    polar: tuple[tuple[float, float], ...]
    done: bool
    seq: int


def live_plot(
    figure: "Figure",
    *,
    key: str,
    height: int,
    alt: str,
    cells: Sequence[int] | None = None,
    on_cell: Callable[[tuple[int, int]], None] | None = None,
    handles: Handles | None = None,
    on_move: Callable[[Move], None] | None = None,
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
        handles: Arrows from the origin whose tips can be moved.
        on_move: Called with what became of them, many times during a drag.

    Raises:
        AssetError: If plotly.js cannot be put where the browser loads it from.
    """
    data = {
        "name": key,
        "figure": figure_json(figure),
        "config": {**CONFIG, "responsive": False},
        "source": publish_plotly_js(),
        "base": str(st.get_option("server.baseUrlPath") or "").strip("/"),
        "height": height,
        "alt": alt,
        "cells": None if cells is None else [int(cell) for cell in cells],
        "handles": None if handles is None else asdict(handles),
    }
    clicked = moved = None
    if on_cell is not None:
        clicked = partial(_answer_click, key, on_cell)
    if handles is not None and on_move is not None:
        moved = partial(_answer_move, key, len(handles.polar), on_move)
    _mount(key=key, data=data, height=height, on_clicked_change=clicked, on_moved_change=moved)


def _answer_click(key: str, on_cell: Callable[[tuple[int, int]], None]) -> None:
    """Hand on a click; what a browser sends may be anything."""
    clicked = st.session_state[key].clicked
    if isinstance(clicked, list | tuple) and [type(place) for place in clicked] == [int, int]:
        on_cell((clicked[0], clicked[1]))


def _answer_move(key: str, m: int, on_move: Callable[[Move], None]) -> None:
    """Hand on a move; what a browser sends may be anything."""
    moved = st.session_state[key].moved
    if not isinstance(moved, Mapping):
        return
    pairs, done, seq = moved.get("polar"), moved.get("done"), moved.get("seq")
    if not isinstance(pairs, list | tuple) or len(pairs) != m or type(seq) is not int:
        return
    if all(_is_polar(pair) for pair in pairs):
        polar = tuple((float(angle), float(length)) for angle, length in pairs)
        on_move(Move(polar, done is True, seq))


def _is_polar(pair: object) -> bool:
    """Whether this is an angle and a length."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    if any(type(value) not in (int, float) or not isfinite(value) for value in pair):
        return False
    return bool(pair[1] >= 0)
