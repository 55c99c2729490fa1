"""Weightings of the product of the Jacobians of two independent batches."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.validation import check_matrix
from engines.aggregation.weightings import SolvedWeighting
from engines.stateful import Stateful

Array = NDArray[np.float64]


class ProductWeighting(Stateful, SolvedWeighting):
    """A weighting of M = J₁J₂ᵀ, where J₁ and J₂ are the Jacobians of two independent batches.

    M is square and estimates J Jᵀ without bias. It is no Gramian: it need not be symmetric, and
    its diagonal may be negative. The weights of a call begin where the call before ended.
    """

    _state_names = ("_weights",)

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Start again from equal weights; another number of objectives does so too."""
        self._weights: Tensor | None = None

    def remembered(self, m: int) -> Array:
        """The weights to begin with.

        Args:
            m: Number of objectives.

        Returns:
            Those of the call before, or equal ones, shape [m].
        """
        if self._weights is None or len(self._weights) != m:
            return np.full(m, 1.0 / max(1, m))
        return np.array(self._weights.numpy())

    def remember(self, weights: Array) -> None:
        """Keep the weights for the next call.

        Args:
            weights: Shape [m].
        """
        self._weights = torch.from_numpy(weights.copy())

    def __call__(self, product: Tensor, /) -> Tensor:
        """Compute the weights of a product and run the hooks.

        Args:
            product: M = J₁J₂ᵀ, shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonDifferentiableError: Later, when the weights are differentiated.
            NonFiniteGradientError: M has NaN or infinity.
            TypeError: No floating-point tensor.
            ValueError: Not a square matrix.
        """
        check_matrix(product, "a product of Jacobians")
        if product.shape[0] != product.shape[1]:
            raise ValueError(
                f"got a product of Jacobians of shape {list(product.shape)}, expected [m, m], "
                "pass J₁ J₂ᵀ of two batches with the same objectives."
            )
        return super().__call__(product)
