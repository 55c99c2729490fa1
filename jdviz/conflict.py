"""Measures of conflict between objectives, all from the Gramian of their gradients.

Objective i has the gradient gᵢ, row i of the Jacobian J, shape [m, n]; the Gramian G = J Jᵀ,
shape [m, m], holds every inner product. An update direction A(J) = Jᵀw is given by its weights w.
Two objectives are in conflict when the cosine of their gradients is below zero.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: A squared length below this share of the terms it is summed from is a sum that cancelled: the
#: vector is zero as far as float64 can tell.
CANCELLED = 1e-12

#: Square of the sine below which two directions count as parallel, 0.006 degrees. A direction
#: read off a smaller difference would be rounding, and it would turn at random while training.
PARALLEL = 1e-8

#: An inner product below this share of the terms it is summed from is rounding: a method on the
#: boundary of the dual cone has inner products of zero up to its solver's precision.
ROUNDING = 1e-8

#: A cosine smaller than this is the rounding of a right angle.
ORTHOGONAL = 1e-15


@dataclass(frozen=True, eq=False)
class UpdatePlane:
    """The plane of the mean gradient and the update, with everything projected onto it.

    Attributes:
        gradients: The gradients' coordinates, shape [m, 2].
        mean: The mean gradient's coordinates, shape [2].
        update: The update direction's coordinates, shape [2].
        captured: Share of each gradient's squared length that lies in the plane, shape [m],
            between 0 and 1; 1 for a zero gradient.
    """

    gradients: Array
    mean: Array
    update: Array
    captured: Array


def as_gramian(G: ArrayLike) -> Array:
    """A square matrix in float64.

    Args:
        G: Gramian, shape [m, m].

    Returns:
        The same matrix, shape [m, m].

    Raises:
        ValueError: If G is not a square matrix.
    """
    matrix = np.asarray(G, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"got a Gramian of shape {matrix.shape}, expected a square matrix [m, m].")
    return matrix


def cosines(G: ArrayLike) -> Array:
    """Cosine of every pair of gradients.

    Args:
        G: Gramian, shape [m, m].

    Returns:
        Cosines between -1 and 1, shape [m, m]; NaN in the rows and columns of gradients that are
        zero or not finite, exactly 1 on the rest of the diagonal.

    Raises:
        ValueError: If G is not a square matrix.
    """
    matrix = as_gramian(G)
    lengths = _lengths(matrix)
    with np.errstate(all="ignore"):
        # One division after the other: the product of two lengths could overflow.
        result = matrix / lengths[:, None] / lengths[None, :]
    result[~np.isfinite(result)] = np.nan
    result = np.clip(result, -1.0, 1.0)
    result[np.abs(result) < ORTHOGONAL] = 0.0
    diagonal = np.where(np.isnan(lengths), np.nan, 1.0)
    np.fill_diagonal(result, diagonal)
    return result


def pair_angles_deg(G: ArrayLike) -> Array:
    """Angles between the gradients of all pairs i < j.

    Args:
        G: Gramian, shape [m, m].

    Returns:
        Angles in degrees between 0 and 180, shape [pairs], in the order (0, 1), (0, 2), …; pairs
        with a gradient that is zero or not finite are left out.

    Raises:
        ValueError: If G is not a square matrix.
    """
    values = _pair_cosines(G)
    return np.degrees(np.arccos(values))


def conflict_rate(G: ArrayLike) -> float:
    """Share of the pairs whose gradients have a cosine below zero.

    Args:
        G: Gramian, shape [m, m].

    Returns:
        A number from 0 to 1, or NaN if no pair has an angle.

    Raises:
        ValueError: If G is not a square matrix.
    """
    values = _pair_cosines(G)
    return float(np.mean(values < 0)) if values.size else float("nan")


def improvements(G: ArrayLike, w: ArrayLike) -> Array:
    """First-order improvement of each objective along the update, J A(J) = G w.

    Args:
        G: Gramian, shape [m, m].
        w: Weights, shape [m].

    Returns:
        Inner products gᵢ·A(J), shape [m]; a negative one belongs to an objective that gets worse.

    Raises:
        ValueError: If G is not a square matrix or w does not fit it.
    """
    matrix = as_gramian(G)
    return matrix @ _weights(w, len(matrix))


def without_rounding(inner: ArrayLike, G: ArrayLike, w: ArrayLike | None) -> Array:
    """Improvements with what is only rounding set to zero.

    Args:
        inner: Inner products gᵢ·A(J), shape [m].
        G: Gramian, shape [m, m].
        w: Weights, shape [m]; None for a method that has none, where every gradient counts once.

    Returns:
        `inner`, with 0 where it is below 1e-8 of ‖gᵢ‖ · Σⱼ |wⱼ| ‖gⱼ‖, shape [m].

    Raises:
        ValueError: If G is not a square matrix or w does not fit it.
    """
    matrix = as_gramian(G)
    lengths = np.sqrt(np.maximum(np.diagonal(matrix), 0.0))
    weights = np.ones(len(matrix)) if w is None else _weights(w, len(matrix))
    terms = lengths * float(np.abs(weights) @ lengths)
    values = np.array(inner, dtype=np.float64)
    values[np.abs(values) <= ROUNDING * terms] = 0.0
    return values


def hurt_mask(inner: ArrayLike) -> NDArray[np.bool_]:
    """Which objectives an update makes worse.

    Args:
        inner: Inner products gᵢ·A(J) from `without_rounding`, shape [m]; one that is not finite
            counts as not hurt.

    Returns:
        True for each that is hurt, shape [m].
    """
    values = np.asarray(inner, dtype=np.float64)
    mask: NDArray[np.bool_] = np.isfinite(values) & (values < 0.0)
    return mask


def direction_norm(G: ArrayLike, w: ArrayLike) -> float:
    """Length of the update direction A(J) = Jᵀw.

    Args:
        G: Gramian, shape [m, m].
        w: Weights, shape [m].

    Raises:
        ValueError: If G is not a square matrix or w does not fit it.
    """
    matrix = as_gramian(G)
    return float(np.sqrt(_square(matrix, _weights(w, len(matrix)))))


def cosine_to_mean(G: ArrayLike, w: ArrayLike) -> float:
    """Cosine between the update direction and the mean gradient.

    Args:
        G: Gramian, shape [m, m].
        w: Weights, shape [m].

    Returns:
        A number between -1 and 1, or NaN if either direction is zero or not finite.

    Raises:
        ValueError: If G is not a square matrix or w does not fit it.
    """
    matrix = as_gramian(G)
    weights = _weights(w, len(matrix))
    uniform = np.full(len(matrix), 1.0 / max(len(matrix), 1))
    lengths = np.sqrt(_square(matrix, weights)), np.sqrt(_square(matrix, uniform))
    if not all(np.isfinite(length) and length > 0 for length in lengths):
        return float("nan")
    return float(np.clip(weights @ matrix @ uniform / lengths[0] / lengths[1], -1.0, 1.0))


def update_plane(G: ArrayLike, w: ArrayLike) -> UpdatePlane:
    """Projects the gradients onto the plane of the mean gradient and the update.

    A vector of the gradients' span is a combination Jᵀc, so its coefficients c and the Gramian
    are enough: ⟨Jᵀc, Jᵀd⟩ = cᵀGd. The first axis lies along the mean gradient, the second along
    the part of A(J) across it. Where the mean is zero the first axis lies along A(J); where that
    leaves the second axis open, because A(J) is zero or parallel to the first, it is the
    direction in which the gradients spread most, and so is the first where both are zero.

    Args:
        G: Gramian, shape [m, m].
        w: Weights of the update, shape [m].

    Returns:
        Coordinates in an orthonormal basis of the plane. The mean lies on the positive first
        axis, and an update across it has a positive second coordinate.

    Raises:
        ValueError: If G is not a square matrix, w does not fit it, or either is not finite.
    """
    matrix = as_gramian(G)
    return _plane(matrix, _weights(w, len(matrix)), len(matrix))


def update_plane_without_weights(G: ArrayLike, inner: ArrayLike, norm: float) -> UpdatePlane:
    """`update_plane` for an update that is no known combination of the gradients.

    The update joins the gradients as one more vector: its inner products with them and its length
    complete the Gramian, in which it is a combination of itself.

    Args:
        G: Gramian, shape [m, m].
        inner: Inner products gᵢ·A(J), shape [m].
        norm: Length of A(J).

    Returns:
        As `update_plane`.

    Raises:
        ValueError: If G is not a square matrix, `inner` does not fit it, or a number is not finite.
    """
    matrix = as_gramian(G)
    m = len(matrix)
    column = _weights(inner, m)[:, None]
    square = np.full((1, 1), norm**2)
    return _plane(np.block([[matrix, column], [column.T, square]]), np.eye(m + 1)[m], m)


def _plane(matrix: Array, update: Array, m: int) -> UpdatePlane:
    """The plane of the mean of the first m vectors and of the combination `update` of all."""
    if not (np.isfinite(matrix).all() and np.isfinite(update).all()):
        raise ValueError(
            "got a Gramian or weights that are not finite, expected finite numbers; "
            "show the last complete step instead."
        )
    uniform = np.zeros(len(matrix))
    uniform[:m] = 1.0 / max(m, 1)
    axes: list[Array] = []
    for coefficients in (uniform, update):
        axis = _across(matrix, coefficients, axes)
        if axis is not None:
            axes.append(axis)
    while len(axes) < 2:
        axes.append(_widest(matrix, axes))
    basis = np.stack(axes, axis=1)
    coordinates = matrix @ basis
    gradients, squares = coordinates[:m], np.diagonal(matrix)[:m]
    in_plane = np.sum(gradients**2, axis=1)
    captured = np.divide(in_plane, squares, out=np.ones(m), where=squares > 0)
    return UpdatePlane(
        gradients=gradients,
        mean=uniform @ coordinates,
        update=update @ coordinates,
        captured=np.clip(captured, 0.0, 1.0),
    )


def _weights(w: ArrayLike, m: int) -> Array:
    weights = np.asarray(w, dtype=np.float64)
    if weights.shape != (m,):
        raise ValueError(f"got weights of shape {weights.shape}, expected ({m},) as the Gramian's.")
    return weights


def _lengths(matrix: Array) -> Array:
    """Lengths of the gradients, shape [m]; NaN where there is no direction to speak of."""
    squares = np.diagonal(matrix)
    usable = np.isfinite(squares) & (squares > 0)
    return np.sqrt(np.where(usable, squares, np.nan))


def _pair_cosines(G: ArrayLike) -> Array:
    values = cosines(G)
    upper = values[np.triu_indices(len(values), k=1)]
    return upper[~np.isnan(upper)]


def _square(matrix: Array, coefficients: Array) -> float:
    """Squared length of Jᵀc; 0 where the sum cancelled, NaN where it is not finite."""
    with np.errstate(all="ignore"):
        value = float(coefficients @ matrix @ coefficients)
        terms = float(np.abs(coefficients) @ np.abs(matrix) @ np.abs(coefficients))
    if not np.isfinite(value):
        return float("nan")
    return value if value > CANCELLED * terms else 0.0


def _across(matrix: Array, coefficients: Array, axes: list[Array]) -> Array | None:
    """The unit vector along Jᵀc with its part along the axes removed; None if nothing is left."""
    whole = _square(matrix, coefficients)
    rest = coefficients
    for axis in axes:
        rest = rest - (axis @ matrix @ rest) * axis
    left = _square(matrix, rest)
    if left <= PARALLEL * whole:
        return None
    return rest / np.sqrt(left)


def _widest(matrix: Array, axes: list[Array]) -> Array:
    """The unit direction across the axes in which the gradients spread most; zero if none is."""
    m = len(matrix)
    if m == 0:
        return np.zeros(0)
    # Coefficients of the gradients without their parts along the axes, one in each column.
    remove = np.eye(m)
    for axis in axes:
        remove = remove - np.outer(axis, axis @ matrix)
    rest = remove.T @ matrix @ remove
    values, vectors = np.linalg.eigh((rest + rest.T) / 2)
    if values[-1] <= CANCELLED * np.trace(matrix):
        return np.zeros(m)
    vector = vectors[:, -1]
    # An eigenvector has no sign of its own; this choice keeps the picture from flipping.
    if vector[np.argmax(np.abs(vector))] < 0:
        vector = -vector
    return remove @ vector / np.sqrt(values[-1])
