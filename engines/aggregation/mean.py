"""The average of the gradients: what gradient descent on the mean loss does."""

import torch
from torch import Tensor

from engines.aggregation.aggregators import WeightedAggregator
from engines.aggregation.validation import check_finite_rows, check_matrix
from engines.aggregation.weightings import Weighting


class MeanWeighting(Weighting):
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

        Raises:
            NonFiniteGradientError: The argument has NaN or infinity.
            TypeError: No floating-point tensor.
            ValueError: Not two dimensions.
        """
        check_matrix(stat)
        check_finite_rows(stat)
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
