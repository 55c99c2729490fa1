"""Two steps about one zero line: the memory of one grows upward, that of the other downward."""

from typing import TYPE_CHECKING, Any

import numpy as np
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, nice_ticks, small
from jdviz.figures.curves import curve, end_ms, flag, flag_words
from jdviz.figures.frame import TRUE_VALUES, WORDS_ONLY, assemble, base_layout, titled
from jdviz.figures.measured import because, label, phase_name, place, sentence, spoken, times
from jdviz.figures.styles import engine_style
from jdviz.figures.theme import HEIGHT_MAIN, PALETTES, Figure, Theme, with_opacity
from jdviz.figures.words import MEBIBYTE, mebibytes, milliseconds

if TYPE_CHECKING:
    from jdviz.profiling.results import Measurement

#: Phases that lie under each other, by the column they share.
COLUMNS = {"forward": 0, "jacobian": 1, "gramian": 1, "weights": 2, "backward": 3}

#: Least share of the axis that a column gets, so that its name fits.
LEAST_COLUMN = 0.12

#: A column with this share has room for its duration too.
WIDE_COLUMN = 0.22

MARGIN = {"l": 56, "r": 16, "t": 36, "b": 40}

#: Pixels beyond a peak, for its flag and the names of the phases.
HEADROOM = 72

#: Least share of the height that a half gets.
LEAST_HALF = 0.2

Bounds = dict[int, tuple[float, float]]


def mirrored_timelines(
    upper: "Measurement",
    lower: "Measurement",
    theme: Theme,
    reference: "Measurement | None" = None,
    *,
    aligned: bool = True,
) -> Figure:
    """The memory of two steps on one scale of MiB, about a common zero line.

    Args:
        upper: The step whose memory grows upward, such as autojac's.
        lower: The step whose memory grows downward, such as autogram's.
        theme: "light" or "dark".
        reference: A step drawn as a line on both sides, such as plain SGD's.
        aligned: Whether phases that correspond get the same width on both sides, which stretches
            time by phase; otherwise one axis of milliseconds serves both.

    Returns:
        A figure with a curve and a flag for each half, and two lines for the reference.

    Raises:
        ValueError: If a method is unknown, or a phase is and `aligned` is set.
    """
    bounds = _columns(upper, lower) if aligned else None
    longest = max(end_ms(upper), end_ms(lower), 1e-9)
    least = 0 if reference is None else reference.peak_bytes
    up, down = (max(one.peak_bytes, least) / MEBIBYTE for one in (upper, lower))
    whole = max(up + down, 1e-9)
    up, down = max(up, LEAST_HALF * whole), max(down, LEAST_HALF * whole)
    pixels = HEIGHT_MAIN - MARGIN["t"] - MARGIN["b"] - 2 * HEADROOM
    head = HEADROOM * (up + down) / pixels
    top, bottom = up + head, -(down + head)
    traces: list[go.Scatter] = []
    layout: dict[str, Any] = {"shapes": [], "annotations": []}
    for measured, sign, edge in ((upper, 1, top), (lower, -1, bottom)):
        direction = "upward" if sign > 0 else "downward"
        traces.append(
            _half(measured, sign, bounds, theme, f"{label(_method(measured))}, {direction}")
        )
        _add_phases(layout, measured, bounds, edge, longest, theme)
    if reference is not None:
        name = f"{label(_method(reference))}, both sides"
        traces += [
            _half(reference, sign, bounds, theme, name, line_only=True, named=sign > 0)
            for sign in (1, -1)
        ]
    traces += [
        _flag(measured, sign, bounds, longest, theme)
        for measured, sign in ((upper, 1), (lower, -1))
    ]
    ticks = nice_ticks(-down, up, 7)
    layout["xaxis"] = titled(
        "time, phases of both under each other"
        if aligned
        else "time since the start of the step (ms)",
        range=[0, 1 if aligned else longest],
        showticklabels=not aligned,
        showgrid=False,
    )
    layout["yaxis"] = titled(
        "memory of the step (MiB)",
        range=[bottom, top],
        tickvals=ticks,
        ticktext=[f"{abs(tick):g}" for tick in ticks],
        zeroline=True,
        zerolinewidth=1.5,
    )
    return assemble(traces, base_layout(theme, HEIGHT_MAIN, margin=MARGIN, **layout))


def mirrored_caption(upper: "Measurement", lower: "Measurement") -> str:
    """One sentence that compares the two peaks, says why they differ and where they are.

    Args:
        upper: The step whose memory grows upward.
        lower: The step whose memory grows downward.

    Returns:
        The sentence; the lower step is its subject.
    """
    peaks = [
        f"peak is in the {phase_name(one.peak_phase)} phase ({place(one.peak_source)})"
        for one in (lower, upper)
    ]
    name = spoken(_method(upper))
    return sentence(
        f"{spoken(_method(lower))} needs {times(lower.peak_bytes, upper.peak_bytes)} the memory of "
        f"{name} ({mebibytes(lower.peak_bytes)} against {mebibytes(upper.peak_bytes)})"
        f"{because(lower, upper)}; its {peaks[0]}, {name}'s {peaks[1]}"
    )


