"""How far descent paths are from the Pareto front, step by step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable, small
from jdviz.figures.frame import TRUE_VALUES, assemble, base_layout, titled
from jdviz.figures.outline import outline
from jdviz.figures.theme import HEIGHT_SIDE, PALETTES, Figure, Theme, method_styles
from jdviz.figures.trajectories import closest_words, length_words
from jdviz.figures.trajectory_traces import ended_count, ended_words
from jdviz.figures.words import count, listed

#: Shorter distances are rounding; they are drawn here.
FLOOR = 1e-12

Distances = Mapping[str, Sequence[ArrayLike]]


def distance_lines(
    distances: Distances,
    step: int,
    theme: Theme,
    *,
    steps: int,
    height: int = HEIGHT_SIDE,
    sketch: bool = False,
) -> Figure:
    """Distance to the Pareto front over the steps, a line for each path, on a logarithmic axis.

    Args:
        distances: Method to the distances along each path, shape [k + 1] each.
        step: The step shown, marked by a line.
        theme: "light" or "dark".
        steps: Steps asked for.
        height: Height in pixels.
        sketch: Whether to leave out points that make no difference on a screen, so that there is
            less to send while the step moves.

    Returns:
        A figure with as many traces at every step. Distances below 1e-12 are drawn there.
    """
    paths = _checked(distances)
    styles, axis = method_styles(list(paths), theme), _axis(paths)
    low, high = axis["range"]
    traces = []
    for name, own in paths.items():
        look = styles[name]
        for place, values in enumerate(own, start=1):
            title = f"{name}, start {place}"
            at = _told(values, (max(steps, 1), high - low)) if sketch else np.arange(len(values))
            traces.append(
                go.Scatter(
                    x=at.astype(np.int32),
                    y=small(np.maximum(values[at], FLOOR)),
                    customdata=values[at],
                    meta=TRUE_VALUES,
                    mode="lines",
                    name=title,
                    legendgroup=name,
                    showlegend=False,
                    line={"color": look.color, "dash": look.dash, "width": 2},
                    hovertemplate=f"{title}, step %{{x}}: %{{customdata:.3g}}<extra></extra>",
                )
            )
        traces.append(_entry(name, look.color, look.dash))
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            showlegend=True,
            shapes=[_step_line(step, theme)],
            xaxis=titled("step", range=[0, max(steps, 1)]),
            yaxis=titled("distance to the front", **axis),
        ),
    )


def distance_caption(distances: Distances, step: int, *, steps: int) -> str:
    """One sentence on which method is closest to the front at a step, and how many diverged.

    Args:
        distances: Method to the distances along each path, shape [k + 1] each.
        step: The step shown.
        steps: Steps asked for.
    """
    paths = _checked(distances)
    reach = {
        name: max(float(values[min(step, len(values) - 1)]) for values in own)
        for name, own in paths.items()
        if own
    }
    if not reach:
        return "There is no path to show."
    starts = len(next(iter(paths.values())))
    where = "from one start" if starts == 1 else f"from {starts} starts"
    ended = ended_count(paths, steps)
    words = closest_words(reach, "the Pareto front")
    return (
        f"After {step} of {count(steps, 'step')} {where}, {words}{'; ' + ended if ended else ''}."
    )


def outcome_sentence(distances: Distances, *, steps: int) -> str:
    """One sentence on how far every method is from the front in the end.

    Args:
        distances: Method to the distances along each path, shape [k + 1] each.
        steps: Steps asked for.
    """
    paths = {name: own for name, own in _checked(distances).items() if own}
    if not paths:
        return "There is no path to show."
    starts = len(next(iter(paths.values())))
    where = "one start" if starts == 1 else f"{starts} starts"
    ended = ended_words(paths, steps)
    # Where a path that diverged was last seen says nothing about its method.
    reach = {
        name: max(float(values[-1]) for values in own)
        for name, own in paths.items()
        if all(len(values) > steps for values in own)
    }
    if not reach:
        every = "its start" if starts == 1 else f"all {where}"
        return f"No method completes {count(steps, 'step')} from {every}; {ended}."
    groups: dict[str, list[str]] = {}
    for name in sorted(reach, key=reach.__getitem__):
        groups.setdefault(length_words(reach[name]), []).append(name)
    words = [f"{length} with {listed(names, limit=8)}" for length, names in groups.items()]
    return (
        f"After {count(steps, 'step')} from {where}, the distance to the Pareto front is "
        f"{listed(words, limit=8)}{'; ' + ended if ended else ''}."
    )


def _checked(distances: Distances) -> dict[str, list[Array]]:
    return {name: [drawable(values) for values in own] for name, own in distances.items()}


def _told(values: Array, size: tuple[float, float]) -> NDArray[np.int64]:
    """The steps that a screen needs to show a line, on axes that are so long."""
    line = np.stack([np.arange(float(len(values))), np.log10(np.maximum(values, FLOOR))], axis=1)
    return outline(line, size)[:, 0].astype(np.int64)


def _entry(name: str, color: str, dash: str) -> go.Scatter:
    """The entry of a method in the legend, for all of its lines."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="lines",
        name=name,
        legendgroup=name,
        line={"color": color, "dash": dash, "width": 2},
        hoverinfo="skip",
    )


def _axis(paths: dict[str, list[Array]]) -> dict[str, Any]:
    """A logarithmic axis around all distances, the same at every step."""
    parts = [np.maximum(values, FLOOR) for own in paths.values() for values in own]
    everything = np.concatenate(parts) if parts else np.ones(1)
    low, high = np.log10(np.nanmin(everything)), np.log10(np.nanmax(everything))
    room = 0.05 * max(high - low, 1.0)
    decades = high - low
    return {
        "type": "log",
        "range": [float(low - room), float(high + room)],
        "dtick": 1 if decades <= 6 else 2 if decades <= 12 else 3,
        "exponentformat": "power",
    }


def _step_line(step: int, theme: Theme) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": step,
        "x1": step,
        "y0": 0,
        "y1": 1,
        "line": {"color": PALETTES[theme].text, "width": 1, "dash": "dot"},
    }
