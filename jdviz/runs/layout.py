"""A step as the Lens lays it out: its objectives in an order, and the pair that is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jdviz.conflict import cosines
from jdviz.runs.shown import ShownStep
from jdviz.spectrum import NO_GROUP, cluster_order

Array = NDArray[np.float64]
Order = Literal["recorded", "group", "cluster"]
# More clusters than this leave no room for their names beside the matrix.
_NAMED_CLUSTERS = 12


@dataclass(frozen=True, eq=False)
class LensStep:
    """Objectives with their inner products, in the order of the figures.

    Attributes:
        places: Place of every objective in the record, from 1, shape [m].
        names: Name of every objective, length m.
        groups: Group or cluster of every objective, length m, equal ones side by side; None where
            the order has none.
        gramian: Inner products of the gradients, shape [m, m].
        losses: Losses, shape [m]; None for an uploaded matrix.
        weights: Weights, shape [m], or None.
        inner: First-order improvements, shape [m], or None.
        sample_ids: Row of the data that each objective is, shape [m], or None.
        shares: Path of every module to its share of the Gramian, shape [m, m]; None where the
            step was not split.
    """

    places: NDArray[np.int64]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None
    gramian: Array
    losses: Array | None = None
    weights: Array | None = None
    inner: Array | None = None
    sample_ids: NDArray[np.int64] | None = None
    shares: Mapping[str, Array] | None = None

    @property
    def lengths(self) -> Array:
        """Length of every gradient, shape [m]."""
        return np.sqrt(np.maximum(np.diagonal(self.gramian), 0.0))

    def row(self, place: int) -> int | None:
        """The row of the objective at a place of the record, None where it is not shown."""
        found = np.flatnonzero(self.places == place)
        return int(found[0]) if found.size else None


def lay_out(shown: ShownStep, order: Order) -> LensStep:
    """Bring a step into the order chosen.

    Args:
        shown: The step, sorted by group.
        order: As recorded, by group, or with objectives side by side whose gradients agree.

    Returns:
        The step; where it has no groups, that order is the recorded one.
    """
    rows, groups = _rows(shown.gramian, order, shown.order, shown.groups)
    grid = np.ix_(rows, rows)
    ids, shares = shown.record.sample_ids, shown.shares()
    return LensStep(
        places=shown.order[rows] + 1,
        names=tuple(shown.names[row] for row in rows),
        groups=groups,
        gramian=shown.gramian[grid],
        losses=shown.losses[rows],
        weights=None if shown.weights is None else shown.weights[rows],
        inner=None if shown.inner is None else shown.inner[rows],
        sample_ids=None if ids is None else ids[shown.order][rows],
        shares=None if shares is None else {path: part[grid] for path, part in shares.items()},
    )


def lay_out_matrix(gramian: Array, names: tuple[str, ...], order: Order) -> LensStep:
    """Bring a Gramian that belongs to no run into the order chosen.

    Args:
        gramian: Inner products, shape [m, m].
        names: Name of every objective, length m.
        order: As for a step; it has no groups.
    """
    given = np.arange(len(gramian))
    rows, groups = _rows(gramian, order, given, None)
    return LensStep(
        places=rows + 1,
        names=tuple(names[row] for row in rows),
        groups=groups,
        gramian=gramian[np.ix_(rows, rows)],
    )


def chosen_pair(step: LensStep, places: tuple[int, int] | None) -> tuple[int, int] | None:
    """Rows of the pair to look at.

    Args:
        step: The step.
        places: Places of two objectives in the record; None for the pair with the least cosine.

    Returns:
        Two different rows; those of the least cosine where a place is not shown. None where no
        two gradients have an angle.
    """
    if places is not None:
        first, second = step.row(places[0]), step.row(places[1])
        if first is not None and second is not None and first != second:
            return first, second
    values = cosines(step.gramian)
    rows, columns = np.triu_indices(len(values), k=1)
    upper = values[rows, columns]
    if not np.isfinite(upper).any():
        return (0, 1) if len(values) > 1 else None
    worst = int(np.nanargmin(upper))
    return int(rows[worst]), int(columns[worst])


def _rows(
    gramian: Array,
    order: Order,
    places: NDArray[np.int64],
    groups: tuple[str, ...] | None,
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """The rows in the order chosen, and the name of the group that each is in."""
    if order == "cluster":
        found = cluster_order(gramian)
        if found.labels.max(initial=0) >= _NAMED_CLUSTERS:
            return found.order, None
        return found.order, tuple(_cluster_name(label) for label in found.labels[found.order])
    if order == "group" and groups is not None:
        return np.arange(len(places)), groups
    return np.argsort(places), None


def _cluster_name(label: int) -> str:
    return "no gradient" if label == NO_GROUP else f"cluster {label + 1}"
