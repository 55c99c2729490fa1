"""What a matrix from elsewhere is: a Gramian, a Jacobian, or neither. Nothing is repaired."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jdviz.conflict import Array

#: Beyond this many objectives a list of them is cut.
LISTED = 5


@dataclass(frozen=True)
class Verdict:
    """One thing that was checked.

    Attributes:
        passed: Whether it holds.
        sentence: What was found, for a person.
    """

    passed: bool
    sentence: str


@dataclass(frozen=True)
class GramianReport:
    """What was found about a matrix that is meant to be a Gramian.

    Attributes:
        shape: Of the array.
        square: Whether it is m × m with at least one objective.
        finite: Whether it holds finite real numbers only.
        asymmetry: Largest difference of an entry and its mirror image, as a share of the largest
            entry; NaN where that cannot be said.
        smallest: Smallest eigenvalue as a share of the largest in absolute value; NaN likewise.
        bound: What rounding can make of both, as a share.
        verdicts: What was checked, in order; later checks need earlier ones.
    """

    shape: tuple[int, ...]
    square: bool
    finite: bool
    asymmetry: float
    smallest: float
    bound: float
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether it can be the Gramian of some gradients."""
        return all(verdict.passed for verdict in self.verdicts)


@dataclass(frozen=True)
class JacobianReport:
    """What was found about a matrix that is meant to be a Jacobian.

    Attributes:
        shape: Of the array.
        matrix: Whether it has two dimensions, neither of them empty.
        finite: Whether it holds finite real numbers only.
        zero_rows: Places of the objectives whose gradient is zero.
        verdicts: What was checked, in order; later checks need earlier ones.
    """

    shape: tuple[int, ...]
    matrix: bool
    finite: bool
    zero_rows: tuple[int, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether its Gramian can be computed; zero gradients are allowed."""
        return self.matrix and self.finite


def check_gramian(M: ArrayLike) -> GramianReport:
    """Whether a matrix can be a Gramian: square, finite, symmetric, positive semi-definite.

    The last two hold up to rounding: an entry is the sum of rounded products, so it is off by a few
    units in the last place of its data type, and m such errors move an eigenvalue by at most m
    times as much. The bound is 8 m ε of the largest; numbers that are no floating point count as
    float64.

    Args:
        M: Any array.

    Returns:
        What was found; the matrix is not changed.
    """
    array = np.asarray(M)
    shape = array.shape
    square = array.ndim == 2 and shape[0] == shape[1] and shape[0] > 0
    bound = 8 * max(shape[0] if shape else 1, 1) * _epsilon(array)
    verdicts = [_squareness(shape, square), _finiteness(array)]
    finite = verdicts[1].passed
    if not (square and finite):
        nothing = float("nan")
        return GramianReport(shape, square, finite, nothing, nothing, bound, tuple(verdicts))
    matrix = np.array(array, dtype=np.float64)
    # Scaled first: the square of a large number could overflow in the eigenvalues.
    size = float(np.abs(matrix).max()) or 1.0
    matrix /= size
    asymmetry = float(np.abs(matrix - matrix.T).max())
    values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    largest = float(np.abs(values).max()) or 1.0
    smallest = float(values[0]) / largest
    verdicts += [_symmetry(matrix, asymmetry, bound), _definiteness(matrix, smallest, bound)]
    return GramianReport(shape, square, finite, asymmetry, smallest, bound, tuple(verdicts))


def check_jacobian(J: ArrayLike) -> JacobianReport:
    """Whether an array can be a Jacobian: a matrix of finite numbers, a row for each objective.

    Args:
        J: Any array.

    Returns:
        What was found; the matrix is not changed.
    """
    array = np.asarray(J)
    shape = array.shape
    matrix = array.ndim == 2 and array.size > 0
    words = f"It is {' × '.join(str(size) for size in shape)}" if shape else "It is one number"
    ending = "one row for each objective" if matrix else "expected m × n with a row for each"
    verdicts = [Verdict(matrix, f"{words}: {ending}."), _finiteness(array)]
    finite = verdicts[1].passed
    zero: tuple[int, ...] = ()
    if matrix and finite:
        m, n = shape
        wide = m <= n
        relation = "no more objectives than parameters"
        if not wide:
            relation = "more objectives than parameters, so some gradients are sums of others"
        verdicts.append(Verdict(wide, f"{m} rows and {n} columns: {relation}."))
        zero = tuple(int(place) for place in np.flatnonzero(~array.any(axis=1)))
        verdicts.append(_zero_rows(zero))
    return JacobianReport(shape, matrix, finite, zero, tuple(verdicts))


def _epsilon(array: NDArray[Any]) -> float:
    return float(np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps)


def _squareness(shape: tuple[int, ...], square: bool) -> Verdict:
    if square:
        return Verdict(True, f"It is square: {shape[0]} × {shape[0]}.")
    words = " × ".join(str(size) for size in shape) or "one number"
    return Verdict(False, f"It is {words}, not square; a Gramian has a row and a column for each.")


def _finiteness(array: NDArray[Any]) -> Verdict:
    if array.dtype.kind not in "fiub":
        return Verdict(False, f"It holds {array.dtype}, expected real numbers.")
    missing = int(np.sum(~np.isfinite(array)))
    if not missing:
        return Verdict(True, "All numbers are finite.")
    return Verdict(False, f"{missing} of {array.size} numbers are not finite.")


def _symmetry(matrix: Array, asymmetry: float, bound: float) -> Verdict:
    if asymmetry == 0:
        return Verdict(True, "It is symmetric.")
    row, column = np.unravel_index(np.argmax(np.abs(matrix - matrix.T)), matrix.shape)
    size = f"{asymmetry:.2g} of the largest entry (rounding: at most {bound:.2g})"
    if asymmetry <= bound:
        return Verdict(True, f"It is symmetric up to rounding: entries differ by {size}.")
    where = f"entries ({row + 1}, {column + 1}) and ({column + 1}, {row + 1})"
    return Verdict(False, f"It is not symmetric: {where} differ by {size}.")


def _definiteness(matrix: Array, smallest: float, bound: float) -> Verdict:
    negative = np.flatnonzero(np.diagonal(matrix) < 0)
    size = f"the smallest eigenvalue is {smallest:.2g} of the largest"
    if smallest >= -bound:
        rounding = f" (rounding: down to {-bound:.2g})" if smallest < 0 else ""
        return Verdict(True, f"It is positive semi-definite: {size}{rounding}.")
    cause = ""
    if negative.size:
        cause = f" Entry ({negative[0] + 1}, {negative[0] + 1}), a squared length, is negative."
    return Verdict(
        False, f"It is not positive semi-definite: {size} (rounding: down to {-bound:.2g}).{cause}"
    )


def _zero_rows(places: tuple[int, ...]) -> Verdict:
    if not places:
        return Verdict(True, "No gradient is zero.")
    shown = ", ".join(str(place + 1) for place in places[:LISTED])
    more = f" and {len(places) - LISTED} more" if len(places) > LISTED else ""
    if len(places) == 1:
        return Verdict(False, f"The gradient of row {shown} is zero and has no angle to others.")
    return Verdict(False, f"The gradients of rows {shown}{more} are zero and have no angle.")
