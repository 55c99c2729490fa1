"""One measurement in several processes, which must agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jdviz.profiling import (
    Comparison,
    Failure,
    Limits,
    Measurement,
    MeasurementError,
    MeasureSpec,
    measure,
)


@dataclass(frozen=True)
class Repeated:
    """What several processes found of the memory of one step.

    Attributes:
        spec: What was measured.
        found: One measurement for each process; empty if one of them failed.
        failure: Why there is none; None if there are some.
    """

    spec: MeasureSpec
    found: tuple[Measurement, ...]
    failure: Failure | None = None

    @property
    def first(self) -> Measurement | None:
        """The measurement of the first process, None if one of them failed."""
        return self.found[0] if self.found else None

    @property
    def peaks_bytes(self) -> list[int]:
        """Peaks, one for each process."""
        return [one.peak_bytes for one in self.found]

    @property
    def spread_bytes(self) -> int:
        """How far apart the peaks are; 0 where all processes agree."""
        return max(self.peaks_bytes) - min(self.peaks_bytes)

    def figures(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        figures: dict[str, Any] = {
            "peak_bytes": self.peaks_bytes,
            "failure": "" if self.failure is None else self.failure.sentence,
        }
        if self.first is not None:
            figures |= {
                "phase": self.first.peak_phase,
                "layer": self.first.peak_source.layer,
                "operation": self.first.peak_source.operation,
                "split_bytes": self.first.peak_split,
                "parameter_bytes": self.first.parameter_bytes,
                "batch_bytes": self.first.batch_bytes,
                "objectives": self.first.objectives,
                "parameters": self.first.parameters,
            }
        return figures


def measure_repeatedly(spec: MeasureSpec, repeats: int, limits: Limits) -> Repeated:
    """Measures the memory of a step in fresh processes, one after the other.

    Args:
        spec: What to measure.
        repeats: How many processes, at least 1.
        limits: What each may take.

    Returns:
        What they found.
    """
    found = []
    for _ in range(repeats):
        try:
            found.append(measure(spec, limits))
        except MeasurementError as error:
            return Repeated(spec, (), Failure(spec, error.kind, str(error)))
    return Repeated(spec, tuple(found))


def as_comparison(repeated: Sequence[Repeated]) -> Comparison:
    """Puts the methods of one step side by side, as the page does.

    Args:
        repeated: One for each method.

    Returns:
        What the first process found of each, without times.
    """
    return Comparison(
        [one.first for one in repeated if one.first is not None],
        None,
        [one.failure for one in repeated if one.failure is not None],
    )
