"""How the peak of each method's step grows with the batch or the model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from plotly import graph_objects as go

from jdviz.figures.arrays import log_ticks, small
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.measured import label, reason, sentence, spoken
from jdviz.figures.styles import ENGINE_STYLES, engine_style
from jdviz.figures.theme import HEIGHT_MAIN, PALETTES, Figure, Theme
from jdviz.figures.words import MEBIBYTE, limit, listed, mebibytes, number, short

#: More different values on the axis than this do not each get a tick.
TICKS = 10


@dataclass(frozen=True)
class GrowthPoint:
    """The peak of one method's step at one size.

    Attributes:
        method: Key of `ENGINE_STYLES`.
        x: Batch size or width, positive.
        measured_bytes: Measured peak, None where it was not measured.
        predicted_bytes: Predicted peak, None where there is no prediction.
        failure: Why there is no measurement, one sentence; "" where there is one or none was tried.
    """

    method: str
    x: float
    measured_bytes: float | None
    predicted_bytes: float | None
    failure: str = ""


def growth_lines(
    points: Sequence[GrowthPoint],
    theme: Theme,
    x: str = "batch size",
    limit_bytes: float | None = None,
) -> Figure:
    """The peak of each method over a size, on two logarithmic axes.

    Args:
        points: In any order.
        theme: "light" or "dark".
        x: What the size is.
        limit_bytes: The memory limit of the measurements, which is drawn and carries the crosses
            of those that failed; None where there is none.

    Returns:
        A figure with predictions as thin lines, measurements as marks on a line, and crosses for
        those that failed.

    Raises:
        ValueError: If there is no point, a method is unknown, or a size is not positive.
    """
    by_method = _by_method(points)
    palette = PALETTES[theme]
    lines, marks, crosses = [], [], []
    for method, own in by_method.items():
        style, name = engine_style(method, theme), label(method)
        predicted = [one for one in own if one.predicted_bytes is not None]
        measured = [one for one in own if one.measured_bytes is not None]
        if predicted:
            lines.append(
                go.Scatter(
                    x=[one.x for one in predicted],
                    y=small([_mebi(one.predicted_bytes) for one in predicted]),
                    mode="lines",
                    name=f"{name}, predicted",
                    legendgroup=method,
                    # A mark stands for its method, and before there is one the line does.
                    showlegend=not measured,
                    line={"color": style.color, "width": 1, "dash": style.dash},
                    hovertext=[
                        f"{name}, {_at(x, one.x)}: {mebibytes(one.predicted_bytes or 0)} predicted"
                        for one in predicted
                    ],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
        marks.append(
            go.Scatter(
                x=[one.x for one in measured],
                y=small([_mebi(one.measured_bytes) for one in measured]),
                # A prediction is the line itself; without one the marks need theirs.
                mode="markers" if predicted else "lines+markers",
                name=name,
                legendgroup=method,
                showlegend=bool(measured),
                line={"color": style.color, "dash": style.dash, "width": 1.5},
                marker={"symbol": style.symbol, "size": 9, "color": style.color},
                hovertext=[_words(one, x) for one in measured],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
        failed = [one for one in own if one.failure]
        if failed:
            crosses.append(
                go.Scatter(
                    x=[one.x for one in failed],
                    y=small([_height(one, own, limit_bytes) for one in failed]),
                    mode="markers+text",
                    name=name,
                    legendgroup=method,
                    showlegend=False,
                    marker={
                        "symbol": "x-open",
                        "size": 10,
                        "color": style.color,
                        "line": {"width": 2},
                    },
                    text=[f"{name} {reason(failed[0].failure, method)}", *[""] * (len(failed) - 1)],
                    textposition="bottom left",
                    textfont={"color": palette.text, "size": 12},
                    hovertext=[f"{name}: {reason(one.failure, method)}" for one in failed],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    if lines and any(one.measured_bytes is not None for one in points):
        lines.append(
            go.Scatter(
                x=[None],
                y=[None],
                mode="lines",
                name="predicted",
                line={"color": palette.muted, "width": 1},
            )
        )
    sizes = sorted({one.x for one in points})
    axis = {"tickvals": sizes, "ticktext": [short(size) for size in sizes]}
    layout = base_layout(
        theme,
        HEIGHT_MAIN,
        xaxis=titled(x, type="log", **(axis if len(sizes) <= TICKS else {"dtick": 1})),
        yaxis=titled("peak of the step (MiB)", type="log", **_ticks(points, limit_bytes)),
        shapes=[] if limit_bytes is None else [_limit_line(limit_bytes, theme)],
        annotations=[] if limit_bytes is None else [_limit_name(limit_bytes, theme)],
    )
    return assemble([*lines, *marks, *crosses], layout)


def growth_caption(points: Sequence[GrowthPoint], x: str = "batch size") -> str:
    """One sentence on how fast each method grows, where autogram and autojac cross, what failed.

    Args:
        points: In any order.
        x: What the size is.

    Returns:
        The sentence.

    Raises:
        ValueError: If there is no point, a method is unknown, or a size is not positive.
    """
    by_method = _by_method(points)
    verb = "grows"
    if all(one.measured_bytes is None for one in points):
        verb = "is predicted to grow"
        by_method = _by_method([replace(o, measured_bytes=o.predicted_bytes) for o in points])
    powers = []
    for method, own in by_method.items():
        sizes, peaks = _measured(own)
        if sizes.size >= 2:
            # The upper half tells how it goes on; what does not grow weighs on the lower one.
            half = min(sizes.size // 2, sizes.size - 2)
            power = np.polyfit(np.log(sizes[half:]), np.log(peaks[half:]), 1)[0]
            powers.append(f"{number(float(power))} for {spoken(method)}")
    parts = []
    if powers:
        parts.append(f"the peak {verb} with the {x} to the power {listed(powers, len(powers))}")
    crossing = _crossing(by_method, x)
    parts += [crossing] if crossing else []
    for method, own in by_method.items():
        failed = [one for one in own if one.failure]
        if failed:
            parts.append(f"{spoken(method)}: {reason(failed[0].failure, method)}")
    return sentence("; ".join(parts) or "nothing is measured yet")


def _by_method(points: Sequence[GrowthPoint]) -> dict[str, list[GrowthPoint]]:
    if not points:
        raise ValueError("got no point, expected at least one; measure or predict a size first.")
    for one in points:
        engine_style(one.method, "light")
        if not one.x > 0:
            raise ValueError(f"got a size of {one.x:g}, expected a positive one; leave it out.")
    found = {
        method: sorted((one for one in points if one.method == method), key=lambda one: one.x)
        for method in ENGINE_STYLES
    }
    return {method: own for method, own in found.items() if own}


def _mebi(size_bytes: float | None) -> float:
    return float("nan") if not size_bytes else size_bytes / MEBIBYTE


def _measured(points: Iterable[GrowthPoint]) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and measured peaks, those that a logarithm takes."""
    pairs = [(one.x, one.measured_bytes) for one in points if one.measured_bytes]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _words(point: GrowthPoint, x: str) -> str:
    words = f"{label(point.method)}, {_at(x, point.x)}: {mebibytes(point.measured_bytes or 0)}"
    if point.predicted_bytes is None:
        return f"{words} measured"
    off = 100 * (point.predicted_bytes / max(point.measured_bytes or 0, 1) - 1)
    return (
        f"{words} measured, {mebibytes(point.predicted_bytes)} predicted "
        f"({number(off, signed=True)} %)"
    )


