"""Krum: the gradients that have the others nearest to them, for when some may be hostile."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import check_rows, whole
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import check_finite_gramian

Array = NDArray[np.float64]


class KrumWeighting(SolvedWeighting):
    """Weights of `Krum`: 1/n_selected for the gradients of lowest score, 0 for the others.

    See `Krum` for the source, the parameters and what differs elsewhere.

    Example:
        >>> import torch
        >>> from engines.aggregation import KrumWeighting
        >>> matrix = torch.tensor([[1., 0.], [3., 0.], [1.5, 0.], [99., 0.]])
        >>> KrumWeighting(n_byzantine=0)(matrix @ matrix.T)
        tensor([0., 0., 1., 0.])
    """

    # The weights change only where the selection does.
    _piecewise_constant = True
    _parameters_shown = ("n_byzantine", "n_selected")

    def __init__(self, n_byzantine: int, n_selected: int = 1) -> None:
        super().__init__()
        self.n_byzantine = n_byzantine
        self.n_selected = n_selected

    @property
    def n_byzantine(self) -> int:
        """How many gradients may be hostile, at least 0."""
        return self._n_byzantine

    @n_byzantine.setter
    def n_byzantine(self, value: int) -> None:
        self._n_byzantine = whole("n_byzantine", value, 0)

    @property
    def n_selected(self) -> int:
        """How many gradients are averaged, at least 1."""
        return self._n_selected

    @n_selected.setter
    def n_selected(self, value: int) -> None:
        self._n_selected = whole("n_selected", value, 1)

    def solve(self, gramian: Array) -> Array:
        """Score the gradients and select.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m], non-negative, with sum 1.

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            ValueError: m is less than n_byzantine + 3 or than n_selected.
        """
        m = len(gramian)
        check_rows("Krum", m, self.n_byzantine + 3, "n_byzantine + 3")
        check_rows("Krum", m, self.n_selected, "n_selected")
        check_finite_gramian(gramian)
        nearest = np.sort(_squared_distances(gramian), axis=1)[:, : m - self.n_byzantine - 2]
        # Stable, so that the first of several equal scores is selected.
        selected = np.argsort(nearest.sum(axis=1), kind="stable")[: self.n_selected]
        weights = np.zeros(m)
        weights[selected] = 1.0 / self.n_selected
        return weights

    def __str__(self) -> str:
        return f"{type(self).__name__}{self.n_byzantine}-{self.n_selected}"


def _squared_distances(gramian: Array) -> Array:
    """Between each two gradients, in units of the largest; infinite to itself, shape [m, m]."""
    largest = float(np.abs(gramian).max())
    # A power of two rounds nothing. Sums of three entries then stay in range.
    scaled = np.ldexp(gramian, -int(np.frexp(largest)[1]))
    squares = np.diagonal(scaled)
    inner = 0.5 * (scaled + scaled.T)
    # What rounding leaves below zero would count as nearer than a copy.
    distances = np.maximum(squares[:, None] + squares - 2.0 * inner, 0.0)
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances)


class Krum(GramianWeightedAggregator):
    """Average of the gradients whose neighbours are nearest, robust against hostile ones.

    A(J) is the mean of the n_selected rows of lowest score, where the score of gᵢ is the sum of
    |gᵢ - gⱼ|² over the m - n_byzantine - 2 nearest others. With n_selected = 1 it is one of the
    gradients. Of equal scores the first counts, and they are common: where only one neighbour
    counts, two gradients that are each other's nearest always tie.

    The distances are squared as in the paper; the code of some of its authors (ByzantineMomentum)
    and TorchJD add plain distances, which can select another gradient. The paper proves its
    resilience for m > 2 n_byzantine + 2; fewer objectives are accepted. The selection is made
    from the Gramian, so distances below about 1e-8 of the longest of the gradients compared are
    rounding.

    The direction can be differentiated: the selection counts as constant.

    Args:
        n_byzantine: How many gradients may be hostile, at least 0.
        n_selected: How many gradients are averaged, at least 1.

    Raises:
        TypeError: A parameter is no integer.
        ValueError: A parameter is out of range; later, m is less than n_byzantine + 3 or than
            n_selected.

    Source: Blanchard et al., Machine Learning with Adversaries, NeurIPS 2017, Section 4, and for
        n_selected > 1 its Multi-Krum.
    Cost: the Gramian (m²n multiply-adds), then m² log m comparisons.

    Example:
        >>> import torch
        >>> from engines.aggregation import Krum
        >>> matrix = torch.tensor([[1., 1.], [1., 2.], [2., 1.], [-9., 9.]])
        >>> Krum(n_byzantine=1, n_selected=2)(matrix)
        tensor([1.0000, 1.5000])
    """

    _parameters_shown = ("n_byzantine", "n_selected")

    n_byzantine = Forwarded()
    n_selected = Forwarded()

    def __init__(self, n_byzantine: int, n_selected: int = 1) -> None:
        super().__init__(KrumWeighting(n_byzantine, n_selected))

    def __str__(self) -> str:
        return f"{type(self).__name__}{self.n_byzantine}-{self.n_selected}"


def krum_arguments(m: int) -> dict[str, Any]:
    """One hostile gradient where that leaves enough others.

    Args:
        m: Number of objectives.

    Returns:
        The required parameters by name.
    """
    return {"n_byzantine": 1 if m >= 4 else 0}


RECORD = MethodRecord(
    name="Krum",
    make=Krum,
    make_weighting=KrumWeighting,
    summary="Averages the gradients that lie nearest to their neighbours.",
    formula="A(J) = (1/k) Σ gᵢ over the k lowest scores sᵢ = Σⱼ |gᵢ − gⱼ|², j the nearest others",
    paper="Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient "
    "Descent, NeurIPS 2017",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=False,
    parameters=(
        Parameter("n_byzantine", "integer", 1, "How many gradients may be hostile.", 0, 5),
        Parameter("n_selected", "integer", 1, "How many gradients are averaged.", 1, 5),
    ),
    arguments=krum_arguments,
    least_objectives=3,
    remarks="The order of the objectives matters only between equal scores, of which the first "
    "counts.",
)
