"""Aligned-MTL: make the gradients orthogonal and equally long, changing them least, then add."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.naming import vector_suffix
from engines.aggregation.preferences import Preferences
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import one_of
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg.dense import svd
from engines.linalg.spectrum import cosine_spectrum, graded_factor, lapack

Array = NDArray[np.float64]

SCALE_MODES = ("min", "median", "rmse")


class AlignedMTLWeighting(Preferences, SolvedWeighting):
    """Weights of `AlignedMTL`: w = B p, B = σ V Σ⁻¹ Vᵀ for J = V Σ Wᵀ.

    See `AlignedMTL` for the source, the parameters and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import AlignedMTLWeighting
        >>> AlignedMTLWeighting()(torch.diag(torch.tensor([1., 4.])))
        tensor([0.5000, 0.2500])
    """

    _parameters_shown = ("pref_vector", "scale_mode")

    def __init__(self, pref_vector: Tensor | None = None, scale_mode: str = "min") -> None:
        super().__init__()
        self.pref_vector = pref_vector
        self.scale_mode = scale_mode

    @property
    def scale_mode(self) -> str:
        """The length of the aligned gradients: "min", "median" or "rmse"."""
        return self._scale_mode

    @scale_mode.setter
    def scale_mode(self, value: str) -> None:
        self._scale_mode = one_of("scale_mode", value, SCALE_MODES)

    def solve(self, gramian: Array) -> Array:
        """Align the gradients and add them by preference.

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
        preferences = self.preferences(m, 1.0 / max(1, m))
        weights = np.zeros(m)
        spectrum = cosine_spectrum(gramian)
        if len(spectrum.rows) == 0:
            return weights
        q, r, _ = graded_factor(spectrum)
        # Rᵀ has its long rows and columns first, so its small singular values keep their digits.
        _, singular, left = lapack(svd, np.ascontiguousarray(r.T))
        vectors = q @ left.T
        inside = vectors.T @ preferences[spectrum.rows]
        weights[spectrum.rows] = vectors @ (self._scale(singular) / singular * inside)
        return weights

    def _scale(self, singular: Array) -> float:
        """σ for the singular values that are not 0, in descending order."""
        if self.scale_mode == "min":
            return float(singular[-1])
        if self.scale_mode == "median":
            # The lower of the middle two, which of an even number is the later one.
            return float(singular[len(singular) // 2])
        return float(np.sqrt(np.mean(singular**2)))

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.pref_vector)


class AlignedMTL(GramianWeightedAggregator):
    """Replaces the gradients by the nearest orthogonal ones of equal length, then adds them.

    A(J) = Jᵀw with w = B p and B = σ V Σ⁻¹ Vᵀ, where J = V Σ Wᵀ is the singular value
    decomposition without the singular values that are 0, and p the preference vector. So
    A(J) = σ W Vᵀp: the gradients of B J are orthogonal and of length σ where J has full rank, and
    the system has condition number 1. σ is the smallest singular value, the median or the root
    of the mean square. The direction can conflict, and is not linear in the scale of each
    gradient.

    The preferences are 1/m each by default; the authors' code adds the aligned gradients up,
    which is p = (1, …, 1). Of an even number of
    singular values the lower of the middle two is the median, as in their code. They decompose G
    and compare its eigenvalues with float32's rounding, so a gradient some 1e3 shorter than
    another is lost; here the rank is decided on the cosines of the gradients, at 1e-14 m of the
    largest eigenvalue, and the lengths are put back into a factor of G. Gradients of length 0 are
    left out. Without any other, the direction is 0.

    Args:
        pref_vector: Preferences p, shape [m]; None for 1/m each.
        scale_mode: "min", "median" or "rmse".

    Raises:
        TypeError: `pref_vector` is no tensor of real numbers.
        ValueError: `pref_vector` has not one dimension or is not finite, or `scale_mode` is
            unknown; later, `pref_vector` has another length than m.

    Source: Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023,
        Algorithm 1.
    Cost: the Gramian (m²n multiply-adds), then about 30 m³ multiply-adds.

    Example:
        >>> import torch
        >>> from engines.aggregation import AlignedMTL
        >>> AlignedMTL()(torch.tensor([[1., 0.], [0., 2.]]))
        tensor([0.5000, 0.5000])
    """

    _parameters_shown = ("pref_vector", "scale_mode")

    pref_vector = Forwarded()
    scale_mode = Forwarded()

    def __init__(self, pref_vector: Tensor | None = None, scale_mode: str = "min") -> None:
        super().__init__(AlignedMTLWeighting(pref_vector, scale_mode))

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.pref_vector)


RECORD = MethodRecord(
    name="AlignedMTL",
    make=AlignedMTL,
    make_weighting=AlignedMTLWeighting,
    summary="Replaces the gradients by the nearest orthogonal ones of equal length, then averages "
    "them.",
    formula="A(J) = σ W Vᵀp for J = V Σ Wᵀ, σ the smallest singular value, pᵢ = 1/m",
    paper="Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023, "
    "arXiv 2305.19000",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    parameters=(
        Parameter("pref_vector", "vector", None, "How much each objective counts; 1/m if empty."),
        Parameter(
            "scale_mode",
            "choice",
            "min",
            "The length of the aligned gradients, from the singular values.",
            choices=SCALE_MODES,
        ),
    ),
)
