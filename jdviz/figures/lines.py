"""Lines over the steps of a run: one for each objective, or the distribution of many."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, small
from jdviz.figures.theme import (
    DISTINCT_METHODS,
    PALETTES,
    LineStyle,
    Theme,
    method_styles,
    numbered_style,
    objective_colors,
    objective_dashes,
    with_opacity,
)

Steps = NDArray[np.int32]
Scale = Literal["linear", "log"]

#: Percentiles between which the band of a distribution lies.
BAND = (10.0, 90.0)


def line_each(
    x: Steps, values: Array, labels: Sequence[str], theme: Theme, quantity: str
) -> list[go.Scatter]:
    """A line for each of up to seven objectives.

    Args:
        x: Numbers of the steps, shape [k].
        values: Of every objective at every step, shape [k, m].
        labels: Name of every objective, length m.
        theme: "light" or "dark".
        quantity: What the values are, in one word.
    """
    m = values.shape[1]
    styles = zip(labels, objective_colors(m, theme), objective_dashes(m), strict=True)
    return [
        go.Scatter(
            x=x,
            y=small(values[:, index]),
            mode=line_mode(len(x)),
            name=label,
            line={"color": color, "dash": dash, "width": 2},
            hovertemplate=f"step %{{x}}, {label}: {quantity} %{{y:.3g}}<extra></extra>",
        )
        for index, (label, color, dash) in enumerate(styles)
    ]


def distribution(
    x: Steps, values: Array, theme: Theme, *, quantity: str, noun: str, most: str
) -> list[go.Scatter]:
    """Five traces: the band from the 10th to the 90th percentile, median, mean and largest.

    Args:
        x: Numbers of the steps, shape [k].
        values: Of every objective at every step, shape [k, m].
        theme: "light" or "dark".
        quantity: What the values are, in one word.
        noun: What an objective is, in the singular.
        most: What the one with the largest value is called, such as "worst".
    """
    palette = PALETTES[theme]
    low, median, high, mean, top = _statistics(values)

    def line(y: Array, name: str, color: str, dash: str, words: str) -> go.Scatter:
        return go.Scatter(
            x=x,
            y=small(y),
            mode=line_mode(len(x)),
            name=name,
            line={"color": color, "dash": dash, "width": 2},
            hovertemplate=f"step %{{x}}: {words} %{{y:.3g}}<extra></extra>",
        )

    blue, _, _, vermillion, *_ = palette.categorical
    verb = f"{noun} has {quantity}"
    return [
        *band(x, low, high, blue, name=f"10–90 % of {values.shape[1]} {noun}s"),
        line(median, "median", blue, "solid", f"the median {verb}"),
        line(mean, "mean", palette.text, "dash", f"mean {quantity}"),
        line(top, most, vermillion, "dot", f"the {most} {verb}"),
    ]


def band(
    x: Any, low: Array, high: Array, color: str, *, name: str, **extra: Any
) -> list[go.Scatter]:
    """Two traces, the lower and the upper edge of a quiet fill.

    Args:
        x: Places, shape [k].
        low: Lower edge, shape [k].
        high: Upper edge, shape [k].
        color: Of the fill, without its opacity.
        name: Entry in the legend.
        **extra: Further keys of both traces.
    """
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", **extra}
    fill = {"fill": "tonexty", "fillcolor": with_opacity(color, 0.18)}
    return [
        go.Scatter(x=x, y=small(low), **{**edge, "showlegend": False}),
        go.Scatter(x=x, y=small(high), name=name, **fill, **edge),
    ]


def line_styles(names: Sequence[str], theme: Theme) -> dict[str, LineStyle]:
    """How lines of methods or of runs look: methods as everywhere, other names in their order.

    Args:
        names: Distinct names; where all are methods of the registry, each keeps its colour.
        theme: "light" or "dark".

    Returns:
        The style of each; of the ninth and all after it, a thin neutral one.
    """
    try:
        return method_styles(names, theme)
    except ValueError:
        muted = PALETTES[theme].muted
        styles = {name: numbered_style(place, theme) for place, name in enumerate(names)}
        return {
            name: style if place < DISTINCT_METHODS else LineStyle(muted, "solid", style.symbol)
            for place, (name, style) in enumerate(styles.items())
        }


def line_mode(points: int) -> str:
    """How a line of some points is drawn: through one or two it would hardly be seen."""
    return "lines" if points > 2 else "lines+markers"


def value_axis(values: Array, scale: Scale) -> dict[str, Any]:
    """The axis of a quantity over steps.

    Args:
        values: What is drawn on it; NaN is left out.
        scale: Linear from zero on, or logarithmic with labels at 1, 2 and 5 where they fit.
    """
    if scale == "linear":
        return {"type": "linear", "rangemode": "tozero"}
    seen = values[np.isfinite(values) & (values > 0)]
    decades = np.log10(seen.max() / seen.min()) if seen.size else 0.0
    if decades >= 3:
        return {"type": "log", "dtick": 1}
    # Without a format, plotly writes 5 for 0.5.
    return {"type": "log", "dtick": "D2", "tickformat": "~g"}


def shown_on(values: Array, scale: Scale) -> Array:
    """The values that an axis can show; NaN for those without a logarithm on a logarithmic one."""
    return np.where(values > 0, values, np.nan) if scale == "log" else values


def _statistics(values: Array) -> tuple[Array, Array, Array, Array, Array]:
    """10th, 50th, 90th percentile, mean and worst of each row; NaN for a row with a gap."""
    if len(values) == 0:
        empty = np.zeros(0)
        return empty, empty, empty, empty, empty
    low, median, high = np.percentile(values, [BAND[0], 50.0, BAND[1]], axis=1)
    return low, median, high, values.mean(axis=1), values.max(axis=1)
