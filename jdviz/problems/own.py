"""Models of a visitor's own, by import path, chosen by whoever starts the program."""

import contextlib
import importlib
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from jdviz.problems.own_checks import (
    ProblemError,
    check_call,
    check_losses,
    check_parts,
    explained,
    named,
    refusal,
)
from jdviz.problems.workloads import Workload

#: Import paths separated by commas; child processes inherit it.
VARIABLE = "JDVIZ_PROBLEMS"


@dataclass(frozen=True, eq=False)
class OwnModel:
    """What a factory made.

    Attributes:
        path: `package.module:factory`.
        model: The model.
        at: The inputs of a step, by its number; the same tuple at every step where the factory
            returned a tuple.
        loss_fn: From the model's output to the objectives, shape [m].
        batch_dim: Dimension of the objectives that indexes samples, or None.
        batch_size: Samples in the batch: the objectives along `batch_dim`, else the length of the
            first input.
        objectives: Number of objectives.
        resizable: Whether the factory takes an argument `batch_size`.
    """

    path: str
    model: nn.Module
    at: Callable[[int], tuple[Any, ...]]
    loss_fn: Callable[[Any], Tensor]
    batch_dim: int | None
    batch_size: int
    objectives: int
    resizable: bool


def is_own(name: str) -> bool:
    """Whether a name has the form of an import path."""
    return ":" in name


def own_paths() -> tuple[str, ...]:
    """The import paths that whoever started the program chose, each once."""
    given = (path.strip() for path in os.environ.get(VARIABLE, "").split(","))
    return tuple(dict.fromkeys(path for path in given if path))


def choose(paths: Sequence[str]) -> None:
    """Adds import paths to the chosen ones, for this process and those that it starts.

    Args:
        paths: `package.module:factory` each. What a visitor sends never comes here: importing a
            path runs its code.

    Raises:
        ProblemError: One has not that form; none is added then.
    """
    for path in paths:
        split(path)
    os.environ[VARIABLE] = ",".join(dict.fromkeys((*own_paths(), *paths)))


def split(path: str) -> tuple[str, str]:
    """Takes an import path apart.

    Args:
        path: `package.module:factory`.

    Returns:
        The module's dotted name, and the factory's.

    Raises:
        ProblemError: It has not that form.
    """
    module, _, name = path.partition(":")
    if all(part.isidentifier() for part in (*module.split("."), name)):
        return module, name
    raise refusal(path, "it is no import path", "package.module:factory", "write it with one colon")


def load_own(path: str, batch_size: int | None = None, seed: int = 0) -> OwnModel | Workload:
    """Imports and calls a factory, without a trace in the global random state.

    The objectives are computed once, to see that they are some. What the factory and the model
    draw from the generators of torch, numpy and Python depends on the seed alone.

    Args:
        path: `package.module:factory`.
        batch_size: Samples in the batch; the factory's own choice if None.
        seed: Seed of everything that the factory draws.

    Returns:
        What it made, on the CPU; a workload where it is one, or gives one.

    Raises:
        ProblemError: There is no such factory, or what it made cannot be measured or trained; the
            message is one sentence for a person. A lack of memory passes as it is.
    """
    with seeded(seed):
        factory = _import(path)
        if isinstance(factory, Workload):
            return factory
        resizable = check_call(path, factory)
        given = {"batch_size": batch_size} if resizable and batch_size is not None else {}
        with explained(path, "the factory"):
            made = factory(**given)
    if isinstance(made, Workload):
        return made
    model, inputs, loss_fn, batch_dim = check_parts(path, made)
    at = _inputs_of_step(path, inputs, seed)
    losses = _first_losses(path, model, at(0), loss_fn, seed)
    m = check_losses(path, losses, batch_dim)
    size = m if batch_dim is not None else _length(at(0))
    if batch_size is not None and size != batch_size:
        if not resizable:
            raise refusal(
                path,
                f"its batch holds {size:,} samples",
                f"the {batch_size:,} asked for",
                "give the factory an argument batch_size",
            )
        if batch_dim is not None:
            raise refusal(
                path,
                f"batch_size={batch_size} gave {size:,} objectives",
                "one for each sample",
                "use the argument for the inputs, or return batch_dim=None for tasks",
            )
        size = batch_size
    flat = loss_fn if losses.ndim == 1 else lambda output: loss_fn(output).reshape(-1)
    return OwnModel(path, model, at, flat, None if batch_dim is None else 0, size, m, resizable)


@contextlib.contextmanager
def seeded(*keys: int) -> Iterator[None]:
    """Seeds the global generators of torch, numpy and Python, and puts them back afterwards.

    Args:
        *keys: Non-negative whole numbers; the numbers drawn inside depend on all of them.

    Yields:
        Nothing.
    """
    state = int(np.random.SeedSequence(keys).generate_state(1)[0])
    # Asking a device for its generator would load its driver, in a process that may not need it.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(state)
        random.seed(state)
        np.random.seed(state)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)


def _import(path: str) -> Any:
    """Imports what a path names."""
    place, name = split(path)
    # A child leaves the folder it runs in out of its search, lest a file there take the place of a
    # library. Behind all others it can take nobody's, and has what is found nowhere else.
    with contextlib.suppress(FileNotFoundError):
        folder = os.getcwd()
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        with explained(path, f"importing {place}"):
            module = importlib.import_module(place)
    except ProblemError as error:
        cause = error.__cause__
        if not isinstance(cause, ModuleNotFoundError) or cause.name is None:
            raise
        if f"{place}.".startswith(f"{cause.name}."):
            raise refusal(
                path,
                f"there is no module {cause.name}",
                "one in the folder where the program was started or on PYTHONPATH",
                "check its spelling and start from its folder",
            ) from cause
        raise refusal(
            path,
            f"{place} imports {cause.name}, which is not there",
            "every module that it imports",
            "install it",
        ) from cause
    if not hasattr(module, name):
        raise refusal(path, f"{place} has no {name}", "the name of a factory", "check its spelling")
    return getattr(module, name)


def _inputs_of_step(path: str, inputs: Any, seed: int) -> Callable[[int], tuple[Any, ...]]:
    """The inputs as a function of the step alone, whatever random numbers they are made of."""
    if isinstance(inputs, tuple):
        return lambda step: inputs

    def at(step: int) -> tuple[Any, ...]:
        with seeded(seed, step), explained(path, f"inputs({step})"):
            drawn = inputs(step)
        if not isinstance(drawn, tuple):
            raise refusal(
                path,
                f"inputs({step}) returned {named(drawn)}",
                "a tuple",
                "return what the model takes as a tuple, (x,) for one tensor",
            )
        return drawn

    return at


def _first_losses(
    path: str, model: nn.Module, inputs: tuple[Any, ...], loss_fn: Callable[[Any], Any], seed: int
) -> Any:
    """Computes the objectives once and leaves the model as it was."""
    # A forward pass moves running statistics, which belong to the first step.
    before = [(one, one.detach().clone()) for one in model.buffers() if not is_lazy(one)]
    with seeded(seed), torch.enable_grad():
        with explained(path, "the model"):
            output = model(*inputs)
        with explained(path, "loss_fn"):
            losses = loss_fn(output)
    with torch.no_grad():
        for buffer, value in before:
            buffer.copy_(value)
    return losses


def _length(inputs: tuple[Any, ...]) -> int:
    """Length of the first tensor that has one, 1 if there is none."""
    return next((len(value) for value in inputs if isinstance(value, Tensor) and value.ndim), 1)
