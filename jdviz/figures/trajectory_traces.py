"""What pictures of descent paths share: the paths' traces, the panels, and how far a path goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable, small
from jdviz.figures.outline import outline
from jdviz.figures.theme import DISTINCT_METHODS, PALETTES, LineStyle, Theme, method_styles
from jdviz.figures.words import count

#: Method to one path for each start, shape [k + 1, 2] each; one that ended early has fewer rows.
Tracks = Mapping[str, Sequence[ArrayLike]]
Checked = dict[str, list[Array]]

#: Up to so many panels stand two abreast, more of them three.
TWO_ABREAST = 4
#: Between panels: a share of the width, and pixels for a title.
GAP_X, GAP_Y = 0.04, 30
DIVERGED = "diverged"


def check_tracks(tracks: Tracks) -> Checked:
    """Paths ready to be drawn.

    Args:
        tracks: At most eight methods, the same number of starts for each.

    Returns:
        The same, NaN for what is not finite.

    Raises:
        ValueError: If a path is no row of points, if the methods differ in their starts, or if
            there are too many of them to be told apart.
    """
    checked = {name: [drawable(path) for path in paths] for name, paths in tracks.items()}
    shapes = {path.shape[1:] for paths in checked.values() for path in paths}
    if shapes - {(2,)} or any(len(path) == 0 for paths in checked.values() for path in paths):
        raise ValueError(f"got paths of points of shapes {shapes}, expected [k + 1, 2] with k ≥ 0.")
    if len({len(paths) for paths in checked.values()}) > 1:
        counts = ", ".join(f"{len(paths)} of {name}" for name, paths in checked.items())
        raise ValueError(f"got {counts} paths, expected one for each start.")
    if len(checked) > DISTINCT_METHODS:
        raise ValueError(
            f"got {len(checked)} methods, expected at most {DISTINCT_METHODS}; choose fewer."
        )
    return checked


def at_step(path: Array, step: int) -> Array:
    """The point of a step, or the last one of a path that ended before, shape [2]."""
    point: Array = path[min(step, len(path) - 1)]
    return point


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        place: Its number from 1.
        methods: What is drawn in it.
        title: Above it, or empty.
    """

    place: int
    methods: tuple[str, ...]
    title: str = ""

    @property
    def axes(self) -> dict[str, str]:
        """The names of its axes, as a trace takes them."""
        suffix = "" if self.place == 1 else str(self.place)
        return {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}


def panels_of(methods: Sequence[str], *, apart: bool) -> tuple[Panel, ...]:
    """One panel for all methods, or one for each.

    Args:
        methods: Names, in order.
        apart: Whether each has its own.
    """
    if not apart or len(methods) < 2:
        return (Panel(1, tuple(methods)),)
    return tuple(Panel(place, (name,), name) for place, name in enumerate(methods, start=1))


