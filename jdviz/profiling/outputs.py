"""A comparison in the forms that other programs read."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jdviz.profiling.results import OWNERS, Comparison, Measurement, Phase, Source, Times
from jdviz.profiling.spec import METHOD_LABELS, SGD, MeasurementError, MeasureSpec
from jdviz.profiling.turns import Spread, ratios

FORMAT = "jdviz comparison"
#: Rises when the entries of a comparison change their names or their meaning.
VERSION = 1

_COLUMNS = (
    *("problem", "size", "batch", "method", "aggregator", "m", "n"),
    *("parameter_bytes", "batch_bytes", "peak_bytes"),
    *(f"peak_{owner}_bytes" for owner in OWNERS),
    *("peak_phase", "peak_layer", "peak_operation"),
    *("median_ms", "low_ms", "high_ms", "ratio_to_sgd", "failure"),
)
_TIMELINE_COLUMNS = ("method", "time_ms", "live_bytes", "phase", "layer", "operation")
# Rows of a method in a trace viewer.
_PHASES_ROW, _ALLOCATOR_ROW = 1, 2


def as_csv(comparison: Comparison) -> str:
    """One row for each method, also for those that gave no result.

    Args:
        comparison: Any.

    Returns:
        Text with a header. Bytes are whole numbers; durations are the median and the quartiles of
        the rounds, in milliseconds, and the ratio is the median of the rounds' ratios. What is not
        known is empty.
    """
    found = {one.spec: one for one in comparison.measurements}
    why: dict[MeasureSpec, list[str]] = {spec: [] for spec in found}
    for failure in comparison.failures:
        why.setdefault(failure.spec, []).append(failure.sentence)
    times = comparison.times
    rows = []
    for spec, sentences in why.items():
        if times is not None and spec in times.specs and spec.method in times.failures:
            sentences.append(f"Timing: {times.failures[spec.method]}")
        head = (spec.problem, spec.size, spec.batch_size, spec.method, spec.aggregator)
        memory = _memory_cells(found.get(spec))
        rows.append((*head, *memory, *_time_cells(times, spec), " ".join(sentences)))
    return _csv(_COLUMNS, rows)


def timeline_csv(comparison: Comparison) -> str:
    """The curves of all methods, one row for each point.

    Args:
        comparison: Any.

    Returns:
        Text with a header: the bytes alive from a time on, in milliseconds from the beginning of
        the step, the part of the step, and the layer and operation that changed them.
    """
    rows = (
        (one.spec.method, time_ms, live, _phase_at(one.phases, time_ms), *source)
        for one in comparison.measurements
        for time_ms, live, source in _points(one)
    )
    return _csv(_TIMELINE_COLUMNS, rows)


def as_json(comparison: Comparison) -> str:
    """The whole comparison.

    Args:
        comparison: Any.

    Returns:
        JSON that `from_json` reads.
    """
    whole = {"format": FORMAT, "version": VERSION, "comparison": comparison.to_dict()}
    return json.dumps(whole, allow_nan=False)


def from_json(text: str) -> Comparison:
    """Reads what `as_json` gave.

    Args:
        text: JSON.

    Returns:
        The comparison.

    Raises:
        MeasurementError: It is something else, or was written by a version with other entries.
    """
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise MeasurementError(
            f"The text is no JSON ({error}); give one that jdviz wrote with --json."
        ) from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise MeasurementError(f"The text is no {FORMAT}; give one that jdviz wrote with --json.")
    if whole.get("version") != VERSION:
        raise MeasurementError(
            f"The comparison has version {whole.get('version')!r}, expected {VERSION}; "
            "measure again, or read it with the jdviz that wrote it."
        )
    try:
        return Comparison.from_dict(whole["comparison"])
    except (KeyError, TypeError, ValueError) as error:
        raise MeasurementError(
            f"The comparison is damaged ({type(error).__name__}: {error}); measure again."
        ) from error


def as_trace(comparison: Comparison) -> str:
    """The timelines for a trace viewer, such as Perfetto or chrome://tracing.

    Each method is a process with the parts of its step, a counter of the bytes alive, and an
    instant for each change of them that names layer and operation. Where the curve was thinned, one
    instant stands for all changes since the one before it.

    Args:
        comparison: Any.

    Returns:
        JSON in the trace event format; its times are microseconds from the beginning of the step.
    """
    events = [
        event
        for number, measurement in enumerate(comparison.measurements, 1)
        for event in _trace_events(measurement, number)
    ]
    machines = {
        one.spec.method: {**one.spec.to_dict(), **one.machine} for one in comparison.measurements
    }
    whole = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": machines}
    return json.dumps(whole, allow_nan=False)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _memory_cells(measurement: Measurement | None) -> tuple[object, ...]:
    """The columns from m to the operation of the peak."""
    if measurement is None:
        return ("",) * (5 + len(OWNERS) + 3)
    return (
        measurement.objectives,
        measurement.parameters,
        measurement.parameter_bytes,
        measurement.batch_bytes,
        measurement.peak_bytes,
        *(measurement.peak_split[owner] for owner in OWNERS),
        measurement.peak_phase,
        *measurement.peak_source,
    )


def _time_cells(times: Times | None, spec: MeasureSpec) -> tuple[object, ...]:
    """Median, quartiles and ratio."""
    durations_ms = times.durations_ms if times is not None and spec in times.specs else {}
    if not durations_ms.get(spec.method):
        return ("",) * 4
    spread = Spread.of(durations_ms[spec.method])
    plain_ms = durations_ms.get(SGD)
    ratio = Spread.of(ratios(durations_ms[spec.method], plain_ms)).median if plain_ms else ""
    return spread.median, spread.low, spread.high, ratio


def _points(measurement: Measurement) -> Iterator[tuple[float, int, Source]]:
    """Times in milliseconds, bytes alive, and what changed them."""
    changed_by = (measurement.sources[place] for place in measurement.changed_by)
    return zip(measurement.times_ms, measurement.live_bytes, changed_by, strict=True)


def _phase_at(phases: Sequence[Phase], time_ms: float) -> str:
    """Name of the part of the step at a time, "" between parts."""
    names = (phase.name for phase in phases if phase.start_ms <= time_ms <= phase.end_ms)
    return next(names, "")


def _trace_events(measurement: Measurement, pid: int) -> Iterator[dict[str, Any]]:
    """The events of one method, in order of time but for the phases, which come first."""
    label = METHOD_LABELS[measurement.spec.method]
    for name, args, row in (
        ("process_name", {"name": label}, 0),
        ("process_sort_index", {"sort_index": pid}, 0),
        ("thread_name", {"name": "parts of the step"}, _PHASES_ROW),
        ("thread_name", {"name": "allocator"}, _ALLOCATOR_ROW),
    ):
        yield {"ph": "M", "name": name, "pid": pid, "tid": row, "args": args}
    for phase in measurement.phases:
        start_us, end_us = _microseconds(phase.start_ms), _microseconds(phase.end_ms)
        yield {
            "ph": "X",
            "cat": "phase",
            "name": phase.name,
            "pid": pid,
            "tid": _PHASES_ROW,
            "ts": start_us,
            "dur": round(end_us - start_us, 3),
        }
    before = 0
    for time_ms, live, source in _points(measurement):
        at = {"pid": pid, "tid": _ALLOCATOR_ROW, "ts": _microseconds(time_ms)}
        yield {"ph": "C", "name": "live bytes", **at, "args": {"bytes": live}}
        if live != before:
            name = source.operation or ("allocated" if live > before else "freed")
            args = {**source._asdict(), "bytes": live - before}
            yield {"ph": "i", "cat": "memory", "s": "t", "name": name, **at, "args": args}
        before = live
    yield {
        "ph": "i",
        "cat": "memory",
        "s": "p",
        "name": "peak",
        "pid": pid,
        "tid": _ALLOCATOR_ROW,
        "ts": _microseconds(measurement.peak_ms),
        "args": {
            **measurement.peak_source._asdict(),
            "phase": measurement.peak_phase,
            "bytes": measurement.peak_bytes,
            **measurement.peak_split,
        },
    }


def _microseconds(time_ms: float) -> float:
    """To the nanosecond, the finest that is recorded."""
    return round(1e3 * time_ms, 3)
