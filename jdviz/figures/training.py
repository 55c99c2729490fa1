"""Losses over the steps of a run, and the weights of the last step."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import (
    Array,
    axis_marks,
    check_names,
    drawable,
    largest,
    nice_limit,
    small,
)
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.lines import Scale, distribution, line_each, shown_on, value_axis
from jdviz.figures.theme import (
    DISTINCT_OBJECTIVES,
    HEIGHT_MAIN,
    HEIGHT_SIDE,
    PALETTES,
    Figure,
    Theme,
    objective_colors,
)
from jdviz.figures.words import capitalised, number

Kind = Literal["samples", "tasks"]

LINEAR_WEIGHTS = 8
UNUSED = 1e-9


def loss_history(
    steps: ArrayLike,
    losses: ArrayLike,
    names: Sequence[str],
    *,
    theme: Theme,
    kind: Kind = "tasks",
    scale: Scale = "linear",
    height: int = HEIGHT_MAIN,
) -> Figure:
    """The losses of a run so far, step by step.

    Up to seven objectives have a line each. More are shown by their distribution: the band from
    the 10th to the 90th percentile, the median, the mean and the worst.

    Args:
        steps: Numbers of the steps, shape [k].
        losses: Loss of every objective at every step, shape [k, m].
        names: Name of every objective, length m.
        theme: "light" or "dark".
        kind: What an objective is; it only changes the words.
        scale: Of the loss axis; values that are not positive are left out of a logarithmic one.
        height: Height in pixels.

    Returns:
        A figure with the same number of traces whatever k is. A loss that is not finite is a gap.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    moments, values = _history(steps, losses)
    labels = check_names(names, values.shape[1])
    values = shown_on(values, scale)
    x = moments.astype(np.int32)
    if values.shape[1] <= DISTINCT_OBJECTIVES:
        traces = line_each(x, values, labels, theme, "loss")
    else:
        word = "sample" if kind == "samples" else "task"
        traces = distribution(x, values, theme, quantity="loss", noun=word, most="worst")
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            xaxis=titled("step", rangemode="tozero"),
            yaxis=titled("loss", **value_axis(values, scale)),
        ),
    )


def loss_caption(
    steps: ArrayLike, losses: ArrayLike, names: Sequence[str], *, kind: Kind = "tasks"
) -> str:
    """One sentence on how the losses changed from the first step shown to the last.

    Args:
        steps: Numbers of the steps, shape [k].
        losses: Loss of every objective at every step, shape [k, m].
        names: Name of every objective, length m.
        kind: What an objective is.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    moments, values = _history(steps, losses)
    m = values.shape[1]
    labels = check_names(names, m)
    complete = np.flatnonzero(np.isfinite(values).all(axis=1)) if m else np.zeros(0, dtype=int)
    if complete.size == 0:
        return "No complete step yet."
    first, last = values[complete[0]], values[complete[-1]]
    begin, end = int(moments[complete[0]]), int(moments[complete[-1]])
    if complete.size == 1:
        return f"At step {end} the mean loss is {number(float(last.mean()))}."
    change = (
        f"the mean loss went from {number(float(first.mean()))} to {number(float(last.mean()))}"
    )
    between = f"Between step {begin} and step {end} "
    if kind == "samples":
        # Every step has other samples, so only their distribution can be compared.
        return f"{between}{change}; the worst of the last {m} samples has {number(last.max())}."
    risen = [labels[index] for index in np.flatnonzero(last > first)]
    if not risen:
        return f"{between}{change}, and none of the losses rose."
    return f"{between}{change}; {len(risen)} of {m} rose, the most {labels[_most(first, last)]}."


def weight_bars(
    weights: ArrayLike,
    names: Sequence[str],
    theme: Theme,
    *,
    groups: Sequence[str] | None = None,
) -> Figure:
    """The weight of every objective's gradient in the last update.

    The dotted line is 1/m, the weight that the mean gives to every objective. More than eight
    weights have a logarithmic axis: where some gradients almost vanish, theirs are huge.

    Args:
        weights: Weights, shape [m].
        names: Name of every objective, length m.
        theme: "light" or "dark".
        groups: Group of every objective, length m, equal ones side by side; the axis then names
            the groups.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    values = _vector(weights)
    m = len(values)
    labels = check_names(names, m)
    palette = PALETTES[theme]
    bars = go.Bar(
        x=labels,
        y=small(values),
        marker={"color": list(objective_colors(m, theme)), "line": {"width": 0}},
        hovertemplate="%{x}: weight %{y:.3g}<extra></extra>",
        showlegend=False,
    )
    share = 1 / max(m, 1)
    top = nice_limit(1.05 * max(float(np.nanmax(values, initial=0.0)), share))
    low = float(np.nanmin(values, initial=0.0))
    # A shape: a trace at places between the categories would add categories of its own.
    mean = {
        "type": "line",
        "xref": "x domain",
        "x0": 0,
        "x1": 1,
        "y0": share,
        "y1": share,
        "line": {"color": palette.muted, "dash": "dot", "width": 2},
        "name": f"mean (plain SGD): 1/m = {number(share)}",
        "showlegend": True,
    }
    places, marks = axis_marks(labels, groups)
    yaxis = {"range": [-nice_limit(-1.05 * low) if low < 0 else 0.0, top], "zeroline": True}
    if m > LINEAR_WEIGHTS and low >= 0:
        decades = np.ceil(np.log10(max(top, share)))
        yaxis = {"type": "log", "range": [np.log10(share) - 2, decades], "exponentformat": "power"}
        yaxis |= {"dtick": max(1, (decades - np.log10(share) + 2) // 5)}
    return assemble(
        [bars],
        base_layout(
            theme,
            HEIGHT_SIDE,
            shapes=[mean],
            bargap=0.35 if m <= 16 else 0.15,
            xaxis=titled(
                "objective",
                type="category",
                range=[-0.5, m - 0.5],
                tickvals=places,
                ticktext=marks,
            ),
            yaxis=titled("weight w", **yaxis),
        ),
    )


def weight_caption(weights: ArrayLike, names: Sequence[str]) -> str:
    """One sentence on which objectives count most in the last update.

    Args:
        weights: Weights, shape [m].
        names: Name of every objective, length m.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    values = _vector(weights)
    m = len(values)
    labels = check_names(names, m)
    if m == 0 or not np.isfinite(values).any():
        return "The last step has no weights."
    heaviest = int(np.nanargmax(values))
    unused = int(np.sum(np.abs(values) <= UNUSED / m))
    text = f"{labels[heaviest]} has the largest weight, {number(values[heaviest])}"
    if np.nanmax(values) - np.nanmin(values) <= 1e-6 * largest(values):
        text = f"Every objective has the same weight, {number(values[heaviest])}"
    text = capitalised(text)
    ending = f"; {unused} of {m} have none." if 0 < unused < m else "."
    return f"{text} (the mean gives {number(1 / m)}){ending}"


def _history(steps: ArrayLike, losses: ArrayLike) -> tuple[Array, Array]:
    moments, values = np.asarray(steps), drawable(losses)
    if values.ndim != 2 or moments.shape != values.shape[:1]:
        raise ValueError(
            f"got steps of shape {moments.shape} and losses of shape {values.shape}, "
            "expected [k] and [k, m]."
        )
    return moments, values


def _vector(values: ArrayLike) -> Array:
    array = drawable(values)
    if array.ndim != 1:
        raise ValueError(f"got weights of shape {array.shape}, expected [m].")
    return array


def _most(first: Array, last: Array) -> int:
    return int(np.argmax(last - first))
