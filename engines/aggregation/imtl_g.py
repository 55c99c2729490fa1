"""IMTL-G: the direction whose projections onto all gradients are equal."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.records import MethodRecord
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg.spectrum import cosine_spectrum, graded_factor

Array = NDArray[np.float64]

# Below this share of what could be, a number is what its summands' rounding left: 1e-7 is the
# angle between gradients at which `cosine_spectrum` takes them for dependent.
_CANCELLED = 1e-7


class IMTLGWeighting(SolvedWeighting):
    """Weights of `IMTLG`: w = G⁺d / (1ᵀG⁺d) with dᵢ = |gᵢ|.

    See `IMTLG` for the source and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import IMTLGWeighting
        >>> IMTLGWeighting()(torch.diag(torch.tensor([1., 9.])))
        tensor([0.7500, 0.2500])
    """

    _parameters_shown = ()

    def solve(self, gramian: Array) -> Array:
        """Solve for equal projections and scale to sum 1.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m], with sum 1, or all 0.

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            SolverError: LAPACK failed.
            ValueError: No Gramian.
        """
        weights = np.zeros(len(gramian))
        spectrum = cosine_spectrum(gramian)
        if len(spectrum.rows) == 0:
            return weights
        q, r, lengths = graded_factor(spectrum)
        # G⁺d = B⁺ᵀB⁺d with B = Q R: never the inverse of G, which has half the digits.
        inside = q.T @ lengths
        solution = q @ solve_triangular(r, solve_triangular(r, inside), trans=1)
        total = float(solution.sum())
        if (
            np.linalg.norm(inside) > _CANCELLED * np.linalg.norm(lengths)
            and abs(total) > _CANCELLED * np.abs(solution).sum()
        ):
            weights[spectrum.rows] = solution / total
        return weights


class IMTLG(GramianWeightedAggregator):
    """Direction with equal projections onto the directions of all gradients.

    A(J) = Jᵀw with w = G⁺d / (1ᵀG⁺d), where G = J Jᵀ and dᵢ = |gᵢ|. Where the gradients are
    linearly independent this is the combination with weights of sum 1 for which A · gᵢ/|gᵢ| is
    the same for all i. That number may be negative, and weights may be: the direction can
    conflict with every gradient, and it is not linear in the scale of each. Where 1ᵀG⁺d is small
    against the weights, the direction is long.

    The paper, for independent gradients, solves a system of m - 1 differences of gradients; this
    closed form equals it there and is defined for any rank. The weights are 0 where 1ᵀG⁺d is:
    where it is below 1e-7 of the sum of its terms' sizes, or d is within 1e-7 of being orthogonal
    to the range of G, as for two opposed gradients of equal length. Gradients of length 0 get
    weight 0. The rank is decided on the cosines of the gradients, at 1e-14 m of the largest
    eigenvalue.

    Source: Liu et al., Towards Impartial Multi-task Learning, ICLR 2021, Section 3.2 (gradient
        balance); Quinton & Rey, arXiv 2406.16232, Appendix, for the closed form.
    Cost: the Gramian (m²n multiply-adds), then about 20 m³ multiply-adds.

    Example:
        >>> import torch
        >>> from engines.aggregation import IMTLG
        >>> IMTLG()(torch.tensor([[1., 0.], [0., 3.]]))
        tensor([0.7500, 0.7500])
    """

    _parameters_shown = ()

    def __init__(self) -> None:
        super().__init__(IMTLGWeighting())


RECORD = MethodRecord(
    name="IMTLG",
    make=IMTLG,
    make_weighting=IMTLGWeighting,
    summary="Takes the combination whose projections onto all gradients are equal.",
    formula="A(J) = Jᵀw, w = G⁺d / (1ᵀG⁺d), G = J Jᵀ, dᵢ = |gᵢ|",
    paper="Liu et al., Towards Impartial Multi-task Learning, ICLR 2021",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    remarks="The common projection can be negative, and the direction long where 1ᵀG⁺d is near 0.",
)
