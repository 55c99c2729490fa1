"""Arrows from the origin, and labels at their tips that do not cover each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable
from jdviz.figures.frame import base_layout, titled
from jdviz.figures.theme import (
    DISTINCT_OBJECTIVES,
    HEIGHT_MAIN,
    PALETTES,
    LineStyle,
    Theme,
    objective_colors,
)
from jdviz.figures.words import number

#: Tips closer than this share of the frame share one label.
CROWDED = 0.09

#: Room around the longest arrow, for its label.
ROOM = 1.18

#: Width in pixels of an arrow's head, and of the handle by which it is dragged.
CLEARANCE, HANDLE = 9.0, 30.0

#: Up to this many gradients have a line of their own in the legend.
LISTED_GRADIENTS = 3

#: Vectors shorter than this share of the frame are a dot: an arrow head would hide them.
DOT = 1e-6


def arrows(
    vectors: Array,
    style: LineStyle,
    *,
    name: str,
    hover: Sequence[str],
    frame: float,
    width: float = 2.0,
    head: float = 12.0,
    opacity: float = 1.0,
    showlegend: bool = True,
) -> go.Scatter:
    """One trace of arrows from the origin, however many there are.

    Args:
        vectors: Tips, shape [s, 2]; rows that are not finite are left out, a zero is a dot, and one
            at the edge of the frame has no head.
        style: Colour and dash.
        name: Entry in the legend.
        hover: Words for each tip, length s.
        frame: Half the width of the shown square, to know which vectors are too short to draw.
        width: Of the shaft in pixels.
        head: Size of the head in pixels.
        opacity: Of shaft and head.
        showlegend: Whether the trace has an entry in the legend.
    """
    places: list[list[float | None]] = []
    sizes: list[float] = []
    symbols: list[str] = []
    words: list[str] = []
    for vector, text in zip(drawable(vectors), hover, strict=True):
        if not np.isfinite(vector).all():
            continue
        reach = float(np.abs(vector).max()) / frame
        short = reach <= DOT
        # What was cut at the frame goes on beyond it, and a head would say that it ends there.
        size = 8.0 if short else 0.0 if reach >= 1 - DOT else head
        # The head turns by the segment from the point before it, so each arrow has its origin.
        places += [[0.0, 0.0], [float(vector[0]), float(vector[1])], [None, None]]
        sizes += [0.0, size, 0.0]
        symbols += ["circle", "circle" if short else "arrow", "circle"]
        words += ["", text, ""]
    return go.Scatter(
        x=[place[0] for place in places],
        y=[place[1] for place in places],
        mode="lines+markers",
        name=name,
        showlegend=showlegend,
        opacity=opacity,
        line={"color": style.color, "dash": style.dash, "width": width},
        marker={
            "color": style.color,
            "size": sizes,
            "symbol": symbols,
            "angleref": "previous",
            "line": {"width": 0},
            "opacity": 1,
        },
        hovertext=words,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def gradient_arrows(
    gradients: Array, captured: Array, labels: Sequence[str], frame: float, theme: Theme
) -> list[go.Scatter]:
    """The gradients of a step, projected onto a plane.

    Args:
        gradients: Coordinates in the plane, shape [m, 2].
        captured: Share of each gradient's squared length that lies in it, shape [m].
        labels: Name of every objective, length m.
        frame: Half the width of the shown square.
        theme: "light" or "dark".

    Returns:
        A trace for each of up to seven gradients, and one with their labels; one trace for more of
        them, in which those that leave the frame are cut, and its name says so.
    """
    m = len(labels)
    words = [
        f"{label}: length in the plane {number(float(np.hypot(*gradient)))}, "
        f"{number(100 * float(share))} % of its squared length is here"
        for label, gradient, share in zip(labels, gradients, captured, strict=True)
    ]
    if m > DISTINCT_OBJECTIVES:
        middle = LineStyle(objective_colors(m, theme)[m // 3], "solid", "circle")
        shown, cut = cut_at_frame(gradients, frame)
        name = f"{m} gradients ({cut} cut at the frame)" if cut else f"{m} gradients"
        quiet: dict[str, Any] = {"width": 1.2, "head": 8, "opacity": 0.7}
        return [arrows(shown, middle, name=name, hover=words, frame=frame, **quiet)]
    short = [f"g{subscript(index + 1)}" for index in range(m)]
    traces = [
        arrows(
            gradients[index : index + 1],
            LineStyle(color, "solid", "circle"),
            name=f"{short[index]} {labels[index]}",
            hover=words[index : index + 1],
            frame=frame,
            # More would take the figure's height; the tips carry their labels.
            showlegend=m <= LISTED_GRADIENTS,
        )
        for index, color in enumerate(objective_colors(m, theme))
    ]
    return [*traces, tip_labels(gradients, short, frame, theme)]


def tip_labels(
    vectors: Array,
    labels: Sequence[str],
    frame: float,
    theme: Theme,
    *,
    clearance: float = CLEARANCE,
) -> go.Scatter:
    """One trace with a label at every tip, outside the arrow; tips that nearly meet share one.

    Args:
        vectors: Tips, shape [s, 2]; rows that are not finite get no label.
        labels: A short label for each, length s.
        frame: Half the width of the shown square.
        theme: "light" or "dark".
        clearance: Width in pixels of what a label must not cover.
    """
    groups: list[tuple[Array, list[str]]] = []
    for vector, label in zip(drawable(vectors), labels, strict=True):
        if not np.isfinite(vector).all():
            continue
        near = [g for g in groups if np.linalg.norm(g[0] - vector) < CROWDED * frame]
        if near:
            near[0][1].append(label)
        else:
            groups.append((vector, [label]))
    return go.Scatter(
        x=[float(tip[0]) for tip, _ in groups],
        y=[float(tip[1]) for tip, _ in groups],
        text=[", ".join(words) for _, words in groups],
        # The marks are invisible; they hold the labels off the tips.
        mode="markers+text",
        marker={"size": clearance, "opacity": 0, "color": PALETTES[theme].text},
        textposition=[_outside(tip) for tip, _ in groups],
        textfont={"color": PALETTES[theme].text, "size": 14},
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )


def arrow_layout(
    theme: Theme, frame: float, x: str, y: str, height: int = HEIGHT_MAIN
) -> dict[str, Any]:
    """A square frame around the origin with equal units on both axes.

    Args:
        theme: "light" or "dark".
        frame: Half the width of the square.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        height: Height in pixels.
    """
    shared: dict[str, Any] = {"range": [-frame, frame], "zeroline": True, "nticks": 7}
    return base_layout(
        theme,
        height,
        xaxis=titled(x, **shared),
        yaxis=titled(y, **shared, scaleanchor="x", scaleratio=1),
    )


def fit_axes(layout: dict[str, Any], arrays: Sequence[Array], square: float) -> None:
    """Let the axes reach as far as the arrows, and a little further for their labels.

    Args:
        layout: From `arrow_layout`; its ranges are replaced.
        arrays: Tips, each of shape [s, 2].
        square: Half the width of the square.
    """
    tips = np.nan_to_num(np.concatenate([np.zeros((1, 2)), *arrays]))
    room = 0.14 * square
    for axis, values in zip(("xaxis", "yaxis"), tips.T, strict=True):
        layout[axis]["range"] = [float(values.min()) - room, float(values.max()) + room]


def subscript(index: int) -> str:
    """A number as a subscript, for labels such as g₁."""
    return str(index).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def cut_at_frame(vectors: Array, frame: float) -> tuple[Array, int]:
    """Vectors that end at the edge of the square where they would leave it, and how many do.

    Args:
        vectors: Tips, shape [s, 2].
        frame: Half the width of the square.
    """
    excess = np.nan_to_num(np.abs(vectors).max(axis=1)) / frame
    return vectors / np.maximum(excess, 1.0)[:, None], int((excess > 1.0).sum())


def _outside(tip: Array) -> str:
    """Where a label lies beyond the tip of an arrow that comes from the origin."""
    if not tip.any():
        return "bottom left"
    angle = np.degrees(np.arctan2(tip[1], tip[0])) % 360
    places = (
        "middle right",
        "top right",
        "top center",
        "top left",
        "middle left",
        "bottom left",
        "bottom center",
        "bottom right",
    )
    return places[int((angle + 22.5) // 45) % 8]
