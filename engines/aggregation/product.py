"""Weightings of the product of the Jacobians of two independent batches."""

from torch import Tensor

from engines.aggregation.validation import check_matrix
from engines.aggregation.weightings import SolvedWeighting


class ProductWeighting(SolvedWeighting):
    """A weighting of M = J₁J₂ᵀ, where J₁ and J₂ are the Jacobians of two independent batches.

    M is square and estimates J Jᵀ without bias. It is no Gramian: it need not be symmetric, and
    its diagonal may be negative.
    """

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
