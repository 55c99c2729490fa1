"""The sum of the gradients: what gradient descent on the summed loss does."""

import torch
from torch import Tensor

from engines.aggregation.aggregators import WeightedAggregator
from engines.aggregation.records import MethodRecord
from engines.aggregation.weightings import MatrixWeighting


class SumWeighting(MatrixWeighting):
    """Weights of `Sum`: w = (1, …, 1).

    Example:
        >>> import torch
        >>> from engines.aggregation import SumWeighting
        >>> SumWeighting()(torch.eye(3))
        tensor([1., 1., 1.])
    """

    def forward(self, stat: Tensor, /) -> Tensor:
        """Weights of 1.

        Args:
            stat: A Gramian, shape [m, m], or a Jacobian, shape [m, n]; only m matters.

        Returns:
            Weights, shape [m].
        """
        return torch.ones(stat.shape[0], dtype=stat.dtype, device=stat.device)


class Sum(WeightedAggregator):
    """Sum of the rows: A(J) = Σᵢ gᵢ.

    Cost: m·n multiply-adds, no Gramian.

    Example:
        >>> import torch
        >>> from engines.aggregation import Sum
        >>> Sum()(torch.tensor([[-4., 1., 1.], [6., 1., 1.]]))
        tensor([2., 2., 2.])
    """

    _parameters_shown = ()

    def __init__(self) -> None:
        super().__init__(SumWeighting())


RECORD = MethodRecord(
    name="Sum",
    make=Sum,
    make_weighting=SumWeighting,
    summary="Adds the gradients, as gradient descent on the summed loss does.",
    formula="A(J) = Σᵢ gᵢ",
    paper="Cauchy, Méthode générale pour la résolution des systèmes d'équations "
    "simultanées, 1847 (gradient descent)",
    non_conflicting=False,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=True,
)
