"""The shape of a Gramian: its eigenvalues, its groups of objectives, its leading plane.

The gradients are the rows of J, shape [m, n], and G = J Jᵀ, shape [m, m]. The eigenvectors of G
are the principal directions of the gradients without their mean taken away: they come from the
origin, because it is their directions that agree or conflict.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from jdviz.conflict import CANCELLED, Array, as_gramian, cosines

#: Two groups stay apart unless the mean cosine between their members is above this: zero, up to
#: the rounding of a mean.
APART = 1e-12

#: Label of a gradient that is zero or not finite, which no group can have.
NO_GROUP = -1


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The eigenvalues of a Gramian and what they say in one number each.

    Attributes:
        values: Eigenvalues, largest first, shape [m]; what rounding made negative is zero.
        effective_rank: How many directions the gradients spread over, from 1 to m; 0 if all
            gradients are zero.
        leading_share: Share of the sum of the two largest, from 0 to 1; NaN if all are zero.
    """

    values: Array
    effective_rank: float
    leading_share: float


@dataclass(frozen=True, eq=False)
class ClusterOrder:
    """Objectives in groups whose gradients agree.

    Attributes:
        order: Places of the objectives, those of a group side by side, the largest group first,
            shape [m].
        labels: Number of each objective's group, from 0 in that order, shape [m]; -1 for a
            gradient that is zero or not finite, which come last.
    """

    order: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LeadingPlane:
    """The gradients in the plane in which they have the most of their length.

    Attributes:
        gradients: Coordinates along the first two eigenvectors, shape [m, 2].
        mean: Coordinates of the mean gradient, shape [2].
        captured: Share of each gradient's squared length that lies in the plane, shape [m], from
            0 to 1; 1 for a zero gradient.
        axis_shares: Share of all squared lengths along each of the two axes, shape [2].
    """

    gradients: Array
    mean: Array
    captured: Array
    axis_shares: Array

    @property
    def total(self) -> float:
        """Share of all squared lengths that lies in the plane, from 0 to 1."""
        return float(min(self.axis_shares.sum(), 1.0))


def spectrum(G: ArrayLike) -> Spectrum:
    """Eigenvalues of a Gramian, and over how many directions its gradients spread.

    The effective rank is exp(-Σ pₖ log pₖ) with pₖ the k-th eigenvalue's share of their sum.

    Args:
        G: Gramian, shape [m, m].

    Raises:
        ValueError: If G is not a square matrix or not finite.

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007, equations 1 to 4, of the matrix G,
        whose singular values are its eigenvalues.
    """
    values, _ = _eigen(G)
    total = float(values.sum())
    if total == 0:
        return Spectrum(values, 0.0, float("nan"))
    shares = values / total
    present = shares[shares > 0]
    entropy = -float(present @ np.log(present))
    return Spectrum(values, float(np.exp(entropy)), float(min(shares[:2].sum(), 1.0)))


def cluster_order(G: ArrayLike) -> ClusterOrder:
    """Groups objectives by the agreement of their gradients.

    Average linkage on the distance 1 - cosine: the two groups with the largest mean cosine between
    their members are joined, as long as that mean is above zero. Between two groups that remain,
    the gradients are at a right angle or in conflict on average.

    Args:
        G: Gramian, shape [m, m].

    Raises:
        ValueError: If G is not a square matrix.
    """
    values = cosines(G)
    m = len(values)
    labels = np.full(m, NO_GROUP, dtype=np.int64)
    known = np.flatnonzero(~np.isnan(np.diagonal(values)))
    # A pair can lack a cosine although both gradients have a length; it then tells nothing.
    distances = 1.0 - np.nan_to_num(values[np.ix_(known, known)])
    leaves = np.arange(known.size)
    groups = np.zeros(known.size, dtype=np.int64)
    if known.size > 1:
        distances = (distances + distances.T) / 2
        joined = linkage(squareform(distances, checks=False), method="average")
        leaves = leaves_list(joined)
        groups = fcluster(joined, t=1.0 - APART, criterion="distance")
    members = [known[leaves[groups[leaves] == group]] for group in np.unique(groups)]
    members.sort(key=lambda places: (-len(places), int(places.min())))
    for label, places in enumerate(members):
        labels[places] = label
    lacking = np.flatnonzero(labels == NO_GROUP)
    return ClusterOrder(np.concatenate([*members, lacking]).astype(np.int64), labels)


def leading_plane(G: ArrayLike) -> LeadingPlane:
    """The plane of the two leading eigenvectors of G, with the gradients projected onto it.

    No other plane through the origin holds more of the gradients' squared lengths. Gradient i has
    the coordinates √λₖ uₖᵢ. An eigenvector has no sign of its own: here the mean gradient has no
    negative coordinate; where it has none along an axis, the gradient with the largest is positive.

    Args:
        G: Gramian, shape [m, m].

    Raises:
        ValueError: If G is not a square matrix or not finite.
    """
    values, vectors = _eigen(G)
    m, squares = len(values), np.diagonal(as_gramian(G))
    coordinates = np.zeros((m, 2))
    shown = min(m, 2)
    coordinates[:, :shown] = vectors[:, :shown] * np.sqrt(values[:shown])
    for axis in coordinates.T:
        lean = axis.sum()
        if abs(lean) <= CANCELLED * np.abs(axis).sum():
            lean = axis[np.argmax(np.abs(axis))] if m else 0.0
        if lean < 0:
            axis *= -1
    inside = np.sum(coordinates**2, axis=1)
    captured = np.divide(inside, squares, out=np.ones(m), where=squares > 0)
    total = float(values.sum())
    shares = np.zeros(2)
    shares[:shown] = values[:shown] / total if total else 1.0
    return LeadingPlane(
        gradients=coordinates,
        mean=coordinates.sum(axis=0) / max(m, 1),
        captured=np.clip(captured, 0.0, 1.0),
        axis_shares=shares,
    )


def _eigen(G: ArrayLike) -> tuple[Array, Array]:
    """Eigenvalues, largest first, without what is rounding, and eigenvectors as columns."""
    matrix = as_gramian(G)
    if not np.isfinite(matrix).all():
        raise ValueError(
            "got a Gramian that is not finite, expected finite numbers; "
            "show the last complete step instead."
        )
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values, vectors = values[::-1].copy(), vectors[:, ::-1].copy()
    values[values <= CANCELLED * np.trace(matrix)] = 0.0
    return values, vectors
