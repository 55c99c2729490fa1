"""Peak memory and time of one training step by each method, as the Engines page measures them."""

from statistics import median

from benchmarks.report import Report, circumstances
from jdviz.problems import PROBLEMS
from jdviz.profiling import STEP_METHODS, MeasureSpec, measure

MEBIBYTE = 2**20


def measure_memory(
    problem: str, size: str | None, batch_size: int | None, aggregator: str, threads: int = 1
) -> Report:
    """Measure one step by plain autograd, autojac and autogram, each in a child process.

    Args:
        problem: Key of `PROBLEMS`.
        size: Model size, or None for the problem's own.
        batch_size: Samples in the step, or None for the problem's own.
        aggregator: One of `jdviz.profiling.measurable_methods`.
        threads: Threads that torch may use.

    Returns:
        Peak memory beside the parameters in MiB, median time in ms, and both as a multiple of the
        plain step's.

    Raises:
        MeasurementError: If a step cannot be measured.
    """
    record = PROBLEMS[problem]
    specs = [
        MeasureSpec(
            problem=problem,
            size=size or record.default_size,
            batch_size=batch_size or record.default_batch,
            method=method,
            aggregator=aggregator,
            seed=0,
            threads=threads,
        )
        for method in STEP_METHODS
    ]
    found = [measure(spec) for spec in specs]
    plain = next(one for one in found if one.spec.method == "autograd")
    rows = [
        [
            one.spec.method,
            f"{one.peak_bytes / plain.peak_bytes:.2f}",
            f"{one.peak_bytes / MEBIBYTE:.3f}",
            f"{median(one.durations_ms) / median(plain.durations_ms):.2f}",
            f"{median(one.durations_ms):.2f}",
            one.peak_phase,
            one.peak_operation,
        ]
        for one in found
    ]
    return Report(
        title=(
            f"{record.title}, {specs[0].size}, batch {specs[0].batch_size}, {aggregator}: "
            f"m = {plain.objectives}, n = {plain.parameters}"
        ),
        columns=["method", "memory ÷ SGD", "peak MiB", "time ÷ SGD", "median ms", "in", "at"],
        rows=rows,
        figures={
            one.spec.method: {"peak_bytes": one.peak_bytes, "durations_ms": one.durations_ms}
            for one in found
        },
        machine={**circumstances(), "threads": str(threads)},
    )
