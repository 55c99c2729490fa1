"""What can be measured, by name: the problems of the app, the workloads, and a visitor's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from jdviz.problems.base import Batch, Problem
from jdviz.problems.own import OwnModel, ProblemError, is_own, load_own
from jdviz.problems.registry import PROBLEMS
from jdviz.problems.workloads import WORKLOADS, Workload

# Beyond this a Gramian alone takes more than any machine here has.
MAX_BATCH = 2**17


@dataclass(frozen=True, eq=False)
class Built:
    """A model with its batch on one device.

    Attributes:
        model: The model, in training mode.
        losses: Runs it and gives the objectives, shape [m], with their graph.
        batch: The tensors of the batch that are known; what a function of a visitor's own closes
            over is not.
    """

    model: nn.Module
    losses: Callable[[], Tensor]
    batch: tuple[Tensor, ...]

    @property
    def batch_bytes(self) -> int:
        """Bytes of the batch."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.batch)


@dataclass(frozen=True, eq=False)
class Subject:
    """Something that can be measured.

    Attributes:
        key: Its name on the command line, in addresses and in results.
        title: Its name for a person.
        summary: One sentence that says what it is.
        sizes: What each model size is, by its name, smallest first.
        default_size: Size to start with.
        default_batch: Batch size to start with.
        batch_dim: Dimension of the losses that indexes samples, None where objectives are tasks.
        tasks: Number of objectives where they are tasks; 0 where samples have theirs.
        per_sample: Objectives of one sample, where samples have theirs.
        resizable: Whether other batch sizes than the default can be built.
        make: Builds it: size, batch size, seed, device.
    """

    key: str
    title: str
    summary: str
    sizes: Mapping[str, str]
    default_size: str
    default_batch: int
    batch_dim: int | None
    tasks: int
    resizable: bool
    make: Callable[[str, int, int, str], Built]
    per_sample: int = 1

    def objectives(self, batch_size: int) -> int:
        """Number of objectives m of a step with this batch size."""
        return self.tasks or self.per_sample * batch_size

    def build(self, size: str, batch_size: int, seed: int = 0, device: str = "cpu") -> Built:
        """Builds the model and its batch, the same numbers at every call.

        Args:
            size: Key of `sizes`.
            batch_size: Samples in the batch.
            seed: Of parameters and data.
            device: "cpu" or "cuda".

        Returns:
            Model and batch on the device.

        Raises:
            ProblemError: There is no such size or batch, or a factory of a visitor's own fails.
        """
        self.check(size, batch_size)
        return self.make(size, batch_size, seed, device)

    def check(self, size: str, batch_size: int) -> None:
        """Checks that a step can be built.

        Args:
            size: Key of `sizes`.
            batch_size: Samples in the batch.

        Raises:
            ProblemError: It cannot; the message is one sentence for a person.
        """
        if size not in self.sizes:
            raise ProblemError(
                f"{self.title} has no model size {size!r}; choose one of {', '.join(self.sizes)}."
            )
        if not 1 <= batch_size <= MAX_BATCH:
            raise ProblemError(
                f"Batch {batch_size:,} is out of range; choose from 1 to {MAX_BATCH:,}."
            )
        if not self.resizable and batch_size != self.default_batch:
            raise ProblemError(
                f"{self.title} comes with a batch of {self.default_batch:,} and takes no other; "
                "give its factory an argument batch_size to measure others."
            )


def find_subject(name: str) -> Subject:
    """Looks up what is measured. An import path runs that code in this process.

    Args:
        name: Key of `PROBLEMS` or `WORKLOADS`, or `package.module:factory`.

    Returns:
        The subject.

    Raises:
        ProblemError: There is none of that name, or what the path names is no problem; the message
            is one sentence for a person.
    """
    if name in SUBJECTS:
        return SUBJECTS[name]
    if not is_own(name):
        raise ProblemError(
            f"There is no problem {name!r}; choose one of {', '.join(SUBJECTS)}, or "
            "package.module:factory."
        )
    found = load_own(name)
    return of_workload(found, name) if isinstance(found, Workload) else of_own(found)


def of_problem(problem: Problem) -> Subject:
    """A problem of the app, to be measured.

    A batch larger than the data repeats its samples: what a step costs does not depend on them.

    Args:
        problem: Any.

    Returns:
        The subject.
    """
    return Subject(
        key=problem.key,
        title=problem.title,
        summary=problem.summary,
        sizes={name: "–".join(map(str, widths)) for name, widths in problem.sizes.items()},
        default_size=problem.default_size,
        default_batch=problem.default_batch,
        batch_dim=problem.batch_dim,
        tasks=len(problem.task_names),
        resizable=True,
        make=partial(_make_problem, problem),
    )


def _make_problem(problem: Problem, size: str, batch_size: int, seed: int, device: str) -> Built:
    model = problem.make_model(size, seed).to(device)
    most = min(batch_size, problem.max_batch)
    batch = problem.batch(problem.load(seed), 0, most, seed)
    rows = torch.arange(batch_size) % most
    inputs, targets = (tensor[rows].to(device) for tensor in batch.tensors)
    drawn = Batch((inputs, targets), None)
    return Built(model, lambda: problem.losses(model, drawn), drawn.tensors)


def of_workload(workload: Workload, key: str) -> Subject:
    """A workload, to be measured.

    Args:
        workload: Any.
        key: Its name.

    Returns:
        The subject.
    """
    sizes = {str(width): f"width {width}" for width in workload.widths} or {"full": workload.title}
    return Subject(
        key=key,
        title=workload.key,
        summary=f"{workload.title[0].upper()}{workload.title[1:]}, random data.",
        sizes=sizes,
        default_size=str(workload.default_width) if workload.widths else "full",
        default_batch=workload.samples,
        batch_dim=0,
        tasks=0,
        resizable=True,
        make=partial(_make_workload, workload),
    )


def _make_workload(workload: Workload, size: str, batch_size: int, seed: int, device: str) -> Built:
    width = int(size) if workload.widths else None
    model, inputs, classes = workload.build(batch_size, seed, width)
    model, inputs, classes = model.to(device), inputs.to(device), classes.to(device)
    return Built(model, lambda: workload.losses(model, inputs, classes), (inputs, classes))


def of_own(own: OwnModel) -> Subject:
    """A model of a visitor's own, to be measured.

    Args:
        own: What its factory made.

    Returns:
        The subject.
    """
    return Subject(
        key=own.path,
        title=own.path,
        summary=f"{type(own.model).__name__}, built by {own.path}.",
        sizes={"own": "as its factory builds it"},
        default_size="own",
        default_batch=own.batch_size,
        batch_dim=own.batch_dim,
        tasks=own.objectives if own.batch_dim is None else 0,
        resizable=own.resizable,
        make=partial(_make_own, own.path),
        per_sample=max(1, own.objectives // own.batch_size),
    )


def _make_own(path: str, size: str, batch_size: int, seed: int, device: str) -> Built:
    own = load_own(path, batch_size=batch_size, seed=seed)
    if isinstance(own, Workload):
        return of_workload(own, path).build(size, batch_size, seed, device)
    model = own.model.to(device)
    inputs = tuple(value.to(device) if isinstance(value, Tensor) else value for value in own.at(0))
    batch = tuple(value for value in inputs if isinstance(value, Tensor))
    return Built(model, lambda: own.loss_fn(model(*inputs)), batch)


SUBJECTS: Mapping[str, Subject] = MappingProxyType(
    {
        subject.key: subject
        for subject in (
            *map(of_problem, PROBLEMS.values()),
            *(of_workload(workload, key) for key, workload in WORKLOADS.items()),
        )
    }
)
