"""Checks of inputs and of constructor parameters, each with one message form."""

import math
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
    _check_real(name, value)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"got {name}={value}, expected a finite number >= 0, pass one.")
    return value


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
    _check_real(name, value)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"got {name}={value}, expected a finite number > 0, pass one.")
    return value


def positive_integer(name: str, value: int) -> int:
    """An integer above 0.

    Args:
        name: Of the parameter.
        value: Its value.

    Returns:
        The value.

    Raises:
        TypeError: No integer.
        ValueError: 0 or negative.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"got {name}={value!r}, expected an integer >= 1, pass one.")
    if value < 1:
        raise ValueError(f"got {name}={value}, expected an integer >= 1, pass one.")
    return value


def preference(value: Tensor | None) -> Tensor | None:
    """A preference vector, or None for equal preferences.

    Args:
        value: Shape [m], real and finite, or None.

    Returns:
        The value.

    Raises:
        TypeError: No tensor of real numbers.
        ValueError: Not one dimension, or not finite.
    """
    if value is None:
        return None
    if not isinstance(value, Tensor) or value.is_complex() or value.dtype == torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"got pref_vector of {kind}, expected a torch.Tensor of real numbers, convert it."
        )
    if value.ndim != 1:
        raise ValueError(
            f"got pref_vector of shape {list(value.shape)}, expected [m], pass one number per "
            "objective."
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError("got NaN or infinity in pref_vector, expected finite numbers, pass those.")
    return value


def _check_real(name: str, value: object) -> None:
    """Refuse what is no real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"got {name}={value!r}, expected a real number, pass one.")
