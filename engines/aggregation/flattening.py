"""A weighting of a generalized Gramian from a weighting of a square one."""

from torch import Tensor

from engines.aggregation.naming import constructor_call
from engines.aggregation.weightings import GeneralizedWeighting, Weighting
from engines.linalg.gramian import flatten_gramian


class Flattening(GeneralizedWeighting):
    """Flattens a generalized Gramian to a square one, weighs it, and reshapes the weights.

    Args:
        weighting: Maps a Gramian, shape [m1 ⋯ mk, m1 ⋯ mk], to weights, shape [m1 ⋯ mk].

    Example:
        >>> import torch
        >>> from engines.aggregation import Flattening, MeanWeighting
        >>> gramian = torch.ones(2, 3, 3, 2)
        >>> Flattening(MeanWeighting())(gramian).shape
        torch.Size([2, 3])
    """

    def __init__(self, weighting: Weighting) -> None:
        super().__init__()
        self.weighting = weighting

    def forward(self, generalized_gramian: Tensor, /) -> Tensor:
        """Compute the weights.

        Args:
            generalized_gramian: Shape [m1, …, mk, mk, …, m1].

        Returns:
            Weights, shape [m1, …, mk].

        Raises:
            ValueError: The shape is not a palindrome of even length.
        """
        square = flatten_gramian(generalized_gramian)
        shape = generalized_gramian.shape[: generalized_gramian.ndim // 2]
        return self.weighting(square).reshape(shape)

    def __repr__(self) -> str:
        return constructor_call(self, ("weighting",))

    def __str__(self) -> str:
        return type(self).__name__
