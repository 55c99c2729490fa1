"""The training loop: from a configuration to one record per step."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.errors import NonFiniteGradientError
from jdviz.problems import Problem, find_problem
from jdviz.profiling.peak import with_peak
from jdviz.training.checkpoints import CheckpointError, restore
from jdviz.training.config import ENGINES, RunConfig
from jdviz.training.record import StepRecord
from jdviz.training.updates import Update, differentiator

MOMENTUM = 0.9
#: Every so many steps, from the first on, the Gramian of a step is split over the modules.
SHARES_EVERY = 5
#: Every so many steps, from the second on, the memory of a step is measured. The first one makes
#: what stays, such as the optimizer's memory, and like every fifth it splits its Gramian.
MEMORY_EVERY = 100


class DivergedError(ArithmeticError):
    """A run whose losses or gradients are no longer finite.

    Attributes:
        step: Number of the step that diverged; it left the parameters as they were.
        message: One sentence for a person.
    """

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step
        self.message = message

    def __reduce__(self) -> tuple[type["DivergedError"], tuple[int, str]]:
        """Lets the exception travel between processes with its step."""
        return (DivergedError, (self.step, self.message))


def train(config: RunConfig) -> Iterator[StepRecord]:
    """Runs a configuration and yields a record after each step.

    Equal configurations give the same records to the last bit on one machine with one number of
    threads, times excepted. The clock runs only while the generator does, so a caller that waits
    between two steps pauses the run.

    Args:
        config: What to run.

    Yields:
        The record of each step; of a step that diverged too, without Gramian and weights.

    Raises:
        ConfigError: The configuration cannot be run.
        DivergedError: Losses or gradients are NaN or infinite, after the step's record was
            yielded.
    """
    config.validate()
    run = Trainer(config)
    while run.step < config.steps:
        record = run.advance()
        yield record
        if record.gramian is None:
            raise DivergedError(record.step, run.divergence)


def warm_up() -> None:
    """Loads what the first step of a process waits for, so that a spare worker has it ready.

    Measured on two cores: the reader of the digits takes a second to import, the first optimizer
    another (torch imports its compiler there), the first step of each engine tens of milliseconds.
    """
    for engine in ENGINES:
        config = RunConfig.from_dict(
            {
                "problem": "digits_cnn",
                "size": "small",
                "batch_size": 2,
                "optimizer": "sgd",
                "learning_rate": 0.1,
                "engine": engine,
                "aggregator": "UPGrad",
                "seed": 0,
                "steps": 1,
            }
        )
        for _ in train(config):
            pass


class Trainer:
    """A run in progress: model, optimizer and data, advanced a step at a time.

    Nothing here reads or changes torch's global random state.

    Args:
        config: A valid configuration.

    Attributes:
        model: The model; its parameters are those after the last step.
        optimizer: The optimizer with its state.
        method: The aggregation method with its memory: a weighting or an aggregator.
        step: Number of the next step.
        time_s: Seconds of training so far.
        divergence: Why the last step diverged, one sentence; empty while none did.
    """

    def __init__(self, config: RunConfig) -> None:
        problem = find_problem(config.problem).sized(config.batch_size)
        self.config = config
        self.problem: Problem = problem
        self.data = problem.load(config.seed, config.conflict)
        self.model = problem.make_model(config.size, config.seed)
        self.optimizer = make_optimizer(config, self.model)
        self.step = 0
        self.time_s = 0.0
        self.divergence = ""
        self._update = differentiator(config, self.model)
        self.method = self._update.method

    @classmethod
    def at(cls, config: RunConfig, checkpoint: bytes, step: int) -> "Trainer":
        """Brings a run back to where it was before a step.

        What a replayed step computes is what it computed then, to the last bit.

        Args:
            config: The configuration of the run.
            checkpoint: One that was taken before this step or an earlier one.
            step: Number of the step.

        Returns:
            The run, about to make the step.

        Raises:
            CheckpointError: The checkpoint is not one of this run, it is later than the step, or
                the run diverged before it.
        """
        run = cls(config)
        restore(run, checkpoint)
        if run.step > step:
            raise CheckpointError(
                f"The checkpoint is of step {run.step:,}, which is after step {step:,}; choose an "
                "earlier one."
            )
        while run.step < step:
            if run.advance().gramian is None:
                raise CheckpointError(
                    f"The run diverged at step {run.step - 1:,}, before step {step:,}; choose an "
                    "earlier step."
                )
        return run

    def advance(self) -> StepRecord:
        """Runs the next step.

        Returns:
            Its record. Where losses or gradients are not finite, gramian, weights and inner are
            None, `divergence` says why and the parameters are as before.
        """
        # Of both engines in lockstep it would be the memory of neither.
        if self.step % MEMORY_EVERY != 1 or self.config.engine == "both":
            return self._advance()
        # What the step frees is not what it needs.
        self.optimizer.zero_grad()
        record, peak_bytes = with_peak(self._advance)
        return replace(record, peak_bytes=peak_bytes)

    def _advance(self) -> StepRecord:
        start_s = time.perf_counter()
        batch = self.problem.batch(self.data, self.step, self.config.batch_size, self.config.seed)
        self.optimizer.zero_grad()
        losses = self.problem.losses(self.model, batch)
        values = _to_numpy(losses)
        update = self._differentiate(losses) if self._finite(values, "loss") else None
        if update is not None:
            self.optimizer.step()
        elapsed_s = time.perf_counter() - start_s
        self.time_s += elapsed_s
        record = StepRecord(
            step=self.step,
            time_s=self.time_s,
            losses=values,
            gramian=None if update is None else update.gramian,
            weights=None if update is None else update.weights,
            inner=None if update is None else update.inner,
            direction_norm=None if update is None else update.norm,
            sample_ids=batch.sample_ids,
            elapsed_s=elapsed_s,
            peak_bytes=None,
            shares=None if update is None else update.shares,
            scalars={} if update is None else update.scalars,
        )
        self.step += 1
        return record

    def _differentiate(self, losses: Tensor) -> Update | None:
        """Leaves the update direction in `.grad`.

        Returns:
            What the direction is, or None where it is not finite.
        """
        try:
            update = self._update(losses, split=self.step % SHARES_EVERY == 0)
        except NonFiniteGradientError:
            self.divergence = self._sentence("gradient", "of some objectives ")
            return None
        if not self._finite(update.gramian.sum(axis=1), "gradient"):
            return None
        if update.weights is None:
            return update if self._finite(update.inner, "improvement") else None
        return update if self._finite(update.weights, "weight") else None

    def _finite(self, values: NDArray[np.float64], what: str) -> bool:
        """Says whether the values of all objectives are finite; notes in `divergence` if not."""
        bad = np.count_nonzero(~np.isfinite(values))
        if bad:
            self.divergence = self._sentence(what, f"of {bad} of {len(values)} objectives ")
        return not bad

    def _sentence(self, what: str, which: str) -> str:
        """Says what is no longer finite, and what to do."""
        return (
            f"The {what} {which}became NaN or infinite at step {self.step}, which was not made; "
            f"restart with a smaller learning rate, such as {self.config.learning_rate / 10:g}."
        )


def make_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Makes the optimizer of a run.

    Args:
        config: Names the optimizer and its learning rate.
        model: Its parameters are optimized.

    Returns:
        The optimizer.
    """
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    momentum = MOMENTUM if config.optimizer == "momentum" else 0.0
    return torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=momentum)


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    """Copies a tensor out of the graph, in float64."""
    copied: NDArray[np.float64] = values.detach().to(torch.float64, copy=True).numpy()
    return copied
