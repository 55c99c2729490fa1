"""What is measured, in a form that JSON can hold and another process can be told."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

StepMethod = Literal["fused", "two-pass", "autojac", "sgd", "torchjd two-pass", "torchjd autojac"]
STEP_METHODS: tuple[StepMethod, ...] = get_args(StepMethod)
SGD: StepMethod = "sgd"
OURS: tuple[StepMethod, ...] = STEP_METHODS[:3]
PEERS: tuple[StepMethod, ...] = STEP_METHODS[4:]
DEVICES = ("cpu", "cuda")
#: What each method is called in sentences and figures.
METHOD_LABELS: Mapping[StepMethod, str] = {
    "fused": "autogram, fused",
    "two-pass": "autogram, two passes",
    "autojac": "autojac",
    "sgd": "plain SGD",
    "torchjd two-pass": "torchjd autogram",
    "torchjd autojac": "torchjd autojac",
}

FailureKind = Literal["memory", "time", "step", "ended", "refused"]


def measurable_methods() -> tuple[str, ...]:
    """The aggregation methods that both engines can run.

    Returns:
        Keys of `engines.aggregation.METHODS`: those for which the Gramian is enough.
    """
    # Imported here so that showing a stored measurement does not load torch.
    from engines.aggregation import METHODS

    return tuple(name for name, record in METHODS.items() if record.statistic == "gramian")


class MeasurementError(RuntimeError):
    """A measurement that gave no result.

    Attributes:
        kind: "memory" and "time" where a limit was reached, "step" where the step or a factory
            failed, "ended" where the process ended without a word, "refused" where nothing was
            started.
    """

    def __init__(self, sentence: str, kind: FailureKind = "refused") -> None:
        super().__init__(sentence)
        self.kind: FailureKind = kind

    def __reduce__(self) -> tuple[type["MeasurementError"], tuple[str, FailureKind]]:
        """Lets the exception travel between processes with its kind."""
        return MeasurementError, (str(self), self.kind)


@dataclass(frozen=True)
class MeasureSpec:
    """Which step is measured, and how.

    Attributes:
        problem: Key of `jdviz.problems.subjects.SUBJECTS`, or `package.module:factory`.
        size: Name of one of the problem's model sizes.
        batch_size: Samples in the batch.
        method: "sgd" is the plain step on the mean of the losses, "autojac" builds the full
            Jacobian, "two-pass" computes the Gramian and then differentiates the weighted losses,
            "fused" makes both of one pass; the last two are those of the field's library.
        aggregator: One of `measurable_methods`; "sgd" has none and ignores it.
        seed: Seeds the parameters, the batch and any random choice of the aggregator.
        threads: Threads that torch may use.
        device: "cpu" or "cuda".
    """

    problem: str
    size: str
    batch_size: int
    method: StepMethod
    aggregator: str
    seed: int = 0
    threads: int = 1
    device: str = "cpu"

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
        if set(values) - names or names - set(values) - {"seed", "threads", "device"}:
            raise MeasurementError(
                f"The specification has the entries {', '.join(values)}; "
                f"it must have {', '.join(sorted(names))}."
            )
        return cls(**values)

    def validate(self) -> None:
        """Checks that the step can be asked for; of a visitor's own problem only the child knows.

        Raises:
            MeasurementError: A value is outside what the problem or the machine takes.
        """
        # Imported here so that showing a stored measurement does not load torch.
        from engines.aggregation import METHODS
        from jdviz.problems.own import ProblemError, is_own
        from jdviz.problems.subjects import SUBJECTS

        measurable = measurable_methods()
        if self.aggregator in METHODS and self.aggregator not in measurable:
            raise MeasurementError(
                f"{self.aggregator} needs more than the Gramian, so autogram cannot run it and "
                f"there is nothing to compare; choose one of {', '.join(measurable)}."
            )
        problems = () if is_own(self.problem) else SUBJECTS
        choices: tuple[tuple[str, str, Any], ...] = (
            ("problem", self.problem, problems or (self.problem,)),
            ("method", self.method, STEP_METHODS),
            ("aggregator", self.aggregator, measurable),
            ("device", self.device, DEVICES),
        )
        for what, value, known in choices:
            if value not in known:
                raise MeasurementError(
                    f"There is no {what} {value!r}; choose one of {', '.join(known)}."
                )
        if self.problem in SUBJECTS:
            try:
                SUBJECTS[self.problem].check(self.size, self.batch_size)
            except ProblemError as error:
                raise MeasurementError(str(error)) from None
            check_objectives(self.aggregator, SUBJECTS[self.problem].objectives(self.batch_size))
        bounds = (
            ("Seed", self.seed, 0, 2**31 - 1),
            ("Number of threads", self.threads, 1, os.cpu_count() or 1),
        )
        for what, number, low, high in bounds:
            if not low <= number <= high:
                raise MeasurementError(
                    f"{what} {number:,} is out of range; choose from {low:,} to {high:,}."
                )


def check_objectives(aggregator: str, m: int) -> None:
    """Checks that an aggregator can take a number of objectives.

    Args:
        aggregator: Key of `METHODS`.
        m: Number of objectives.

    Raises:
        MeasurementError: It cannot.
    """
    from engines.aggregation import METHODS

    least = METHODS[aggregator].least_objectives
    if m < least:
        raise MeasurementError(
            f"{aggregator} needs at least {least} objectives, and this step has {m}; "
            "choose another aggregator or problem."
        )
