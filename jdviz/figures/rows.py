"""One row of marks for each method: where its improvements of the objectives lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go

from jdviz.conflict import hurt_mask
from jdviz.figures.arrays import Array, small
from jdviz.figures.theme import PALETTES, SYMBOLS, Theme, method_styles


def marks_of_each(
    values: Mapping[str, Array], names: Sequence[str], theme: Theme
) -> list[go.Scatter]:
    """Marks whose shape says which objective they are, and whose colour that it gets worse.

    Args:
        values: Method to its improvements, shape [m].
        names: Name of every objective, length m; no more than there are shapes.
        theme: "light" or "dark".

    Returns:
        Two traces for each objective, and one that explains the colour.
    """
    palette, methods = PALETTES[theme], list(values)
    table = np.array([values[name] for name in methods])
    hurts = hurt_mask(table)

    def marks(column: int, chosen: NDArray[np.bool_], *, hurt: bool) -> go.Scatter:
        color = palette.negative if hurt else palette.text
        return go.Scatter(
            x=small(table[chosen, column]),
            y=[name for name, taken in zip(methods, chosen, strict=True) if taken],
            mode="markers",
            name=names[column],
            legendgroup=names[column],
            showlegend=False,
            marker={
                "symbol": SYMBOLS[column] if hurt else f"{SYMBOLS[column]}-open",
                "size": 9,
                "color": color,
                "line": {"width": 1.5, "color": color},
            },
            hovertemplate=f"%{{y}}, {names[column]}: gᵢ·A(J) = %{{x:+.3g}}"
            + (" (gets worse)" if hurt else "")
            + "<extra></extra>",
        )

    traces = []
    for column in range(len(names)):
        finite = np.isfinite(table[:, column])
        traces.append(marks(column, finite & ~hurts[:, column], hurt=False))
        traces.append(marks(column, hurts[:, column], hurt=True))
    shapes = [_shape(column, name, palette.text) for column, name in enumerate(names)]
    worse = {"symbol": "circle", "size": 9, "color": palette.negative}
    harm = explanation(go.Scatter, anyone=bool(hurts.any()), mode="markers", marker=worse)
    return [*traces, *shapes, harm]


def marks_of_many(
    values: Mapping[str, Array], names: Sequence[str], theme: Theme
) -> list[go.Scatter]:
    """Strokes in the colour of the method, crosses where an objective gets worse.

    Args:
        values: Method to its improvements, shape [m].
        names: Name of every objective, length m.
        theme: "light" or "dark".

    Returns:
        Two traces for each method, and one that explains the crosses.
    """
    labels, palette = np.array(list(names), dtype=object), PALETTES[theme]
    styles = method_styles(list(values), theme)

    def marks(name: str, chosen: NDArray[np.bool_], *, hurts: bool) -> go.Scatter:
        return go.Scatter(
            x=small(values[name][chosen]),
            y=[name] * int(chosen.sum()),
            mode="markers",
            name=name,
            legendgroup=name,
            showlegend=False,
            marker={
                "symbol": "x-thin" if hurts else "line-ns",
                "size": 9 if hurts else 18,
                "line": {"width": 2 if hurts else 1.5, "color": styles[name].color},
            },
            hovertext=list(labels[chosen]),
            hovertemplate=f"{name}, %{{hovertext}}: gᵢ·A(J) = %{{x:+.3g}}"
            + (" (gets worse)" if hurts else "")
            + "<extra></extra>",
        )

    traces = []
    for name, value in values.items():
        mask = hurt_mask(value)
        traces.append(marks(name, ~mask & np.isfinite(value), hurts=False))
        traces.append(marks(name, mask, hurts=True))
    cross = {"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": palette.muted}}
    anyone = any(hurt_mask(value).any() for value in values.values())
    traces.append(explanation(go.Scatter, anyone=anyone, mode="markers", marker=cross))
    return traces


def explanation(kind: Any, *, anyone: bool, **style: Any) -> Any:
    """A trace without data, whose entry in the legend says what the second cue means."""
    return kind(x=[None], y=[None], name="gets worse", hoverinfo="skip", showlegend=anyone, **style)


def _shape(column: int, name: str, color: str) -> go.Scatter:
    """A trace without data that puts the shape of an objective into the legend."""
    marker = {
        "symbol": f"{SYMBOLS[column]}-open",
        "size": 9,
        "color": color,
        "line": {"width": 1.5, "color": color},
    }
    return go.Scatter(
        x=[None], y=[None], name=name, legendgroup=name, mode="markers", marker=marker
    )
