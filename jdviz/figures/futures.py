"""What would have happened: the same step continued with each method from one checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, check_names, drawable, small, tick_places
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.lines import Scale, line_mode, line_styles, shown_on, value_axis
from jdviz.figures.theme import HEIGHT_MAIN, HEIGHT_SIDE, Figure, Theme, with_opacity
from jdviz.figures.words import count, listed, number

#: Up to this many objectives the bars of several methods are told apart.
GROUPED_OBJECTIVES = 12


def futures_figure(
    futures: Mapping[str, ArrayLike],
    start: int,
    theme: Theme,
    *,
    scale: Scale = "linear",
    height: int = HEIGHT_MAIN,
) -> Figure:
    """The mean loss over the steps after one checkpoint, for every method.

    Args:
        futures: Method to the losses from the checkpoint on, shape [k + 1, m]; the first row is
            the checkpoint itself. A method that diverged has NaN from there on.
        start: Number of the checkpoint's step.
        theme: "light" or "dark".
        scale: Of the loss axis; means that are not positive are left out of a logarithmic one.
        height: Height in pixels.

    Returns:
        A figure with one trace for each method.

    Raises:
        ValueError: If the losses of the methods do not fit together.
    """
    tables = _tables(futures)
    styles = line_styles(list(tables), theme)
    traces, everything = [], [np.zeros(0)]
    for name, table in tables.items():
        means = shown_on(_means(table), scale)
        everything.append(means)
        traces.append(
            go.Scatter(
                x=np.arange(len(table), dtype=np.int32),
                y=small(means),
                mode=line_mode(len(table)),
                name=name,
                line={"color": styles[name].color, "dash": styles[name].dash, "width": 2},
                hovertemplate=f"{name}, %{{x}} steps later: mean loss %{{y:.3g}}<extra></extra>",
            )
        )
    # The methods differ by little beside the loss: an axis from zero would hide it.
    axis = value_axis(np.concatenate(everything), scale) | {"rangemode": "normal"}
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            showlegend=True,
            xaxis=titled(f"steps after step {start}", rangemode="tozero"),
            yaxis=titled("mean loss", **axis),
        ),
    )


def futures_caption(futures: Mapping[str, ArrayLike], start: int) -> str:
    """One sentence on which method has the lowest mean loss in the end.

    Args:
        futures: Method to the losses from the checkpoint on, shape [k + 1, m].
        start: Number of the checkpoint's step.

    Returns:
        The lowest and the highest of one future each, which is no ranking of methods.

    Raises:
        ValueError: If the losses of the methods do not fit together.
    """
    tables = {name: table for name, table in _tables(futures).items() if len(table)}
    ends = {name: float(_means(table)[-1]) for name, table in tables.items()}
    known = {name: value for name, value in ends.items() if np.isfinite(value)}
    if not known:
        return "No method has taken a step yet."
    steps = max(len(table) for table in tables.values()) - 1
    low, high = min(known, key=lambda n: known[n]), max(known, key=lambda n: known[n])
    begin = f"{count(steps, 'step')} after step {start}"
    lost = [name for name in ends if name not in known]
    ending = f"; {listed(lost, limit=8)} diverged" if lost else ""
    if len(known) == 1:
        return f"{begin}, the mean loss with {low} is {number(known[low])}{ending}."
    return (
        f"{begin}, the mean loss is lowest with {low} ({number(known[low])}) and highest with "
        f"{high} ({number(known[high])}){ending}. This is one future of each, not a ranking."
    )


def futures_bars(
    futures: Mapping[str, ArrayLike],
    names: Sequence[str],
    theme: Theme,
    *,
    height: int = HEIGHT_SIDE,
) -> Figure:
    """What every loss changes by from the checkpoint to the last step, for every method.

    Args:
        futures: Method to the losses from the checkpoint on, shape [k + 1, m].
        names: Name of every objective, length m.
        theme: "light" or "dark".
        height: Height in pixels.

    Returns:
        A figure with one trace for each method: bars for up to 12 objectives, the distribution
        over more of them as a box. Below zero a loss fell, which is better.

    Raises:
        ValueError: If the losses of the methods or the names do not fit together.
    """
    changes = _last_changes(futures, names)
    labels, m = list(names), len(names)
    styles = line_styles(list(changes), theme)
    if m > GROUPED_OBJECTIVES:
        traces = [
            go.Box(
                y=small(change),
                name=name,
                text=labels,
                boxpoints="all",
                pointpos=0,
                jitter=0.5,
                marker={"color": styles[name].color, "size": 4, "opacity": 0.7},
                line={"color": styles[name].color, "width": 1.5},
                fillcolor=with_opacity(styles[name].color, 0.15),
                showlegend=False,
                hovertemplate=f"{name}, %{{text}}: change %{{y:+.3g}}<extra></extra>",
            )
            for name, change in changes.items()
        ]
        horizontal: dict[str, Any] = titled("method", type="category", showgrid=False)
    else:
        traces = [
            go.Bar(
                x=labels,
                y=small(change),
                name=name,
                marker={"color": styles[name].color, "line": {"width": 0}},
                hovertemplate=f"{name}, %{{x}}: change %{{y:+.3g}}<extra></extra>",
            )
            for name, change in changes.items()
        ]
        places = tick_places(m)
        horizontal = titled(
            "objective",
            type="category",
            range=[-0.5, m - 0.5],
            tickvals=places,
            ticktext=[labels[place] for place in places],
            showgrid=False,
        )
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            barmode="group",
            bargap=0.3,
            showlegend=m <= GROUPED_OBJECTIVES,
            xaxis=horizontal,
            yaxis=titled("change of the loss", zeroline=True, zerolinewidth=1.5),
        ),
    )


def futures_bars_caption(futures: Mapping[str, ArrayLike], names: Sequence[str]) -> str:
    """One sentence on how many losses rose with each method.

    Args:
        futures: Method to the losses from the checkpoint on, shape [k + 1, m].
        names: Name of every objective, length m.

    Raises:
        ValueError: If the losses of the methods or the names do not fit together.
    """
    changes = _last_changes(futures, names)
    m = len(names)
    words, clean = [], []
    for name, change in changes.items():
        risen = [names[int(place)] for place in np.flatnonzero(change > 0)]
        if risen:
            words.append(
                f"{listed(risen) if len(risen) <= 3 else f'{len(risen)} of {m}'} with {name}"
            )
        elif np.isfinite(change).all() and m:
            clean.append(name)
    if not words and not clean:
        return "No method has taken a step yet."
    ending = f"none with {listed(clean, limit=8)}" if clean else ""
    return f"Losses that rose: {', '.join([*words, ending] if ending else words)}."


def _tables(futures: Mapping[str, ArrayLike]) -> dict[str, Array]:
    tables = {name: drawable(losses) for name, losses in futures.items()}
    widths = {table.shape[1] if table.ndim == 2 else -1 for table in tables.values()}
    if len(widths) > 1 or -1 in widths:
        shapes = ", ".join(f"{table.shape} for {name}" for name, table in tables.items())
        raise ValueError(f"got losses of shapes {shapes}, expected [k + 1, m] with the same m.")
    return tables


def _means(table: Array) -> Array:
    """Mean loss of every step, shape [k + 1]; NaN where a loss is not finite."""
    return table.mean(axis=1) if table.shape[1] else np.full(len(table), np.nan)


def _last_changes(futures: Mapping[str, ArrayLike], names: Sequence[str]) -> dict[str, Array]:
    tables = _tables(futures)
    for name, table in tables.items():
        if table.shape[1] != len(names):
            raise ValueError(
                f"got losses of shape {table.shape} for {name}, expected {len(names)} columns as "
                "the names."
            )
    check_names(names, len(names))
    nothing = np.full(len(names), np.nan)
    return {
        name: table[-1] - table[0] if len(table) > 1 else nothing for name, table in tables.items()
    }
