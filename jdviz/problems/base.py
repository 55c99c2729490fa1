"""The form of a problem: one record that menus, training, measurements and tests read."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jdviz.problems.sampling import batch_rows


@dataclass(frozen=True, eq=False)
class Data:
    """All samples of a problem, in memory.

    Attributes:
        inputs: What the model reads, shape [n_samples, ...], float32.
        targets: What the losses compare with, shape [n_samples] or [n_samples, m].
    """

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """The samples of one step.

    Attributes:
        tensors: Inputs, then targets, each with the samples in its first dimension.
        sample_ids: Row of the data that each objective is, shape [m]; None where the objectives
            are tasks.
    """

    tensors: tuple[Tensor, Tensor]
    sample_ids: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Problem(ABC):
    """Something to train: data, a model in several sizes, and m objectives.

    Nothing here reads or changes torch's global random state: every random number comes from a
    generator seeded by the arguments.

    Attributes:
        key: Name in `PROBLEMS`, in addresses and in stored runs.
        title: Name for a person.
        summary: One sentence that says what is trained on what.
        objective_kind: "samples" where each sample of the batch is one objective, else "tasks".
        batch_dim: Dimension of the losses that indexes samples, None where objectives are tasks.
        sizes: Widths of the model's layers, by the name of the size, smallest first.
        n_samples: Number of samples in the data.
        input_shape: Shape of one sample's inputs.
        target_shape: Shape of one sample's targets.
        target_dtype: Dtype of the targets.
        default_size: Size to start with.
        default_batch: Batch size to start with.
        max_batch: Largest batch size; with one objective per sample it bounds the cost of an
            aggregator, which solves a problem in an m x m matrix at every step.
        default_learning_rate: Learning rate of plain SGD to start with.
        dial: What `conflict` does, one sentence; empty where it does nothing.
        default_conflict: Where the dial stands to start with, from 0 to 1.
    """

    key: str
    title: str
    summary: str
    objective_kind: Literal["samples", "tasks"]
    batch_dim: int | None
    sizes: Mapping[str, tuple[int, ...]]
    n_samples: int
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    target_dtype: torch.dtype
    default_size: str
    default_batch: int
    max_batch: int
    default_learning_rate: float
    dial: str = field(default="", kw_only=True)
    default_conflict: float = field(default=0.0, kw_only=True)

    @abstractmethod
    def make_model(self, size: str, seed: int) -> nn.Module:
        """Builds the model of a size with seeded parameters.

        Args:
            size: Key of `sizes`.
            seed: Seed of the parameters.

        Returns:
            The model, in training mode, float32, on the CPU.

        Raises:
            ValueError: There is no such size.
        """

    @abstractmethod
    def load(self, seed: int, conflict: float = 0.0) -> Data:
        """Loads or makes the data.

        Args:
            seed: Seed of synthetic data, and of what the dial changes in real data.
            conflict: Where the dial stands, from 0 to 1; ignored by a problem without a dial.

        Returns:
            All samples. The tensors may be shared between calls: do not write to them.

        Raises:
            ValueError: The conflict is outside 0 to 1.
        """

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Runs the model on a batch.

        Args:
            model: A model from `make_model`.
            batch: A batch from `batch`.

        Returns:
            The value of each objective, shape [m], with its graph.
        """

    @abstractmethod
    def objective_names(self, m: int) -> tuple[str, ...]:
        """Names m objectives without knowing which samples they are.

        Args:
            m: Number of objectives.

        Returns:
            m short names.

        Raises:
            ValueError: The problem cannot have m objectives.
        """

    @abstractmethod
    def sample_names(self, sample_ids: NDArray[np.int64]) -> tuple[str, ...]:
        """Names samples of the data, such as "image 17 (a 3)".

        Args:
            sample_ids: Rows of the data, shape [m].

        Returns:
            m short names.
        """

    def sample_groups(self, sample_ids: NDArray[np.int64]) -> tuple[str, ...]:
        """Names the group of each sample, such as the digit that an image shows.

        Args:
            sample_ids: Rows of the data, shape [m].

        Returns:
            m names, of which several may be equal; empty where samples have no groups.
        """
        return ()

    def batch(self, data: Data, step: int, batch_size: int, seed: int) -> Batch:
        """Takes the batch of one step.

        The batch is a function of the arguments alone, so that any step of a run can be computed
        again. Each epoch visits the samples in a new order, each at most once; the samples left
        over at its end, fewer than a batch, wait for the next epoch, so every batch is full.

        Args:
            data: What `load` gave.
            step: Number of the step, from 0.
            batch_size: Samples in the batch.
            seed: Seed of the order.

        Returns:
            The batch.

        Raises:
            ValueError: The batch size is below 1 or larger than `max_batch` or the data.
        """
        self.check_batch(batch_size)
        rows = batch_rows(len(data.inputs), batch_size, step, seed)
        sample_ids = rows.numpy() if self.objective_kind == "samples" else None
        return Batch((data.inputs[rows], data.targets[rows]), sample_ids)

    def sized(self, batch_size: int) -> "Problem":
        """The problem whose models are made for a batch size, where that matters to them.

        Args:
            batch_size: Samples in the batch.

        Returns:
            The problem; models of most take any batch.
        """
        return self

    def blank_batch(self, batch_size: int) -> Batch:
        """Makes a batch of zeros, to read sizes off it without loading the data.

        Args:
            batch_size: Samples in the batch.

        Returns:
            The batch, without sample ids.
        """
        inputs = torch.zeros(batch_size, *self.input_shape)
        targets = torch.zeros(batch_size, *self.target_shape, dtype=self.target_dtype)
        return Batch((inputs, targets), None)

    def objectives(self, batch_size: int) -> int:
        """Returns the number of objectives m of a step with this batch size."""
        return batch_size if self.objective_kind == "samples" else len(self.task_names)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks in the order of the losses; empty where samples are the objectives."""
        return ()

    def check_batch(self, batch_size: int) -> None:
        """Checks a batch size.

        Args:
            batch_size: Samples per step.

        Raises:
            ValueError: It is below 1, larger than the data or larger than `max_batch`; the
                message is one sentence for a person.
        """
        choose = f"choose from 1 to {self.max_batch:,}."
        if batch_size < 1:
            raise ValueError(f"Batch {batch_size:,} holds no sample; {choose}")
        if batch_size > self.n_samples:
            raise ValueError(
                f"Batch {batch_size:,} is larger than the {self.n_samples:,} samples of "
                f"{self.title}; choose at most {self.max_batch:,}."
            )
        if batch_size > self.max_batch:
            raise ValueError(
                f"Batch {batch_size:,} would make {batch_size:,} objectives at every step of "
                f"{self.title}; choose at most {self.max_batch:,}."
            )

    def check_size(self, size: str) -> tuple[int, ...]:
        """Looks up the widths of a size.

        Args:
            size: Key of `sizes`.

        Returns:
            The widths of the model's layers.

        Raises:
            ValueError: There is no such size.
        """
        if size not in self.sizes:
            raise ValueError(
                f"{self.title} has no model size {size!r}; choose one of {', '.join(self.sizes)}."
            )
        return self.sizes[size]


def check_conflict(conflict: float) -> None:
    """Checks where the dial of a problem stands.

    Args:
        conflict: The position.

    Raises:
        ValueError: It is outside 0 to 1.
    """
    if not 0 <= conflict <= 1:
        raise ValueError(f"got conflict {conflict:g}, expected 0 to 1; choose one in between")


def parameter_count(model: nn.Module) -> int:
    """Returns the number of trainable parameters n of a model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
