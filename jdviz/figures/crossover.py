"""Which engine needs less memory, and by how much, over objectives and parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable, largest, small
from jdviz.figures.frame import TRUE_VALUES, assemble, base_layout, titled
from jdviz.figures.measured import sentence
from jdviz.figures.theme import (
    HEIGHT_MAIN,
    PALETTES,
    Figure,
    Theme,
    diverging_colors,
    diverging_scale,
    ink_on,
)
from jdviz.figures.words import count, mebibytes, ratio, short

#: Up to this many cells there is room for their numbers.
NUMBERED_CELLS = 60

#: Share of a cell by which its number makes room for a dot in the middle.
ABOVE = 0.28

#: The scale spans at least a factor of two to each side: noise then does not look like a result.
LEAST_LIMIT = 1


@dataclass(frozen=True)
class CrossoverDot:
    """A place of the map that was measured.

    Attributes:
        objectives: Number of objectives m.
        parameters: Number of trainable parameters n.
        autojac_bytes: Measured peak of autojac's step.
        autogram_bytes: Measured peak of autogram's step.
    """

    objectives: int
    parameters: int
    autojac_bytes: float
    autogram_bytes: float

    @property
    def log2ratio(self) -> float:
        """log₂ of autojac's memory in units of autogram's."""
        return float(np.log2(self.autojac_bytes / self.autogram_bytes))


def crossover_map(
    objectives: Sequence[int],
    parameters: Sequence[int],
    log2ratio: ArrayLike,
    dots: Sequence[CrossoverDot],
    theme: Theme,
) -> Figure:
    """The predicted ratio of autojac's memory to autogram's, with measurements on it.

    Args:
        objectives: Numbers of objectives m of the columns, increasing.
        parameters: Numbers of parameters n of the rows, increasing.
        log2ratio: log₂(autojac ÷ autogram) predicted, shape [rows, columns]; above zero autogram
            needs less. A value that is not finite is left open.
        dots: What was measured, in the same colours.
        theme: "light" or "dark".

    Returns:
        A figure with a map, the line where both need the same, and the dots.

    Raises:
        ValueError: If a shape does not fit or an axis does not increase.
    """
    values, palette = _check(objectives, parameters, log2ratio), PALETTES[theme]
    found = [dot.log2ratio for dot in dots]
    limit = max(LEAST_LIMIT, ceil(largest(values)), ceil(largest(found)))
    step = -(-limit // 4)
    ticks = [step * place for place in range(-(limit // step), limit // step + 1)]
    places = [_place(m, n) for n in parameters for m in objectives]
    words = [
        f"{where}: {_verdict(float(value), 'predicted')}"
        for where, value in zip(places, values.flat, strict=True)
    ]
    traces: list[Any] = [
        go.Heatmap(
            z=small(values),
            zmin=-limit,
            zmax=limit,
            colorscale=diverging_scale(theme),
            xgap=1,
            ygap=1,
            # The ratios themselves, for who reads the figure as a table.
            customdata=small(2.0**values),
            meta=TRUE_VALUES,
            hovertext=np.array(words, dtype=object).reshape(values.shape),
            hovertemplate="%{hovertext}<extra></extra>",
            colorbar={
                # Below the map: beside it a phone would have no room for the cells.
                "orientation": "h",
                "y": -0.17,
                "yanchor": "top",
                "title": {
                    "text": "memory of autojac ÷ autogram",
                    "side": "bottom",
                    "font": {"size": 13, "color": palette.muted},
                },
                "tickangle": 0,
                "tickfont": {"size": 12, "color": palette.muted},
                "tickvals": ticks,
                "ticktext": [f"{2**tick}×" if tick >= 0 else f"1/{2**-tick}×" for tick in ticks],
                "thickness": 14,
                "outlinewidth": 0,
            },
        )
    ]
    if min(values.shape) >= 2:
        traces.append(
            go.Contour(
                z=small(values),
                contours={"start": 0, "end": 0, "size": 1, "coloring": "none"},
                line={"color": palette.text, "width": 2, "smoothing": 0},
                name="both need the same",
                showscale=False,
                showlegend=bool((values > 0).any() and (values < 0).any()),
                hoverinfo="skip",
            )
        )
    if values.size <= NUMBERED_CELLS:
        traces.append(_numbers(values, limit, theme, ABOVE if dots else 0.0))
    traces.append(
        go.Scatter(
            x=small(_places(objectives, [dot.objectives for dot in dots])),
            y=small(_places(parameters, [dot.parameters for dot in dots])),
            mode="markers",
            name="measured",
            marker={
                "symbol": "circle",
                "size": 15,
                "color": list(diverging_colors(found, limit, theme)),
                "line": {"width": 2, "color": palette.text},
            },
            hovertext=[
                f"{_place(dot.objectives, dot.parameters)}: {_verdict(value, 'measured')}, "
                f"{mebibytes(dot.autojac_bytes)} and {mebibytes(dot.autogram_bytes)}"
                for dot, value in zip(dots, found, strict=True)
            ],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=bool(dots),
        )
    )
    layout = base_layout(
        theme,
        HEIGHT_MAIN,
        xaxis=_axis("objectives m", objectives),
        yaxis=_axis("parameters n", parameters),
    )
    return assemble(traces, layout)


def crossover_caption(
    objectives: Sequence[int],
    parameters: Sequence[int],
    log2ratio: ArrayLike,
    dots: Sequence[CrossoverDot],
) -> str:
    """One sentence on where each engine needs less and whether measurements agree.

    Args:
        objectives: Numbers of objectives of the columns, increasing.
        parameters: Numbers of parameters of the rows, increasing.
        log2ratio: log₂(autojac ÷ autogram) predicted, shape [rows, columns].
        dots: What was measured.

    Returns:
        The sentence.

    Raises:
        ValueError: If a shape does not fit or an axis does not increase.
    """
    values = _check(objectives, parameters, log2ratio)
    known = np.isfinite(values)
    if not known.any():
        return "Nothing is predicted for these sizes."

    parts, total = [], int(known.sum())
    for name, signed in (("autogram", values), ("autojac", -values)):
        cases = int((signed > 0).sum())
        if cases:
            row, column = divmod(int(np.nanargmax(signed)), len(objectives))
            parts.append(
                f"{name} is predicted to need less in {cases} of {total} cases, by up to "
                f"{ratio(2.0 ** float(signed[row, column]))} "
                f"({_place(objectives[column], parameters[row])})"
            )
    if not parts:
        parts.append("both engines are predicted to need the same everywhere")
    if dots:
        predicted = [_at(objectives, parameters, values, dot) for dot in dots]
        agreeing = sum(
            (dot.log2ratio > 0) == (value > 0) for dot, value in zip(dots, predicted, strict=True)
        )
        parts.append(f"{agreeing} of {count(len(dots), 'measurement')} fall on the predicted side")
    return sentence("; ".join(parts))


def _check(objectives: Sequence[int], parameters: Sequence[int], log2ratio: ArrayLike) -> Array:
    values = drawable(log2ratio)
    if values.shape != (len(parameters), len(objectives)) or not values.size:
        raise ValueError(
            f"got ratios of shape {values.shape}, expected ({len(parameters)}, {len(objectives)}): "
            "a row for each number of parameters and a column for each number of objectives."
        )
    for name, axis in (("objectives", objectives), ("parameters", parameters)):
        if min(axis) <= 0 or (np.diff(axis) <= 0).any():
            raise ValueError(f"got {name} {list(axis)}, expected positive increasing numbers.")
    return values


def _places(axis: Sequence[int], wanted: Sequence[int]) -> Array:
    """Where numbers lie on an axis whose columns are one apart, between them by logarithm."""
    return np.interp(
        np.log(np.asarray(wanted, dtype=np.float64)), np.log(axis), np.arange(len(axis))
    )


def _at(
    objectives: Sequence[int], parameters: Sequence[int], values: Array, dot: CrossoverDot
) -> float:
    """The prediction of the cell that a dot lies in."""
    column = round(float(_places(objectives, [dot.objectives])[0]))
    row = round(float(_places(parameters, [dot.parameters])[0]))
    return float(values[row, column])


def _place(objectives: int, parameters: int) -> str:
    return f"{count(objectives, 'objective')}, {parameters:,} parameters"


def _verdict(value: float, how: str) -> str:
    if not np.isfinite(value):
        return "no prediction"
    return f"autojac needs {ratio(2.0**value)} the memory of autogram, {how}"


def _numbers(values: Array, limit: float, theme: Theme, above: float) -> go.Scatter:
    """The ratios in their cells, some share of a cell above its middle."""
    rows, columns = np.nonzero(np.isfinite(values))
    known = values[rows, columns]
    colors = diverging_colors(known.tolist(), limit, theme)
    return go.Scatter(
        x=columns.tolist(),
        y=(rows + above).tolist(),
        mode="text",
        text=[ratio(float(2.0**value)) for value in known],
        textfont={"size": 11, "color": [ink_on(color, theme) for color in colors]},
        hoverinfo="skip",
        showlegend=False,
    )


def _axis(title: str, sizes: Sequence[int]) -> dict[str, Any]:
    return titled(
        title,
        tickvals=list(range(len(sizes))),
        ticktext=[short(size) for size in sizes],
        range=[-0.5, len(sizes) - 0.5],
        showgrid=False,
        zeroline=False,
    )
