"""Who gets hurt: the first-order improvement of every objective under each method."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.conflict import hurt_mask
from jdviz.figures.arrays import (
    Array,
    check_names,
    drawable,
    largest,
    nice_limit,
    small,
    tick_places,
)
from jdviz.figures.frame import assemble, base_layout, hatching, titled
from jdviz.figures.rows import explanation, marks_of_each, marks_of_many
from jdviz.figures.theme import (
    DISTINCT_OBJECTIVES,
    HEIGHT_SIDE,
    PALETTES,
    Figure,
    Theme,
    method_styles,
)
from jdviz.figures.words import count, listed, number

#: Beyond this many objectives, the bars of several methods would be thinner than their gaps.
GROUPED_OBJECTIVES = 16

#: Beyond this many methods, the bars of one objective would no longer be told apart.
GROUPED_METHODS = 6

TITLE = "improvement gᵢ·A(J)"

#: Pixels of a row, and of the title, legend and axis around the rows.
ROW_HEIGHT, AROUND_ROWS = 22, 110

#: Share of an axis left free at its ends, so that no mark is cut.
MARK_ROOM = 0.03


def improvement_bars(
    inner: Mapping[str, ArrayLike],
    names: Sequence[str],
    theme: Theme,
    *,
    height: int = HEIGHT_SIDE,
) -> Figure:
    """The inner products gᵢ·A(J): above zero an objective improves, below it gets worse.

    One group of bars for each objective, hatched below zero. More than six methods are a row of
    marks each instead, one shape for each of up to seven objectives; so are several methods on
    more than 16 objectives, with crosses below zero.

    Args:
        inner: Method, by its name in the registry, to J A(J), shape [m].
        names: Name of every objective, length m.
        theme: "light" or "dark".
        height: Height in pixels; that of many rows is what they need, if that is more.

    Returns:
        A figure with two traces for each method, or for each objective where that has a shape,
        and one that explains the hatching, the crosses or the colour. A value that is not finite
        is left out.

    Raises:
        ValueError: If a shape does not fit or a method is not registered.
    """
    values = _by_method(inner, names)
    everything = np.concatenate([np.zeros(1), *values.values()])
    # Both ends in steps of the larger one: a small side keeps its true proportion.
    step = nice_limit(1.05 * largest(everything)) / 10
    ends = [
        -step * np.ceil(1.05 * float(-np.nanmin(everything)) / step),
        step * max(np.ceil(1.05 * float(np.nanmax(everything)) / step), 1.0),
    ]
    if len(values) <= 1 or max(len(names) / GROUPED_OBJECTIVES, len(values) / GROUPED_METHODS) <= 1:
        return _groups(values, names, theme, height, ends)
    rows = marks_of_each if len(names) <= DISTINCT_OBJECTIVES else marks_of_many
    return _rows(rows(values, names, theme), values, theme, height, ends)


def improvement_caption(inner: Mapping[str, ArrayLike], names: Sequence[str]) -> str:
    """One sentence on which methods make which objectives worse.

    Args:
        inner: Method to J A(J), shape [m].
        names: Name of every objective, length m.

    Raises:
        ValueError: If a shape does not fit.
    """
    values = _by_method(inner, names)
    m = len(names)
    if not values:
        return "No method is chosen yet."
    harmful, harmless = [], []
    for name, value in values.items():
        hurt = [int(index) for index in np.flatnonzero(hurt_mask(value))]
        if not hurt:
            harmless.append(name)
            continue
        who, most = listed([names[index] for index in hurt]), ""
        if len(hurt) > 3:
            worst = int(np.nanargmin(value))
            who, most = f"{len(hurt)} of {m}", f" (most {names[worst]}, {number(value[worst])})"
        harmful.append(f"{name} makes {who} worse{most}")
    limit = 8 if len(values) <= 8 else 5
    rest = listed(harmless, limit=8)
    if not harmful:
        verb = "makes" if len(harmless) == 1 else "make"
        return f"{rest} {verb} none of {count(m, 'objective')} worse."
    begin = listed(harmful, limit=limit)
    if not harmless:
        return f"{begin}."
    return f"{begin}; {rest} {'makes' if len(harmless) == 1 else 'make'} none worse."


def _groups(
    values: Mapping[str, Array], names: Sequence[str], theme: Theme, height: int, ends: list[float]
) -> Figure:
    labels, m, palette = list(names), len(names), PALETTES[theme]
    hatch = hatching(theme)

    def bars(name: str, chosen: Array, color: str, *, hurts: bool) -> go.Bar:
        words = " (gets worse)" if hurts else ""
        return go.Bar(
            x=labels,
            y=small(chosen),
            name=name,
            legendgroup=name,
            offsetgroup=name,
            showlegend=not hurts,
            marker={"color": color, "line": {"width": 0}, "pattern": hatch if hurts else {}},
            hovertemplate=f"{name}, %{{x}}: gᵢ·A(J) = %{{y:+.3g}}{words}<extra></extra>",
        )

    traces, styles = [], method_styles(list(values), theme)
    for name, value in values.items():
        mask, color = hurt_mask(value), styles[name].color
        traces.append(bars(name, np.where(mask, np.nan, value), color, hurts=False))
        traces.append(bars(name, np.where(mask, value, np.nan), color, hurts=True))
    marker = {"color": palette.muted, "pattern": hatch, "line": {"width": 0}}
    anyone = any(hurt_mask(value).any() for value in values.values())
    traces.append(explanation(go.Bar, anyone=anyone, marker=marker))
    places = tick_places(m)
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            barmode="group",
            bargap=0.3 if m <= GROUPED_OBJECTIVES else 0.12,
            xaxis=titled(
                "objective",
                type="category",
                range=[-0.5, m - 0.5],
                tickvals=places,
                ticktext=[labels[place] for place in places],
                showgrid=False,
            ),
            yaxis=titled(TITLE, zeroline=True, zerolinewidth=1.5, range=ends),
        ),
    )


def _rows(
    traces: list[go.Scatter],
    values: Mapping[str, Array],
    theme: Theme,
    height: int,
    ends: list[float],
) -> Figure:
    labels, room = list(values), MARK_ROOM * (ends[1] - ends[0])
    if len(values) <= GROUPED_METHODS:
        labels = [f"{name}<br>{int(hurt_mask(v).sum())} worse" for name, v in values.items()]
    return assemble(
        traces,
        base_layout(
            theme,
            max(height, ROW_HEIGHT * len(values) + AROUND_ROWS),
            xaxis=titled(
                f"{TITLE} of each objective",
                zeroline=True,
                zerolinewidth=1.5,
                range=[ends[0] - room, ends[1] + room],
            ),
            yaxis={
                "type": "category",
                "categoryarray": list(values),
                "range": [len(values) - 0.5, -0.5],
                "tickvals": list(range(len(values))),
                "ticktext": labels,
            },
        ),
    )


def _by_method(inner: Mapping[str, ArrayLike], names: Sequence[str]) -> dict[str, Array]:
    values = {name: drawable(value) for name, value in inner.items()}
    check_names(names, len(names))
    for name, value in values.items():
        if value.shape != (len(names),):
            raise ValueError(
                f"got inner products of shape {value.shape} for {name}, "
                f"expected ({len(names)},) as the names."
            )
    return values
