"""The numbers behind the figures of memory and time as tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from jdviz.figures.crossover import CrossoverDot
from jdviz.figures.durations import ratio_spread
from jdviz.figures.fits import Fitted
from jdviz.figures.growth import GrowthPoint
from jdviz.figures.measured import PLAIN, Spread, label, phase_name, place, times
from jdviz.figures.styles import ENGINE_STYLES, OWNER_STYLES
from jdviz.figures.words import MISSING, limit, mebibytes, milliseconds, number, ratio

if TYPE_CHECKING:
    from jdviz.profiling.results import Comparison, Use


def lab_table(comparison: "Comparison") -> pd.DataFrame:
    """Peaks, their parts and durations of one step, the ratios to plain SGD first.

    Args:
        comparison: One step by several methods.

    Returns:
        A column of text for each method in the order of `ENGINE_STYLES`, also of those that
        failed; a dash where there is no value.
    """
    measured = {str(one.spec.method): one for one in comparison.measurements}
    failed = {str(one.spec.method): one.sentence for one in comparison.failures}
    timed = comparison.times
    columns = {}
    for method in ENGINE_STYLES:
        cells: dict[str, str] = {}
        if (one := measured.get(method)) is not None:
            if PLAIN in measured:
                cells["memory ÷ SGD"] = times(one.peak_bytes, measured[PLAIN].peak_bytes)
            cells |= {"peak": mebibytes(one.peak_bytes), "peak in": phase_name(one.peak_phase)}
            cells |= {"peak at": place(one.peak_source)}
            for owner, style in OWNER_STYLES.items():
                cells[f"{style.label} at the peak"] = mebibytes(one.peak_split[owner])
            cells |= {"parameters": mebibytes(one.parameter_bytes)}
            cells |= {"batch": mebibytes(one.batch_bytes)}
        if timed is not None and method in timed.durations_ms:
            if PLAIN in timed.durations_ms:
                cells["time ÷ SGD"] = ratio(ratio_spread(timed, method, PLAIN).median)
            spread = Spread.of(timed.durations_ms[method])
            cells["median time"] = milliseconds(spread.median)
            cells["middle half"] = f"{number(spread.low)} to {milliseconds(spread.high)}"
        if timed is not None and method in timed.failures:
            cells["time failed"] = timed.failures[method]
        if method in failed:
            cells["failed"] = failed[method]
        if cells:
            columns[label(method)] = cells
    return pd.DataFrame(columns).fillna(MISSING)


def plan_table(uses: Sequence["Use"]) -> pd.DataFrame:
    """What the autogram engine does with each use of each parameter.

    Args:
        uses: As an inspection has them.

    Returns:
        A row for each use, in their order.
    """
    return pd.DataFrame(
        {
            "parameter": [use.parameter for use in uses],
            "operation": [use.operation for use in uses],
            "rule": [use.rule for use in uses],
            "contraction": [use.contraction for use in uses],
            "multiply-adds": [f"{use.multiply_adds:,}" for use in uses],
            "workspace": [mebibytes(use.workspace_bytes) for use in uses],
            "predicted time": [milliseconds(use.predicted_ms) for use in uses],
            "why": [use.reason for use in uses],
        }
    )


def growth_table(points: Sequence[GrowthPoint], x: str = "batch size") -> pd.DataFrame:
    """Measured and predicted peaks over a size.

    Args:
        points: In any order.
        x: What the size is.

    Returns:
        A row for each method and size.
    """
    order = list(ENGINE_STYLES)
    rows = sorted(points, key=lambda one: (order.index(one.method), one.x))
    return pd.DataFrame(
        {
            "method": [label(one.method) for one in rows],
            x: [f"{one.x:,.6g}" for one in rows],
            "measured": [_size(one.measured_bytes) for one in rows],
            "predicted": [_size(one.predicted_bytes) for one in rows],
            "predicted ÷ measured": [
                ratio(one.predicted_bytes / one.measured_bytes)
                if one.measured_bytes and one.predicted_bytes is not None
                else MISSING
                for one in rows
            ],
            "failed": [one.failure for one in rows],
        }
    )


def crossover_table(dots: Sequence[CrossoverDot]) -> pd.DataFrame:
    """The measured places of the map of both engines.

    Args:
        dots: What was measured.

    Returns:
        A row for each.
    """
    return pd.DataFrame(
        {
            "objectives": [f"{dot.objectives:,}" for dot in dots],
            "parameters": [f"{dot.parameters:,}" for dot in dots],
            "autojac ÷ autogram": [ratio(2.0**dot.log2ratio) for dot in dots],
            "autojac": [mebibytes(dot.autojac_bytes) for dot in dots],
            "autogram": [mebibytes(dot.autogram_bytes) for dot in dots],
        }
    )


def fit_table(fits: Sequence[Fitted]) -> pd.DataFrame:
    """The largest batch of each method within a budget.

    Args:
        fits: One for each method.

    Returns:
        A row for each, in the order of `ENGINE_STYLES`.
    """
    fits = sorted(fits, key=lambda fit: list(ENGINE_STYLES).index(fit.method))
    return pd.DataFrame(
        {
            "method": [label(fit.method) for fit in fits],
            "budget": [limit(fit.budget_bytes) for fit in fits],
            "predicted batch": [_batch(fit.predicted_batch) for fit in fits],
            "verified batch": [_batch(fit.verified_batch) for fit in fits],
            "does not fit at": [_batch(fit.fails_at) for fit in fits],
            "error": [
                f"{number(100 * (fit.predicted_batch / fit.verified_batch - 1), signed=True)} %"
                if fit.verified_batch and fit.predicted_batch is not None
                else MISSING
                for fit in fits
            ],
            "note": [fit.note for fit in fits],
        }
    )


def _size(size_bytes: float | None) -> str:
    return MISSING if size_bytes is None else mebibytes(size_bytes)


def _batch(size: int | None) -> str:
    return MISSING if size is None else f"{size:,}"
