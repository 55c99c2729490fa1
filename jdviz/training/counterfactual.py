"""The same step with other aggregation methods, and the steps after it."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from engines.aggregation import METHODS
from engines.errors import EngineError
from jdviz.problems import Batch, Data
from jdviz.training.checkpoints import CheckpointError, keeps_checkpoints, pack, restore
from jdviz.training.config import ConfigError, RunConfig
from jdviz.training.futures import (
    EVALUATED,
    MAX_STEPS_AHEAD,
    Array,
    Future,
    Futures,
    Refused,
)
from jdviz.training.loop import Trainer
from jdviz.training.methods import engines_for


def check_question(config: RunConfig, step: int, methods: Sequence[str], k: int) -> None:
    """Checks what is asked of a run, without its checkpoint.

    Args:
        config: The configuration of the run.
        step: The step to go on from.
        methods: The methods to go on with.
        k: The number of steps.

    Raises:
        ConfigError: It cannot be answered; the message is one sentence for a person.
    """
    config.validate()
    if not keeps_checkpoints(config):
        raise ConfigError(
            f"Runs of {config.problem} keep no checkpoints, as a model of one's own may keep and "
            "draw anything; choose a run of a problem that the app comes with."
        )
    if not 0 <= step < config.steps:
        raise ConfigError(
            f"Step {step:,} is not one of the run; choose from 0 to {config.steps - 1:,}."
        )
    if not 1 <= k <= MAX_STEPS_AHEAD:
        raise ConfigError(f"{k:,} steps ahead are out of range; choose 1 to {MAX_STEPS_AHEAD}.")
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise ConfigError(
            f"There is no aggregator {', '.join(map(repr, unknown))}; choose among "
            f"{', '.join(METHODS)}."
        )


def futures(
    config: RunConfig,
    checkpoint_step: int,
    checkpoint: bytes,
    step: int,
    methods: Sequence[str],
    k: int,
    *,
    equal_length: bool = False,
) -> Futures:
    """Takes a step of a run, and those after it, with several aggregation methods.

    Here, in this process: a server asks `asking.ask_futures` instead.

    Args:
        config: The configuration of the run.
        checkpoint_step: The step before which the checkpoint was taken.
        checkpoint: The checkpoint, from this step or an earlier one.
        step: Number of the first step to take.
        methods: Keys of `engines.aggregation.METHODS`; the run's own is added where it is missing.
        k: How many steps to take, from 1 to `MAX_STEPS_AHEAD`.
        equal_length: Whether to multiply every method's directions by the one factor that makes
            its first as long as the first of the run's own method: this separates where a method
            goes from how far. An optimizer that sets lengths itself, as Adam does, undoes it.

    Returns:
        What became of the losses.

    Raises:
        ConfigError: It cannot be asked of this run.
        CheckpointError: The checkpoint is not one of this run, or later than the step.

    Cost: for every method k steps of training, and k + 1 evaluations on `EVALUATED` samples.
    """
    check_question(config, step, methods, k)
    if checkpoint_step > step:
        raise CheckpointError(
            f"The checkpoint is of step {checkpoint_step:,}, which is after step {step:,}; choose "
            "an earlier one."
        )
    # Steps beyond the end of the run are the ones it would have made.
    longer = replace(config, steps=step + k)
    run = Trainer.at(longer, checkpoint, step)
    state = pack(run)
    batch = run.problem.batch(run.data, step, config.batch_size, config.seed)
    own = config.aggregator
    found: list[Future] = []
    refused: list[Refused] = []
    length = None
    for method in dict.fromkeys((own, *methods)):
        try:
            one = _continued(longer, method, state, batch, k, length)
        except (ConfigError, EngineError) as error:
            refused.append(Refused(method, str(error)))
            continue
        found.append(one)
        if method == own and equal_length:
            length = float(one.norms[0])
    return Futures(
        step=step,
        steps_ahead=k,
        equal_length=equal_length,
        evaluated=len(_first_rows(run.data).tensors[0]),
        sample_ids=batch.sample_ids,
        futures=tuple(found),
        refused=tuple(refused),
    )


def _continued(
    config: RunConfig, method: str, state: bytes, batch: Batch, k: int, length: float | None
) -> Future:
    """Makes k steps with a method from a state of the run on.

    Args:
        config: The configuration of the run.
        method: The method to go on with.
        state: The run before the first step.
        batch: The batch whose losses are followed.
        k: Number of steps.
        length: What the first direction is brought to; None for its own.

    Returns:
        What became of the losses.

    Raises:
        ConfigError: The method cannot train these objectives.
        EngineError: It refuses them at the first step.
    """
    # Both engines in lockstep would make autogram's update.
    fused = config.engine != "autojac" and "autogram" in engines_for(method)
    chosen = replace(config, aggregator=method, engine="autogram" if fused else "autojac")
    chosen.validate()
    run = Trainer(chosen)
    restore(run, state, with_method=method == config.aggregator)
    losses = np.full((k + 1, run.problem.objectives(config.batch_size)), math.nan)
    mean_losses, norms = np.full(k + 1, math.nan), np.full(k, math.nan)
    rows = _first_rows(run.data)
    losses[0], mean_losses[0] = _losses(run, batch), _losses(run, rows).mean()
    with _brought_to(run.optimizer, length):
        for place in range(k):
            try:
                record = run.advance()
            except EngineError as error:
                if place == 0:
                    raise
                return Future(method, losses, mean_losses, norms, str(error))
            if record.gramian is None or record.direction_norm is None:
                return Future(method, losses, mean_losses, norms, run.divergence)
            norms[place] = record.direction_norm
            losses[place + 1] = _losses(run, batch)
            mean_losses[place + 1] = _losses(run, rows).mean()
    return Future(method, losses, mean_losses, norms)


def _first_rows(data: Data) -> Batch:
    """The samples that mean losses are over."""
    return Batch((data.inputs[:EVALUATED], data.targets[:EVALUATED]), None)


def _losses(run: Trainer, batch: Batch) -> Array:
    """The losses of a batch with the parameters of the moment, shape [m]."""
    with torch.no_grad():
        values: Array = run.problem.losses(run.model, batch).to(torch.float64).numpy()
    return values


def _brought_to(
    optimizer: torch.optim.Optimizer, length: float | None
) -> contextlib.AbstractContextManager[object]:
    """Multiplies all gradients by the factor that brings the first direction to a length."""
    if length is None:
        return contextlib.nullcontext()
    factors: list[float] = []

    def stretch(one: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        gradients = [
            parameter.grad
            for group in one.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if not factors:
            squares = [float(gradient.to(torch.float64).square().sum()) for gradient in gradients]
            norm = math.sqrt(sum(squares))
            # No factor makes a direction of length zero longer.
            factors.append(length / norm if norm > 0 else 1.0)
        for gradient in gradients:
            gradient.mul_(factors[0])

    return optimizer.register_step_pre_hook(stretch)
