"""ConFIG: the direction at equal angles to all gradients, as long as their projections add up."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.naming import vector_suffix
from engines.aggregation.preferences import Preferences
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg.spectrum import cosine_spectrum

Array = NDArray[np.float64]

# Below this share of p, its part in the range of the cosines is what rounding left: 1e-7 is the
# angle between gradients at which `cosine_spectrum` takes them for dependent.
_CANCELLED = 1e-7


class ConFIGWeighting(Preferences, SolvedWeighting):
    """Weights of `ConFIG`: w = s·C⁺p / |gᵢ|, C the cosines of the gradients.

    The number s gives the direction its length. See `ConFIG` for the source, the parameters and
    what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import ConFIGWeighting
        >>> ConFIGWeighting()(torch.diag(torch.tensor([1., 9.])))
        tensor([2.0000, 0.6667])
    """

    _parameters_shown = ("pref_vector",)

    def __init__(self, pref_vector: Tensor | None = None) -> None:
        super().__init__()
        self.pref_vector = pref_vector

    def solve(self, gramian: Array) -> Array:
        """Solve for the direction of the wanted cosines and give it its length.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            SolverError: LAPACK failed.
            ValueError: No Gramian, or preferences of another length.
        """
        m = len(gramian)
        weights = np.zeros(m)
        preferences = self.preferences(m, 1.0)
        rows, norms, values, vectors = cosine_spectrum(gramian)
        wanted = preferences[rows]
        # Their size has no effect, and its square need be no float64.
        wanted = wanted / max(np.abs(wanted).max(initial=0.0), np.finfo(np.float64).tiny)
        # In the range of C: u = U⁺p has cosines C C⁺p with the gradients, up to its length.
        inside = vectors.T @ wanted
        if np.linalg.norm(inside) <= _CANCELLED * np.linalg.norm(wanted):
            return weights
        combination = vectors @ (inside / values)
        reached = vectors @ inside
        squared_length = float(inside @ (inside / values))
        weights[rows] = float(norms @ reached) / squared_length * combination / norms
        return weights

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.pref_vector)


class ConFIG(GramianWeightedAggregator):
    """Direction whose cosines with the gradients are as the preferences, equal by default.

    A(J) = (Σᵢ gᵢ · û) û with û = u/|u| and u = U⁺p, where U has the rows gᵢ/|gᵢ| and p is the
    preference vector, (1, …, 1) by default. For linearly independent gradients and positive
    preferences every gradient has a positive inner product with A. For dependent ones u is the
    least-squares solution, and the direction can conflict. It is linear in the scale of each
    gradient, since û does not depend on it.

    It is a function of the Gramian: u = Σᵢ xᵢ gᵢ/|gᵢ| with x = C⁺p, where C = U Uᵀ are the
    cosines. So it needs no inverse of the size of the Jacobian and works from a Gramian alone.
    The rank is decided on C, at 1e-14 m of its largest eigenvalue: gradients that depend on
    others up to an angle of about 1e-7 count as dependent. The authors' code solves the
    least-squares problem on U in the gradients' dtype, on a GPU with a solver that assumes full
    rank, and takes a closed form for two gradients. Gradients of length 0 are left out, as there.
    Where the part of p in the range of U is below 1e-7 of p, no direction is better than 0, and
    A(J) is 0.

    Args:
        pref_vector: Preferences p, shape [m]; None for 1 each. A common factor has no effect.

    Raises:
        TypeError: `pref_vector` is no tensor of real numbers.
        ValueError: It has not one dimension or is not finite; later, it has another length than
            m.

    Source: Liu et al., arXiv 2408.11104, Equation 2.
    Cost: the Gramian (m²n multiply-adds), then about 10 m³ multiply-adds.

    Example:
        >>> import torch
        >>> from engines.aggregation import ConFIG
        >>> ConFIG()(torch.tensor([[1., 0.], [0., 3.]])).round(decimals=4)
        tensor([2., 2.])
    """

    _parameters_shown = ("pref_vector",)

    pref_vector = Forwarded()

    def __init__(self, pref_vector: Tensor | None = None) -> None:
        super().__init__(ConFIGWeighting(pref_vector))

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.pref_vector)


RECORD = MethodRecord(
    name="ConFIG",
    make=ConFIG,
    make_weighting=ConFIGWeighting,
    summary="Takes the direction at equal angles to all gradients, with the sum of their "
    "projections as its length.",
    formula="A(J) = (Σᵢ gᵢ·û) û, û = u/|u|, u = U⁺1, U with rows gᵢ/|gᵢ|",
    paper="Liu et al., ConFIG: Towards Conflict-free Training of Physics Informed Neural "
    "Networks, 2024, arXiv 2408.11104",
    non_conflicting=False,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=True,
    parameters=(
        Parameter("pref_vector", "vector", None, "How much each objective counts; 1 if empty."),
    ),
    remarks="Conflicts with none where the gradients are linearly independent.",
)
