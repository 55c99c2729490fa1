"""Memory over time during one step, a row for each engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go

from jdviz.figures.arrays import drawable, nice_limit, small
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.measured import Measured, check_measurements, engine_labels
from jdviz.figures.theme import (
    ENGINE_STYLES,
    PALETTES,
    Figure,
    Theme,
    engine_style,
    with_opacity,
)
from jdviz.figures.words import MEBIBYTE, listed, mebibytes, milliseconds

ROW_HEIGHT = 128

#: A phase shorter than this share of the time axis has no room for its name.
NAMED_PHASE = 0.09


def memory_timelines(measurements: Sequence[Measured], theme: Theme) -> Figure:
    """The bytes alive during one step, a row for each engine, on the same two scales.

    Args:
        measurements: One for each engine, in the order of the rows.
        theme: "light" or "dark".

    Returns:
        A figure as high as it has rows.

    Raises:
        ValueError: If there is no measurement or an engine is unknown.
    """
    check_measurements(measurements)
    rows = len(measurements)
    longest = max(max(_end(measured) for measured in measurements), 1e-9)
    highest = nice_limit(1.45 * max(m.peak_bytes for m in measurements) / MEBIBYTE)
    palette = PALETTES[theme]
    traces: list[go.Scatter] = []
    layout: dict[str, Any] = {"shapes": [], "annotations": []}
    gap = 0.3 / max(rows, 2) if rows > 1 else 0.0
    band = (1 - gap * (rows - 1)) / rows
    for row, measured in enumerate(measurements):
        suffix = "" if row == 0 else str(row + 1)
        style = engine_style(measured.spec.method, theme)
        label = ENGINE_STYLES[measured.spec.method].label
        top = 1 - row * (band + gap)
        last = row == rows - 1
        layout[f"xaxis{suffix}"] = titled(
            "time since the start of the step (ms)" if last else "",
            anchor=f"y{suffix}",
            range=[0, longest],
            matches="x" if row else None,
            showticklabels=last,
            showgrid=False,
        )
        layout[f"yaxis{suffix}"] = titled(
            "MiB",
            anchor=f"x{suffix}",
            domain=[max(top - band, 0.0), top],
            range=[0, highest],
            matches="y" if row else None,
            nticks=4,
        )
        x, y = _steps(measured)
        traces.append(
            go.Scatter(
                x=x,
                y=y,
                xaxis=f"x{suffix}",
                yaxis=f"y{suffix}",
                mode="lines",
                line={"shape": "hv", "color": style.color, "dash": style.dash, "width": 1.5},
                fill="tozeroy",
                fillcolor=with_opacity(style.color, 0.22),
                name=label,
                hovertemplate=f"{label}: %{{y:.3g}} MiB at %{{x:.3g}} ms<extra></extra>",
            )
        )
        traces.append(_peak_flag(measured, longest, suffix, theme))
        for index, phase in enumerate(measured.phases):
            _add_phase(layout, index, phase, suffix, longest, theme)
        layout["annotations"].append(
            {
                "text": f"<b>{label}</b>",
                "xref": "paper",
                "yref": "paper",
                "x": 0,
                "y": top,
                "xanchor": "left",
                "yanchor": "bottom",
                "yshift": 2,
                "showarrow": False,
                "font": {"color": palette.text, "size": 13},
            }
        )
    return assemble(
        traces,
        base_layout(
            theme,
            ROW_HEIGHT * rows + 70,
            margin={"l": 56, "r": 16, "t": 28, "b": 48},
            showlegend=False,
            **layout,
        ),
    )


def memory_caption(measurements: Sequence[Measured]) -> str:
    """One sentence on where each engine has its peak.

    Args:
        measurements: One for each engine.

    Raises:
        ValueError: If there is no measurement or an engine is unknown.
    """
    check_measurements(measurements)
    parts = [
        f"{label} has its peak of {mebibytes(m.peak_bytes)} in the {m.peak_phase} phase"
        f" ({m.peak_operation}, {milliseconds(m.peak_ms)})"
        for label, m in zip(engine_labels(measurements), measurements, strict=True)
    ]
    return listed(parts, limit=len(parts)) + "."


def _end(measured: Measured) -> float:
    ends = [float(end) for _, _, end in measured.phases]
    return max([*ends, *(float(time) for time in list(measured.times_ms)[-1:])], default=0.0)


def _steps(measured: Measured) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The timeline up to the end of the step, in ms and MiB, in the screen's precision."""
    times, live = drawable(measured.times_ms), drawable(measured.live_bytes) / MEBIBYTE
    if live.size:
        times, live = np.append(times, max(_end(measured), times[-1])), np.append(live, live[-1])
    return small(times), small(live)


def _peak_flag(measured: Measured, longest: float, suffix: str, theme: Theme) -> go.Scatter:
    """A mark and its words at the peak, on the side of it that has more room."""
    palette = PALETTES[theme]
    early = measured.peak_ms < longest / 2
    size = mebibytes(measured.peak_bytes)
    where = f"{measured.peak_phase}, {measured.peak_operation}"
    return go.Scatter(
        x=[measured.peak_ms],
        y=[measured.peak_bytes / MEBIBYTE],
        xaxis=f"x{suffix}",
        yaxis=f"y{suffix}",
        mode="markers+text",
        marker={"symbol": "triangle-down", "size": 11, "color": palette.text},
        text=[f"peak {size}"],
        textposition="top right" if early else "top left",
        textfont={"color": palette.text, "size": 12},
        hovertemplate=f"peak {size} at {milliseconds(measured.peak_ms)}: {where}<extra></extra>",
    )


def _add_phase(
    layout: dict[str, Any],
    index: int,
    phase: tuple[str, float, float],
    suffix: str,
    longest: float,
    theme: Theme,
) -> None:
    """A quiet band behind a phase, and its name where there is room for it."""
    palette = PALETTES[theme]
    name, start, end = phase
    layout["shapes"].append(
        {
            "type": "rect",
            "xref": f"x{suffix}",
            "yref": f"y{suffix} domain",
            "x0": start,
            "x1": end,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": palette.surface if index % 2 == 0 else palette.background,
        }
    )
    if (end - start) / longest >= NAMED_PHASE:
        layout["annotations"].append(
            {
                "text": name,
                "xref": f"x{suffix}",
                "yref": f"y{suffix} domain",
                "x": (start + end) / 2,
                "y": 1,
                "xanchor": "center",
                "yanchor": "top",
                "showarrow": False,
                "font": {"color": palette.muted, "size": 11},
            }
        )
