"""A model of a visitor's own as a problem of the app: what menus and training read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from jdviz.problems.base import Batch, Data, Problem
from jdviz.problems.own import OwnModel, ProblemError, load_own, seeded
from jdviz.problems.workloads import Workload

# Each step of a run stores an m x m matrix, and its aggregator solves a problem in one.
MOST_OBJECTIVES = 256
MOST_SAMPLES = 4096
SIZES: Mapping[str, tuple[int, ...]] = MappingProxyType({"own": ()})
# Separates what the forward pass of a step draws from what its inputs draw.
_FORWARD = 1


@dataclass(frozen=True, eq=False)
class OwnBatch(Batch):
    """One step of a problem whose inputs are known to its model's factory only.

    Attributes:
        step: Number of the step.
        seed: Seed of the run.
    """

    step: int
    seed: int


@dataclass(frozen=True, eq=False)
class OwnProblem(Problem):
    """A visitor's own model; nothing is imported or built before `make_model`.

    Attributes:
        tasks: Number of objectives where they are tasks; 0 where every sample is one.
        resizable: Whether other batch sizes than the default can be built.
    """

    tasks: int
    resizable: bool
    _built: WeakKeyDictionary[nn.Module, OwnModel] = field(
        init=False, repr=False, default_factory=WeakKeyDictionary
    )

    def sized(self, batch_size: int) -> "OwnProblem":
        """The problem whose factory is asked for this batch size."""
        return replace(self, default_batch=batch_size)

    def make_model(self, size: str, seed: int) -> nn.Module:
        """Imports and calls the factory.

        Args:
            size: Key of `sizes`.
            seed: Seed of whatever the factory draws.

        Returns:
            The model as the factory gives it.

        Raises:
            ValueError: There is no such size.
            ProblemError: The factory cannot be used; the message is one sentence for a person.
        """
        self.check_size(size)
        own = load_model(self.key, self.default_batch, seed)
        self._built[own.model] = own
        return own.model

    def load(self, seed: int, conflict: float = 0.0) -> Data:
        """Returns no samples: the factory keeps them."""
        return Data(torch.empty(0), torch.empty(0))

    def batch(self, data: Data, step: int, batch_size: int, seed: int) -> Batch:
        """Names the step; its inputs are drawn where the model is known.

        Args:
            data: What `load` gave.
            step: Number of the step, from 0.
            batch_size: Samples in the batch.
            seed: Seed of the run.

        Returns:
            The batch. Its samples, where they are the objectives, are numbered by their place.

        Raises:
            ValueError: The batch size is not possible.
        """
        self.check_batch(batch_size)
        places = None if self.tasks else np.arange(batch_size, dtype=np.int64)
        return OwnBatch((data.inputs, data.targets), places, step, seed)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Runs the model on the inputs of a step.

        Args:
            model: A model from `make_model`.
            batch: A batch from `batch`.

        Returns:
            The value of each objective, shape [m], with its graph.

        Raises:
            ProblemError: The step's inputs are no tuple, or it has another number of objectives.
        """
        own = self._built.get(model)
        if own is None or not isinstance(batch, OwnBatch):
            raise ProblemError(
                f"{self.key}: got a model or a batch of another problem, expected its own; "
                "use make_model and batch."
            )
        inputs = own.at(batch.step)
        with seeded(batch.seed, batch.step, _FORWARD):
            losses = own.loss_fn(model(*inputs))
        if losses.shape != (own.objectives,):
            raise ProblemError(
                f"{self.key}: step {batch.step} gave objectives of shape {tuple(losses.shape)}, "
                f"expected {own.objectives} as at the first step; give every step as many."
            )
        return losses

    def objective_names(self, m: int) -> tuple[str, ...]:
        """Names m objectives by their place."""
        kind = "objective" if self.tasks else "sample"
        return tuple(f"{kind} {place}" for place in range(1, m + 1))

    def sample_names(self, sample_ids: NDArray[np.int64]) -> tuple[str, ...]:
        """Names samples by their place in the batch."""
        return tuple(f"sample {place + 1}" for place in sample_ids.tolist())

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks by their place; empty where samples are the objectives."""
        return self.objective_names(self.tasks) if self.tasks else ()

    def check_batch(self, batch_size: int) -> None:
        """Checks a batch size.

        Args:
            batch_size: Samples per step.

        Raises:
            ValueError: It cannot be built; the message is one sentence for a person.
        """
        if not self.resizable and batch_size != self.default_batch:
            raise ValueError(
                f"{self.title} comes with a batch of {self.default_batch:,} and takes no other; "
                "give its factory an argument batch_size to train with others."
            )
        m = self.objectives(batch_size)
        if m > MOST_OBJECTIVES and not (self.resizable and self.batch_dim is not None):
            raise ValueError(
                f"{self.title} has {m:,} objectives at every step, expected at most "
                f"{MOST_OBJECTIVES} to train; choose a smaller batch in its factory or fewer tasks."
            )
        super().check_batch(batch_size)


def own_problem(
    path: str, *, batch_dim: int | None, batch_size: int, objectives: int, resizable: bool
) -> OwnProblem:
    """The record of a model of one's own, from what is known of it once it was built.

    Args:
        path: `package.module:factory`.
        batch_dim: Dimension of the objectives that indexes samples, or None.
        batch_size: Samples in the batch that it comes with.
        objectives: Number of objectives with that batch.
        resizable: Whether the factory takes a batch size.

    Returns:
        The problem.
    """
    of_samples = batch_dim is not None
    most = MOST_OBJECTIVES if of_samples else max(MOST_SAMPLES, batch_size)
    most = most if resizable else batch_size
    return OwnProblem(
        key=path,
        title=path,
        summary=f"Built by {path}, which whoever started this program chose.",
        objective_kind="samples" if of_samples else "tasks",
        batch_dim=batch_dim,
        sizes=SIZES,
        n_samples=most,
        input_shape=(),
        target_shape=(),
        target_dtype=torch.float32,
        default_size="own",
        default_batch=min(batch_size, most),
        max_batch=most,
        default_learning_rate=0.1,
        tasks=0 if of_samples else objectives,
        resizable=resizable,
    )


def look_at(path: str) -> OwnProblem:
    """Builds a model once, here, to know what it is; not for the server's process.

    Args:
        path: `package.module:factory`.

    Returns:
        The problem.

    Raises:
        ProblemError: There is none; the message is one sentence for a person.
    """
    own = load_model(path)
    return own_problem(
        path,
        batch_dim=own.batch_dim,
        batch_size=own.batch_size,
        objectives=own.objectives,
        resizable=own.resizable,
    )


def load_model(path: str, batch_size: int | None = None, seed: int = 0) -> OwnModel:
    """Loads a model; a workload in the same form.

    Args:
        path: `package.module:factory`.
        batch_size: Samples in the batch; the factory's own choice if None.
        seed: Seed of everything that is drawn.

    Returns:
        The model with its inputs and losses.

    Raises:
        ProblemError: There is none; the message is one sentence for a person.
    """
    found = load_own(path, batch_size, seed)
    return found if isinstance(found, OwnModel) else _of_workload(found, path, batch_size, seed)


def _of_workload(workload: Workload, path: str, batch_size: int | None, seed: int) -> OwnModel:
    model, inputs, classes = workload.build(batch_size, seed)
    m = len(classes)
    return OwnModel(
        path=path,
        model=model,
        at=lambda _: (inputs,),
        loss_fn=lambda output: F.cross_entropy(output, classes, reduction="none"),
        batch_dim=0,
        batch_size=m,
        objectives=m,
        resizable=True,
    )
