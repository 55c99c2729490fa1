"""Descent paths in the plane of two parameters, over the cosine of the two gradients."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable, small
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.outline import outline
from jdviz.figures.theme import PALETTES, Figure, Theme, diverging_scale, method_styles
from jdviz.figures.trajectory_traces import (
    Panel,
    Tracks,
    at_step,
    check_tracks,
    ended_count,
    ended_trace,
    panel_axes,
    panels_of,
    path_traces,
    rows_of,
    start_trace,
)
from jdviz.figures.words import capitalised, listed, number, power_of_ten

#: Heights in pixels: of the figure, so that it ends above the lower edge of a laptop's screen, and
#: of a row of panels.
HEIGHT_PATHS, HEIGHT_ROW = 400, 270
#: Shorter distances are as good as none.
TINY = 1e-6


@dataclass(frozen=True, eq=False)
class CosineField:
    """The cosine of the two gradients over a grid.

    Attributes:
        x: First parameter, evenly spaced, shape [n].
        y: Second parameter, evenly spaced, shape [n].
        cosines: A row for each value of `y`, shape [n, n]; NaN where there is no angle.
        frame: Least and greatest value of either parameter on the picture.
    """

    x: Array
    y: Array
    cosines: Array
    frame: tuple[tuple[float, float], tuple[float, float]]


def parameter_paths(
    field: CosineField,
    tracks: Tracks,
    pareto: ArrayLike,
    step: int,
    theme: Theme,
    *,
    steps: int,
    apart: bool = False,
    height: int | None = None,
    sketch: bool = False,
) -> Figure:
    """Paths of several methods from several starts in the plane of the parameters.

    Args:
        field: What lies behind.
        tracks: Method to the points of each path.
        pareto: The Pareto set in order, shape [p, 2].
        step: The step shown; paths are faint beyond.
        theme: "light" or "dark".
        steps: Steps asked for; a path with fewer diverged, and a cross marks its end.
        apart: Whether each method has a panel of its own.
        height: Height in pixels; by default that of the rows of panels.
        sketch: Whether to leave out points that make no difference on a screen, so that there is
            less to send while the step moves.

    Returns:
        A figure with as many traces at every step, the cosines first in each panel.

    Raises:
        ValueError: If the paths cannot be drawn; see `check_tracks`.
    """
    paths = check_tracks(tracks)
    panels = panels_of(list(paths), apart=apart)
    tall = height or (HEIGHT_PATHS if len(panels) == 1 else 70 + HEIGHT_ROW * rows_of(panels))
    styles = method_styles(list(paths), theme)
    (left, right), (low, high) = field.frame
    size = (right - left, high - low)
    best = outline(drawable(pareto), size) if sketch else drawable(pareto)
    traces = []
    for panel in panels:
        traces += [_field_trace(field, panel, theme), _pareto_trace(best, panel, theme)]
        traces += path_traces(
            paths, panel, step, steps, theme, size=size, styles=styles, sketch=sketch
        )
        traces += [
            start_trace(paths, panel, theme),
            ended_trace(paths, panel, steps, step, theme, field.frame),
        ]
    across: dict[str, Any] = titled("x₁", range=[left, right], showgrid=False)
    up: dict[str, Any] = titled("x₂", range=[low, high], showgrid=False)
    axes = panel_axes(panels, across, up, tall, theme)
    layout = base_layout(
        theme,
        tall,
        showlegend=True,
        margin={"l": 48, "r": 8, "t": 36 if len(panels) == 1 else 58, "b": 44},
        # Shows through where there is no cosine.
        plot_bgcolor=PALETTES[theme].surface,
        **axes,
    )
    if len(panels) > 1:
        layout["legend"] = {**layout["legend"], "y": 1.0 + 22 / tall}
    return assemble(traces, layout)


def parameter_paths_caption(
    field: CosineField, tracks: Tracks, pareto: ArrayLike, step: int, *, steps: int
) -> str:
    """One sentence on where the gradients conflict, and one on how close the paths come.

    Args:
        field: The cosines.
        tracks: Method to the points of each path.
        pareto: The Pareto set, shape [p, 2], as dense as the distances are to be exact.
        step: The step shown.
        steps: Steps asked for.

    Raises:
        ValueError: If the paths cannot be drawn; see `check_tracks`.
    """
    paths, points = check_tracks(tracks), drawable(pareto)
    known = field.cosines[np.isfinite(field.cosines)]
    rate = float((known < 0).mean()) if known.size else 0.0
    place = f"on {100 * rate:.0f} % of this map" if rate else "nowhere on this map"
    begin = f"The two gradients are in conflict {place}."
    reach = {
        name: max(float(np.linalg.norm(points - at_step(path, step), axis=1).min()) for path in own)
        for name, own in paths.items()
        if own
    }
    if not reach:
        return begin
    words = closest_words(reach, "the Pareto set")
    ended = ended_count(paths, steps)
    return f"{begin} At step {step}, {words}{'; ' + ended if ended else ''}."


def closest_words(reach: dict[str, float], target: str) -> str:
    """Who is closest to something and who is farthest from it, up to the full stop.

    Args:
        reach: Method to the largest of its distances over the starts.
        target: What the distance is to.
    """
    shown = {name: length_words(value) for name, value in reach.items()}
    low, high = shown[min(reach, key=reach.__getitem__)], shown[max(reach, key=reach.__getitem__)]
    if low == high:
        every = "the paths" if len(reach) > 1 else f"the paths of {next(iter(reach))}"
        return f"{every} are {high} from {target}"
    # As close as the figures can tell.
    first, last = (listed([n for n in reach if shown[n] == end], limit=8) for end in (low, high))
    return (
        f"the paths of {first} are closest to {target} ({low} away) and those of {last} farthest "
        f"({high.replace('at most', 'up to')})"
    )


def length_words(value: float) -> str:
    """A distance in words; below a millionth, how far below says nothing about a method."""
    return f"at most {number(value)}" if value >= TINY else f"less than {power_of_ten(-6)}"


def _field_trace(field: CosineField, panel: Panel, theme: Theme) -> go.Contour:
    """The cosines in colour, with lines at −0.5, 0 and 0.5 as the second cue.

    A contour and not a heatmap: the table of a heatmap would leave out the paths. Its places are
    a first one and a distance, which is less to send than all of them.
    """
    palette = PALETTES[theme]
    known = field.cosines[np.isfinite(field.cosines)]
    varied = known.size > 0 and float(known.max() - known.min()) > 0.05
    return go.Contour(
        x0=float(field.x[0]),
        dx=float(field.x[1] - field.x[0]),
        y0=float(field.y[0]),
        dy=float(field.y[1] - field.y[0]),
        z=_hundredths(field.cosines),
        zmin=-1.0,
        zmax=1.0,
        colorscale=diverging_scale(theme),
        contours={
            "coloring": "heatmap",
            "start": -0.5,
            "end": 0.5,
            "size": 0.5,
            # A field of one value has no lines.
            "showlines": varied,
            "showlabels": varied,
            "labelfont": {"color": palette.muted, "size": 11},
        },
        line={"color": palette.muted, "width": 0.75, "dash": "dot"},
        showscale=panel.place == 1,
        colorbar={
            "title": {
                "text": "cosine of g₁ and g₂",
                "side": "right",
                "font": {"color": palette.muted, "size": 13},
            },
            "tickfont": {"color": palette.muted, "size": 12},
            "tickvals": [-1, -0.5, 0, 0.5, 1],
            "thickness": 12,
            "outlinewidth": 0,
            "len": 1.0,
            "x": 1.01,
        },
        hovertemplate="x = (%{x:.3g}, %{y:.3g}): cosine of the gradients %{z:.2f}<extra></extra>",
        opacity=0.6,
        **panel.axes,
    )


def _hundredths(cosines: Array) -> list[list[float | None]]:
    """Cosines as short numbers, which are less to send than all of their digits in any form."""
    return [
        # No minus zero.
        [round(value, 2) + 0.0 if np.isfinite(value) else None for value in row]
        for row in cosines.tolist()
    ]


def _pareto_trace(points: Array, panel: Panel, theme: Theme) -> go.Scatter:
    """The Pareto set: a line, or a star where it is one point."""
    palette = PALETTES[theme]
    single = bool(np.ptp(points, axis=0).max(initial=0.0) == 0)
    return go.Scatter(
        x=small(points[:1, 0] if single else points[:, 0]),
        y=small(points[:1, 1] if single else points[:, 1]),
        mode="markers" if single else "lines",
        name=capitalised("Pareto set"),
        line={"color": palette.text, "width": 5},
        marker={"symbol": "star", "size": 16, "color": palette.text},
        opacity=0.75,
        hoverinfo="skip",
        showlegend=panel.place == 1,
        **panel.axes,
    )
