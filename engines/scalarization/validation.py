"""Checks of losses and of parameters, and the dtype that they are computed in."""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

# So many positions are named in a message.
_POSITIONS_SHOWN = 10


def check_values(values: Tensor) -> None:
    """Refuse what are no finite losses.

    Args:
        values: Anything.

    Raises:
        TypeError: No tensor, or no real floating dtype.
        ValueError: Empty, or NaN or infinity; the message has the flat positions.

    Cost: one wait for the device of the values.
    """
    if not isinstance(values, Tensor):
        raise TypeError(
            f"got losses of type {type(values).__name__}, expected a torch.Tensor, "
            "put them together with torch.stack."
        )
    if not values.is_floating_point():
        raise TypeError(
            f"got losses of {values.dtype}, expected a real floating-point dtype, convert them."
        )
    if values.numel() == 0:
        raise ValueError(
            f"got losses of shape {list(values.shape)}, expected at least one, "
            "leave the step out when there is none."
        )
    bad = positions(~torch.isfinite(working(values.detach())))
    if bad:
        raise ValueError(
            f"got losses that are NaN or infinite at flat positions {bad}, expected finite ones, "
            "skip this step or lower the learning rate."
        )


def positions(mask: Tensor) -> str:
    """Where a mask is true, as a message says it.

    Args:
        mask: Boolean, any shape.

    Returns:
        The indices into the flattened mask, at most ten; empty if there is none.
    """
    found = torch.nonzero(mask.flatten()).flatten().tolist()
    shown = ", ".join(map(str, found[:_POSITIONS_SHOWN]))
    return shown + (", …" if len(found) > _POSITIONS_SHOWN else "")


def check_shape(name: str, expected: Sequence[int], values: Tensor) -> None:
    """Refuse losses that have another shape than a parameter.

    Args:
        name: Of the parameter.
        expected: Its shape.
        values: The losses.

    Raises:
        ValueError: The shapes differ.
    """
    if tuple(values.shape) != tuple(expected):
        raise ValueError(
            f"got losses of shape {list(values.shape)} for {name} of shape {list(expected)}, "
            "expected the same shape, reshape one of them."
        )


def shape_of(shape: int | Sequence[int]) -> tuple[int, ...]:
    """The shape of the losses that a constructor was given.

    Args:
        shape: A shape, or the length of a vector.

    Returns:
        The shape.

    Raises:
        TypeError: No integer and no sequence of integers.
        ValueError: A size below 1.
    """
    try:
        sizes = (shape,) if hasattr(shape, "__index__") else tuple(shape)
        if any(isinstance(size, bool) for size in sizes):
            raise TypeError
        sizes = tuple(operator.index(size) for size in sizes)
    except TypeError:
        raise TypeError(
            f"got shape={shape!r}, expected an integer or a sequence of integers, pass the shape "
            "of the losses."
        ) from None
    if any(size < 1 for size in sizes):
        raise ValueError(f"got shape={shape!r}, expected sizes >= 1, pass the shape of the losses.")
    return sizes


def entries(name: str, value: Tensor) -> Tensor:
    """One real, finite number for each loss.

    Args:
        name: Of the parameter.
        value: Any shape, any device, any real dtype.

    Returns:
        The value.

    Raises:
        TypeError: No tensor of real numbers.
        ValueError: NaN or infinity.
    """
    if not isinstance(value, Tensor) or value.is_complex() or value.dtype == torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"got {name} of {kind}, expected a torch.Tensor of real numbers, convert it."
        )
    bad = positions(~torch.isfinite(value.detach()))
    if bad:
        raise ValueError(
            f"got {name} that is NaN or infinite at flat positions {bad}, expected finite numbers, "
            "pass those."
        )
    return value


def optional_entries(name: str, value: Tensor | None) -> Tensor | None:
    """One real, finite number for each loss, or None.

    Args:
        name: Of the parameter.
        value: Any shape, or None.

    Returns:
        The value.

    Raises:
        TypeError: No tensor of real numbers.
        ValueError: NaN or infinity.
    """
    return None if value is None else entries(name, value)


def direction(name: str, value: Tensor) -> Tensor:
    """One real, finite number for each loss, not all of them 0.

    Args:
        name: Of the parameter.
        value: Any shape.

    Returns:
        The value.

    Raises:
        TypeError: No tensor of real numbers.
        ValueError: NaN, infinity, or nothing but zeros.
    """
    if not bool(entries(name, value).detach().any()):
        raise ValueError(
            f"got {name} of {value.numel()} zeros, expected a direction, "
            "pass at least one number that is not 0."
        )
    return value


def working_dtype(device: torch.device) -> torch.dtype:
    """What is computed in on a device: float64, or float32 where there is no float64.

    Args:
        device: Of the losses.

    Returns:
        The dtype.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def working(values: Tensor) -> Tensor:
    """Losses in the dtype that they are computed in.

    Few numbers, so the cost is nothing; what overflows or vanishes in half or single precision
    does not here, and autocast leaves float64 alone.

    Args:
        values: Any floating dtype.

    Returns:
        The same numbers, differentiable.
    """
    return values.to(working_dtype(values.device))


def moved(parameter: Tensor, values: Tensor) -> Tensor:
    """A parameter where the losses are.

    Args:
        parameter: Any device and dtype.
        values: What it is combined with.

    Returns:
        The parameter on the device and in the dtype of the values, differentiable.
    """
    return parameter.to(device=values.device, dtype=values.dtype)
