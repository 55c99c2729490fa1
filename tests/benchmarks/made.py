"""Measurements made up, for what is said and judged about them."""

from types import SimpleNamespace

from jdviz.profiling import Measurement, MeasurementError, MeasureSpec, Phase, Times
from jdviz.profiling.results import OWNERS, Source

MIB = 2**20


def measurement(spec: MeasureSpec, peak_bytes: int) -> Measurement:
    """A step that allocates its peak as activations in one layer and frees it."""
    return Measurement(
        spec=spec,
        times_ms=[0.0, 1.0],
        live_bytes=[peak_bytes, 0],
        changed_by=[0, 0],
        sources=[Source("0", "aten::mm")],
        phases=[Phase("forward", 0.0, 1.0), Phase("backward", 1.0, 2.0)],
        peak_bytes=peak_bytes,
        peak_ms=0.0,
        peak_phase="forward",
        peak_source=Source("0", "aten::mm"),
        peak_split={owner: peak_bytes if owner == "activations" else 0 for owner in OWNERS},
        peak_layers=[("0", peak_bytes)],
        parameter_bytes=MIB,
        batch_bytes=MIB,
        objectives=spec.batch_size,
        parameters=MIB // 4,
        machine={"torch": "2"},
    )


def measuring(peaks):
    """A `measure` that knows peaks by method: bytes, several in turn, or a failure."""
    asked: dict[str, int] = {}

    def measure(spec, limits=None, watch=None):
        peak = peaks[spec.method]
        if isinstance(peak, tuple):
            asked[spec.method] = asked.get(spec.method, 0) + 1
            peak = peak[(asked[spec.method] - 1) % len(peak)]
        if isinstance(peak, MeasurementError):
            raise peak
        return measurement(spec, peak)

    return measure


def times(specs, durations_ms, failures=None, errors=None, disturbed=""):
    """Durations of steps."""
    errors = dict.fromkeys(durations_ms, 0.0) if errors is None else errors
    return Times(list(specs), durations_ms, errors, failures or {}, None, disturbed, {"torch": "2"})


def timing(durations_ms, **other):
    """A `measure_times` that knows durations by method."""

    def measure_times(specs, rounds=None, limits=None):
        asked = [spec.method for spec in specs]
        kept = {method: found for method, found in durations_ms.items() if method in asked}
        return times(specs, kept, **other)

    return measure_times


def fails(sentence, kind="step"):
    """A `measure`, `measure_times` or `inspect` that gives nothing."""

    def failing(*_, **__):
        raise MeasurementError(sentence, kind)

    return failing


def inspected(size="own", default_batch=3, resizable=True):
    """An `inspect` that knows one problem."""
    return lambda problem, limits=None: SimpleNamespace(
        size=size, default_batch=default_batch, resizable=resizable
    )
