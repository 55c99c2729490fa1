"""How two methods come to their direction: UPGrad step by step, PCGrad in every order."""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from engines.linalg import (
    check_finite_gramian,
    compute_gramian,
    project_rows,
    unit_diagonal,
)
from jdviz.conflict import ROUNDING, without_rounding

Array = NDArray[np.float64]

#: With more gradients than this PCGrad has too many orders to be listed: 24⁵ at five.
MOST_ORDERED = 4

#: Directions of PCGrad closer than this share of the gradients' summed lengths are the same.
SAME_DIRECTION = 1e-9


@dataclass(frozen=True, eq=False)
class Construction:
    """UPGrad's direction for a Jacobian J of shape [m, n], with all that leads to it.

    Attributes:
        gradients: Rows of J, shape [m, n].
        combinations: vᵢ with π(gᵢ) = Jᵀvᵢ, one a row, shape [m, m]; vᵢ ≥ eᵢ.
        projections: π(gᵢ), the nearest point to gᵢ in the dual cone {d : gⱼ·d ≥ 0 for every j},
            one a row, shape [m, n].
        residuals: gᵢ − π(gᵢ), at a right angle to π(gᵢ), shape [m, n]; zero where gᵢ lies in the
            cone.
        active: Whether gradient j pushes gᵢ, entry [i, j], shape [m, m]: π(gᵢ) is then at a right
            angle to gⱼ.
        weights: Mean of `combinations`, shape [m].
        direction: Mean of the projections, which is UPGrad's A(J), shape [n].
        inner: J·A(J), shape [m], 0 for what is only rounding.
        regularisation: ε that was added to the Gramian's diagonal; 0 for the exact construction.
            With it the projections are not quite those onto the cone, and may leave it.
    """

    gradients: Array
    combinations: Array
    projections: Array
    residuals: Array
    active: NDArray[np.bool_]
    weights: Array
    direction: Array
    inner: Array
    regularisation: float


@dataclass(frozen=True, eq=False)
class PCGradOrders:
    """Where PCGrad goes for every order in which it can take the gradients.

    Attributes:
        directions: All distinct directions A(J), shape [k, n].
        shares: Share of the orders that lead to each, shape [k]; they sum to 1.
        direction: Mean over all orders, shape [n]: what PCGrad does on average.
        weights: Mean weights over all orders, shape [m].
        count: How many orders there are.
    """

    directions: Array
    shares: Array
    direction: Array
    weights: Array
    count: int


def upgrad_construction(J: ArrayLike, regularisation: float = 0.0) -> Construction:
    """Project every gradient onto the dual cone of all of them, and take the mean.

    Args:
        J: Gradients, shape [m, n].
        regularisation: ε, at least 0. If positive, the projections are found from G / tr G + ε I
            in place of G, as solvers that need a positive definite matrix are given it.

    Returns:
        The construction; what is only rounding in it is zero.

    Raises:
        NonFiniteGradientError: If J has NaN or infinity.
        ValueError: If J is no matrix, or ε is negative or not finite.

    Source: Quinton & Rey, arXiv 2406.16232, Proposition 1.
    """
    if not 0 <= regularisation < np.inf:
        raise ValueError(f"got a regularisation of {regularisation}, expected 0 or more; use 0.")
    gradients = _check_matrix(J)
    m = len(gradients)
    gramian = compute_gramian(torch.from_numpy(gradients)).numpy()
    units = np.eye(m)
    trace = float(np.trace(gramian))
    solved = gramian
    if regularisation > 0 and trace > 0:
        solved = gramian / trace + regularisation * units
    combinations = project_rows(solved, units)
    projections = combinations @ gradients
    lengths = np.linalg.norm(gradients, axis=1)
    # A sum of gradients that cancels is zero, and so is a step of rounding.
    rounding = ROUNDING * (combinations @ lengths)
    projections[np.linalg.norm(projections, axis=1) <= rounding] = 0.0
    residuals = gradients - projections
    residuals[np.linalg.norm(residuals, axis=1) <= rounding] = 0.0
    pushes = combinations - units
    active = pushes * lengths > rounding[:, None]
    weights = combinations.mean(axis=0) if m else np.zeros(0)
    direction = projections.mean(axis=0) if m else np.zeros(gradients.shape[1])
    inner = without_rounding(gradients @ direction, gramian, weights)
    return Construction(
        gradients,
        combinations,
        projections,
        residuals,
        active,
        weights,
        direction,
        inner,
        regularisation,
    )


