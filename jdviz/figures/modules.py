"""Where in the network objectives conflict: the split of the Gramian over modules, as bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.conflict import Array
from jdviz.figures.arrays import check_names, drawable, small
from jdviz.figures.frame import assemble, base_layout, hatching, titled
from jdviz.figures.theme import PALETTES, Figure, Theme
from jdviz.figures.words import capitalised, count, number
from jdviz.layers import LayerConflict, conflict_shares, pair_shares

#: More modules than this do not fit on a screen: those that matter least share one row.
ROWS = 24

#: Pixels of a row, and of the legend and the axis around the rows.
ROW_HEIGHT, AROUND_ROWS = 26, 110

#: Letters of a path on the axis, whose end says most.
PATH = 28


def layer_conflict(shares: Mapping[str, ArrayLike], theme: Theme) -> Figure:
    """Which modules carry the conflict, and which the agreement, in the order of the network.

    Both are percentages of their own total, so that a conflict that is small beside the agreement
    is seen too. A bar to the left of zero works against the others.

    Args:
        shares: Path of every module to its share of the Gramian, shape [m, m], in the order of
            the network.
        theme: "light" or "dark".

    Returns:
        A figure with two traces and a row for each module; beyond 24 modules, those with the
        smallest parts are added up in one row. It is as high as its rows need.

    Raises:
        ValueError: If a share is not square, or they differ in shape.
    """
    found = conflict_shares(_drawable(shares))
    palette = PALETTES[theme]
    conflict, agreement = _percent(found.conflict), _percent(found.agreement)
    kept, rest = _kept(np.abs(conflict) + np.abs(agreement))
    rows = _rows([found.paths[place] for place in kept], len(rest))
    words = _words(found, kept, rest)
    hatch = hatching(theme)

    def bars(values: Array, sums: Array, name: str, color: str, *, hatched: bool) -> go.Bar:
        shown, totals = _with_rest(values, kept, rest), _with_rest(sums, kept, rest)
        return go.Bar(
            x=small(shown),
            y=rows,
            orientation="h",
            name=name,
            marker={
                "color": color,
                "line": {"width": 0},
                "pattern": hatch if hatched else {},
            },
            hovertext=[
                f"{text}: {number(float(value))} % of the {name} (sum {number(float(total))}){own}"
                for (text, own), value, total in zip(words, shown, totals, strict=True)
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )

    traces = [
        bars(conflict, found.conflict, "conflict", palette.negative, hatched=True),
        bars(agreement, found.agreement, "agreement", palette.positive, hatched=False),
    ]
    title = "share of the whole (%)"
    return assemble(traces, _layout(theme, rows, title, barmode="group", bargap=0.25))


def layer_conflict_caption(shares: Mapping[str, ArrayLike]) -> str:
    """One sentence on the module that carries most of the conflict.

    Args:
        shares: Path of every module to its share of the Gramian, shape [m, m].

    Raises:
        ValueError: If a share is not square, or they differ in shape.
    """
    found = conflict_shares(_drawable(shares))
    total = float(found.conflict.sum())
    if not found.paths:
        return "The step was not split over modules."
    if total == 0:
        return (
            f"No pair is in conflict, so none of {count(len(found.paths), 'module')} carries any."
        )
    conflict, agreement = _percent(found.conflict), _percent(found.agreement)
    first = int(np.argmax(conflict))
    where = named(found.paths[first])
    begin = f"The largest part of the conflict, {number(float(conflict[first]))} %, is in {where}"
    if found.agreement.sum() > 0:
        begin += f", as is {number(float(agreement[first]))} % of the agreement"
    softer = int((found.conflict > 0).sum())
    if not softer:
        return f"{begin}."
    verb = "softens" if softer == 1 else "soften"
    return f"{begin}; {softer} of {count(len(found.paths), 'module')} {verb} it."


def pair_layers(
    shares: Mapping[str, ArrayLike], i: int, j: int, names: Sequence[str], theme: Theme
) -> Figure:
    """One entry of the Gramian as a sum over modules, step by step to the whole.

    Args:
        shares: Path of every module to its share of the Gramian, shape [m, m], in the order of
            the network.
        i: Place of the first objective.
        j: Place of the second, which may be the same.
        names: Name of every objective, length m.
        theme: "light" or "dark".

    Returns:
        A figure with one trace, and a row for each module and for the sum; beyond 24 modules,
        those with the smallest parts are added up in one row.

    Raises:
        ValueError: If a share is not square, they differ in shape, there is no such objective, or
            the names do not fit.
    """
    labels, parts = _parts(shares, i, j, names)
    palette = PALETTES[theme]
    values = np.array(list(parts.values()))
    kept, rest = _kept(np.abs(values))
    rows = _rows([list(parts)[place] for place in kept], len(rest))
    shown = _with_rest(values, kept, rest)
    end = f"{labels[i]}, squared length" if i == j else f"{labels[i]} · {labels[j]}"
    whole = float(values.sum())
    trace = go.Waterfall(
        x=small([*shown, whole]),
        y=[*rows, "<b>sum</b>"],
        orientation="h",
        measure=["relative"] * len(rows) + ["total"],
        name=end,
        showlegend=False,
        increasing={"marker": {"color": palette.positive}},
        decreasing={"marker": {"color": palette.negative}},
        totals={"marker": {"color": palette.positive if whole >= 0 else palette.negative}},
        connector={"line": {"color": palette.line, "width": 1}},
        hovertext=[
            f"{row}: {number(float(value), signed=True)}"
            for row, value in zip([*rows, f"sum, {end}"], [*shown, whole], strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    title = f"inner product {end}" if i != j else end
    return assemble([trace], _layout(theme, [*rows, "<b>sum</b>"], title, waterfallgap=0.3))


def pair_layers_caption(
    shares: Mapping[str, ArrayLike], i: int, j: int, names: Sequence[str]
) -> str:
    """One sentence on the modules that make and that soften one entry of the Gramian.

    Args:
        shares: Path of every module to its share of the Gramian, shape [m, m].
        i: Place of the first objective.
        j: Place of the second, which may be the same.
        names: Name of every objective, length m.

    Raises:
        ValueError: If a share is not square, they differ in shape, there is no such objective, or
            the names do not fit.
    """
    labels, parts = _parts(shares, i, j, names)
    total = sum(parts.values())
    if i == j:
        longest = max(parts, key=lambda path: parts[path])
        return (
            f"The squared length of the gradient of {labels[i]} is {number(total)}; the most of "
            f"it, {number(parts[longest])}, is in {named(longest)}."
        )
    relation = "in conflict" if total < 0 else "at a right angle" if total == 0 else "in agreement"
    begin = (
        f"{capitalised(labels[i])} and {labels[j]} are {relation} ({number(total, signed=True)})"
    )
    low, high = min(parts, key=lambda p: parts[p]), max(parts, key=lambda p: parts[p])
    ends = []
    if parts[low] < 0:
        ends.append(f"{named(low)} pulls them apart most ({number(parts[low])})")
    if parts[high] > 0:
        ends.append(f"{named(high)} together most ({number(parts[high], signed=True)})")
    return f"{begin}{': ' if ends else ''}{', '.join(ends)}."


def named(path: str) -> str:
    """A module by its path in a sentence; the model itself has none."""
    return path or "the model itself"


def _drawable(shares: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Shares whose entries that are not finite count as zero: a sum of them would be none."""
    return {path: np.nan_to_num(drawable(share)) for path, share in shares.items()}


