"""The average of the gradients: what gradient descent on the mean loss does."""

import torch
from torch import Tensor

from engines.aggregation.aggregators import WeightedAggregator
from engines.aggregation.records import MethodRecord
from engines.aggregation.weightings import MatrixWeighting


class MeanWeighting(MatrixWeighting):
    """Weights of `Mean`: w = (1/m, …, 1/m).

    Example:
        >>> import torch
        >>> from engines.aggregation import MeanWeighting
        >>> MeanWeighting()(torch.eye(4))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    def forward(self, stat: Tensor, /) -> Tensor:
        """Equal weights that sum to 1.

        Args:
            stat: A Gramian, shape [m, m], or a Jacobian, shape [m, n]; only m matters.

        Returns:
            Weights, shape [m].
        """
        m = stat.shape[0]
        return torch.full((m,), 1.0 / max(1, m), dtype=stat.dtype, device=stat.device)


class Mean(WeightedAggregator):
    """Average of the rows: A(J) = (1/m) Σᵢ gᵢ.

    Cost: m·n multiply-adds, no Gramian.

    Example:
        >>> import torch
        >>> from engines.aggregation import Mean
        >>> Mean()(torch.tensor([[-4., 1., 1.], [6., 1., 1.]]))
        tensor([1., 1., 1.])
    """

    _parameters_shown = ()

    def __init__(self) -> None:
        super().__init__(MeanWeighting())


RECORD = MethodRecord(
    name="Mean",
    make=Mean,
    make_weighting=MeanWeighting,
    summary="Averages the gradients, as gradient descent on the mean loss does.",
    formula="A(J) = (1/m) Σᵢ gᵢ",
    paper="Cauchy, Méthode générale pour la résolution des systèmes d'équations "
    "simultanées, 1847 (gradient descent)",
    non_conflicting=False,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=True,
)
