"""Checks of inputs and of constructor parameters, each with one message form."""

import math
import operator
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from engines.errors import NonFiniteGradientError
from engines.linalg.gramian import column_chunks, non_finite_message


def check_matrix(matrix: Tensor, what: str = "a matrix") -> None:
    """Refuse what is no real floating-point matrix.

    Args:
        matrix: Anything.
        what: How the message calls the argument.

    Raises:
        TypeError: No tensor, or no floating dtype.
        ValueError: Not two dimensions.
    """
    if not isinstance(matrix, Tensor):
        raise TypeError(
            f"got {type(matrix).__name__}, expected {what} as a torch.Tensor, "
            "convert it with torch.as_tensor."
        )
    if matrix.ndim != 2:
        raise ValueError(
            f"got {what} of shape {list(matrix.shape)}, expected two dimensions, "
            "flatten the rows first."
        )
    if not matrix.is_floating_point():
        raise TypeError(
            f"got {what} of {matrix.dtype}, expected a real floating-point dtype, convert it."
        )


def check_gramian(gramian: Tensor) -> None:
    """Refuse what cannot be a Gramian by its shape or dtype.

    Args:
        gramian: Anything.

    Raises:
        TypeError: No tensor, or no floating dtype.
        ValueError: Not a square matrix.
    """
    check_matrix(gramian, "a Gramian")
    if gramian.shape[0] != gramian.shape[1]:
        raise ValueError(
            f"got a Gramian of shape {list(gramian.shape)}, expected [m, m], "
            "pass J Jᵀ, or use the aggregator on J."
        )


def check_finite_rows(matrix: Tensor) -> None:
    """Refuse NaN and infinity, naming the rows.

    Args:
        matrix: Shape [m, n].

    Raises:
        NonFiniteGradientError: With the rows that are not finite.
    """
    m = matrix.shape[0]
    bad = torch.zeros(m, dtype=torch.bool, device=matrix.device)
    for chunk in column_chunks(matrix.detach()):
        bad |= ~torch.isfinite(chunk).all(dim=1)
    rows = torch.nonzero(bad).flatten().tolist()
    if rows:
        raise NonFiniteGradientError(non_finite_message(rows))


def non_negative(name: str, value: float) -> float:
    """A finite number that is at least 0.

    Args:
        name: Of the parameter.
        value: Its value.

    Returns:
        The value.

    Raises:
        TypeError: No real number.
        ValueError: Negative, NaN or infinite.
    """
    number = _real(name, value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"got {name}={value}, expected a finite number >= 0, pass one.")
    return value if type(value) in (int, float) else number


def positive(name: str, value: float) -> float:
    """A finite number above 0.

    Args:
        name: Of the parameter.
        value: Its value.

    Returns:
        The value.

    Raises:
        TypeError: No real number.
        ValueError: 0, negative, NaN or infinite.
    """
    number = _real(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"got {name}={value}, expected a finite number > 0, pass one.")
    return value if type(value) in (int, float) else number


def fraction(name: str, value: float, *, below_one: bool = False) -> float:
    """A number from 0 to 1.

    Args:
        name: Of the parameter.
        value: Its value.
        below_one: Whether 1 itself is refused.

    Returns:
        The value.

    Raises:
        TypeError: No real number.
        ValueError: Outside the range, or NaN.
    """
    number = _real(name, value)
    if not (0 <= number < 1 or (number == 1 and not below_one)):
        end = "1)" if below_one else "1]"
        raise ValueError(f"got {name}={value}, expected a number in [0, {end}, pass one.")
    return value if type(value) in (int, float) else number


def whole(name: str, value: int, least: int) -> int:
    """An integer that is not too small.

    Args:
        name: Of the parameter.
        value: Its value.
        least: The smallest one allowed.

    Returns:
        The value.

    Raises:
        TypeError: No integer.
        ValueError: Below `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"got {name}={value!r}, expected an integer >= {least}, pass one.")
    if number < least:
        raise ValueError(f"got {name}={value}, expected an integer >= {least}, pass one.")
    return number


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """One of several words.

    Args:
        name: Of the parameter.
        value: Its value.
        choices: The words allowed.

    Returns:
        The value.

    Raises:
        ValueError: Anything else.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"got {name}={value!r}, expected one of {', '.join(map(repr, choices))}, name one."
        )
    return value


def vector(name: str, value: Tensor) -> Tensor:
    """One real, finite number for each objective.

    Args:
        name: Of the parameter.
        value: Shape [m].

    Returns:
        The value.

    Raises:
        TypeError: No tensor of real numbers.
        ValueError: Not one dimension, or not finite.
    """
    if not isinstance(value, Tensor) or value.is_complex() or value.dtype == torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"got {name} of {kind}, expected a torch.Tensor of real numbers, convert it."
        )
    if value.ndim != 1:
        raise ValueError(
            f"got {name} of shape {list(value.shape)}, expected [m], pass one number per objective."
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"got NaN or infinity in {name}, expected finite numbers, pass those.")
    return value


def check_length(name: str, value: Tensor, m: int) -> None:
    """Refuse a vector that has not one number for each objective.

    Args:
        name: Of the parameter.
        value: Shape [k].
        m: Number of objectives.

    Raises:
        ValueError: k is not m.
    """
    if len(value) != m:
        raise ValueError(
            f"got a {name} of {len(value)} entries for {m} objectives, "
            "expected one per objective, pass a vector of that length."
        )


def check_rows(method: str, m: int, least: int, reason: str) -> None:
    """Refuse fewer objectives than a method can work with.

    Args:
        method: Name of the method.
        m: Number of objectives.
        least: The smallest number allowed.
        reason: Where that number comes from.

    Raises:
        ValueError: m is below `least`.
    """
    if m < least:
        raise ValueError(
            f"got {m} objective(s) for {method}, expected at least {least} ({reason}), use more "
            "objectives or other parameters."
        )


def _real(name: str, value: object) -> float:
    """A real number as a float; infinite where it is too large for one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"got {name}={value!r}, expected a real number, pass one.")
    try:
        return float(value)
    except OverflowError:
        return math.inf
