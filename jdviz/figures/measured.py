"""What the figures of memory and time read from a measurement, whoever made it."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jdviz.figures.arrays import Array, drawable
from jdviz.figures.theme import ENGINE_STYLES, engine_style


class Measured(Protocol):
    """One engine's step, with the attributes of `jdviz.profiling.Measurement`."""

    @property
    def spec(self) -> Any:
        """What was measured; its `method` is a key of `ENGINE_STYLES`."""

    @property
    def times_ms(self) -> Sequence[float]:
        """Time of every change of the memory, from the start of the step."""

    @property
    def live_bytes(self) -> Sequence[float]:
        """Bytes alive from each of those times on, parameters excluded."""

    @property
    def phases(self) -> Sequence[tuple[str, float, float]]:
        """Name, start and end in ms of every phase."""

    @property
    def peak_bytes(self) -> float:
        """Largest of the live bytes."""

    @property
    def peak_ms(self) -> float:
        """Time of the peak."""

    @property
    def peak_phase(self) -> str:
        """Phase of the peak."""

    @property
    def peak_operation(self) -> str:
        """Operation that made the allocation at the peak."""

    @property
    def parameter_bytes(self) -> float:
        """Bytes of the parameters, which every engine needs."""

    @property
    def durations_ms(self) -> Sequence[float]:
        """Duration of every repeated step, measured without the profiler."""


def check_measurements(measurements: Sequence[Measured]) -> None:
    """Refuses an empty comparison and an unknown engine.

    Raises:
        ValueError: If there is no measurement or an engine is unknown.
    """
    if not measurements:
        raise ValueError("got no measurement, expected at least one; measure an engine first.")
    for measured in measurements:
        engine_style(measured.spec.method, "light")


def engine_labels(measurements: Sequence[Measured]) -> list[str]:
    """Names for the axis; a number is added where the same engine was measured twice."""
    labels = [ENGINE_STYLES[m.spec.method].label for m in measurements]
    if len(set(labels)) == len(labels):
        return labels
    return [f"{label} ({place})" for place, label in enumerate(labels, start=1)]


def quartiles(measured: Measured) -> Array:
    """Lower quartile, median and upper quartile of the durations in ms, shape [3].

    Raises:
        ValueError: If there is no duration or one is not finite.
    """
    durations = drawable(measured.durations_ms)
    if durations.size == 0 or not np.isfinite(durations).all():
        raise ValueError(
            f"got no usable duration of {measured.spec.method}, expected at least one; "
            "measure it again."
        )
    return np.percentile(durations, [25.0, 50.0, 75.0])
