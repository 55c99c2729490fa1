"""Memory over time and duration of one training step, measured in child processes."""

from jdviz.profiling.available import available_bytes
from jdviz.profiling.estimate import check_fits
from jdviz.profiling.machine import has_peer
from jdviz.profiling.measure import (
    Limits,
    compare,
    inspect,
    measure,
    measure_times,
    measuring,
)
from jdviz.profiling.results import Comparison, Failure, Inspection, Measurement, Phase, Times
from jdviz.profiling.spec import (
    METHOD_LABELS,
    OURS,
    PEERS,
    SGD,
    STEP_METHODS,
    MeasurementError,
    MeasureSpec,
    StepMethod,
    measurable_methods,
)

__all__ = [
    "METHOD_LABELS",
    "OURS",
    "PEERS",
    "SGD",
    "STEP_METHODS",
    "Comparison",
    "Failure",
    "Inspection",
    "Limits",
    "MeasureSpec",
    "Measurement",
    "MeasurementError",
    "Phase",
    "StepMethod",
    "Times",
    "available_bytes",
    "check_fits",
    "compare",
    "has_peer",
    "inspect",
    "measurable_methods",
    "measure",
    "measure_times",
    "measuring",
]
