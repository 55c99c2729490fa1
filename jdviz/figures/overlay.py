"""One quantity of several runs on one axis, smoothed, with what was recorded behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable, small
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.lines import Scale, line_mode, line_styles, shown_on, value_axis
from jdviz.figures.theme import HEIGHT_MAIN, Figure, Theme, with_opacity
from jdviz.figures.words import capitalised, number
from jdviz.histories import smooth

Along = Literal["step", "time"]

#: Opacity of what was recorded, behind what is smoothed.
PALE = 0.35


@dataclass(frozen=True, eq=False)
class Line:
    """A series of one run.

    Attributes:
        name: Entry in the legend; no two lines of a figure have the same.
        steps: Numbers of the steps, shape [k].
        values: The quantity at every step, shape [k].
        time_s: Seconds from the beginning of the run, shape [k]; needed to draw it over time.
    """

    name: str
    steps: ArrayLike
    values: ArrayLike
    time_s: ArrayLike | None = None


def overlay(
    lines: Sequence[Line],
    theme: Theme,
    *,
    quantity: str,
    unit: str = "",
    smoothing: float = 0.0,
    x: Along = "step",
    scale: Scale = "linear",
    height: int = HEIGHT_MAIN,
) -> Figure:
    """The same quantity of several runs.

    Args:
        lines: One for each series; the ninth and all after it are thin and neutral.
        theme: "light" or "dark".
        quantity: What the values are, such as "mean loss".
        unit: Of the values; empty for a number without one.
        smoothing: Weight of what came before, from 0 to below 1; above 0, what was recorded stays
            as a pale line.
        x: What lies along the horizontal axis.
        scale: Of the vertical axis; values that are not positive are left out of a logarithmic one.
        height: Height in pixels.

    Returns:
        A figure with two traces for each line, whatever its length and the smoothing.

    Raises:
        ValueError: If a series does not fit its steps or times, two names are the same, times
            are asked for but missing, or the smoothing is out of range.
    """
    _check_names(lines)
    styles = line_styles([line.name for line in lines], theme)
    suffix = f" {unit}" if unit else ""
    pale, clear, everything = [], [], [np.zeros(0)]
    for line in lines:
        places, raw = _series(line, x)
        raw = shown_on(raw, scale)
        smoothed = smooth(raw, smoothing)
        everything.append(raw)
        style = styles[line.name]
        shown = raw if smoothing > 0 else raw[:0]
        pale.append(
            go.Scatter(
                x=places[: len(shown)],
                y=small(shown),
                mode="lines",
                connectgaps=True,
                name=f"{line.name}, as recorded",
                legendgroup=line.name,
                showlegend=False,
                line={"color": with_opacity(style.color, PALE), "width": 1},
                hoverinfo="skip",
            )
        )
        where = "step %{x}" if x == "step" else "after %{x:.3g} s"
        clear.append(
            go.Scatter(
                x=places,
                y=small(smoothed),
                mode=line_mode(int(np.isfinite(raw).sum())),
                connectgaps=True,
                name=line.name,
                legendgroup=line.name,
                line={"color": style.color, "dash": style.dash, "width": 2},
                hovertemplate=f"{line.name}, {where}: {quantity} %{{y:.3g}}{suffix}<extra></extra>",
            )
        )
    values = np.concatenate(everything)
    axis = value_axis(values, scale)
    if scale == "linear" and np.nanmin(values, initial=0.0) < 0:
        axis = {"type": "linear", "zeroline": True}
    return assemble(
        [*pale, *clear],
        base_layout(
            theme,
            height,
            xaxis=titled("step" if x == "step" else "time (s)", rangemode="tozero"),
            yaxis=titled(f"{quantity} ({unit})" if unit else quantity, **axis),
        ),
    )


def overlay_caption(
    lines: Sequence[Line], *, quantity: str, unit: str = "", baseline: str | None = None
) -> str:
    """One sentence on the last value of every line, and how far it is from a baseline's.

    Args:
        lines: One for each series.
        quantity: What the values are.
        unit: Of the values; empty for a number without one.
        baseline: Name of the line that the others are set against; None for no comparison.

    Raises:
        ValueError: If a series does not fit its steps, two names are the same, or there is no line
            of the baseline's name.
    """
    _check_names(lines)
    last = {line.name: _last(line) for line in lines}
    if baseline is not None and baseline not in last:
        raise ValueError(f"got baseline {baseline!r}, expected one of {', '.join(last)}.")
    if not any(np.isfinite(value) for value in last.values()):
        return "There is no value to compare yet."
    suffix = f" {unit}" if unit else ""
    words = []
    for name, value in last.items():
        text = f"{name} {number(value)}{suffix}" if np.isfinite(value) else f"{name} has none"
        if baseline is not None and name != baseline and np.isfinite(value - last[baseline]):
            text += f" ({_against(value, last[baseline], unit)})"
        words.append(text)
    ending = "" if baseline is None or len(last) == 1 else f", in brackets against {baseline}"
    return f"{capitalised(quantity)} at the end{ending}: {', '.join(words)}."


def _against(value: float, reference: float, unit: str) -> str:
    """The difference, in percent where that has a meaning."""
    if reference > 0:
        return f"{number(100 * (value / reference - 1), signed=True)} %"
    return number(value - reference, signed=True) + (f" {unit}" if unit else "")


def _series(line: Line, x: Along) -> tuple[Array, Array]:
    """Places on the horizontal axis and values, both shape [k]."""
    if x == "time" and line.time_s is None:
        raise ValueError(f"got no times for {line.name}, expected time_s to draw it over time.")
    places = np.asarray(line.steps if x == "step" else line.time_s)
    values = drawable(line.values)
    if values.ndim != 1 or places.shape != values.shape:
        raise ValueError(
            f"got {x}s of shape {places.shape} and values of shape {values.shape} for {line.name}, "
            "expected [k] for both."
        )
    return places.astype(np.int32) if x == "step" else drawable(places), values


def _last(line: Line) -> float:
    """The last finite value; NaN if there is none."""
    _, values = _series(line, "step")
    known = values[np.isfinite(values)]
    return float(known[-1]) if known.size else float("nan")


def _check_names(lines: Sequence[Line]) -> None:
    names = [line.name for line in lines]
    if len(set(names)) != len(names):
        raise ValueError(
            f"got {len(names)} lines with {len(set(names))} distinct names, expected distinct "
            "ones; number the runs that share a name."
        )
