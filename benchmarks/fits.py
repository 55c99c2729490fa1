"""`fits`: the largest batch of every method within a budget, predicted and then verified."""

from collections.abc import Sequence
from typing import Any

from benchmarks.cases import Case, look_up
from benchmarks.judging import failed_row
from benchmarks.report import Report, circumstances, refuse_if_nothing
from jdviz.profiling import Limits, MeasurementError, MeasureSpec, StepMethod
from jdviz.profiling.estimate import largest_batch
from jdviz.profiling.fits import Fit, verify_fit
from jdviz.profiling.structure import Structure, structure_of
from jdviz.profiling.turns import number

BUDGET_MEBIBYTES = 256.0
MEBIBYTE = 2**20
COLUMNS = [
    "problem",
    "method",
    "predicted batch",
    "verified batch",
    "does not fit at",
    "error",
    "measurements",
    "note",
]


def measure_fits(
    cases: Sequence[Case], methods: Sequence[StepMethod], budget_bytes: int, limits: Limits
) -> Report:
    """Predicts the largest batch of every method, then looks for it by measuring.

    Args:
        cases: One for each problem and model size; their batch sizes count for nothing.
        methods: Those that have a prediction.
        budget_bytes: Memory for parameters, batch and step.
        limits: What a child may take; its memory is limited by the budget instead.

    Returns:
        For every case and method both batches and how far off the prediction is.

    Raises:
        MeasurementError: The budget is not valid, or nothing could be measured.
    """
    if budget_bytes < 1:
        raise MeasurementError(
            f"got a budget of {budget_bytes:,} bytes, expected at least 1; give more."
        )
    rows: list[list[str]] = []
    failures: list[str] = []
    figures: dict[str, dict[str, Any]] = {}

    def failed(case: Case, method: str, error: MeasurementError) -> None:
        failures.append(str(error))
        rows.append(failed_row(COLUMNS, case.name, method, str(error)))

    for case in cases:
        try:
            specs, structure = _prepared(case, methods, limits)
        except MeasurementError as error:
            failed(case, "every method", error)
            continue
        for spec in specs:
            try:
                fit = _fit(spec, structure, budget_bytes, limits)
            except MeasurementError as error:
                failed(case, spec.method, error)
                continue
            rows.append(_row(case, fit))
            figures.setdefault(case.name, {})[fit.method] = {
                **fit.to_dict(),
                "error": fit.error(),
            }
    refuse_if_nothing(bool(figures), failures)
    first = cases[0]
    return Report(
        title=f"Largest batch within {number(budget_bytes / MEBIBYTE)} MiB for parameters, batch "
        "and step: predicted, and verified by measuring",
        columns=COLUMNS,
        rows=rows,
        figures=figures,
        machine=circumstances(first.device, first.threads),
    )


def _prepared(
    case: Case, methods: Sequence[StepMethod], limits: Limits
) -> tuple[list[MeasureSpec], Structure]:
    """What is measured, at the problem's own batch, and what predictions are made of.

    Raises:
        MeasurementError: The problem cannot be built, or not with another batch.
    """
    known = look_up(case.problem, limits)
    if not known.resizable:
        raise MeasurementError(
            f"{case.problem} comes with a batch of {known.default_batch:,} and takes no other, so "
            "there is no largest one; give its factory an argument batch_size."
        )
    specs = case.specs(methods, limits)
    return specs, structure_of(specs[0].problem, specs[0].size)


def _fit(spec: MeasureSpec, structure: Structure, budget_bytes: int, limits: Limits) -> Fit:
    """Predicts and verifies the largest batch of one method."""
    return verify_fit(
        spec.problem,
        spec.size,
        spec.method,
        budget_bytes,
        largest_batch(structure, spec.method, budget_bytes),
        aggregator=spec.aggregator,
        threads=spec.threads,
        timeout_s=limits.timeout_s,
    )


def _row(case: Case, fit: Fit) -> list[str]:
    """One fit as text."""
    error = fit.error()
    return [
        case.name,
        fit.method,
        _batch(fit.predicted_batch),
        _batch(fit.verified_batch),
        _batch(fit.fails_at),
        "–" if error is None else f"{100 * error:+.3g} %",
        f"{len(fit.probes):,}",
        fit.note,
    ]


def _batch(size: int | None) -> str:
    return "–" if size is None else f"{size:,}"
