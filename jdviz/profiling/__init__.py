"""Memory over time and duration of one training step, measured in a child process of its own."""

from jdviz.profiling.available import available_bytes
from jdviz.profiling.estimate import check_fits, step_bytes
from jdviz.profiling.measure import measure, measuring
from jdviz.profiling.spec import (
    STEP_METHODS,
    Measurement,
    MeasurementError,
    MeasureSpec,
    Phase,
    StepMethod,
    measurable_methods,
)

__all__ = [
    "STEP_METHODS",
    "MeasureSpec",
    "Measurement",
    "MeasurementError",
    "Phase",
    "StepMethod",
    "available_bytes",
    "check_fits",
    "measurable_methods",
    "measure",
    "measuring",
    "step_bytes",
]