def rows_of(panels: Sequence[Panel]) -> int:
    """How many rows the panels take."""
    columns = _columns(len(panels))
    return -(-len(panels) // columns)


def _columns(amount: int) -> int:
    return 1 if amount == 1 else 2 if amount <= TWO_ABREAST else 3


def panel_axes(
    panels: Sequence[Panel],
    horizontal: dict[str, Any],
    vertical: dict[str, Any],
    height: int,
    theme: Theme,
) -> dict[str, Any]:
    """The axes of every panel, which zoom together, and the panels' titles.

    Args:
        panels: In rows from the top.
        horizontal: Of every horizontal axis; its title stands below the lowest row only.
        vertical: Of every vertical axis; its title stands left of the first column only.
        height: Of the whole figure in pixels.
        theme: "light" or "dark".

    Returns:
        Keys of a layout.
    """
    columns, rows = _columns(len(panels)), rows_of(panels)
    wide = (1.0 - GAP_X * (columns - 1)) / columns
    gap = GAP_Y / height
    tall = (1.0 - gap * (rows - 1)) / rows
    layout: dict[str, Any] = {"annotations": []}
    for panel in panels:
        row, column = divmod(panel.place - 1, columns)
        left, top = column * (wide + GAP_X), 1.0 - row * (tall + gap)
        suffix = "" if panel.place == 1 else str(panel.place)
        low = row == rows - 1 or panel.place + columns > len(panels)
        plain = {"title": None, "showticklabels": False}
        across = horizontal if low else {**horizontal, **plain}
        up = vertical if column == 0 else {**vertical, **plain}
        shared = {} if panel.place == 1 else {"matches": "x"}
        layout[f"xaxis{suffix}"] = {
            **across,
            **shared,
            "domain": [left, left + wide],
            "anchor": f"y{suffix}",
        }
        shared = {} if panel.place == 1 else {"matches": "y"}
        layout[f"yaxis{suffix}"] = {
            **up,
            **shared,
            "domain": [top - tall, top],
            "anchor": f"x{suffix}",
        }
        if panel.title:
            layout["annotations"].append(
                {
                    "text": f"<b>{panel.title}</b>",
                    "x": left,
                    "y": top,
                    "xref": "paper",
                    "yref": "paper",
                    "xanchor": "left",
                    "yanchor": "bottom",
                    "showarrow": False,
                    "font": {"color": PALETTES[theme].text, "size": 13},
                }
            )
    return layout


def path_traces(
    tracks: Checked,
    panel: Panel,
    step: int,
    steps: int,
    theme: Theme,
    *,
    size: ArrayLike,
    hover: str | None = None,
    styles: Mapping[str, LineStyle] | None = None,
    sketch: bool = False,
) -> list[go.Scatter]:
    """The paths of one panel: whole and faint, bright up to a step, and where they are then.

    The number of traces depends on the methods and the starts alone.

    Args:
        tracks: Of all methods.
        panel: Where to draw, and which methods.
        step: The step shown.
        steps: Steps asked for: a path with fewer of them diverged.
        theme: "light" or "dark".
        size: Width and height of the picture in the units of its axes, shape [2].
        hover: Hover text of a point, with `{name}`, the method and start; None for none, so that
            a click goes to what lies behind.
        styles: How each method looks; by default as everywhere.
        sketch: Whether to leave out the points that make no difference on a screen, and the hover
            text, which counts them.
    """
    looks = styles or method_styles(list(tracks), theme)
    skip, silent = {"hoverinfo": "skip"}, sketch or hover is None
    everything = [path for name in panel.methods for path in tracks[name]]
    traces = [_halo([outline(path[: step + 1], size) for path in everything], panel, theme)]
    for name in panel.methods:
        look, paths = looks[name], tracks[name]
        line = {"color": look.color, "dash": look.dash}
        traces.append(_faint([outline(path, size) for path in paths], line, panel))
        for place, path in enumerate(paths, start=1):
            seen, title = path[: step + 1], f"{name}, start {place}"
            seen = outline(seen, size) if sketch else seen
            said = skip if silent else {"hovertemplate": str(hover).format(name=title)}
            traces.append(
                go.Scatter(
                    x=small(seen[:, 0]),
                    y=small(seen[:, 1]),
                    mode="lines",
                    name=title,
                    line={**line, "width": 2.5},
                    showlegend=False,
                    legendgroup=name,
                    **said,
                    **panel.axes,
                )
            )
    return [*traces, *(_heads(tracks[n], looks[n], n, panel, step, theme) for n in panel.methods)]


def _halo(seen: list[Array], panel: Panel, theme: Theme) -> go.Scatter:
    """A rim around all paths, so that each keeps its contrast on whatever colour lies behind."""
    x, y = joined(seen)
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": PALETTES[theme].background, "width": 5},
        opacity=0.6,
        hoverinfo="skip",
        showlegend=False,
        **panel.axes,
    )


def _faint(paths: list[Array], line: dict[str, str], panel: Panel) -> go.Scatter:
    """The whole paths of a method, also the part that is still to come."""
    x, y = joined(paths)
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={**line, "width": 1.5},
        opacity=0.35,
        hoverinfo="skip",
        showlegend=False,
        **panel.axes,
    )


def _heads(
    paths: list[Array], look: LineStyle, name: str, panel: Panel, step: int, theme: Theme
) -> go.Scatter:
    """Where the paths of a method are at a step; also its entry in the legend."""
    x, y = joined([at_step(path, step)[None] for path in paths])
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=name if not panel.title else "",
        legendgroup=name,
        line={"color": look.color, "dash": look.dash, "width": 2.5},
        marker={
            "symbol": look.symbol,
            "size": 10,
            "color": look.color,
            "line": {"color": PALETTES[theme].background, "width": 1.5},
        },
        hoverinfo="skip",
        showlegend=not panel.title,
        **panel.axes,
    )


