"""GradVac: raise the cosine of each two gradients to what it usually is, in random order."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.naming import constructor_call
from engines.aggregation.randomness import Randomness
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import fraction, non_negative
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import check_finite_gramian, unit_diagonal
from engines.stateful import Stateful

Array = NDArray[np.float64]

# Length of what one correction may add to a gradient of length 1. The formula grows without bound
# as the cosine to reach nears 1; 100 is a cosine of 0.99995, half a degree.
_LONGEST_CORRECTION = 100.0
# Rounding of the square of a combination's length, for each unit of the sum of its coefficients.
_ROUNDING = 1e-15


class GradVacWeighting(Stateful, Randomness, SolvedWeighting):
    """Weights of `GradVac`: w = Σᵢ cᵢ, where gᵢ after its corrections is Jᵀcᵢ.

    See `GradVac` for the source, the parameters, the state and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import GradVacWeighting
        >>> GradVacWeighting()(torch.tensor([[18., -22.], [-22., 38.]], dtype=torch.float64))
        tensor([2.2222, 1.5789], dtype=torch.float64)
    """

    _state_names = ("_usual_cosines",)

    def __init__(
        self, beta: float = 0.5, eps: float = 1e-08, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.beta = beta
        self.eps = eps
        self.generator = generator
        self.reset()

    @property
    def beta(self) -> float:
        """Weight of the newest cosine in the moving average, from 0 to 1."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = fraction("beta", value)

    @property
    def eps(self) -> float:
        """Added to denominators where gradients have length 1, at least 0."""
        return self._eps

    @eps.setter
    def eps(self, value: float) -> None:
        self._eps = non_negative("eps", value)

    def reset(self) -> None:
        """Forget the cosines of earlier calls; the next one starts from 0."""
        # φ̂, shape [m, m], float64 on the CPU; None before the first call.
        self._usual_cosines: Tensor | None = None

    def solve(self, gramian: Array) -> Array:
        """Correct the m gradients side by side, add them up, and remember their cosines.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            ValueError: The Gramian has a negative diagonal entry.
        """
        check_finite_gramian(gramian)
        cosines, norms = unit_diagonal(gramian)
        m = len(norms)
        usual = self._remembered(m)
        every = np.arange(m)
        orders = self.orders(m)
        # Of gradients of length 1, so that eps means the same for all and lengths cancel.
        combinations = np.eye(m)
        products = cosines.copy()  # of each combination with every gradient
        for step in range(m):
            other = orders[:, step]
            squares = np.einsum("ij,ij->i", products, combinations)
            rounding = m * _ROUNDING * np.abs(combinations).sum(axis=1) ** 2
            taken = (other != every) & (norms > 0) & (norms[other] > 0) & (squares > rounding)
            lengths = np.sqrt(np.where(taken, squares, 1.0))
            cosine = np.clip(products[every, other] / (lengths + self.eps), -1.0, 1.0)
            wanted = usual[every, other]
            corrected = taken & (cosine < wanted)
            added = np.where(corrected, self._correction(lengths, cosine, wanted), 0.0)
            combinations[every, other] += added
            products += added[:, None] * cosines[other]
            moved = (1.0 - self.beta) * wanted + self.beta * cosine
            usual[every, other] = np.where(taken, moved, wanted)
        self._usual_cosines = torch.from_numpy(usual)
        inverse = np.zeros(m)
        np.divide(1.0, norms, out=inverse, where=norms > 0)
        # First the ratio of two lengths: their product can leave the range of float64.
        return np.asarray((combinations * (norms[:, None] * inverse)).sum(axis=0))

    def _correction(self, lengths: Array, cosine: Array, wanted: Array) -> Array:
        """How much of a unit vector raises the cosine with it to the one wanted, shape [m]."""
        sine, wanted_sine = np.sqrt(1.0 - cosine**2), np.sqrt(1.0 - wanted**2)
        numerator = lengths * (wanted * sine - cosine * wanted_sine)
        longest = np.full_like(numerator, _LONGEST_CORRECTION)
        denominator = wanted_sine + self.eps
        added = np.divide(numerator, denominator, out=longest, where=denominator > 0)
        return np.minimum(added, _LONGEST_CORRECTION)

    def _remembered(self, m: int) -> Array:
        """A copy of φ̂ for m objectives: 0 at first and after a call with another number."""
        if self._usual_cosines is None or len(self._usual_cosines) != m:
            return np.zeros((m, m))
        return np.array(self._usual_cosines.numpy())

    def __repr__(self) -> str:
        return constructor_call(self, ("beta", "eps", *self.shown_generator()))


