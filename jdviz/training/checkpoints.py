"""The state of a run as bytes, from which it goes on to the last bit.

Four letters, the length of a structure in JSON, the structure, and the arrays that it refers to as
the run store packs them. Nothing is pickled, so a checkpoint from elsewhere cannot run code; what
it claims is compared with the run that it is restored into before anything is taken over.
"""

import json
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jdviz.problems import PROBLEMS
from jdviz.problems.base import parameter_count
from jdviz.runs.blobs import pack_named, unpack_named
from jdviz.training.config import RunConfig

if TYPE_CHECKING:
    from jdviz.training.loop import Trainer

#: Every so many steps, from the first on, a run keeps its state; a fast one keeps fewer.
CHECKPOINT_EVERY = 10
#: A method that remembers every gradient has a state as large as the Jacobian, which is not kept;
#: before its first step it remembers nothing.
MOST_BYTES = 4 * 2**20

_HEAD = struct.Struct("<4sI")
_LETTERS = b"JDVC"
_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "int64": torch.int64,
    "uint8": torch.uint8,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# What each optimizer remembers of a parameter once it has moved it.
_REMEMBERED: Mapping[str, frozenset[str]] = {
    "sgd": frozenset(),
    "momentum": frozenset({"momentum_buffer"}),
    "adam": frozenset({"step", "exp_avg", "exp_avg_sq"}),
}


class CheckpointError(ValueError):
    """A checkpoint that this run cannot go on from; the message is one sentence for a person."""


def keeps_checkpoints(config: RunConfig) -> bool:
    """Whether a run can be brought back: a model of a visitor's own may draw and keep anything.

    Args:
        config: The configuration of the run.

    Returns:
        Whether its problem is a registered one.
    """
    return config.problem in PROBLEMS


def pack(run: "Trainer") -> bytes:
    """Packs the state of a run before its next step.

    Args:
        run: The run.

    Returns:
        Model, optimizer, method with its random numbers, step and time.
    """
    generator = _generator(run.method)
    arrays: dict[str, NDArray[Any]] = {}
    states = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict()["state"],
        "method": run.method.state_dict(),
        "generator": None if generator is None else generator.get_state(),
    }
    structure = {"step": run.step, "time_s": run.time_s, **_written(states, arrays)}
    text = json.dumps(structure).encode()
    return _HEAD.pack(_LETTERS, len(text)) + text + pack_named(arrays)


def restore(run: "Trainer", checkpoint: bytes, *, with_method: bool = True) -> None:
    """Brings a run to the state that `pack` saw.

    Args:
        run: A run of the same problem, size and optimizer, and with `with_method` of the same
            method and batch size. After an error it is not to be used.
        checkpoint: What `pack` gave, or bytes from elsewhere.
        with_method: Whether the method remembers what it did; else it is left as it is.

    Raises:
        CheckpointError: The bytes are no checkpoint, or one of another run.
    """
    state = _read(checkpoint)
    step, time_s = state["step"], state["time_s"]
    if type(step) is not int or not 0 <= step < run.config.steps:
        raise CheckpointError(_unlike("its step is not one of the run"))
    if not _is_number(time_s) or not time_s >= 0:
        raise CheckpointError(_unlike("it has no time"))
    _restore_model(run.model, state["model"])
    _restore_optimizer(run, state["optimizer"])
    if with_method:
        _restore_method(run, state["method"])
        _restore_generator(run.method, state["generator"])
    run.step, run.time_s = int(step), float(time_s)


def _restore_model(model: nn.Module, state: Any) -> None:
    expected = model.state_dict()
    if not isinstance(state, dict) or set(state) != set(expected):
        raise CheckpointError(_unlike("its model has other parameters"))
    for name, values in state.items():
        _check_like(values, expected[name], f"the model's {name}")
    model.load_state_dict(state)


def _restore_optimizer(run: "Trainer", state: Any) -> None:
    parameters = list(run.model.parameters())
    places = {str(place): parameter for place, parameter in enumerate(parameters)}
    remembered = _REMEMBERED[run.config.optimizer]
    if not isinstance(state, dict) or not set(state) <= set(places):
        raise CheckpointError(_unlike("its optimizer has other parameters"))
    for place, known in state.items():
        if not isinstance(known, dict) or set(known) != remembered:
            raise CheckpointError(_unlike("its optimizer is another one"))
        for name, values in known.items():
            like = torch.zeros(()) if name == "step" else places[place]
            _check_like(values, like, f"what the optimizer keeps of parameter {place}")
    # What the configuration says, such as the learning rate, is that of the run.
    whole = run.optimizer.state_dict()
    run.optimizer.load_state_dict({**whole, "state": {int(key): of for key, of in state.items()}})


