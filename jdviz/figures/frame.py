"""The frame that every figure shares: template, margins, axes and the way a legend lies."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from plotly import graph_objects as go

from jdviz.figures.theme import (
    FONT_FAMILY,
    PALETTES,
    UI_REVISION,
    Figure,
    Theme,
    diverging_scale,
    with_opacity,
)

#: A trace's `meta` where what is drawn is not what it is: its numbers are in `customdata`.
TRUE_VALUES = "customdata"

#: A trace's `meta` where its places say nothing and its hover text all.
WORDS_ONLY = "hovertext"


@cache
def template(theme: Theme) -> go.layout.Template:
    """A complete plotly template of one theme.

    Importing Streamlit makes placeholders that only its own page replaces the default template of
    every figure in the process, so a figure without one of its own would be exported near black.

    Args:
        theme: "light" or "dark".
    """
    palette = PALETTES[theme]
    axis: dict[str, Any] = {
        "automargin": True,
        "gridcolor": palette.grid,
        "linecolor": palette.line,
        "tickcolor": palette.line,
        "zeroline": False,
        "zerolinecolor": palette.line,
        "title": {"font": {"color": palette.muted, "size": 13}, "standoff": 8},
        "tickfont": {"color": palette.muted, "size": 12},
    }
    return go.layout.Template(
        layout={
            "paper_bgcolor": palette.background,
            "plot_bgcolor": palette.background,
            "font": {"family": FONT_FAMILY, "color": palette.text, "size": 13},
            "colorway": list(palette.categorical),
            "colorscale": {"diverging": diverging_scale(theme)},
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {
                "bgcolor": palette.surface,
                "bordercolor": palette.line,
                "align": "left",
                "namelength": -1,
                "font": {"family": FONT_FAMILY, "color": palette.text, "size": 13},
            },
            "legend": {
                "bgcolor": with_opacity(palette.background, 0.0),
                "font": {"color": palette.text, "size": 12},
            },
            "modebar": {
                "bgcolor": with_opacity(palette.background, 0.0),
                "color": palette.muted,
                "activecolor": palette.accent,
            },
        }
    )


def base_layout(theme: Theme, height: int, **extra: Any) -> dict[str, Any]:
    """The layout that every figure starts from.

    Args:
        theme: "light" or "dark".
        height: Height of the whole figure in pixels; its width follows the page.
        **extra: Further keys of the layout, which win over the shared ones.

    Returns:
        A layout with an explicit template, for `assemble`.
    """
    layout: dict[str, Any] = {
        "template": template(theme),
        "height": height,
        "autosize": True,
        "margin": {"l": 56, "r": 16, "t": 36, "b": 48},
        "hovermode": "closest",
        "dragmode": "zoom",
        "uirevision": UI_REVISION,
        # Above the axes and inside the figure: it never covers a mark, and it wraps when narrow.
        "legend": {
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "xanchor": "left",
            "y": 1.01,
            "yanchor": "bottom",
        },
    }
    return {**layout, **extra}


def assemble(traces: Sequence[Any], layout: dict[str, Any]) -> Figure:
    """A figure from its traces and its layout, both given at once.

    Not checked here, which takes plotly three times as long as all the rest: a live page builds six
    figures a tick, and a gradient is dragged. The tests check every figure.

    Args:
        traces: In the order in which they are drawn.
        layout: From `base_layout`.
    """
    return go.Figure(data=list(traces), layout=layout, _validate=False)


def hatching(theme: Theme) -> dict[str, Any]:
    """The pattern of bars for what conflicts or gets worse, the second cue beside the colour."""
    return {
        "shape": "/",
        "fgcolor": PALETTES[theme].background,
        "fillmode": "overlay",
        "size": 7,
        "solidity": 0.35,
    }


def titled(text: str, **extra: Any) -> dict[str, Any]:
    """An axis with a title, and whatever else it needs."""
    return {"title": {"text": text}, **extra}
