"""What is measured: a problem, its model size and batch, by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from jdviz.problems import ProblemError, is_own
from jdviz.problems.subjects import SUBJECTS, Built, Subject, find_subject
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import (
    Limits,
    MeasurementError,
    MeasureSpec,
    StepMethod,
    inspect,
)

DEVICES = ("cpu", "cuda")
# Its weights are those of the plain step, so what it costs stays out.
UNIFORM = "Mean"
# Long enough for a peer that takes minutes where the others take seconds.
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Known:
    """What has to be known of a problem before it is measured.

    Attributes:
        sizes: Names of its model sizes, smallest first.
        default_size: The one to start with.
        default_batch: Samples in its own batch.
        resizable: Whether other batch sizes can be built.
    """

    sizes: tuple[str, ...]
    default_size: str
    default_batch: int
    resizable: bool


@cache
def look_up(problem: str, limits: Limits) -> Known:
    """Looks a problem up; a child process builds what is no problem of ours.

    Args:
        problem: Key of `SUBJECTS`, or `package.module:factory`.
        limits: What that child may take.

    Returns:
        What is known of it.

    Raises:
        MeasurementError: There is none, or it cannot be built.
    """
    if is_own(problem):
        found = inspect(problem, limits=limits)
        return Known((found.size,), found.size, found.default_batch, found.resizable)
    subject = _subject(problem)
    return Known(
        tuple(subject.sizes), subject.default_size, subject.default_batch, subject.resizable
    )


@dataclass(frozen=True)
class Case:
    """One step, whatever the method.

    Attributes:
        problem: Key of `SUBJECTS`, or `package.module:factory`.
        size: Name of one of its model sizes; its own choice if None.
        batch_size: Samples in the batch; its own choice if None.
        aggregator: One of `jdviz.profiling.measurable_methods`.
        device: One of `DEVICES`.
        threads: Threads that torch may use.
    """

    problem: str
    size: str | None = None
    batch_size: int | None = None
    aggregator: str = UNIFORM
    device: str = "cpu"
    threads: int = 1

    @property
    def name(self) -> str:
        """The problem, and what is not its own choice or uniform."""
        parts = [self.problem]
        parts += [] if self.size is None else [f"size={self.size}"]
        parts += [] if self.batch_size is None else [f"batch={self.batch_size}"]
        parts += [] if self.aggregator == UNIFORM else [self.aggregator]
        return " ".join(parts)

    @property
    def has_targets(self) -> bool:
        """Whether the targets are about it: a workload as it is, with uniform weights."""
        return self == Case(self.problem, device=self.device, threads=self.threads) and (
            self.problem in WORKLOADS
        )

    def specs(self, methods: Sequence[StepMethod], limits: Limits) -> list[MeasureSpec]:
        """Says what child processes are told to measure.

        Args:
            methods: How the step is taken.
            limits: What a child may take.

        Returns:
            One specification for each method.

        Raises:
            MeasurementError: There is no such step.
        """
        check_device(self.device)
        known = look_up(self.problem, limits)
        found = [
            MeasureSpec(
                problem=self.problem,
                size=known.default_size if self.size is None else self.size,
                batch_size=known.default_batch if self.batch_size is None else self.batch_size,
                method=method,
                aggregator=self.aggregator,
                threads=self.threads,
                device=self.device,
            )
            for method in methods
        ]
        for spec in found:
            spec.validate()
        return found

    def build(self) -> tuple[Subject, Built]:
        """Builds model and batch in this process, the same numbers at every call.

        Returns:
            The subject, and its model and batch on the device.

        Raises:
            MeasurementError: There is no such step.
        """
        check_device(self.device)
        subject = _subject(self.problem)
        size = subject.default_size if self.size is None else self.size
        batch_size = subject.default_batch if self.batch_size is None else self.batch_size
        try:
            return subject, subject.build(size, batch_size, device=self.device)
        except ProblemError as error:
            raise MeasurementError(str(error)) from error


def every_workload(cases: Sequence[Case]) -> bool:
    """Whether cases are all workloads as they are, which is what targets on means are about.

    Args:
        cases: Some.

    Returns:
        True if none is missing and none is another.
    """
    return all(case.has_targets for case in cases) and (
        {case.problem for case in cases} == set(WORKLOADS)
    )


def problem_names() -> str:
    """The problems that can be named, in words."""
    return f"{', '.join(SUBJECTS)}, or package.module:factory"


def check_device(device: str) -> None:
    """Makes sure that the machine has a device.

    Args:
        device: One of `DEVICES`.

    Raises:
        MeasurementError: It has none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MeasurementError(
            "got --device cuda on a machine without a usable CUDA device, expected one; leave "
            "--device out to measure on the CPU."
        )


def _subject(problem: str) -> Subject:
    try:
        return find_subject(problem)
    except ProblemError as error:
        raise MeasurementError(str(error)) from error
