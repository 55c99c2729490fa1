"""What is measured and what comes out, in forms that JSON can hold."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

StepMethod = Literal["autograd", "autojac", "autogram"]
STEP_METHODS: tuple[StepMethod, ...] = get_args(StepMethod)
MAX_REPEATS = 1000


def measurable_methods() -> tuple[str, ...]:
    """The aggregation methods that both engines can run.

    Returns:
        Keys of `engines.aggregation.METHODS`: those for which the Gramian is enough.
    """
    # Imported here so that showing a stored measurement does not load torch.
    from engines.aggregation import METHODS

    return tuple(name for name, record in METHODS.items() if record.statistic == "gramian")


class MeasurementError(RuntimeError):
    """A measurement that gave no result; the message is one sentence for a person."""


class Phase(NamedTuple):
    """A part of the step.

    Attributes:
        name: "forward", "jacobian" or "gramian", "weights", "backward".
        start_ms: When it began, milliseconds from the beginning of the step.
        end_ms: When it ended.
    """

    name: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class MeasureSpec:
    """Which step is measured, and how.

    Attributes:
        problem: Key of `jdviz.problems.PROBLEMS`.
        size: Name of one of the problem's model sizes.
        batch_size: Samples in the batch.
        method: "autograd" is the plain step on the mean of the losses, "autojac" builds the full
            Jacobian, "autogram" computes the Gramian and then differentiates the weighted losses.
        aggregator: One of `measurable_methods`; "autograd" has none and ignores it.
        seed: Seeds the parameters, the batch and any random choice of the aggregator.
        threads: Threads that torch may use.
        repeats: Steps that are timed.
    """

    problem: str
    size: str
    batch_size: int
    method: StepMethod
    aggregator: str
    seed: int
    threads: int = 1
    repeats: int = 20

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MeasureSpec":
        """Builds a specification from what `to_dict` gave; `validate` checks the values.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if set(values) - names or names - set(values) - {"threads", "repeats"}:
            raise MeasurementError(
                f"The specification has the entries {', '.join(values)}; "
                f"it must have {', '.join(sorted(names))}."
            )
        return cls(**values)

    def validate(self) -> None:
        """Checks that the step can be measured.

        Raises:
            MeasurementError: A value is outside what the problem or the machine takes.
        """
        # Imported here so that showing a stored measurement does not load torch.
        from engines.aggregation import METHODS
        from jdviz.problems import PROBLEMS

        measurable = measurable_methods()
        if self.aggregator in METHODS and self.aggregator not in measurable:
            raise MeasurementError(
                f"{self.aggregator} needs more than the Gramian, so autogram cannot run it and "
                f"there is nothing to compare; choose one of {', '.join(measurable)}."
            )
        choices: tuple[tuple[str, str, Any], ...] = (
            ("problem", self.problem, PROBLEMS),
            ("method", self.method, STEP_METHODS),
            ("aggregator", self.aggregator, measurable),
        )
        for what, value, known in choices:
            if value not in known:
                raise MeasurementError(
                    f"There is no {what} {value!r}; choose one of {', '.join(known)}."
                )
        problem = PROBLEMS[self.problem]
        try:
            problem.check_size(self.size)
            problem.check_batch(self.batch_size)
        except ValueError as error:
            raise MeasurementError(str(error)) from None
        m, least = problem.objectives(self.batch_size), METHODS[self.aggregator].least_objectives
        if m < least:
            raise MeasurementError(
                f"{self.aggregator} needs at least {least} objectives, and this step has {m}; "
                "choose another aggregator or problem."
            )
        bounds = (
            ("Seed", self.seed, 0, 2**31 - 1),
            ("Number of threads", self.threads, 1, os.cpu_count() or 1),
            ("Number of timed steps", self.repeats, 1, MAX_REPEATS),
        )
        for what, number, low, high in bounds:
            if not low <= number <= high:
                raise MeasurementError(
                    f"{what} {number:,} is out of range; choose from {low:,} to {high:,}."
                )


@dataclass(frozen=True)
class Measurement:
    """Memory over one step, and the durations of several.

    The memory is what the step itself allocates: parameters, batch and Python are not in it, new
    gradients are. Times of the memory curve come from a step under the profiler, which slows it
    down; `durations_ms` come from steps without it.

    Attributes:
        spec: What was measured.
        times_ms: When the memory changed, milliseconds from the beginning of the step.
        live_bytes: Bytes alive from each of those times to the next. Long curves are thinned to
            2000 points that keep the least and the greatest value of every stretch.
        phases: The parts of the step, in order.
        peak_bytes: Greatest value of the full curve.
        peak_ms: When it was reached first.
        peak_phase: In which part of the step.
        peak_operation: Operation that allocated last before it, such as "aten::mm".
        parameter_bytes: Bytes of the model's parameters, which are not in the curve.
        objectives: Number of objectives m.
        parameters: Number of trainable parameters n.
        durations_ms: Wall time of each timed step.
        torch_version: Version of torch.
        threads: Threads that torch used.
        disturbed: Whether the timed steps waited for a core, so that the durations say little.
    """

    spec: MeasureSpec
    times_ms: list[float]
    live_bytes: list[int]
    phases: list[Phase]
    peak_bytes: int
    peak_ms: float
    peak_phase: str
    peak_operation: str
    parameter_bytes: int
    objectives: int
    parameters: int
    durations_ms: list[float]
    torch_version: str
    threads: int
    disturbed: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "spec": self.spec.to_dict(), "phases": [list(p) for p in self.phases]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Measurement":
        """Builds a measurement from what `to_dict` gave, also after a way through JSON.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise MeasurementError(
                f"The measurement has the entries {', '.join(values)}; "
                f"it must have {', '.join(sorted(names))}."
            )
        spec = MeasureSpec.from_dict(values["spec"])
        phases = [Phase(*phase) for phase in values["phases"]]
        return cls(**{**values, "spec": spec, "phases": phases})
