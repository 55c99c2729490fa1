"""How conflict and weights develop over the steps of a run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, check_names, drawable, small
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.lines import (
    Scale,
    distribution,
    line_each,
    line_mode,
    shown_on,
    value_axis,
)
from jdviz.figures.theme import (
    DISTINCT_OBJECTIVES,
    HEIGHT_SIDE,
    PALETTES,
    Figure,
    Theme,
    with_opacity,
)
from jdviz.figures.words import number


def conflict_history(
    steps: ArrayLike,
    conflict_rate: ArrayLike,
    least_cosine: ArrayLike,
    theme: Theme,
    *,
    height: int = HEIGHT_SIDE,
) -> Figure:
    """When the gradients conflict: the share of the pairs in conflict, and the worst pair.

    Both are plain numbers, so they share an axis: the share lies above zero, and the smallest
    cosine below it wherever there is a conflict.

    Args:
        steps: Numbers of the steps, shape [k].
        conflict_rate: Share of the pairs with a cosine below zero, from 0 to 1, shape [k].
        least_cosine: Smallest cosine of a pair, shape [k].
        theme: "light" or "dark".
        height: Height in pixels.

    Returns:
        A figure with two traces. Lines go on over steps without a value.

    Raises:
        ValueError: If the shapes do not fit.
    """
    moments, rates = _series(steps, conflict_rate)
    _, cosines = _series(steps, least_cosine)
    palette = PALETTES[theme]
    x = moments.astype(np.int32)
    traces = [
        go.Scatter(
            x=x,
            y=small(rates),
            mode=line_mode(len(x)),
            # Someone may look at the gradients at every tenth step only.
            connectgaps=True,
            name="share of the pairs in conflict",
            fill="tozeroy",
            fillcolor=with_opacity(palette.negative, 0.15),
            line={"color": palette.negative, "width": 2},
            hovertemplate="step %{x}: %{y:.1%} of the pairs are in conflict<extra></extra>",
        ),
        go.Scatter(
            x=x,
            y=small(cosines),
            mode=line_mode(len(x)),
            connectgaps=True,
            name="smallest cosine",
            line={"color": palette.text, "dash": "dash", "width": 2},
            hovertemplate="step %{x}: the smallest cosine is %{y:.3g}<extra></extra>",
        ),
    ]
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            xaxis=titled("step", rangemode="tozero"),
            yaxis=titled(
                "share of pairs, cosine",
                range=[-1.05, 1.05],
                tickvals=[-1, -0.5, 0, 0.5, 1],
                ticktext=["−1", "−0.5", "0", "0.5", "1"],
                zeroline=True,
            ),
        ),
    )


def conflict_caption(steps: ArrayLike, conflict_rate: ArrayLike, least_cosine: ArrayLike) -> str:
    """One sentence on how many steps have a conflict, and when it is worst.

    Args:
        steps: Numbers of the steps, shape [k].
        conflict_rate: Share of the pairs with a cosine below zero, shape [k].
        least_cosine: Smallest cosine of a pair, shape [k].

    Raises:
        ValueError: If the shapes do not fit.
    """
    moments, rates = _series(steps, conflict_rate)
    _, cosines = _series(steps, least_cosine)
    known = np.isfinite(rates)
    if not known.any():
        return "No step with two gradients to compare yet."
    amount, total = int((rates[known] > 0).sum()), int(known.sum())
    if amount == 0:
        return f"No pair is in conflict at any of the {total} steps shown."
    begin = f"A pair is in conflict at {amount} of {total} steps shown"
    mean = f"on average {number(100 * float(rates[known].mean()))} % of the pairs are"
    if not np.isfinite(cosines).any():
        return f"{begin}; {mean}."
    worst = int(np.nanargmin(cosines))
    return (
        f"{begin}; {mean}. The smallest cosine is {number(float(cosines[worst]))}, "
        f"at step {int(moments[worst])}."
    )


def weights_history(
    steps: ArrayLike,
    weights: ArrayLike,
    names: Sequence[str],
    theme: Theme,
    *,
    scale: Scale = "linear",
    height: int = HEIGHT_SIDE,
) -> Figure:
    """The weight of every objective's gradient in the updates of a run.

    Up to seven objectives have a line each. More are shown by their distribution. The dotted line
    is 1/m, the weight that the mean gives to every objective.

    Args:
        steps: Numbers of the steps, shape [k].
        weights: Weight of every objective at every step, shape [k, m].
        names: Name of every objective, length m.
        theme: "light" or "dark".
        scale: Of the weight axis; weights that are not positive are left out of a logarithmic one.
        height: Height in pixels.

    Returns:
        A figure with the same number of traces whatever k is. A weight that is not finite is a gap.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    moments, values = _table(steps, weights, names)
    m = values.shape[1]
    values = shown_on(values, scale)
    x, share = moments.astype(np.int32), 1 / max(m, 1)
    if m <= DISTINCT_OBJECTIVES:
        traces = line_each(x, values, list(names), theme, "weight")
    else:
        traces = distribution(
            x, values, theme, quantity="weight", noun="objective", most="heaviest"
        )
    mean = {
        "type": "line",
        "xref": "x domain",
        "x0": 0,
        "x1": 1,
        "y0": share,
        "y1": share,
        "line": {"color": PALETTES[theme].muted, "dash": "dot", "width": 2},
        "name": f"mean (plain SGD): 1/m = {number(share)}",
        "showlegend": True,
    }
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            shapes=[mean],
            xaxis=titled("step", rangemode="tozero"),
            yaxis=titled("weight w", **value_axis(values, scale)),
        ),
    )


def weights_history_caption(steps: ArrayLike, weights: ArrayLike, names: Sequence[str]) -> str:
    """One sentence on which objective weighed most over the steps shown, and how much that varied.

    Args:
        steps: Numbers of the steps, shape [k].
        weights: Weight of every objective at every step, shape [k, m].
        names: Name of every objective, length m.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    moments, values = _table(steps, weights, names)
    complete = np.isfinite(values).all(axis=1) if values.shape[1] else np.zeros(len(values), bool)
    if not complete.any():
        return "No step with weights yet."
    known = values[complete]
    means = known.mean(axis=0)
    first = int(np.argmax(means))
    led = int((np.argmax(known, axis=1) == first).sum())
    low, high = number(float(known[:, first].min())), number(float(known[:, first].max()))
    return (
        f"From step {int(moments[complete][0])} to {int(moments[complete][-1])}, {names[first]} "
        f"weighs most on average, {number(float(means[first]))} (from {low} to {high}), and most "
        f"of all at {led} of {len(known)} steps; the mean gives {number(1 / len(means))}."
    )


def _series(steps: ArrayLike, values: ArrayLike) -> tuple[Array, Array]:
    moments, series = np.asarray(steps), drawable(values)
    if series.ndim != 1 or moments.shape != series.shape:
        raise ValueError(
            f"got steps of shape {moments.shape} and values of shape {series.shape}, "
            "expected [k] for both."
        )
    return moments, series


def _table(steps: ArrayLike, values: ArrayLike, names: Sequence[str]) -> tuple[Array, Array]:
    moments, table = np.asarray(steps), drawable(values)
    if table.ndim != 2 or moments.shape != table.shape[:1]:
        raise ValueError(
            f"got steps of shape {moments.shape} and weights of shape {table.shape}, "
            "expected [k] and [k, m]."
        )
    check_names(names, table.shape[1])
    return moments, table
