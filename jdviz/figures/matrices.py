"""The Gramian and its cosines as square maps, with blue for agreement and orange for conflict."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from plotly import graph_objects as go

from jdviz.conflict import conflict_rate, cosines
from jdviz.figures.arrays import (
    Array,
    axis_marks,
    check_names,
    check_square,
    largest,
    small,
)
from jdviz.figures.frame import assemble, base_layout
from jdviz.figures.theme import (
    HEIGHT_SQUARE,
    PALETTES,
    Figure,
    Theme,
    diverging_colors,
    diverging_scale,
    ink_on,
)
from jdviz.figures.words import MINUS, count, degrees, number, pair, share

#: Up to this many objectives the cells are large enough for their numbers.
NUMBERED_CELLS = 8


def gramian_heatmap(
    G: ArrayLike,
    names: Sequence[str],
    theme: Theme,
    *,
    groups: Sequence[str] | None = None,
    height: int = HEIGHT_SQUARE,
    selected: tuple[int, int] | None = None,
) -> Figure:
    """The inner products of the objectives' gradients, G = J Jᵀ.

    With many objectives a few long gradients would leave every other cell without colour, so
    beyond eight the scale ends at the 90th percentile of the squared lengths.

    Args:
        G: Gramian, shape [m, m]; an entry that is not finite is left open.
        names: Name of every objective, length m.
        theme: "light" or "dark".
        groups: Group of every objective, length m, equal ones side by side; the axes then name
            the groups.
        height: Height in pixels; the matrix is as wide as it is high.
        selected: Row and column of a pair to draw a frame around, or None.

    Raises:
        ValueError: If the shapes or the names do not fit, or there is no such pair.
    """
    matrix = check_square(G)
    limit = _colour_limit(matrix)
    cut = ", colour cut at the ends" if largest(matrix) > limit else ""
    return _square_map(
        matrix,
        names,
        theme,
        height,
        groups=groups,
        limit=limit,
        title=f"inner product gᵢ·gⱼ{cut}",
        ticks={"nticks": 7},
        hover="%{y} and %{x}: inner product %{z:.3g}<extra></extra>",
        numbers=number,
        selected=selected,
    )


def cosine_heatmap(
    G: ArrayLike,
    names: Sequence[str],
    theme: Theme,
    *,
    groups: Sequence[str] | None = None,
    height: int = HEIGHT_SQUARE,
    selected: tuple[int, int] | None = None,
) -> Figure:
    """The cosines of the objectives' gradients; a pair below zero is in conflict.

    Args:
        G: Gramian, shape [m, m]; the cosines are computed here.
        names: Name of every objective, length m.
        theme: "light" or "dark".
        groups: Group of every objective, length m, equal ones side by side; the axes then name
            the groups.
        height: Height in pixels; the matrix is as wide as it is high.
        selected: Row and column of a pair to draw a frame around, or None.

    Returns:
        A figure whose colours always span -1 to 1. The cells of a gradient that is zero or not
        finite are left open.

    Raises:
        ValueError: If the shapes or the names do not fit, or there is no such pair.
    """
    values = cosines(check_square(G))
    return _square_map(
        values,
        names,
        theme,
        height,
        groups=groups,
        limit=1.0,
        title="cosine",
        ticks={"tickvals": [-1, -0.5, 0, 0.5, 1], "ticktext": ["−1", "−0.5", "0", "0.5", "1"]},
        hover="%{y} and %{x}: cosine %{z:.2f}, %{customdata}°<extra></extra>",
        numbers=lambda cosine: f"{cosine:.2f}".replace("-", MINUS),
        customdata=_whole_degrees(values),
        selected=selected,
    )


def gramian_caption(G: ArrayLike, names: Sequence[str]) -> str:
    """One sentence on the lengths of the gradients, which the Gramian's diagonal holds.

    Args:
        G: Gramian, shape [m, m].
        names: Name of every objective, length m.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    matrix = check_square(G)
    labels = check_names(names, len(matrix))
    squares = np.diagonal(matrix)
    known = np.flatnonzero(np.isfinite(squares))
    if known.size == 0:
        return "There is no gradient to compare yet."
    lengths = np.sqrt(np.maximum(squares[known], 0.0))
    if known.size == 1:
        return f"The gradient of {labels[known[0]]} has length {number(float(lengths[0]))}."
    longest, shortest = int(np.argmax(lengths)), int(np.argmin(lengths))
    ends = (
        f"{number(float(lengths[longest]))} for {labels[known[longest]]}, "
        f"{number(float(lengths[shortest]))} for {labels[known[shortest]]}"
    )
    if lengths[shortest] == 0:
        return f"The longest and the shortest gradient have lengths {ends}."
    times = number(float(lengths[longest] / lengths[shortest]))
    if times == "1.00":
        return f"All gradients have the same length, {number(float(lengths[longest]))}."
    return f"The longest gradient is {times}× as long as the shortest ({ends})."


