"""The largest batch that each method can take within a budget: predicted and verified."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from plotly import graph_objects as go

from jdviz.figures.arrays import log_ticks
from jdviz.figures.bars import failed_rows, row_words, rows_layout
from jdviz.figures.frame import assemble
from jdviz.figures.measured import label, lead, reason, sentence, spoken, times
from jdviz.figures.styles import ENGINE_STYLES, engine_style
from jdviz.figures.theme import PALETTES, Figure, Theme
from jdviz.figures.words import limit, number

#: Room for the words beside the last mark, as a share of the axis.
WORDS = 0.4


class Fitted(Protocol):
    """One method's largest batch, with the attributes of `jdviz.profiling.fits.Fit`."""

    @property
    def method(self) -> str:
        """Key of `ENGINE_STYLES`."""

    @property
    def budget_bytes(self) -> int:
        """Memory for parameters, batch and step."""

    @property
    def predicted_batch(self) -> int | None:
        """Predicted largest batch; 0 where not even one sample fits, None without a prediction."""

    @property
    def verified_batch(self) -> int | None:
        """Largest batch that was seen to fit; 0 where none does, None where none was tried."""

    @property
    def fails_at(self) -> int | None:
        """Smallest batch that was seen not to fit, or None."""

    @property
    def note(self) -> str:
        """What there is to say about it, "" if nothing."""


def fit_bars(fits: Sequence[Fitted], theme: Theme) -> Figure:
    """The predicted largest batch of each method as an open mark, the verified as a filled one.

    Args:
        fits: One for each method.
        theme: "light" or "dark".

    Returns:
        A figure with a row for each method on a logarithmic axis.

    Raises:
        ValueError: If there is no fit or a method is unknown.
    """
    found, palette = _in_order(fits), PALETTES[theme]
    traces, starts, ends, words, shown, failed = [], [], [], [], [], []
    for fit in found:
        places = [size for size in (fit.predicted_batch, fit.verified_batch) if size]
        if not places:
            failed.append((fit.method, fit_words(fit)))
            continue
        style, name = engine_style(fit.method, theme), label(fit.method)
        traces.append(
            go.Scatter(
                x=places,
                y=[name] * len(places),
                mode="lines",
                line={"color": style.color, "width": 3},
                showlegend=False,
                hoverinfo="skip",
            )
        )
        for size, kind in ((fit.predicted_batch, "predicted"), (fit.verified_batch, "verified")):
            if size:
                hollow = "-open" if kind == "predicted" else ""
                traces.append(
                    go.Scatter(
                        x=[size],
                        y=[name],
                        mode="markers",
                        name=kind,
                        showlegend=False,
                        marker={
                            "symbol": f"{style.symbol}{hollow}",
                            "size": 13 if hollow else 11,
                            "color": style.color,
                            "line": {"width": 2, "color": style.color},
                        },
                        hovertext=[f"{name}: batch {size:,} {kind}"],
                        hovertemplate="%{hovertext}<extra></extra>",
                    )
                )
        starts.append(min(places))
        ends.append(max(places))
        words.append(f"  {fit_words(fit)}")
        shown.append(fit.method)
    traces += [
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=name,
            marker={
                "symbol": symbol,
                "size": 11,
                "color": palette.muted,
                "line": {"width": 2, "color": palette.muted},
            },
        )
        for name, symbol in (("predicted", "circle-open"), ("verified", "circle"))
    ]
    start = float(np.floor(np.log10(min(starts, default=1)) * 2) / 2)
    end = max(float(np.log10(max(ends, default=10))), start + 0.5)
    stop = start + (end - start) / (1 - WORDS)
    ticks = log_ticks(10.0 ** (start - 0.05), 10.0**stop)
    layout = rows_layout(
        theme,
        [fit.method for fit in found],
        f"largest batch within {limit(found[0].budget_bytes)} (samples)",
        [start - 0.05, stop],
        type="log",
        tickvals=ticks,
        ticktext=[f"{tick:,.6g}" for tick in ticks],
    )
    if shown:
        traces.append(row_words(ends, shown, words, theme))
    return assemble([*traces, *failed_rows(failed, 10.0**start, theme)], layout)


def fit_caption(fits: Sequence[Fitted]) -> str:
    """One sentence on the largest batches and on how far off the predictions are.

    Args:
        fits: One for each method.

    Returns:
        The sentence.

    Raises:
        ValueError: If there is no fit or a method is unknown.
    """
    found = {fit.method: fit for fit in _in_order(fits)}
    own = lead(found)
    first, size = found[own], _size(found[own])
    budget = limit(first.budget_bytes)
    if not size:
        text = f"{spoken(own)} takes no batch within {budget}"
    else:
        others = {name: _size(found[name]) for name in ("sgd", "autojac") if name in found}
        parts = [
            f"{times(size, theirs)} the batch of {spoken(other)} ({theirs:,})"
            for other, theirs in others.items()
            if theirs and other != own
        ]
        text = f"within {budget} {spoken(own)} takes a batch of {size:,}"
        text = f"{text}, {' and '.join(parts)}" if parts else text
    errors = {fit.method: error for fit in found.values() if (error := _error(fit)) is not None}
    if errors:
        worst = max(errors, key=lambda method: abs(errors[method]))
        text += (
            f"; the predictions are off by at most {number(100 * abs(errors[worst]))} % "
            f"({spoken(worst)})"
        )
    else:
        text += "; nothing is verified yet"
    return sentence(text)


def fit_words(fit: Fitted) -> str:
    """The largest batch of one method in words, with the error of its prediction."""
    error = _error(fit)
    if error is not None and fit.verified_batch:
        return f"{fit.verified_batch:,} · predicted {number(100 * error, signed=True)} %"
    if fit.verified_batch:
        return f"{fit.verified_batch:,} verified, no prediction"
    if fit.note:
        return reason(fit.note, fit.method)
    if fit.predicted_batch and fit.verified_batch is None:
        return f"{fit.predicted_batch:,} predicted"
    return "no batch fits" if 0 in (fit.predicted_batch, fit.verified_batch) else "no prediction"


def _error(fit: Fitted) -> float | None:
    """Predicted ÷ verified − 1, None where one of them is missing."""
    if not fit.verified_batch or fit.predicted_batch is None:
        return None
    return fit.predicted_batch / fit.verified_batch - 1


def _size(fit: Fitted) -> int:
    """The largest batch as far as it is known: verified, or else predicted."""
    return fit.verified_batch if fit.verified_batch is not None else fit.predicted_batch or 0


def _in_order(fits: Sequence[Fitted]) -> list[Fitted]:
    if not fits:
        raise ValueError("got no fit, expected at least one; predict one first.")
    for fit in fits:
        engine_style(fit.method, "light")
    return [fit for method in ENGINE_STYLES for fit in fits if fit.method == method]
