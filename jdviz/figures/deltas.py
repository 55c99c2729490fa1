"""How much better than a baseline several runs are, task by task and on average."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import check_names, drawable, small, tick_places
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.lines import line_styles
from jdviz.figures.theme import HEIGHT_SIDE, PALETTES, Figure, Theme
from jdviz.figures.words import listed, number
from jdviz.histories import DeltaPercent, delta_percent

#: What stands beside the tasks on the axis.
MEAN = "mean of all"


def delta_bars(
    values: Mapping[str, ArrayLike],
    baseline: ArrayLike,
    names: Sequence[str],
    theme: Theme,
    *,
    baseline_name: str = "Mean",
    lower_is_better: bool = True,
    height: int = HEIGHT_SIDE,
) -> Figure:
    """Δ% against a baseline: above zero a task is better off, below it worse.

    Args:
        values: Run or method to one number for each task, shape [m], such as its last losses.
        baseline: The same of the baseline, shape [m].
        names: Name of every task, length m.
        theme: "light" or "dark".
        baseline_name: Of the run or method that the others are set against.
        lower_is_better: True for losses, False for accuracies.
        height: Height in pixels.

    Returns:
        A figure with one trace for each entry of `values`, and a group of bars for each task and
        for their mean. A task whose baseline is zero has no bar.

    Raises:
        ValueError: If a shape does not fit.
    """
    labels = [*check_names(names, len(names)), MEAN]
    deltas = _deltas(values, baseline, names, lower_is_better)
    palette, m = PALETTES[theme], len(names)
    styles = line_styles(list(deltas), theme)
    traces = [
        go.Bar(
            x=labels,
            y=small([*found.per_task, found.mean]),
            name=name,
            marker={"color": styles[name].color, "line": {"width": 0}},
            hovertemplate=f"{name}, %{{x}}: %{{y:+.3g}} % against {baseline_name}<extra></extra>",
        )
        for name, found in deltas.items()
    ]
    ticks = tick_places(m)
    step = ticks[1] - ticks[0] if m > 1 else 1
    # Not so close to the last that it would cover the name of the mean.
    places = [place for place in ticks if m - place >= step] + [m]
    apart = {
        "type": "line",
        "yref": "y domain",
        "y0": 0,
        "y1": 1,
        "x0": m - 0.5,
        "x1": m - 0.5,
        "line": {"color": palette.grid, "width": 2},
    }
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            barmode="group",
            bargap=0.3 if m <= 16 else 0.12,
            shapes=[apart],
            showlegend=True,
            xaxis=titled(
                "task",
                type="category",
                range=[-0.5, m + 0.5],
                tickvals=places,
                ticktext=[labels[place] for place in places],
                showgrid=False,
            ),
            yaxis=titled(f"Δ against {baseline_name} (%)", zeroline=True, zerolinewidth=1.5),
        ),
    )


def delta_caption(
    values: Mapping[str, ArrayLike],
    baseline: ArrayLike,
    names: Sequence[str],
    *,
    baseline_name: str = "Mean",
    lower_is_better: bool = True,
) -> str:
    """One sentence on the mean Δ% of each run, and on the tasks that are worse off.

    Args:
        values: Run or method to one number for each task, shape [m].
        baseline: The same of the baseline, shape [m].
        names: Name of every task, length m.
        baseline_name: Of the run or method that the others are set against.
        lower_is_better: True for losses, False for accuracies.

    Raises:
        ValueError: If a shape does not fit.
    """
    deltas = _deltas(values, baseline, names, lower_is_better)
    words = []
    for name, found in deltas.items():
        if not np.isfinite(found.mean):
            words.append(f"{name} has no mean, because a task has no percentage")
            continue
        worse = [names[int(place)] for place in np.flatnonzero(found.per_task < 0)]
        ending = f"worse on {listed(worse)}" if worse else "worse on none"
        words.append(f"{name} {number(found.mean, signed=True)} % ({ending})")
    if not words:
        return f"There is no run to set against {baseline_name} yet."
    return f"Mean change against {baseline_name}, positive is better: {', '.join(words)}."


def _deltas(
    values: Mapping[str, ArrayLike],
    baseline: ArrayLike,
    names: Sequence[str],
    lower_is_better: bool,
) -> dict[str, DeltaPercent]:
    reference = drawable(baseline)
    if reference.shape != (len(names),):
        raise ValueError(
            f"got a baseline of shape {reference.shape}, expected ({len(names)},) as the names."
        )
    return {
        name: delta_percent(value, reference, lower_is_better=lower_is_better)
        for name, value in values.items()
    }
