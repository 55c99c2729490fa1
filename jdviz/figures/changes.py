"""One update in numbers: the losses before it, and their change beside what was predicted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, axis_marks, check_names, drawable, small
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.theme import HEIGHT_SIDE, PALETTES, Figure, Theme, objective_colors
from jdviz.figures.words import capitalised, number


def loss_bars(
    losses: ArrayLike,
    names: Sequence[str],
    theme: Theme,
    *,
    groups: Sequence[str] | None = None,
    height: int = HEIGHT_SIDE,
) -> Figure:
    """The loss of every objective at one step, and their mean as a dotted line.

    Args:
        losses: Losses, shape [m].
        names: Name of every objective, length m.
        theme: "light" or "dark".
        groups: Group of every objective, length m, equal ones side by side; the axis then names
            the groups.
        height: Height in pixels.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    values, labels = _vector(losses, names)
    m, palette = len(values), PALETTES[theme]
    bars = go.Bar(
        x=labels,
        y=small(values),
        marker={"color": list(objective_colors(m, theme)), "line": {"width": 0}},
        hovertemplate="%{x}: loss %{y:.3g}<extra></extra>",
        showlegend=False,
    )
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if known.size else 0.0
    line = {
        "type": "line",
        "xref": "x domain",
        "x0": 0,
        "x1": 1,
        "y0": mean,
        "y1": mean,
        "line": {"color": palette.muted, "dash": "dot", "width": 2},
        "name": f"mean: {number(mean)}",
        "showlegend": True,
    }
    layout = _objectives(theme, height, labels, groups, "loss", shapes=[line])
    return assemble([bars], layout)


def loss_bars_caption(losses: ArrayLike, names: Sequence[str]) -> str:
    """One sentence on the largest and the smallest loss of a step.

    Args:
        losses: Losses, shape [m].
        names: Name of every objective, length m.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    values, labels = _vector(losses, names)
    if not np.isfinite(values).any():
        return "The step has no loss."
    high, low = int(np.nanargmax(values)), int(np.nanargmin(values))
    if len(values) == 1:
        return f"The loss of {labels[0]} is {number(float(values[0]))}."
    return (
        f"{capitalised(labels[high])} has the largest loss, {number(float(values[high]))}, "
        f"{labels[low]} the smallest, {number(float(values[low]))}; their mean over all is "
        f"{number(float(np.nanmean(values)))}."
    )


def update_change_bars(
    inner: ArrayLike,
    rate: float,
    names: Sequence[str],
    theme: Theme,
    *,
    change: ArrayLike | None = None,
    groups: Sequence[str] | None = None,
    height: int = HEIGHT_SIDE,
) -> Figure:
    """What one update should do to every loss to first order, -η gᵢ·A(J), and what it did.

    Args:
        inner: First-order improvements gᵢ·A(J), shape [m].
        rate: Step size η of the update.
        names: Name of every objective, length m.
        theme: "light" or "dark".
        change: What each loss changed by, after minus before on the same data, shape [m]; None
            where it is not known.
        groups: Group of every objective, length m, equal ones side by side; the axis then names
            the groups.
        height: Height in pixels.

    Returns:
        A figure with two traces; that of the actual change is empty where it is not known. Below
        zero a loss falls, which is better.

    Raises:
        ValueError: If the shapes or the names do not fit, or the step size is not finite.
    """
    predicted, actual, labels = _changes(inner, rate, names, change)
    palette = PALETTES[theme]
    known = change is not None
    traces = [
        go.Bar(
            x=labels,
            y=small(predicted),
            name="predicted: −η gᵢ·A(J)",
            marker={"color": palette.muted, "line": {"width": 0}},
            hovertemplate="%{x}: predicted change %{y:+.3g}<extra></extra>",
        ),
        go.Bar(
            x=labels if known else [],
            y=small(actual) if known else [],
            name="actual: falls or rises",
            showlegend=known,
            marker={
                # The first colour is also that of the entry in the legend.
                "color": [palette.negative if value > 0 else palette.positive for value in actual],
                "line": {"width": 0},
            },
            hovertemplate="%{x}: actual change %{y:+.3g}<extra></extra>",
        ),
    ]
    layout = _objectives(theme, height, labels, groups, "change of the loss", barmode="group")
    return assemble(traces, {**layout, "showlegend": True})


def update_change_caption(
    inner: ArrayLike, rate: float, names: Sequence[str], *, change: ArrayLike | None = None
) -> str:
    """One sentence on how many losses an update should lower, and how many it did.

    Args:
        inner: First-order improvements gᵢ·A(J), shape [m].
        rate: Step size η of the update.
        names: Name of every objective, length m.
        change: What each loss changed by, shape [m]; None where it is not known.

    Raises:
        ValueError: If the shapes or the names do not fit, or the step size is not finite.
    """
    predicted, actual, labels = _changes(inner, rate, names, change)
    m = len(labels)
    if not np.isfinite(predicted).any():
        return "There is no update to predict."
    lowered = int((predicted < 0).sum())
    begin = f"To first order the update lowers {lowered} of {m} losses"
    if change is None or not np.isfinite(actual).any():
        return f"{begin}."
    fell = int((actual < 0).sum())
    surprise = np.abs(actual - predicted)
    if not np.isfinite(surprise).any():
        return f"{begin}; in fact {fell} fell."
    most = int(np.nanargmax(surprise))
    return (
        f"{begin}; in fact {fell} fell. The prediction is furthest off for {labels[most]}: "
        f"{number(float(predicted[most]), signed=True)} predicted, "
        f"{number(float(actual[most]), signed=True)} happened."
    )


def _changes(
    inner: ArrayLike, rate: float, names: Sequence[str], change: ArrayLike | None
) -> tuple[Array, Array, list[str]]:
    values, labels = _vector(inner, names)
    if not np.isfinite(rate):
        raise ValueError(f"got a step size of {rate}, expected a finite number.")
    actual = np.full(len(values), np.nan) if change is None else _vector(change, names)[0]
    return -rate * values, actual, labels


def _vector(values: ArrayLike, names: Sequence[str]) -> tuple[Array, list[str]]:
    array = drawable(values)
    if array.ndim != 1:
        raise ValueError(f"got values of shape {array.shape}, expected [m].")
    return array, check_names(names, len(array))


def _objectives(
    theme: Theme,
    height: int,
    labels: list[str],
    groups: Sequence[str] | None,
    title: str,
    **extra: Any,
) -> dict[str, Any]:
    """The layout of bars over objectives."""
    m = len(labels)
    places, marks = axis_marks(labels, groups)
    return base_layout(
        theme,
        height,
        bargap=0.35 if m <= 16 else 0.15,
        xaxis=titled(
            "objective",
            type="category",
            range=[-0.5, m - 0.5],
            tickvals=places,
            ticktext=marks,
            showgrid=False,
        ),
        yaxis=titled(title, zeroline=True, zerolinewidth=1.5),
        **extra,
    )