class GradVac(Stateful, GramianWeightedAggregator):
    """Adds the gradients up after raising their cosines to what they were on average so far.

    For each i, start with c = gᵢ and take every j ≠ i in random order. Let φ be the cosine of c
    and gⱼ, and φ̂ᵢⱼ its moving average. Where φ < φ̂ᵢⱼ replace c by c + a gⱼ with
    a = |c| (φ̂√(1 - φ²) - φ√(1 - φ̂²)) / (|gⱼ|√(1 - φ̂²)), which has the cosine φ̂ᵢⱼ with gⱼ. Then
    φ̂ᵢⱼ ← (1 - β) φ̂ᵢⱼ + β φ. A(J) is the sum of the m results. At the first call φ̂ is 0 and this
    is PCGrad, to within eps. The direction may conflict. It is linear in the scale of each
    gradient, given φ̂ and the random orders.

    All is computed from the Gramian, on gradients scaled to length 1, so `eps` is added to
    lengths of about 1 whatever the gradients' own; elsewhere (LibMTL, TorchJD) it is compared
    with their squares and stops the corrections of small gradients. LibMTL moves φ̂ only where it
    corrects; here it moves at every pair, as in the paper's algorithm. Averages over one group of
    parameters, the whole model; for the paper's groups use one instance for each.

    As φ̂ nears 1, as after many steps with equal gradients, a would grow without bound. One
    correction adds at most 100 times the length of gᵢ: enough for a cosine of 0.99995. Gradients
    of length 0, and those that corrections have brought to 0, are passed over and their φ̂ stays.

    The state is φ̂, [m, m] in float64 on the CPU; it is part of `state_dict()`. A call with
    another number of objectives starts afresh; one that raises changes nothing.

    Args:
        beta: β, from 0 (φ̂ stays 0, as PCGrad) to 1 (the last cosine alone).
        eps: Added to the denominators, at least 0.
        generator: Source of the random orders; None for torch's global one.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range.

    Source: Wang et al., arXiv 2010.05874, Algorithm 1 and Equations 5 and 6.
    Cost: the Gramian (m²n multiply-adds), then some 4 m³ multiply-adds.

    Example:
        >>> import torch
        >>> from engines.aggregation import GradVac
        >>> aggregator = GradVac()
        >>> aggregator(torch.tensor([[1., 0.], [1., 1.]]))
        tensor([2., 1.])
        >>> aggregator(torch.tensor([[1., 0.], [0., 1.]]))
        tensor([1.3780, 1.3780])
    """

    gramian_weighting: GradVacWeighting
    beta = Forwarded()
    eps = Forwarded()
    generator = Forwarded()

    def __init__(
        self, beta: float = 0.5, eps: float = 1e-08, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(GradVacWeighting(beta, eps, generator=generator))

    def reset(self) -> None:
        """Forget the cosines of earlier calls; the next one starts from 0."""
        self.gramian_weighting.reset()

    def __repr__(self) -> str:
        return constructor_call(self, ("beta", "eps", *self.gramian_weighting.shown_generator()))


RECORD = MethodRecord(
    name="GradVac",
    make=GradVac,
    make_weighting=GradVacWeighting,
    summary="Raises the cosine of each two gradients to its average so far, in random order, and "
    "adds up the results.",
    formula="A(J) = Σᵢ cᵢ, from cᵢ = gᵢ by cᵢ ← cᵢ + aᵢⱼ gⱼ to the cosine φ̂ᵢⱼ where it is below",
    paper="Wang et al., Gradient Vaccine: Investigating and Improving Multi-task Optimization in "
    "Massively Multilingual Models, 2020, arXiv 2010.05874",
    non_conflicting=False,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=False,
    stateful=True,
    random=True,
    parameters=(
        Parameter("beta", "number", 0.5, "Weight of the newest cosine in the average.", 0, 1),
        Parameter("eps", "number", 1e-08, "Added to denominators, for unit lengths.", 0, 1e-3),
    ),
    remarks="At the first call it is PCGrad.",
)