def _height(point: GrowthPoint, own: Sequence[GrowthPoint], limit_bytes: float | None) -> float:
    """Where the cross of a failed measurement lies, in MiB."""
    known = [one.measured_bytes for one in own if one.measured_bytes]
    size = limit_bytes or point.predicted_bytes or max(known, default=MEBIBYTE)
    return size / MEBIBYTE


def _at(x: str, size: float) -> str:
    """One size in words; of things that are counted the number comes first."""
    return f"{short(size)} {x}" if x.endswith("s") else f"{x} {short(size)}"


def _crossing(by_method: dict[str, list[GrowthPoint]], x: str) -> str:
    """Where autogram and autojac need the same, read off the lines."""
    gram = next((method for method in ("fused", "two-pass") if method in by_method), None)
    if gram is None or "autojac" not in by_method:
        return ""
    ours = dict(zip(*_measured(by_method[gram]), strict=True))
    theirs = dict(zip(*_measured(by_method["autojac"]), strict=True))
    sizes = np.array(sorted(set(ours) & set(theirs)))
    if sizes.size == 0:
        return ""
    excess = np.log([ours[size] / theirs[size] for size in sizes])
    name, last = spoken(gram), _at(x, sizes[-1])
    turns = np.flatnonzero(np.sign(excess[1:]) != np.sign(excess[:-1]))
    if not turns.size:
        more = "more" if excess[-1] > 0 else "less"
        factor = number(float(np.exp(excess[-1])))
        return f"{name} needs {more} than autojac throughout, {factor}× its memory at {last}"
    at = turns[-1]
    share = excess[at] / (excess[at] - excess[at + 1])
    place = float(np.exp(np.log(sizes[at]) + share * np.log(sizes[at + 1] / sizes[at])))
    beyond = "less" if excess[at + 1] <= 0 else "more"
    return f"from about {_at(x, place)} on {name} needs {beyond} than autojac"


def _ticks(points: Sequence[GrowthPoint], limit_bytes: float | None) -> dict[str, object]:
    """Ticks and range for all that is drawn."""
    drawn = [limit_bytes, *(one.measured_bytes for one in points)]
    drawn += [one.predicted_bytes for one in points]
    sizes = [size / MEBIBYTE for size in drawn if size] or [1.0]
    low, high = min(sizes) / 1.4, max(sizes) * 1.4
    ticks = log_ticks(low, high)
    return {
        "range": [float(np.log10(low)), float(np.log10(high))],
        "tickvals": ticks,
        "ticktext": [f"{tick:,.6g}" for tick in ticks],
    }


def _limit_line(limit_bytes: float, theme: Theme) -> dict[str, object]:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": limit_bytes / MEBIBYTE,
        "y1": limit_bytes / MEBIBYTE,
        "line": {"color": PALETTES[theme].line, "width": 1, "dash": "longdash"},
    }


def _limit_name(limit_bytes: float, theme: Theme) -> dict[str, object]:
    return {
        "text": f"limit {limit(limit_bytes)}",
        "xref": "paper",
        "x": 0,
        # Plotly places words on a logarithmic axis by their exponent.
        "y": float(np.log10(limit_bytes / MEBIBYTE)),
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": PALETTES[theme].muted, "size": 12},
    }
