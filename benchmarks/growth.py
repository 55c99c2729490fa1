"""`growth`: time and memory of every method as the batch, or the width, grows."""

from collections.abc import Sequence

import torch

from benchmarks.cases import WIDENED, Case
from benchmarks.peaks import Peaks, measure_all
from benchmarks.report import Report, circumstances
from benchmarks.steps import SGD
from benchmarks.timing import Timed, time_case
from benchmarks.turns import judged, number

WORKLOADS_GROWN = ("cifar_cnn", "mlp")
SIZES = (8, 32, 64, 128, 256)
WIDTHS = (64, 128, 256, 512, 1024)
MEBIBYTE = 2**20
# The fused step's targets: a multiple of SGD, or one of the closed form and a constant.
RATIO_LIMITS = {"cifar_cnn": 1.5}
BOUND_FACTORS = {"mlp": 1.25}
BOUND_CONSTANT_MS = 0.15
WORKSPACE_BYTES = 16 * MEBIBYTE
WORKSPACE_SHARE = 0.25


def grown(
    workloads: Sequence[str], sizes: Sequence[int], widths: Sequence[int], device: str
) -> list[Case]:
    """The settings that are measured.

    Args:
        workloads: Every one at all sizes.
        sizes: Numbers of samples m.
        widths: Of `mlp`, if it is among the workloads, at its own batch size.
        device: Where.

    Returns:
        One case for each.
    """
    cases = [Case(name, samples=m, device=device) for name in workloads for m in sizes]
    wide = widths if WIDENED in workloads else ()
    return cases + [Case(WIDENED, width=width, device=device) for width in wide]


def measure_growth(
    cases: Sequence[Case], methods: Sequence[str], rounds: int | None, *, memory: bool
) -> Report:
    """Time every method in turn, and profile it, at every size.

    Args:
        cases: From `grown`, at least one.
        methods: Some of `benchmarks.steps.METHODS`, SGD first.
        rounds: As for `take_turns`.
        memory: Whether to profile the peaks too, which takes some seconds for each.

    Returns:
        One line for each case and method: ratios to SGD, milliseconds, closed form, limit, peak,
        workspace (the peak beyond SGD's) and its limit.

    Raises:
        MeasurementError: A case or the number of rounds is not valid, a plain step failed, or
            the engine refuses the model.
    """
    rows: list[list[str]] = []
    notes: list[str] = []
    figures = {}
    for case in cases:
        timed = time_case(case, methods, rounds)
        threads = torch.get_num_threads()
        peaks = measure_all(case, methods, 1, threads) if memory else {}
        for method in methods:
            rows.append([case.name, method, *_time(timed, method), *_memory(peaks, method)])
        notes += timed.notes()
        notes += [
            f"The profile of {method} on {case.name} failed with {one.failure}."
            for method, one in peaks.items()
            if one.failure and method not in timed.failures
        ]
        figures[case.name] = {
            **timed.figures(),
            "limit_ms": limit_ms(timed),
            "peaks": {method: one.figures() for method, one in peaks.items()},
        }
    return Report(
        title="One step as the batch or the width grows, ÷ plain SGD's; workspace is the peak "
        "beyond SGD's",
        columns=[
            "case",
            "method",
            "÷ SGD",
            "quartiles",
            "bound",
            "ms",
            "limit ms",
            "time outcome",
            "memory ÷ SGD",
            "peak MiB",
            "workspace MiB",
            "limit MiB",
            "memory outcome",
        ],
        rows=rows,
        figures=figures,
        machine=circumstances(cases[0].device),
        notes=notes,
    )


def limit_ms(timed: Timed) -> float | None:
    """How long the fused step may take.

    Args:
        timed: What was found on a case.

    Returns:
        Milliseconds; None if the workload has no target.
    """
    sgd_ms = timed.median_ms(SGD)
    name = timed.case.workload
    if name in RATIO_LIMITS:
        return RATIO_LIMITS[name] * sgd_ms
    if name in BOUND_FACTORS:
        return BOUND_FACTORS[name] * timed.bound.ratio * sgd_ms + BOUND_CONSTANT_MS
    return None


def workspace_limit_bytes(sgd_peak_bytes: int) -> float:
    """How much the fused step may need beyond SGD.

    Args:
        sgd_peak_bytes: Peak of the plain step.

    Returns:
        Bytes, of all blocks together.
    """
    return max(WORKSPACE_BYTES, WORKSPACE_SHARE * sgd_peak_bytes)


def _time(timed: Timed, method: str) -> list[str]:
    """Six cells."""
    ratio = timed.ratio(method)
    if ratio is None:
        return ["failed", *[""] * 5]
    if method == SGD:
        return ["1", "", "", number(timed.median_ms(SGD)), "", ""]
    limit = limit_ms(timed) if method == "fused" else None
    # Of the ratio and not of its own median, so that a slow minute counts for both.
    ms = ratio.median * timed.median_ms(SGD)
    return [
        number(ratio.median),
        ratio.range,
        number(timed.bound.ratio) if method in ("fused", "two-pass") else "",
        number(ms),
        "" if limit is None else number(limit),
        "" if limit is None else judged(ms, limit),
    ]


def _memory(peaks: dict[str, Peaks], method: str) -> list[str]:
    """Five cells."""
    found, plain = peaks.get(method), peaks.get(SGD)
    if found is None or plain is None:
        return [""] * 5
    if found.failure or plain.failure:
        return ["failed", *[""] * 4]
    peak = number(found.most / MEBIBYTE)
    if method == SGD:
        return ["1", peak, "", "", ""]
    workspace = found.most - plain.most
    limit = workspace_limit_bytes(plain.most) if method == "fused" else None
    return [
        number(found.most / plain.most),
        peak,
        number(workspace / MEBIBYTE),
        "" if limit is None else number(limit / MEBIBYTE),
        "" if limit is None else judged(workspace, limit),
    ]