def joined(paths: Sequence[Array]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Several paths as one line with gaps: the two coordinates."""
    gap = np.full((1, 2), np.nan)
    rows = np.concatenate([part for path in paths for part in (path, gap)] or [gap])
    return small(rows[:, 0]), small(rows[:, 1])


def start_trace(tracks: Checked, panel: Panel, theme: Theme) -> go.Scatter:
    """The numbered starts."""
    paths = next(iter(tracks.values()), [])
    points = np.array([path[0] for path in paths]).reshape(-1, 2)
    palette = PALETTES[theme]
    return go.Scatter(
        x=small(points[:, 0]),
        y=small(points[:, 1]),
        mode="markers+text",
        text=[str(place) for place in range(1, len(points) + 1)],
        textfont={"color": palette.background, "size": 11},
        marker={
            "symbol": "circle",
            "size": 17,
            "color": palette.text,
            "line": {"color": palette.background, "width": 1.5},
        },
        hoverinfo="skip",
        showlegend=False,
        **panel.axes,
    )


def ended_trace(
    tracks: Checked,
    panel: Panel,
    steps: int,
    step: int,
    theme: Theme,
    ranges: tuple[Sequence[float], Sequence[float]],
) -> go.Scatter:
    """A cross where a path that diverged before the step shown was last seen.

    Args:
        tracks: Of all methods.
        panel: Where to draw, and which methods.
        steps: Steps asked for.
        step: The step shown.
        theme: "light" or "dark".
        ranges: Ends of both axes.
    """
    low, high = np.array(ranges).T
    ends = [
        last_seen(path, low, high)
        for name in panel.methods
        for path in tracks[name]
        if len(path) <= steps and len(path) <= step
    ]
    points = np.array(ends).reshape(-1, 2)
    palette = PALETTES[theme]
    return go.Scatter(
        x=small(points[:, 0]),
        y=small(points[:, 1]),
        mode="markers",
        name=DIVERGED,
        marker={
            "symbol": "x-thin",
            "size": 15,
            "line": {"color": palette.text, "width": 3},
        },
        hoverinfo="skip",
        # An entry without a mark in the picture would only raise a question.
        showlegend=panel.place == 1 and any_ended(tracks, steps),
        cliponaxis=False,
        **panel.axes,
    )


def last_seen(path: Array, low: Array, high: Array) -> Array:
    """Where a path leaves a frame for the last time, or its end if that is within.

    Args:
        path: Shape [k + 1, 2]; its first point is within.
        low: Least values of the frame, shape [2].
        high: Greatest values, shape [2].

    Returns:
        A point within or on the border, shape [2].
    """
    within = np.flatnonzero(((path >= low) & (path <= high)).all(axis=1))
    last = int(within[-1]) if within.size else 0
    point: Array = path[last]
    if last == len(path) - 1:
        return point
    move = path[last + 1] - point
    room = np.where(move > 0, high - point, low - point)
    shares = np.full(2, np.inf)
    np.divide(room, move, out=shares, where=move != 0)
    border: Array = point + min(float(shares.min()), 1.0) * move
    return border


def any_ended(tracks: Checked, steps: int) -> bool:
    """Whether a path has fewer steps than were asked for."""
    return any(len(path) <= steps for paths in tracks.values() for path in paths)


def ended_count(tracks: Mapping[str, Sequence[Any]], steps: int) -> str:
    """How many paths ended early, up to the full stop; empty if none did.

    Args:
        tracks: Method to what has a row for each step it took, one for each start.
        steps: Steps asked for.
    """
    everything = [path for paths in tracks.values() for path in paths]
    ended = sum(len(path) <= steps for path in everything)
    return f"{ended} of {count(len(everything), 'path')} diverged" if ended else ""


def ended_words(tracks: Mapping[str, Sequence[Any]], steps: int) -> str:
    """Which paths ended early and when, up to the full stop; empty if none did.

    Args:
        tracks: Method to what has a row for each step it took, one for each start.
        steps: Steps asked for.
    """
    words = [
        f"{name} from start {place} at step {len(path)}"
        for name, paths in tracks.items()
        for place, path in enumerate(paths, start=1)
        if len(path) <= steps
    ]
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return f"diverged: {', '.join(words[:3])}{more}" if words else ""
