"""Several methods over several seeds each: the median and its spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import small
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.lines import Scale, band, line_mode, line_styles, shown_on, value_axis
from jdviz.figures.theme import HEIGHT_MAIN, Figure, Theme
from jdviz.figures.words import count, number
from jdviz.histories import ENOUGH_SEEDS, SeedsBand, seeds_band


@dataclass(frozen=True, eq=False)
class SeedGroup:
    """Runs that differ in their seed alone.

    Attributes:
        name: What they have in common, such as a method; no two groups have the same.
        runs: Steps, shape [k], and values, shape [k], of each seed.
    """

    name: str
    runs: Sequence[tuple[ArrayLike, ArrayLike]]


def seed_bands(
    groups: Sequence[SeedGroup],
    theme: Theme,
    *,
    quantity: str,
    unit: str = "",
    scale: Scale = "linear",
    height: int = HEIGHT_MAIN,
) -> Figure:
    """The median over seeds as a line, and the band between the quartiles.

    Args:
        groups: One for each method; one of fewer than three seeds has no band.
        theme: "light" or "dark".
        quantity: What the values are, such as "mean loss".
        unit: Of the values; empty for a number without one.
        scale: Of the vertical axis; values that are not positive are left out of a logarithmic one.
        height: Height in pixels.

    Returns:
        A figure with three traces for each group. A group is drawn on the steps that all of its
        seeds have.

    Raises:
        ValueError: If steps and values of a run do not fit, or two names are the same.
    """
    bands = _bands(groups)
    styles = line_styles(list(bands), theme)
    suffix = f" {unit}" if unit else ""
    traces, everything = [], [np.zeros(0)]
    for name, found in bands.items():
        style, x = styles[name], found.steps.astype(np.int32)
        low, median, high = (
            shown_on(values, scale) for values in (found.low, found.median, found.high)
        )
        everything += [low, median, high]
        edges = band(
            x,
            low,
            high,
            style.color,
            name=f"{name}, quartiles",
            legendgroup=name,
            showlegend=False,
        )
        line = go.Scatter(
            x=x,
            y=small(median),
            mode=line_mode(len(x)),
            name=f"{name} ({count(found.seeds, 'seed')})",
            legendgroup=name,
            line={"color": style.color, "dash": style.dash, "width": 2},
            hovertemplate=f"{name}, step %{{x}}: median {quantity} %{{y:.3g}}{suffix}"
            "<extra></extra>",
        )
        traces += [*edges, line]
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            xaxis=titled("step", rangemode="tozero"),
            yaxis=titled(
                f"{quantity} ({unit})" if unit else quantity,
                **value_axis(np.concatenate(everything), scale),
            ),
        ),
    )


def seed_caption(groups: Sequence[SeedGroup], *, quantity: str, unit: str = "") -> str:
    """One sentence that orders the methods by their last median, where there are enough seeds.

    Args:
        groups: One for each method.
        quantity: What the values are.
        unit: Of the values; empty for a number without one.

    Returns:
        A ranking from lowest to highest if every group has three seeds or more, else the medians
        in the order given, and why there is no ranking.

    Raises:
        ValueError: If steps and values of a run do not fit, or two names are the same.
    """
    bands = {name: found for name, found in _bands(groups).items() if found.steps.size}
    if not bands:
        return "There is no step that all seeds of a method have yet."
    suffix = f" {unit}" if unit else ""
    few = [name for name, found in bands.items() if not found.enough]
    ranked = list(bands.items())
    if not few:
        # A seed that diverged leaves no median: its method comes last.
        ranked.sort(key=lambda item: np.nan_to_num(item[1].median[-1], nan=np.inf))
    words = [_ending(name, found, suffix) for name, found in ranked]
    begin = f"Median {quantity} at the end"
    if few:
        return (
            f"{begin}: {', '.join(words)}; no ranking, because that takes "
            f"{ENOUGH_SEEDS} seeds of each."
        )
    order = ", from lowest to highest" if len(words) > 1 else ""
    return f"{begin}{order}: {', '.join(words)}."


def _ending(name: str, found: SeedsBand, suffix: str) -> str:
    seeds = count(found.seeds, "seed")
    value = found.median[-1]
    if not np.isfinite(value):
        return f"{name} none, because a seed has no value there ({seeds})"
    if not found.enough:
        return f"{name} {number(value)}{suffix} ({seeds})"
    quartiles = f"quartiles {number(found.low[-1])} and {number(found.high[-1])}"
    return f"{name} {number(value)}{suffix} ({quartiles}, {seeds})"


def _bands(groups: Sequence[SeedGroup]) -> dict[str, SeedsBand]:
    names = [group.name for group in groups]
    if len(set(names)) != len(names):
        raise ValueError(
            f"got {len(names)} groups with {len(set(names))} distinct names, expected distinct "
            "ones; put the seeds of one method into one group."
        )
    return {group.name: seeds_band(group.runs) for group in groups}
