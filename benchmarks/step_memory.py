"""`memory`: peak bytes of every method ÷ those of one plain SGD step, on every workload."""

from collections.abc import Sequence

import torch

from benchmarks.cases import Case
from benchmarks.peaks import Peaks, measure_all
from benchmarks.report import Report, circumstances
from benchmarks.steps import SGD
from benchmarks.turns import geometric_mean, judged, number
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import MeasurementError

MEBIBYTE = 2**20
# Of the geometric mean over all workloads, and of the worst one.
MEAN_LIMITS = {"two-pass": 1.3, "fused": 1.6}
WORST_LIMITS = {"two-pass": 1.6}
# `autojac.backward` ÷ the peer's.
OURS_TO_PEER = ("autojac", "torchjd autojac")
PEER_LIMIT = 1.0


def measure_step_memory(cases: Sequence[Case], methods: Sequence[str], repeats: int) -> Report:
    """Profile one step by every method, each in fresh processes.

    Args:
        cases: What is measured; one device for all.
        methods: Some of `benchmarks.steps.METHODS`, SGD first.
        repeats: How many processes measure the same; they must agree to the byte.

    Returns:
        For every case and method the peak as a multiple of SGD's and in MiB, and the target.

    Raises:
        MeasurementError: A case or the number of repeats is not valid, or a plain step failed.
    """
    if repeats < 1:
        raise MeasurementError(f"got {repeats} repeats, expected at least 1; give more.")
    rows: list[list[str]] = []
    notes: list[str] = []
    figures = {}
    multiples: dict[str, list[float]] = {method: [] for method in methods}
    for case in cases:
        case.build()  # refuses what cannot be before a child is started
        found = measure_all(case, methods, repeats, torch.get_num_threads())
        if found[SGD].failure:
            raise MeasurementError(
                f"The plain step on {case.name} failed with {found[SGD].failure}."
            )
        for method, peaks in found.items():
            if not peaks.failure:
                multiples[method].append(peaks.most / found[SGD].most)
        rows += _rows(case, found)
        notes += [
            f"{method} on {case.name} failed with {peaks.failure}."
            for method, peaks in found.items()
            if peaks.failure
        ]
        figures[case.name] = {method: peaks.figures() for method, peaks in found.items()}
    complete = [case.name for case in cases] == list(WORKLOADS)
    rows += [
        _mean_row(method, values, complete)
        for method, values in multiples.items()
        if method != SGD and len(values) == len(cases) > 1
    ]
    return Report(
        title="Peak memory of one step ÷ plain SGD's, without the parameters, with new gradients",
        columns=["workload", "method", "÷ SGD", "peak MiB", "repeats", "at", "target", "outcome"],
        rows=rows,
        figures=figures,
        machine=circumstances(cases[0].device),
        notes=notes,
    )


def _rows(case: Case, found: dict[str, Peaks]) -> list[list[str]]:
    """The lines of one case."""
    rows = []
    for method, peaks in found.items():
        if peaks.failure:
            rows.append([case.name, method, "failed", *[""] * 5])
            continue
        ratio, limit = peaks.most / found[SGD].most, WORST_LIMITS.get(method)
        spread = peaks.most - min(peaks.peak_bytes)
        rows.append(
            [
                case.name,
                method,
                number(ratio),
                number(peaks.most / MEBIBYTE),
                "agree" if peaks.agrees else f"differ by {spread:,} bytes",
                peaks.operation,
                "" if limit is None else f"≤ {limit:g}",
                "" if limit is None else judged(ratio, limit),
            ]
        )
    ours, theirs = (found.get(method) for method in OURS_TO_PEER)
    if ours and theirs and not ours.failure and not theirs.failure:
        ratio = ours.most / theirs.most
        rows.append(
            [
                case.name,
                " ÷ ".join(OURS_TO_PEER),
                number(ratio),
                *[""] * 3,
                f"≤ {PEER_LIMIT:g}",
                judged(ratio, PEER_LIMIT),
            ]
        )
    return rows


def _mean_row(method: str, values: Sequence[float], complete: bool) -> list[str]:
    """The geometric mean; the target is about all five workloads and no others."""
    mean = geometric_mean(values)
    limit = MEAN_LIMITS.get(method) if complete else None
    return [
        "geometric mean",
        method,
        number(mean),
        *[""] * 3,
        "" if limit is None else f"≤ {limit:g}",
        "" if limit is None else judged(mean, limit),
    ]
