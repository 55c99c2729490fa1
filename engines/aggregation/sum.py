"""The sum of the gradients: what gradient descent on the summed loss does."""

import torch
from torch import Tensor

from engines.aggregation.aggregators import WeightedAggregator
from engines.aggregation.validation import check_finite_rows, check_matrix
from engines.aggregation.weightings import Weighting


class SumWeighting(Weighting):
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

        Raises:
            NonFiniteGradientError: The argument has NaN or infinity.
            TypeError: No floating-point tensor.
            ValueError: Not two dimensions.
        """
        check_matrix(stat)
        check_finite_rows(stat)
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
