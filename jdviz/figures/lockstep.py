"""Both engines on the same batches: how far apart they are, beside what rounding explains."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable, small
from jdviz.figures.frame import TRUE_VALUES, assemble, base_layout, titled
from jdviz.figures.lines import line_mode
from jdviz.figures.theme import HEIGHT_SIDE, PALETTES, Figure, Theme
from jdviz.figures.words import number, power_of_ten

#: Relative difference up to which two engines count as the same in single precision.
EXACT = 1e-5

#: Where a difference of zero is drawn, which has no place on a logarithmic axis.
FLOOR = 1e-18


def engine_difference(
    steps: ArrayLike,
    gramian_difference: ArrayLike,
    gradient_difference: ArrayLike,
    rounding: ArrayLike,
    theme: Theme,
    *,
    height: int = HEIGHT_SIDE,
) -> Figure:
    """How far apart autojac and autogram are at every step, on a logarithmic axis.

    Args:
        steps: Numbers of the steps, shape [k].
        gramian_difference: Largest difference of their Gramians, relative to the largest entry,
            shape [k]; zero is drawn at the lower end of the axis.
        gradient_difference: The same of the gradients of the update, shape [k].
        rounding: Relative difference that rounding explains, shape [k].
        theme: "light" or "dark".
        height: Height in pixels.

    Returns:
        A figure with three traces and a line at 1e-5, the bound of what counts as exact.

    Raises:
        ValueError: If the shapes do not fit.
    """
    moments, series = _checked(steps, gramian_difference, gradient_difference, rounding)
    palette, x = PALETTES[theme], moments.astype(np.int32)
    first, second, *_ = palette.categorical

    def line(values: Array, name: str, words: str, **style: Any) -> go.Scatter:
        return go.Scatter(
            x=x,
            y=small(np.where(values == 0, FLOOR, values)),
            # The true number, where zero is zero.
            customdata=small(values),
            meta=TRUE_VALUES,
            mode=line_mode(len(x)),
            name=name,
            line={"width": 2, **style},
            hovertemplate=f"step %{{x}}: {words} %{{customdata:.2g}}<extra></extra>",
        )

    traces = [
        line(series[0], "Gramian", "the Gramians differ by", color=first, dash="solid"),
        line(series[1], "gradient", "the gradients differ by", color=second, dash="dash"),
        line(series[2], "rounding", "rounding explains", color=palette.muted, dash="dot"),
    ]
    bound = {
        "type": "line",
        "xref": "x domain",
        "x0": 0,
        "x1": 1,
        "y0": EXACT,
        "y1": EXACT,
        "line": {"color": palette.negative, "width": 1.5},
        "name": "exact up to here: 10⁻⁵",
        "showlegend": True,
    }
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            shapes=[bound],
            xaxis=titled("step", rangemode="tozero"),
            yaxis=titled("relative difference", type="log", **_axis(np.concatenate(list(series)))),
        ),
    )


def engine_difference_caption(
    steps: ArrayLike,
    gramian_difference: ArrayLike,
    gradient_difference: ArrayLike,
    rounding: ArrayLike,
) -> str:
    """One sentence on the largest difference of both engines so far.

    Args:
        steps: Numbers of the steps, shape [k].
        gramian_difference: Of the Gramians, shape [k].
        gradient_difference: Of the gradients, shape [k].
        rounding: What rounding explains, shape [k].

    Raises:
        ValueError: If the shapes do not fit.
    """
    moments, (gramian, gradient, explained) = _checked(
        steps, gramian_difference, gradient_difference, rounding
    )
    both = np.fmax(gramian, gradient)
    if not np.isfinite(both).any():
        return "No step of both engines yet."
    worst = int(np.nanargmax(both))
    largest = float(both[worst])
    if largest == 0:
        return f"Both engines agree to the last bit at all {int(np.isfinite(both).sum())} steps."
    begin = (
        f"Over {int(np.isfinite(both).sum())} steps the engines differ by at most "
        f"{number(largest)} (step {int(moments[worst])})"
    )
    beyond = int((both > explained).sum())
    ending = "and never by more than rounding explains"
    if beyond:
        ending = f"and at {beyond} by more than rounding explains"
    verdict = "below" if largest <= EXACT else "above"
    return f"{begin}, {ending}; that is {verdict} 10⁻⁵, up to which they count as exact."


def _axis(values: Array) -> dict[str, Any]:
    """Whole powers of ten around what is drawn, so that the axis stays while values change."""
    drawn = np.where(values == 0, FLOOR, values)
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    low = min(float(drawn.min(initial=EXACT)), 1e-9)
    high = max(float(drawn.max(initial=EXACT)), 10 * EXACT)
    ends = [float(np.floor(np.log10(low))) - 0.3, float(np.ceil(np.log10(high)))]
    zero = bool((values == 0).any())
    # Below the last power of ten there is room for the tick of zero.
    top, bottom = int(ends[1]), int(np.ceil(ends[0])) + 2 * zero
    step = 3 if top - bottom > 6 else 2
    ticks = {10.0**power: power_of_ten(power) for power in range(top, bottom - 1, -step)}
    if zero:
        ticks[FLOOR] = "0"
    return {"range": ends, "tickvals": list(ticks), "ticktext": list(ticks.values())}


def _checked(steps: ArrayLike, *series: ArrayLike) -> tuple[NDArray[np.int64], tuple[Array, ...]]:
    moments = np.asarray(steps, dtype=np.int64)
    values = tuple(drawable(one) for one in series)
    for one in values:
        if one.ndim != 1 or one.shape != moments.shape:
            raise ValueError(
                f"got steps of shape {moments.shape} and differences of shape {one.shape}, "
                "expected [k] for both."
            )
    return moments, values
