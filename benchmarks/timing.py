"""Every method on one case, in turn, with what is known about it in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bounds import Bound, closed_form
from benchmarks.cases import Case
from benchmarks.steps import SGD, make_step, probe
from benchmarks.turns import Spread, Taken, Turn, ratios, take_turns

# Beyond this the gradients of float32 are wrong and not merely rounded.
LARGEST_ERROR = 1e-3


@dataclass(frozen=True)
class Timed:
    """What was found on a case.

    Attributes:
        case: What was measured.
        taken: One duration per round, by method; without those that failed.
        errors: Relative Frobenius error of the gradients against SGD's, by method.
        failures: Why a method has no durations.
        bound: The closed form.
    """

    case: Case
    taken: Taken
    errors: dict[str, float]
    failures: dict[str, str]
    bound: Bound

    @property
    def durations_ms(self) -> dict[str, list[float]]:
        """One value per round, by method."""
        return self.taken.durations_ms

    def ratio(self, method: str, base: str = SGD) -> Spread | None:
        """A method ÷ another, round by round; None if one of them has no durations."""
        if not {method, base} <= set(self.durations_ms):
            return None
        return Spread.of(ratios(self.durations_ms[method], self.durations_ms[base]))

    def median_ms(self, method: str) -> float:
        """Median duration of a method that has some."""
        return Spread.of(self.durations_ms[method]).median

    def notes(self) -> list[str]:
        """Sentences: what disturbed, which method failed, or left other gradients than SGD."""
        failed = self.taken.notes(self.case.name)
        failed += [
            f"{method} on {self.case.name} failed with {why}."
            for method, why in self.failures.items()
        ]
        return failed + [
            f"{method} on {self.case.name} left gradients that differ from SGD's by {error:.0e}."
            for method, error in self.errors.items()
            if not error <= LARGEST_ERROR
        ]

    def figures(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        return {
            "sgd_multiply_adds": self.bound.sgd_multiply_adds,
            "contraction_multiply_adds": self.bound.contraction_multiply_adds,
            "bound_ratio": self.bound.ratio,
            "predicted_ms": self.bound.predicted_ms,
            "methods": {
                method: {
                    "durations_ms": found,
                    "ratios": ratios(found, self.durations_ms[SGD]),
                    "gradient_error": self.errors[method],
                }
                for method, found in self.durations_ms.items()
            },
            "failures": self.failures,
            "waited_share": self.taken.waited_share,
        }


def time_case(case: Case, methods: Sequence[str], rounds: int | None) -> Timed:
    """Time methods in turn.

    Args:
        case: What is measured.
        methods: Some of `benchmarks.steps.METHODS`, SGD among them.
        rounds: As for `take_turns`.

    Returns:
        Durations, errors and bound.

    Raises:
        MeasurementError: The case or the number of rounds is not valid, SGD failed, or the engine
            refuses the model.
    """
    built = case.build()
    steps = {method: make_step(case, built, method) for method in methods}
    errors, failures = probe(steps)
    turns = {
        method: Turn(step.run, step.clear)
        for method, step in steps.items()
        if method not in failures
    }
    taken = take_turns(turns, rounds, case.device)
    for step in steps.values():
        step.clear()
    return Timed(case, taken, errors, failures, closed_form(built))
