"""Peaks and durations of a training step, compared between engines."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go

from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.measured import Measured, check_measurements, engine_labels, quartiles
from jdviz.figures.theme import ENGINE_STYLES, PALETTES, Figure, Theme, engine_style
from jdviz.figures.timelines import memory_caption, memory_timelines
from jdviz.figures.words import MEBIBYTE, mebibytes, milliseconds, ratio

__all__ = [
    "engines_caption",
    "memory_caption",
    "memory_timelines",
    "peak_bars",
    "time_bars",
]

BAR_HEIGHT = 44

#: Engine that the others are compared with, where it was measured.
BASELINE = "autograd"


def peak_bars(measurements: Sequence[Measured], theme: Theme) -> Figure:
    """The peak of each engine's step beside the parameters that every engine needs.

    Args:
        measurements: One for each engine, in the order of the bars from the top.
        theme: "light" or "dark".

    Raises:
        ValueError: If there is no measurement or an engine is unknown.
    """
    check_measurements(measurements)
    palette = PALETTES[theme]
    labels = engine_labels(measurements)
    parameters = [m.parameter_bytes / MEBIBYTE for m in measurements]
    peaks = [m.peak_bytes / MEBIBYTE for m in measurements]
    words = _compared([m.peak_bytes for m in measurements], measurements, mebibytes)
    traces = [
        go.Bar(
            x=parameters,
            y=labels,
            orientation="h",
            name="parameters, the same for every engine",
            showlegend=True,
            marker={"color": palette.line, "line": {"width": 0}},
            hovertemplate="%{y}: parameters %{x:.3g} MiB<extra></extra>",
        )
    ]
    traces += [
        go.Bar(
            x=[peak],
            y=[label],
            orientation="h",
            name=label,
            showlegend=False,
            marker=_engine_marker(measured, theme),
            text=[word],
            textposition="outside",
            textfont={"color": palette.text, "size": 13},
            cliponaxis=False,
            hovertemplate="%{y}: peak %{x:.3g} MiB above the parameters<extra></extra>",
        )
        for peak, label, word, measured in zip(peaks, labels, words, measurements, strict=True)
    ]
    total = max(a + b for a, b in zip(parameters, peaks, strict=True))
    return assemble(
        traces,
        _bar_layout(theme, measurements, "parameters and peak of the step (MiB)", 1.75 * total),
    )


def time_bars(measurements: Sequence[Measured], theme: Theme) -> Figure:
    """The median duration of each engine's step, with the range of its middle half.

    Args:
        measurements: One for each engine, in the order of the bars from the top.
        theme: "light" or "dark".

    Raises:
        ValueError: If there is no measurement, an engine is unknown, or one has no duration.
    """
    check_measurements(measurements)
    palette = PALETTES[theme]
    low, median, high = np.array([quartiles(m) for m in measurements]).T
    words = _compared(list(median), measurements, milliseconds)
    traces = [
        go.Bar(
            x=[middle],
            y=[label],
            orientation="h",
            name=label,
            showlegend=False,
            marker=_engine_marker(measured, theme),
            customdata=[[first, last]],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [last - middle],
                "arrayminus": [middle - first],
                "color": palette.text,
                "thickness": 1.5,
                "width": 5,
            },
            hovertemplate=(
                "%{y}: median %{x:.3g} ms, middle half from %{customdata[0]:.3g} "
                "to %{customdata[1]:.3g} ms<extra></extra>"
            ),
        )
        for first, middle, last, label, measured in zip(
            low, median, high, engine_labels(measurements), measurements, strict=True
        )
    ]
    layout = _bar_layout(theme, measurements, "time of one step (ms)", 1.8 * float(high.max()))
    # Beside the whisker, which a label of the bar itself would cross.
    layout["annotations"] = [
        {
            "x": float(end),
            "y": place,
            "text": word,
            "xanchor": "left",
            "xshift": 8,
            "showarrow": False,
            "font": {"color": palette.text, "size": 13},
        }
        for place, (end, word) in enumerate(zip(high, words, strict=True))
    ]
    return assemble(traces, layout)


def engines_caption(measurements: Sequence[Measured]) -> str:
    """One sentence that compares the first engine with each of the others, the ratio first.

    Args:
        measurements: One for each engine.

    Raises:
        ValueError: If there is no measurement, an engine is unknown, or one has no duration.
    """
    check_measurements(measurements)
    labels = engine_labels(measurements)
    first, own = measurements[0], quartiles(measurements[0])[1]
    if len(measurements) == 1:
        return (
            f"{labels[0]} needs {mebibytes(first.peak_bytes)} and {milliseconds(own)} for a step."
        )
    parts = []
    for label, other in zip(labels[1:], measurements[1:], strict=True):
        theirs = quartiles(other)[1]
        parts.append(
            f"{_times(first.peak_bytes, other.peak_bytes)} the memory of {label} "
            f"({mebibytes(first.peak_bytes)} against {mebibytes(other.peak_bytes)}) and "
            f"{_times(own, theirs)} the time "
            f"({milliseconds(own)} against {milliseconds(theirs)})"
        )
    return f"{labels[0]} needs {', and '.join(parts)}."


def _engine_marker(measured: Measured, theme: Theme) -> dict[str, Any]:
    method = measured.spec.method
    return {
        "color": engine_style(method, theme).color,
        "line": {"width": 0},
        "pattern": {
            "shape": ENGINE_STYLES[method].hatch,
            "fgcolor": PALETTES[theme].background,
            "fillmode": "overlay",
            "size": 8,
            "solidity": 0.2,
        },
    }


def _bar_layout(
    theme: Theme, measurements: Sequence[Measured], title: str, end: float
) -> dict[str, Any]:
    return base_layout(
        theme,
        BAR_HEIGHT * len(measurements) + 110,
        barmode="stack",
        bargap=0.35,
        margin={"l": 8, "r": 16, "t": 36, "b": 48},
        xaxis=titled(title, range=[0, max(end, 1e-9)], nticks=6),
        yaxis={"type": "category", "autorange": "reversed", "showgrid": False, "ticks": ""},
    )


def _compared(
    values: list[float], measurements: Sequence[Measured], unit: Callable[[float], str]
) -> list[str]:
    """Each value in words, after its ratio to plain SGD where that was measured too."""
    methods = [measured.spec.method for measured in measurements]
    if BASELINE not in methods:
        return [unit(value) for value in values]
    base = values[methods.index(BASELINE)]
    return [
        unit(value) if method == BASELINE else f"{_times(value, base)} · {unit(value)}"
        for value, method in zip(values, methods, strict=True)
    ]


def _times(value: float, other: float) -> str:
    return ratio(value / other) if other > 0 else ratio(float("nan"))
