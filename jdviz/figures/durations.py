"""How long each method's step takes, with its spread."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from plotly import graph_objects as go

from jdviz.figures.arrays import small
from jdviz.figures.bars import failed_rows, rows_layout
from jdviz.figures.frame import assemble
from jdviz.figures.measured import (
    PLAIN,
    Spread,
    check_methods,
    hatched,
    label,
    lead,
    reason,
    sentence,
    spoken,
)
from jdviz.figures.styles import ENGINE_STYLES
from jdviz.figures.theme import PALETTES, Figure, Theme, with_opacity
from jdviz.figures.words import count, milliseconds, ratio

if TYPE_CHECKING:
    from jdviz.profiling.results import Times

#: Rounds beyond this many times the longest upper quartile are not drawn but counted.
BEYOND = 1.6


def time_bars(times: "Times", theme: Theme) -> Figure:
    """The median duration of each method's step, its middle half, and every round.

    Args:
        times: Durations of the methods, taken in turn.
        theme: "light" or "dark".

    Returns:
        A figure with a bar and its rounds for each method; the name of each row says its ratio
        to plain SGD, the median over rounds, and its median.

    Raises:
        ValueError: If there is no duration, one is not finite, or a method is unknown.
    """
    spreads, palette = _spreads(times), PALETTES[theme]
    longest = max(spread.high for spread in spreads.values())
    highest = max(max(times.durations_ms[method]) for method in spreads)
    end = 1.04 * min(highest, BEYOND * longest)
    beyond = sum(value > end for method in spreads for value in times.durations_ms[method])
    words = _row_words(times, spreads)
    bars, rounds = [], []
    for method, spread in spreads.items():
        color = ENGINE_STYLES[method].colors[theme]
        bars.append(
            go.Bar(
                x=[spread.median],
                y=[label(method)],
                orientation="h",
                name=label(method),
                marker=hatched(color, ENGINE_STYLES[method].hatch, theme),
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [spread.high - spread.median],
                    "arrayminus": [spread.median - spread.low],
                    "color": palette.text,
                    "thickness": 1.5,
                    "width": 6,
                },
                hovertext=[
                    f"{label(method)}: {words[method]}, middle half from "
                    f"{milliseconds(spread.low)} to {milliseconds(spread.high)}"
                ],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
        durations = times.durations_ms[method]
        rounds.append(
            go.Scatter(
                x=small(durations),
                y=[label(method)] * len(durations),
                mode="markers",
                name=label(method),
                marker={
                    "symbol": "circle",
                    "size": 5,
                    "color": with_opacity(palette.text, 0.3),
                },
                hovertext=[
                    f"{label(method)}, round {place}: {milliseconds(value)}"
                    for place, value in enumerate(durations, start=1)
                ],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    failed = list(times.failures.items())
    hidden = f"; {count(beyond, 'round')} off the axis" if beyond else ""
    layout = rows_layout(
        theme,
        [*spreads, *times.failures],
        f"time of a step (ms), median and middle half{hidden}",
        [0, max(end, 1e-9)],
        nticks=7,
    )
    layout["showlegend"] = False
    named: Any = {label(method): f"{label(method)}<br><b>{words[method]}</b>" for method in spreads}
    labels = layout["yaxis"]["categoryarray"]
    layout["yaxis"] |= {"tickvals": labels, "ticktext": [named.get(one, one) for one in labels]}
    return assemble([*bars, *rounds, *failed_rows(failed, 0.0, theme)], layout)


def time_caption(times: "Times") -> str:
    """One sentence that compares the duration of autogram's step with the others'.

    Args:
        times: Durations of the methods, taken in turn.

    Returns:
        The sentence; without autogram it is about the first method that there is.

    Raises:
        ValueError: If there is no duration, one is not finite, or a method is unknown.
    """
    spreads = _spreads(times)
    own = lead(spreads)
    rounds = count(len(times.durations_ms[own]), "round")
    text = f"{spoken(own)} takes {milliseconds(spreads[own].median)} for a step"
    parts = [
        f"{ratio(ratio_spread(times, own, other).median)} the time of {spoken(other)} "
        f"({milliseconds(spreads[other].median)})"
        for other in (PLAIN, "autojac")
        if other in spreads and other != own
    ]
    if parts:
        text = f"{text}, {' and '.join(parts)}"
    failed = (f"; {spoken(name)}: {reason(why, name)}" for name, why in times.failures.items())
    return sentence(f"{text}, median of {rounds}{''.join(failed)}")


def ratio_spread(times: "Times", upper: str, lower: str) -> Spread:
    """How many times as long one method's step takes as another's, round by round.

    Args:
        times: Durations of the methods, taken in turn.
        upper: The method that is divided.
        lower: The method that it is divided by.

    Returns:
        Quartiles of the quotients of the same rounds.

    Raises:
        ValueError: If there is no duration or one is not finite.
    """
    durations = times.durations_ms
    return Spread.of(np.divide(durations[upper], durations[lower]))


def _spreads(times: "Times") -> dict[str, Spread]:
    """Quartiles of each method that has durations, in the order of `ENGINE_STYLES`."""
    check_methods([*times.durations_ms, *times.failures])
    if not times.durations_ms:
        raise ValueError("got no duration, expected those of at least one method; measure again.")
    return {
        method: Spread.of(times.durations_ms[method])
        for method in ENGINE_STYLES
        if method in times.durations_ms
    }


def _row_words(times: "Times", spreads: Mapping[str, Spread]) -> dict[str, str]:
    """Median of each method, after its ratio to plain SGD's where that was timed."""
    words = {}
    for method, spread in spreads.items():
        words[method] = milliseconds(spread.median)
        if PLAIN in spreads and method != PLAIN:
            words[method] = (
                f"{ratio(ratio_spread(times, method, PLAIN).median)} SGD · {words[method]}"
            )
    return words