def _parts(
    shares: Mapping[str, ArrayLike], i: int, j: int, names: Sequence[str]
) -> tuple[list[str], dict[str, float]]:
    parts = pair_shares(_drawable(shares), i, j)
    m = len(np.asarray(next(iter(shares.values()))))
    return check_names(names, m), parts


def _percent(parts: Array) -> Array:
    total = float(parts.sum())
    return 100 * parts / total if total else np.zeros(len(parts))


def _kept(sizes: Array) -> tuple[list[int], list[int]]:
    """Places with a row of their own, in order, and those that share one."""
    if len(sizes) <= ROWS:
        return list(range(len(sizes))), []
    order = np.argsort(-sizes, kind="stable")
    return sorted(int(place) for place in order[: ROWS - 1]), [int(p) for p in order[ROWS - 1 :]]


def _with_rest(values: Array, kept: list[int], rest: list[int]) -> Array:
    return np.append(values[kept], values[rest].sum()) if rest else values[kept]


def _rows(paths: Sequence[str], others: int) -> list[str]:
    """Distinct labels of the rows; the end of a long path, which differs most."""
    labels = []
    for path in (named(path) for path in paths):
        short = path if len(path) <= PATH else f"…{path[1 - PATH :]}"
        labels.append(path if short in labels else short)
    return [*labels, count(others, "other module")] if others else labels


def _words(found: LayerConflict, kept: list[int], rest: list[int]) -> list[tuple[str, str]]:
    """Path of each row and what is known of the module alone."""
    words = []
    for place in kept:
        own = ""
        if np.isfinite(found.rates[place]):
            own = (
                f"<br>within it {number(100 * float(found.rates[place]))} % of the pairs conflict, "
                f"smallest cosine {number(float(found.least_cosines[place]))}"
            )
        words.append((named(found.paths[place]), own))
    return [*words, (count(len(rest), "other module"), "")] if rest else words


def _layout(theme: Theme, rows: Sequence[str], title: str, **extra: Any) -> dict[str, Any]:
    return base_layout(
        theme,
        ROW_HEIGHT * len(rows) + AROUND_ROWS,
        margin={"l": 8, "r": 16, "t": 40, "b": 48},
        xaxis=titled(title, zeroline=True, zerolinewidth=1.5),
        yaxis={
            "type": "category",
            "categoryarray": list(rows),
            "range": [len(rows) - 0.5, -0.5],
            "showgrid": False,
            "ticks": "",
        },
        **extra,
    )