def pcgrad_orders(J: ArrayLike) -> PCGradOrders:
    """PCGrad's direction for every order of its projections.

    Each gradient gᵢ is projected off the others in an order of its own, so m gradients have
    ((m − 1)!)ᵐ orders: 1, 8 and 1296 for two, three and four.

    Args:
        J: Gradients, shape [m, n], with m from 1 to 4.

    Raises:
        NonFiniteGradientError: If J has NaN or infinity.
        ValueError: If J is no matrix, or has none or more than four rows.

    Source: Yu et al., arXiv 2001.06782, Algorithm 1.
    Cost: m! projections, and one sum of m vectors for each choice of distinct results.
    """
    gradients = _check_matrix(J)
    m = len(gradients)
    if not 1 <= m <= MOST_ORDERED:
        raise ValueError(
            f"got {m} gradients, expected 1 to {MOST_ORDERED} to take in every order; draw "
            "random orders instead."
        )
    gramian = compute_gramian(torch.from_numpy(gradients)).numpy()
    check_finite_gramian(gramian)
    cosines, norms = unit_diagonal(gramian)
    inverse = np.divide(1.0, norms, out=np.zeros(m), where=norms > 0)
    tolerance = SAME_DIRECTION * float(np.linalg.norm(gradients, axis=1).sum())
    results, weights = [], np.zeros(m)
    for own in range(m):
        others = [other for other in range(m) if other != own]
        combinations = [_surgery(own, order, cosines) for order in permutations(others)]
        scaled = norms[own] * np.array(combinations) * inverse
        weights += scaled.mean(axis=0)
        ends = scaled @ gradients
        results.append(_distinct(ends, np.full(len(ends), 1 / len(ends)), tolerance))
    choices = np.indices([len(ends) for ends, _ in results]).reshape(m, -1)
    sums = np.sum([ends[at] for (ends, _), at in zip(results, choices, strict=True)], axis=0)
    each = np.prod([shares[at] for (_, shares), at in zip(results, choices, strict=True)], axis=0)
    directions, shares = _distinct(sums, each, tolerance)
    orders = math.factorial(m - 1) ** m
    return PCGradOrders(directions, shares, shares @ directions, weights, orders)


def _surgery(own: int, order: tuple[int, ...], cosines: Array) -> Array:
    """One gradient of length 1 projected off others, as a combination of all, shape [m]."""
    combination = np.zeros(len(cosines))
    combination[own] = 1.0
    for other in order:
        combination[other] -= min(float(combination @ cosines[other]), 0.0)
    return combination


def _distinct(vectors: Array, shares: Array, tolerance: float) -> tuple[Array, Array]:
    """Vectors without repetition, shape [k, n], and the summed shares of each, shape [k]."""
    kept, sums, k = np.empty_like(vectors), np.zeros(len(vectors)), 0
    for vector, share in zip(vectors, shares, strict=True):
        near = np.linalg.norm(kept[:k] - vector, axis=1) <= tolerance
        place = int(np.argmax(near)) if near.any() else k
        if place == k:
            kept[k] = vector
            k += 1
        sums[place] += share
    return kept[:k], sums[:k]


def _check_matrix(J: ArrayLike) -> Array:
    matrix = np.array(J, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"got a Jacobian of shape {matrix.shape}, expected [m, n].")
    return matrix
