"""Every method on one case, in turn, with what is known about it in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bounds import Bound, closed_form
from benchmarks.cases import Case
from jdviz.profiling import SGD, Limits, MeasurementError, StepMethod, Times, measure_times
from jdviz.profiling.turns import Spread, ratios

# Beyond this the gradients of float32 are wrong and not merely rounded.
LARGEST_ERROR = 1e-3


@dataclass(frozen=True)
class Timed:
    """What was found on a case.

    Attributes:
        case: What was measured.
        times: Durations, errors and failures.
        bound: The closed form; None where the engine refuses the model.
        refusal: Why it does; "" where it does not.
    """

    case: Case
    times: Times
    bound: Bound | None
    refusal: str = ""

    def ratio(self, method: str, base: str = SGD) -> Spread | None:
        """A method ÷ another, round by round; None if one of them has no durations."""
        durations_ms = self.times.durations_ms
        if not {method, base} <= set(durations_ms):
            return None
        return Spread.of(ratios(durations_ms[method], durations_ms[base]))

    def median_ms(self, method: str) -> float:
        """Median duration of a method that has some."""
        return Spread.of(self.times.durations_ms[method]).median

    def notes(self) -> list[str]:
        """Sentences: what disturbed, what the engine refuses, who left other gradients than SGD."""
        found = [self.times.disturbed, self.refusal]
        found = [f"{self.case.name}: {sentence}" for sentence in found if sentence]
        return found + [
            f"{method} on {self.case.name} left gradients that differ from SGD's by {error:.0e}."
            for method, error in self.times.errors.items()
            if not error <= LARGEST_ERROR
        ]

    def figures(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        durations_ms = self.times.durations_ms
        bound = self.bound
        closed: dict[str, Any] = {}
        if bound is not None:
            closed = {
                "sgd_multiply_adds": bound.sgd_multiply_adds,
                "contraction_multiply_adds": bound.contraction_multiply_adds,
                "bound_ratio": bound.ratio,
                "predicted_ms": bound.predicted_ms,
            }
        return {
            **closed,
            "methods": {
                method: {
                    "durations_ms": found,
                    "ratios": ratios(found, durations_ms[SGD]),
                    "gradient_error": self.times.errors.get(method),
                }
                for method, found in durations_ms.items()
            },
            "failures": self.times.failures,
            "waited_share": self.times.waited_share,
        }


def time_case(
    case: Case, methods: Sequence[StepMethod], rounds: int | None, limits: Limits
) -> Timed:
    """Times methods in turn, in one child process.

    Args:
        case: What is measured.
        methods: How the step is taken, SGD among them.
        rounds: How often each; None for as many as fit in ten seconds.
        limits: What the child may take.

    Returns:
        Durations, errors and bound.

    Raises:
        MeasurementError: The case or the number of rounds is not valid, SGD failed, or the child
            gave no result.
    """
    times = measure_times(case.specs(methods, limits), rounds, limits)
    subject, built = case.build()
    try:
        return Timed(case, times, closed_form(built, subject.batch_dim))
    except MeasurementError as error:
        return Timed(case, times, None, str(error))
