"""Constant: a fixed combination of the gradients."""

from typing import Any

import torch
from torch import Tensor

from engines.aggregation.aggregators import WeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.naming import vector_suffix
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import check_length, vector
from engines.aggregation.weightings import MatrixWeighting


class ConstantWeighting(MatrixWeighting):
    """Weights of `Constant`: those it was given.

    See `Constant` for the parameters.

    Example:
        >>> import torch
        >>> from engines.aggregation import ConstantWeighting
        >>> ConstantWeighting(torch.tensor([1., 2.]))(torch.eye(2))
        tensor([1., 2.])
    """

    _parameters_shown = ("weights",)

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    @property
    def weights(self) -> Tensor:
        """One weight for each objective, any sign, shape [m]."""
        return self._weights

    @weights.setter
    def weights(self, value: Tensor) -> None:
        self._weights = vector("weights", value)

    def forward(self, stat: Tensor, /) -> Tensor:
        """The weights, in the dtype and on the device of the statistic.

        Args:
            stat: A Gramian, shape [m, m], or a Jacobian, shape [m, n]; only m matters.

        Returns:
            Weights, shape [m].

        Raises:
            ValueError: m is not the number of weights.
        """
        check_length("weights", self.weights, stat.shape[0])
        return self.weights.to(device=stat.device, dtype=stat.dtype)

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.weights)


class Constant(WeightedAggregator):
    """Combination of the rows with weights that never change: A(J) = Σᵢ wᵢ gᵢ.

    The weights are used as they are, whatever their sign and sum. `Mean` and `Sum` are those of
    equal weights.

    Args:
        weights: One for each objective, shape [m].

    Raises:
        TypeError: The weights are no tensor of real numbers.
        ValueError: They have not one dimension or are not finite; later, m is not their number.

    Source: linear scalarization: Marler & Arora, Structural and Multidisciplinary Optimization
        41, 2010.
    Cost: m·n multiply-adds, no Gramian.

    Example:
        >>> import torch
        >>> from engines.aggregation import Constant
        >>> Constant(torch.tensor([1., 2.]))(torch.tensor([[-4., 1., 1.], [6., 1., 1.]]))
        tensor([8., 3., 3.])
    """

    _parameters_shown = ("weights",)

    weights = Forwarded()

    def __init__(self, weights: Tensor) -> None:
        super().__init__(ConstantWeighting(weights))

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.weights)


def constant_arguments(m: int) -> dict[str, Any]:
    """Weights that tell the objectives apart: 1, 2, …, m over their sum.

    Args:
        m: Number of objectives.

    Returns:
        The required parameters by name.
    """
    weights = torch.arange(1.0, m + 1.0, dtype=torch.float64)
    return {"weights": weights / max(1.0, float(weights.sum()))}


RECORD = MethodRecord(
    name="Constant",
    make=Constant,
    make_weighting=ConstantWeighting,
    summary="Adds up the gradients with weights that never change.",
    formula="A(J) = Σᵢ wᵢ gᵢ",
    paper="Marler & Arora, The weighted sum method for multi-objective optimization: new "
    "insights, Structural and Multidisciplinary Optimization 41, 2010",
    non_conflicting=False,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=False,
    parameters=(Parameter("weights", "vector", None, "The weight of each objective."),),
    arguments=constant_arguments,
    remarks="With equal weights the order of the objectives does not matter.",
)