def cosine_caption(G: ArrayLike, names: Sequence[str]) -> str:
    """One sentence on how many pairs are in conflict, and which the most.

    Args:
        G: Gramian, shape [m, m].
        names: Name of every objective, length m.

    Raises:
        ValueError: If the shapes or the names do not fit.
    """
    matrix = check_square(G)
    labels = check_names(names, len(matrix))
    values = cosines(matrix)
    rows, columns = np.triu_indices(len(values), k=1)
    upper = values[rows, columns]
    known = np.flatnonzero(~np.isnan(upper))
    if known.size == 0:
        return "No pair of gradients has an angle: fewer than two are different from zero."
    worst = known[np.argmin(upper[known])]
    who = pair(labels[rows[worst]], labels[columns[worst]])
    cosine = float(upper[worst])
    angle = degrees(float(np.degrees(np.arccos(cosine))))
    if cosine >= 0:
        return (
            f"No pair is in conflict; the lowest of {count(known.size, 'cosine')} is "
            f"{number(cosine)} ({who}, {angle})."
        )
    amount = round(conflict_rate(matrix) * known.size)
    begin = f"{share(amount, known.size, 'pair')} in conflict"
    return f"{begin}, the most {who}: cosine {number(cosine)}, {angle}."


def _whole_degrees(values: Array) -> NDArray[np.uint8]:
    """Angle of every pair for the hover text, shape [m, m]; any number where there is none.

    One byte each: as text they would be larger than everything else in the figure together. The
    cells without a cosine show no hover text, so their number is never read.
    """
    angles = np.degrees(np.arccos(np.nan_to_num(values)))
    return angles.round().astype(np.uint8)


def _square_map(
    values: Array,
    names: Sequence[str],
    theme: Theme,
    height: int,
    *,
    groups: Sequence[str] | None,
    limit: float,
    title: str,
    ticks: dict[str, Any],
    hover: str,
    numbers: Callable[[float], str],
    selected: tuple[int, int] | None,
    customdata: NDArray[np.uint8] | None = None,
) -> Figure:
    m = len(values)
    if selected is not None and not all(0 <= place < m for place in selected):
        raise ValueError(f"got the pair {selected}, expected places from 0 to {m - 1}.")
    labels = check_names(names, m)
    palette = PALETTES[theme]
    cells = go.Heatmap(
        x=labels,
        y=labels,
        z=small(values),
        zmin=-limit,
        zmax=limit,
        colorscale=diverging_scale(theme),
        customdata=customdata,
        hovertemplate=hover,
        hoverongaps=False,
        xgap=1 if m <= 32 else 0,
        ygap=1 if m <= 32 else 0,
        colorbar={
            "title": {"text": title, "side": "right", "font": {"color": palette.muted, "size": 13}},
            "tickfont": {"color": palette.muted, "size": 12},
            "thickness": 12,
            "outlinewidth": 0,
            "len": 1.0,
            "x": 1.01,
            **ticks,
        },
    )
    places, marks = axis_marks(labels, groups)
    shared = {
        "type": "category",
        "tickvals": places,
        "ticktext": marks,
        "showgrid": False,
        "constrain": "domain",
        "ticks": "",
    }
    traces = [cells]
    if m <= NUMBERED_CELLS:
        traces.append(_cell_numbers(values, labels, limit, theme, numbers))
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            # Shows through where a cell has no value, so that it differs from a zero.
            plot_bgcolor=palette.surface,
            shapes=[] if selected is None else _pair_frames(*selected, theme),
            margin={"l": 8, "r": 8, "t": 12, "b": 8},
            xaxis={
                **shared,
                "range": [-0.5, m - 0.5],
                "constraintoward": "right",
                # Slanted to the left: to the right they would run into the colour bar.
                "tickangle": 0 if m <= 3 or groups is not None else -45,
            },
            yaxis={**shared, "range": [m - 0.5, -0.5], "scaleanchor": "x"},
        ),
    )


def _colour_limit(matrix: Array) -> float:
    squares = np.diagonal(matrix)
    known = squares[np.isfinite(squares)]
    if len(matrix) > NUMBERED_CELLS and known.size and (limit := float(np.quantile(known, 0.9))):
        return limit
    return largest(matrix) or 1.0


def _cell_numbers(
    values: Array,
    labels: list[str],
    limit: float,
    theme: Theme,
    numbers: Callable[[float], str],
) -> go.Scatter:
    """The number in every cell, dark or light as its colour asks.

    A trace of its own, because plotly writes on a heatmap in two greys that are too faint on its
    middle colours.
    """
    rows, columns = np.nonzero(np.isfinite(values))
    cells = [float(value) for value in values[rows, columns]]
    return go.Scatter(
        x=[labels[column] for column in columns],
        y=[labels[row] for row in rows],
        text=[numbers(value) for value in cells],
        mode="text",
        textfont={
            "size": 13 if len(labels) <= 5 else 10,
            "color": [ink_on(color, theme) for color in diverging_colors(cells, limit, theme)],
        },
        hoverinfo="skip",
        showlegend=False,
    )


def _pair_frames(row: int, column: int, theme: Theme) -> list[dict[str, Any]]:
    """Frames around the two cells of a pair, which are mirror images of each other."""
    line = {"color": PALETTES[theme].text, "width": 3}
    return [
        {
            "type": "rect",
            "x0": x - 0.5,
            "x1": x + 0.5,
            "y0": y - 0.5,
            "y1": y + 0.5,
            "line": {**line, "dash": dash},
        }
        for x, y, dash in ((column, row, "solid"), (row, column, "dot"))[: 1 + (row != column)]
    ]
