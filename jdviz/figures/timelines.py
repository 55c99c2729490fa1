"""Memory over time during one step, a row for each method."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plotly import graph_objects as go

from jdviz.figures.arrays import nice_limit, small
from jdviz.figures.curves import curve, end_ms, flag_words
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.measured import in_order, label, phase_name, place, sentence, spoken
from jdviz.figures.styles import engine_style
from jdviz.figures.theme import PALETTES, Figure, Theme, with_opacity
from jdviz.figures.words import MEBIBYTE, listed, mebibytes, milliseconds

if TYPE_CHECKING:
    from jdviz.profiling.results import Measurement, Phase

ROW_HEIGHT = 128

#: A phase shorter than this share of the time axis has no room for its name.
NAMED_PHASE = 0.09


def memory_timelines(measurements: Sequence["Measurement"], theme: Theme) -> Figure:
    """The bytes alive during one step, a row for each method, on the same two scales.

    Args:
        measurements: One for each method.
        theme: "light" or "dark".

    Returns:
        A figure as high as it has rows, which are in the order of `ENGINE_STYLES`.

    Raises:
        ValueError: If there is no measurement or a method is unknown.
    """
    found = in_order(measurements)
    rows = len(found)
    longest = max(*(end_ms(measured) for measured in found), 1e-9)
    highest = nice_limit(1.45 * max(m.peak_bytes for m in found) / MEBIBYTE)
    traces: list[go.Scatter] = []
    layout: dict[str, Any] = {"shapes": [], "annotations": []}
    gap = 0.3 / max(rows, 2) if rows > 1 else 0.0
    band = (1 - gap * (rows - 1)) / rows
    for row, measured in enumerate(found):
        suffix = "" if row == 0 else str(row + 1)
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
        traces += [_line(measured, suffix, theme), _peak_flag(measured, longest, suffix, theme)]
        for index, phase in enumerate(measured.phases):
            _add_phase(layout, index, phase, suffix, longest, theme)
        layout["annotations"].append(
            {
                "text": f"<b>{label(measured.spec.method)}</b>",
                "xref": "paper",
                "yref": "paper",
                "x": 0,
                "y": top,
                "xanchor": "left",
                "yanchor": "bottom",
                "yshift": 2,
                "showarrow": False,
                "font": {"color": PALETTES[theme].text, "size": 13},
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


def memory_caption(measurements: Sequence["Measurement"]) -> str:
    """One sentence on where each method has its peak.

    Args:
        measurements: One for each method.

    Returns:
        The sentence.

    Raises:
        ValueError: If there is no measurement or a method is unknown.
    """
    parts = [
        f"{spoken(m.spec.method)} has its peak of {mebibytes(m.peak_bytes)} in the "
        f"{phase_name(m.peak_phase)} phase ({place(m.peak_source)}, {milliseconds(m.peak_ms)})"
        for m in in_order(measurements)
    ]
    return sentence(listed(parts, limit=len(parts)))


def _line(measured: "Measurement", suffix: str, theme: Theme) -> go.Scatter:
    style, found = engine_style(measured.spec.method, theme), curve(measured)
    return go.Scatter(
        x=small(found.times_ms),
        y=small(found.mebibytes),
        xaxis=f"x{suffix}",
        yaxis=f"y{suffix}",
        mode="lines",
        line={"shape": "hv", "color": style.color, "dash": style.dash, "width": 1.5},
        fill="tozeroy",
        fillcolor=with_opacity(style.color, 0.22),
        name=label(measured.spec.method),
        hovertext=found.words,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _peak_flag(measured: "Measurement", longest: float, suffix: str, theme: Theme) -> go.Scatter:
    """A mark and its words at the peak, on the side of it that has more room."""
    palette = PALETTES[theme]
    early = measured.peak_ms < longest / 2
    return go.Scatter(
        x=[measured.peak_ms],
        y=[measured.peak_bytes / MEBIBYTE],
        xaxis=f"x{suffix}",
        yaxis=f"y{suffix}",
        mode="markers+text",
        marker={"symbol": "triangle-down", "size": 11, "color": palette.text},
        text=[f"peak {mebibytes(measured.peak_bytes)}"],
        textposition="top right" if early else "top left",
        textfont={"color": palette.text, "size": 12},
        hovertext=[flag_words(measured)],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _add_phase(
    layout: dict[str, Any], index: int, phase: "Phase", suffix: str, longest: float, theme: Theme
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
                "text": phase_name(name),
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