def _restore_method(run: "Trainer", state: Any) -> None:
    expected = run.method.state_dict()
    if not isinstance(state, dict) or set(state) != set(expected):
        raise CheckpointError(_unlike("its aggregation method is another one"))
    m = run.problem.objectives(run.config.batch_size)
    shapes = {(), (m,), (m, m), (m, parameter_count(run.model))}
    for name, values in state.items():
        if isinstance(expected[name], Tensor):
            _check_like(values, expected[name], f"the method's {name}")
            continue
        if not isinstance(values, dict) or set(values) != set(expected[name]):
            raise CheckpointError(_unlike("its aggregation method is another one"))
        for value in values.values():
            if isinstance(value, Tensor) and tuple(value.shape) not in shapes:
                raise CheckpointError(_unlike("its method remembers other objectives"))
            if not (value is None or isinstance(value, Tensor) or _is_number(value)):
                raise CheckpointError(_unlike("its method remembers something else"))
    run.method.load_state_dict(state)


def _restore_generator(method: nn.Module, state: Any) -> None:
    generator = _generator(method)
    if generator is None:
        if state is not None:
            raise CheckpointError(_unlike("its method draws random numbers"))
        return
    _check_like(state, generator.get_state(), "the state of the random numbers")
    try:
        generator.set_state(state)
    except RuntimeError:
        raise CheckpointError(_unlike("its random numbers are in no possible state")) from None


def _generator(method: nn.Module) -> torch.Generator | None:
    """Where a method draws its random numbers; one source serves all of its parts."""
    for part in method.modules():
        found = getattr(part, "generator", None)
        if isinstance(found, torch.Generator):
            return found
    return None


def _check_like(values: Any, like: Tensor, what: str) -> None:
    """Raises CheckpointError unless a value is a tensor of this shape and dtype."""
    if not isinstance(values, Tensor):
        raise CheckpointError(_unlike(f"{what} is missing"))
    if values.shape != like.shape or values.dtype != like.dtype:
        raise CheckpointError(
            _unlike(
                f"{what} is {_kind(values)} of shape {list(values.shape)}, expected {_kind(like)} "
                f"of shape {list(like.shape)}"
            )
        )


def _unlike(what: str) -> str:
    """The one sentence for a checkpoint of something else."""
    return f"The checkpoint is not one of this run: {what}; choose another step."


def _kind(values: Tensor) -> str:
    """The name of a tensor's dtype."""
    return str(values.dtype).removeprefix("torch.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Replaces every tensor by a reference to an array, and marks what holds others."""
    if isinstance(value, Tensor):
        place = str(len(arrays))
        arrays[place] = value.detach().cpu().flatten().numpy()
        return {"array": place, "dtype": _NAMES[value.dtype], "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return {"of": {str(key): _written(one, arrays) for key, one in value.items()}}
    return value


def _read(checkpoint: bytes) -> dict[str, Any]:
    """Reads what `pack` wrote, trusting nothing of it."""
    broken = "The checkpoint cannot be read: it is damaged or none; choose another step."
    try:
        letters, length = _HEAD.unpack_from(checkpoint)
        if letters != _LETTERS:
            raise CheckpointError(broken)
        end = _HEAD.size + length
        arrays = unpack_named(checkpoint[end:])
        structure = json.loads(checkpoint[_HEAD.size : end])
        step, time_s = structure.pop("step"), structure.pop("time_s")
        state = _resolved(structure, arrays)
        if set(state) != {"model", "optimizer", "method", "generator"}:
            raise CheckpointError(broken)
    # A shape that no tensor can have is a RuntimeError, a nested list without an end one too.
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        raise CheckpointError(broken) from None
    return {**state, "step": step, "time_s": time_s}


def _resolved(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Puts the tensors back where `_written` took them from."""
    if not isinstance(value, dict):
        if value is None or _is_number(value):
            return value
        raise ValueError(f"got {type(value).__name__}, expected a number or nothing")
    if set(value) == {"of"}:
        return {key: _resolved(one, arrays) for key, one in value["of"].items()}
    dtype = _DTYPES[value["dtype"]]
    array = np.asarray(arrays[value["array"]])
    return torch.from_numpy(array).to(dtype).reshape(tuple(value["shape"]))
