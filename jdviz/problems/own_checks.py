"""What a factory of a visitor's own must give, and the sentence where it does not."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_RETURNS = "(model, inputs, loss_fn) or (model, inputs, loss_fn, batch_dim)"


class ProblemError(ValueError):
    """A problem that cannot be measured or trained; the message is one sentence for a person."""


def refusal(path: str, got: str, expected: str, do: str) -> ProblemError:
    """The sentence that says why an import path gives no problem."""
    return ProblemError(f"{path} could not be loaded: {got}, expected {expected}; {do}.")


@contextlib.contextmanager
def explained(path: str, what: str) -> Iterator[None]:
    """Turns whatever a visitor's code raises into one sentence, except for a lack of memory."""
    try:
        yield
    except SystemExit as error:
        raise refusal(
            path, f"{what} ended the program", "it to return", "take the exit out of it"
        ) from error
    except (MemoryError, torch.OutOfMemoryError, ProblemError):
        raise
    except Exception as error:
        # torch has no type for a lack of memory on the CPU.
        if "allocate memory" in str(error):
            raise
        lines = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        said = said.rstrip(".,;: ")
        raise refusal(path, f"{what} raised {said}", "it to return", "correct it") from error


def check_call(path: str, factory: Any) -> bool:
    """Checks that a factory can be called with nothing; says whether it takes a batch size."""
    if not callable(factory):
        raise refusal(
            path, f"it is of type {type(factory).__name__}", "a function", "name a factory"
        )
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        # Some callables written in C do not tell; the call does.
        return False
    try:
        signature.bind()
    except TypeError as error:
        raise refusal(
            path,
            f"its factory cannot be called with nothing ({error})",
            "one that can",
            "give each argument a default",
        ) from error
    return "batch_size" in signature.parameters


def check_parts(path: str, made: Any) -> tuple[nn.Module, Any, Callable[[Any], Tensor], int | None]:
    """Checks what a factory returned, one part after the other."""
    if not isinstance(made, tuple | list):
        raise refusal(
            path, f"the factory returned {named(made)}", _RETURNS, "return these as a tuple"
        )
    if len(made) not in (3, 4):
        raise refusal(
            path,
            f"the factory returned {len(made)} values",
            _RETURNS,
            "return three or four values",
        )
    model, inputs, loss_fn, batch_dim = made if len(made) == 4 else (*made, 0)
    for value, right, what, expected in (
        (model, isinstance(model, nn.Module), "the model", "a torch.nn.Module"),
        (
            inputs,
            isinstance(inputs, tuple) or callable(inputs),
            "inputs",
            "a tuple, or a function from the step number to one",
        ),
        (loss_fn, callable(loss_fn), "loss_fn", "a function from the model's output to losses"),
        (
            batch_dim,
            batch_dim is None or (isinstance(batch_dim, int) and not isinstance(batch_dim, bool)),
            "batch_dim",
            "a whole number or None",
        ),
    ):
        if not right:
            wrap = "; write (x,) for one" if what == "inputs" and isinstance(value, Tensor) else ""
            raise refusal(path, f"{what} is {named(value)}", expected, f"return {_RETURNS}{wrap}")
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise refusal(
            path,
            "the model has no trainable parameter",
            "at least one",
            "set requires_grad on what is to be trained",
        )
    elsewhere = {str(p.device) for p in model.parameters() if p.device.type != "cpu"}
    if elsewhere:
        raise refusal(
            path,
            f"the model is on {', '.join(sorted(elsewhere))}",
            "one on the CPU",
            "leave it there, it is moved where it is needed",
        )
    return model, inputs, loss_fn, batch_dim


def check_losses(path: str, losses: Any, batch_dim: int | None) -> int:
    """Checks that losses are objectives; returns how many."""
    if not isinstance(losses, Tensor):
        do = "return torch.stack(...) of them" if isinstance(losses, list | tuple) else "return one"
        raise refusal(path, f"loss_fn returned {named(losses)}", "a tensor of objectives", do)
    if not losses.is_floating_point():
        raise refusal(
            path,
            f"the objectives are of type {str(losses.dtype).removeprefix('torch.')}",
            "real numbers in floating point",
            "convert them",
        )
    if not losses.requires_grad:
        raise refusal(
            path,
            "the objectives depend on no trainable parameter",
            "some that do",
            "take detach, no_grad and item out of the model and loss_fn",
        )
    if losses.numel() == 0:
        raise refusal(path, "there are no objectives", "at least one", "return some losses")
    if batch_dim is None:
        return losses.numel()
    shape = f"[{', '.join(map(str, losses.shape))}]"
    if losses.ndim != 1:
        raise refusal(
            path,
            f"the objectives have shape {shape} with batch_dim={batch_dim}",
            "one objective for each sample, shape [m]",
            "reduce over everything but the samples, or return batch_dim=None for tasks",
        )
    if batch_dim not in (0, -1):
        raise refusal(
            path,
            f"batch_dim is {batch_dim} and the objectives have shape {shape}",
            "0 or None",
            "return 0 where each sample is an objective, else None",
        )
    return losses.numel()


def named(value: Any) -> str:
    """What a value is, in a sentence."""
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