def _method(measured: "Measurement") -> str:
    return measured.spec.method


def _spans(measured: "Measurement") -> Bounds:
    """First start and last end of the phases of each column, in ms."""
    spans: Bounds = {}
    for name, start, end in measured.phases:
        if name not in COLUMNS:
            raise ValueError(
                f"got a phase {name!r}, expected one of {', '.join(COLUMNS)}; draw it with "
                "aligned=False."
            )
        first, last = spans.get(COLUMNS[name], (start, end))
        spans[COLUMNS[name]] = (min(first, start), max(last, end))
    return spans


def _columns(upper: "Measurement", lower: "Measurement") -> Bounds:
    """Where the columns of phases lie on an axis from 0 to 1."""
    widths: dict[int, float] = {}
    for measured in (upper, lower):
        spans = _spans(measured)
        whole = sum(end - start for start, end in spans.values()) or 1.0
        for column, (start, end) in spans.items():
            widths[column] = widths.get(column, 0.0) + (end - start) / whole / 2
    widths = {column: max(widths[column], LEAST_COLUMN) for column in sorted(widths)}
    bounds, begin, whole = {}, 0.0, sum(widths.values())
    for column, width in widths.items():
        bounds[column] = (begin, begin + width / whole)
        begin += width / whole
    return bounds


def _along(measured: "Measurement", moments_ms: Array, bounds: Bounds | None) -> Array:
    """Where moments of a step lie on the common axis."""
    if bounds is None:
        return moments_ms
    spans = [(bounds[c], span) for c, span in sorted(_spans(measured).items()) if c in bounds]
    knots = [0.0, *(moment for _, span in spans for moment in span), end_ms(measured)]
    places = [0.0, *(edge for edges, _ in spans for edge in edges), 1.0]
    return np.interp(moments_ms, knots, places)


def _half(
    measured: "Measurement",
    sign: int,
    bounds: Bounds | None,
    theme: Theme,
    name: str,
    *,
    line_only: bool = False,
    named: bool = True,
) -> go.Scatter:
    style, found = engine_style(_method(measured), theme), curve(measured)
    return go.Scatter(
        x=small(_along(measured, found.times_ms, bounds)),
        y=small(sign * found.mebibytes),
        customdata=small(found.mebibytes),
        meta=TRUE_VALUES,
        mode="lines",
        line={"shape": "hv", "color": style.color, "dash": style.dash, "width": 1.5},
        fill="none" if line_only else "tozeroy",
        fillcolor=with_opacity(style.color, 0.25),
        name=name,
        legendgroup=name,
        showlegend=named,
        hovertext=found.words,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _flag(
    measured: "Measurement", sign: int, bounds: Bounds | None, longest: float, theme: Theme
) -> go.Scatter:
    """A mark and its words beyond the peak, on the side of it that has more room."""
    palette = PALETTES[theme]
    x = float(_along(measured, np.array([measured.peak_ms]), bounds)[0])
    side = "right" if x < (0.5 if bounds is not None else longest / 2) else "left"
    return go.Scatter(
        x=[x],
        y=[sign * measured.peak_bytes / MEBIBYTE],
        mode="markers+text",
        marker={
            "symbol": "triangle-down" if sign > 0 else "triangle-up",
            "size": 10,
            "color": palette.text,
        },
        text=[flag(measured)],
        textposition=f"{'top' if sign > 0 else 'bottom'} {side}",
        textfont={"color": palette.text, "size": 12},
        cliponaxis=False,
        showlegend=False,
        meta=WORDS_ONLY,
        hovertext=[flag_words(measured)],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _add_phases(
    layout: dict[str, Any],
    measured: "Measurement",
    bounds: Bounds | None,
    edge: float,
    longest: float,
    theme: Theme,
) -> None:
    """A quiet band behind each phase of one half, named at the outer edge."""
    palette = PALETTES[theme]
    for index, (name, start, end) in enumerate(measured.phases):
        x0, x1 = (start, end) if bounds is None else bounds[COLUMNS[name]]
        layout["shapes"].append(
            {
                "type": "rect",
                "x0": x0,
                "x1": x1,
                "y0": 0,
                "y1": edge,
                "layer": "below",
                "line": {"width": 0},
                "fillcolor": palette.surface if index % 2 == 0 else palette.background,
            }
        )
        share = (x1 - x0) / (longest if bounds is None else 1)
        if share < LEAST_COLUMN / 2:
            continue
        duration = f" {milliseconds(end - start)}" if share >= WIDE_COLUMN else ""
        layout["annotations"].append(
            {
                "text": f"{phase_name(name)}{duration}",
                "x": (x0 + x1) / 2,
                "y": edge,
                "xanchor": "center",
                "yanchor": "top" if edge > 0 else "bottom",
                "showarrow": False,
                "font": {"color": palette.muted, "size": 11},
            }
        )
