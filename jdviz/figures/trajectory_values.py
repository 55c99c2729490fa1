"""Descent paths in the plane of two objectives, with the Pareto front."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable, small
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.outline import outline
from jdviz.figures.theme import PALETTES, Figure, Theme, method_styles
from jdviz.figures.trajectories import HEIGHT_PATHS, HEIGHT_ROW
from jdviz.figures.trajectory_traces import (
    Checked,
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
from jdviz.figures.words import number

#: Room around what is drawn, as a share of it.
ROOM = 0.06
#: An axis shows at least this share of what lies between the front and the starts.
LEAST = 0.25
#: So many methods are named with their values in a sentence.
NAMED = 4


def objective_paths(
    tracks: Tracks,
    front: ArrayLike,
    step: int,
    theme: Theme,
    *,
    steps: int,
    apart: bool = False,
    height: int | None = None,
    sketch: bool = False,
) -> Figure:
    """The same paths in the plane of the objectives: what is left and below is better for both.

    Args:
        tracks: Method to the values f(x) along each path.
        front: The Pareto front in order, shape [p, 2].
        step: The step shown; paths are faint beyond.
        theme: "light" or "dark".
        steps: Steps asked for; a path with fewer diverged, and a cross marks its end.
        apart: Whether each method has a panel of its own.
        height: Height in pixels; by default that of the rows of panels.
        sketch: Whether to leave out points that make no difference on a screen, so that there is
            less to send while the step moves.

    Returns:
        A figure with as many traces at every step. The axes hold the paths, as far as they stay
        between the front and the starts, and the part of the front that is next to them.

    Raises:
        ValueError: If the paths cannot be drawn; see `check_tracks`.
    """
    paths, edge = check_tracks(tracks), drawable(front)
    first, second = _ranges(paths, edge)
    size = (first[1] - first[0], second[1] - second[0])
    edge = outline(edge, size) if sketch else edge
    panels = panels_of(list(paths), apart=apart)
    tall = height or (HEIGHT_PATHS if len(panels) == 1 else 70 + HEIGHT_ROW * rows_of(panels))
    styles = method_styles(list(paths), theme)
    hover = "{name}, step %{{pointNumber}}: f₁ %{{x:.3g}}, f₂ %{{y:.3g}}<extra></extra>"
    traces = []
    for panel in panels:
        traces += [_front_trace(edge, panel, theme)]
        traces += path_traces(
            paths, panel, step, steps, theme, size=size, hover=hover, styles=styles, sketch=sketch
        )
        traces += [
            start_trace(paths, panel, theme),
            ended_trace(paths, panel, steps, step, theme, (first, second)),
        ]
    across: dict[str, Any] = titled("objective f₁", range=first)
    up: dict[str, Any] = titled("objective f₂", range=second)
    layout = base_layout(
        theme,
        tall,
        showlegend=True,
        margin={"l": 56, "r": 16, "t": 36 if len(panels) == 1 else 58, "b": 44},
        **panel_axes(panels, across, up, tall, theme),
    )
    if len(panels) > 1:
        layout["legend"] = {**layout["legend"], "y": 1.0 + 22 / tall}
    return assemble(traces, layout)


def objective_paths_caption(tracks: Tracks, step: int, *, steps: int) -> str:
    """One sentence on where the methods are from the first start.

    Args:
        tracks: Method to the values f(x) along each path.
        step: The step shown.
        steps: Steps asked for.

    Raises:
        ValueError: If the paths cannot be drawn; see `check_tracks`.
    """
    paths = check_tracks(tracks)
    places = [
        f"({number(float(first))}, {number(float(second))}) with {name}"
        for name, own in paths.items()
        if own
        for first, second in [at_step(own[0], step)]
    ]
    if not places:
        return "There is no path to show."
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    ended = ended_count(paths, steps)
    return (
        f"From start 1, step {step} is at (f₁, f₂) = {', '.join(places[:NAMED])}{more}"
        f"{'; ' + ended if ended else ''}."
    )


def _ranges(paths: Checked, front: Array) -> tuple[list[float], list[float]]:
    """The ends of both axes: around the paths and the front next to them, no more than needed.

    What lies beyond both the front and the starts, where a path diverges, does not count.
    """
    everything = [path for own in paths.values() for path in own]
    widest = np.concatenate([front, *(path[:1] for path in everything)])
    least, greatest = np.nanmin(widest, axis=0), np.nanmax(widest, axis=0)
    within = [path.clip(least, greatest) for path in everything]
    points = np.concatenate([*within, *(_closest(front, path[-1]) for path in within)] or [front])
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    # Paths that hardly move are not looked at through a magnifying glass.
    narrow = np.maximum(LEAST * (greatest - least) - (high - low), 0.0) / 2
    low, high = low - narrow, high + narrow
    room = ROOM * np.where(high > low, high - low, 1.0)
    ends = np.stack([low - room, high + room]).T.tolist()
    return ends[0], ends[1]


def _closest(front: Array, point: Array) -> Array:
    """The point of the front that is closest to another, shape [1, 2]."""
    away = np.linalg.norm(front - point, axis=1)
    found: Array = front[[int(np.nan_to_num(away, nan=np.inf).argmin())]]
    return found


def _front_trace(front: Array, panel: Panel, theme: Theme) -> go.Scatter:
    palette = PALETTES[theme]
    single = bool(np.ptp(front, axis=0).max(initial=0.0) == 0)
    shown = front[:1] if single else front
    return go.Scatter(
        x=small(shown[:, 0]),
        y=small(shown[:, 1]),
        mode="markers" if single else "lines",
        name="Pareto front",
        line={"color": palette.text, "width": 5},
        marker={"symbol": "star", "size": 16, "color": palette.text},
        opacity=0.75,
        hovertemplate="Pareto front: f₁ %{x:.3g}, f₂ %{y:.3g}<extra></extra>",
        showlegend=panel.place == 1,
        **panel.axes,
    )
