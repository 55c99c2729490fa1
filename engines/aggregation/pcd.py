"""PCD: follow the first gradient as far as every other objective still makes some progress."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import fraction, non_negative, vector
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import (
    check_finite_gramian,
    nearest_in_half_spaces,
    nearest_psd,
    unit_diagonal,
)
from engines.stateful import Stateful

Array = NDArray[np.float64]

# A length can leave float64 although the entries of the gradient do not; it counts as this then.
_LONGEST = float(np.finfo(np.float64).max) / 2
# A direction vanishes if its square is below this many roundings of the Gramian, as in
# `nearest_in_half_spaces`.
_ROUNDINGS = 4.0


class PCDWeighting(Stateful, SolvedWeighting):
    """Weights of `PCD`, from a Gramian whose first row is that of the primary objective.

    See `PCD` for the source, the parameters and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import PCDWeighting
        >>> PCDWeighting(tau=0.5)(torch.tensor([[4., -1.], [-1., 1.]], dtype=torch.float64))
        tensor([1.0000, 2.0000], dtype=torch.float64)
    """

    _parameters_shown = ("tau", "beta", "eps")
    _state_names = ("_root", "_calls")

    def __init__(self, tau: float | Tensor = 0.02, beta: float = 0.999, eps: float = 1e-08) -> None:
        super().__init__()
        self.tau = tau
        self.beta = beta
        self.eps = eps
        self._resolution = float(torch.finfo(torch.float64).eps)
        self.reset()

    @property
    def tau(self) -> float | Tensor:
        """Least progress τ of the secondary objectives, in [0, 1]; one, or one each [m - 1]."""
        return self._tau

    @tau.setter
    def tau(self, value: float | Tensor) -> None:
        if not isinstance(value, Tensor):
            self._tau: float | Tensor = fraction("tau", value)
            return
        vector("tau", value)
        if bool(((value < 0) | (value > 1)).any()):
            raise ValueError(f"got tau={value.tolist()}, expected numbers in [0, 1], pass those.")
        self._tau = value

    @property
    def beta(self) -> float:
        """Decay of the averages of the squared lengths, in [0, 1)."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = fraction("beta", value, below_one=True)

    @property
    def eps(self) -> float:
        """Added to the averages, at least 0."""
        return self._eps

    @eps.setter
    def eps(self, value: float) -> None:
        self._eps = non_negative("eps", value)

    def reset(self) -> None:
        """Forget the averages of the squared lengths."""
        # The root of the average: the squares of 1e-200 are no float64.
        self._root: Tensor | None = None
        self._calls = 0

    def forward(self, gramian: Tensor, /) -> Tensor:
        """Solve for the weights.

        Args:
            gramian: J Jᵀ, shape [m, m].

        Returns:
            Weights, shape [m].
        """
        # What vanishes is decided by the digits that the Gramian came with.
        self._resolution = float(torch.finfo(gramian.dtype).eps)
        return super().forward(gramian)

    def solve(self, gramian: Array) -> Array:
        """Normalise, project, and scale back to the length of the primary gradient.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m], non-negative.

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            SolverError: The projection failed.
            ValueError: No Gramian, or `tau` has not m - 1 entries.
        """
        check_finite_gramian(gramian)
        m = len(gramian)
        if m == 0:
            return np.zeros(0)
        fractions = self._fractions(m - 1)
        cosines, norms = unit_diagonal(gramian)
        root = self._updated_root(norms)
        weights = np.zeros(m)
        if norms[0] > 0:
            nonzero = np.flatnonzero(norms)
            weights[nonzero] = self._combine(
                nearest_psd(cosines[np.ix_(nonzero, nonzero)]),
                norms[nonzero],
                self._lengths(norms, root)[nonzero],
                fractions[nonzero[1:] - 1],
            )
        self._root, self._calls = torch.from_numpy(root), self._next_call(m)
        return weights

    def _fractions(self, secondary: int) -> Array:
        """τ for each secondary objective, shape [m - 1]."""
        if not isinstance(self.tau, Tensor):
            return np.full(secondary, float(self.tau))
        if len(self.tau) != secondary:
            raise ValueError(
                f"got a tau of {len(self.tau)} entries for {secondary + 1} objectives, expected "
                "one for each but the first, pass a vector of that length."
            )
        return self.tau.detach().to(device="cpu", dtype=torch.float64).numpy()

    def _next_call(self, m: int) -> int:
        """The number of this call since the averages began."""
        return 1 if self._root is None or len(self._root) != m else self._calls + 1

    def _updated_root(self, norms: Array) -> Array:
        """The root of the average of the squared lengths, this call included, shape [m]."""
        with np.errstate(over="ignore", under="ignore"):
            lengths = np.minimum(np.ldexp(norms, -self.gramian_exponent), _LONGEST)
        share = np.sqrt(1.0 - self.beta)
        if self._next_call(len(norms)) == 1 or self._root is None:
            return np.asarray(share * lengths)
        return np.hypot(np.sqrt(self.beta) * self._root.numpy(), share * lengths)

    def _lengths(self, norms: Array, root: Array) -> Array:
        """|g̃ᵢ| up to a common factor, the largest in [0.5, 2), shape [m]."""
        corrected = root / np.sqrt(1.0 - self.beta ** self._next_call(len(norms)))
        divisors = np.hypot(corrected, np.sqrt(self.eps))
        # Mantissas and exponents apart: the quotient of 1e-200 and 1e200 is no float64.
        upper, upper_exponents = np.frexp(norms)
        lower, lower_exponents = np.frexp(
            np.maximum(divisors, np.finfo(np.float64).smallest_subnormal)
        )
        exponents = upper_exponents - lower_exponents
        largest = int(exponents[norms > 0].max())
        return np.ldexp(upper / lower, np.maximum(exponents - largest, -2000))

    def _combine(self, cosines: Array, norms: Array, lengths: Array, fractions: Array) -> Array:
        """The weights of gradients that are not zero; shapes [m, m], [m], [m], [m - 1] to [m]."""
        multipliers = nearest_in_half_spaces(
            cosines, float(lengths[0]), fractions * lengths[1:], self._resolution
        )
        units = np.zeros(len(norms))
        if multipliers is None:
            units[0] = 1.0
            return units
        units[0], units[1:] = lengths[0], multipliers
        squared = float(units @ cosines @ units)
        noise = _ROUNDINGS * self._resolution * np.sqrt(len(units)) * float(units @ units)
        if squared <= noise:
            # Where progress is asked for, a point of no length has none to give: the secondary
            # objectives are opposed up to rounding, and are left out as where they are exactly.
            if not (fractions > 0).any():
                return np.zeros(len(norms))
            units[:] = 0.0
            units[0], squared = 1.0, 1.0
        return np.asarray(units / np.sqrt(squared) * (norms[0] / norms))


class PCD(Stateful, GramianWeightedAggregator):
    """Keeps to the first gradient, as far as every other objective makes some progress.

    A(J) = |g₁| d/|d|, where d is the point nearest to g̃₁ with g̃ⱼ · d ≥ τⱼ|g̃ⱼ|² for all j ≥ 2. The
    first objective is the primary one; each secondary one is promised the share τ of the progress
    that a step along its own gradient would make. g̃ᵢ = gᵢ/√(v̂ᵢ + eps), where v̂ᵢ is the average of
    |gᵢ|² over the calls with decay β, divided by 1 - βᵏ in call k as in Adam. So τ compares with
    gradients of length about 1, and the scale of a secondary objective has no effect, up to eps.

    The result is zero where g₁ is, and where d is, which needs τ = 0. Where no d satisfies all
    conditions, as for two opposed secondary gradients and τ > 0, all are dropped and the result is
    g₁. That is decided by a combination of the secondary gradients that vanishes; two gradients
    that are opposed to within an angle of about 1e-7 count as opposed.

    The direction may conflict with the primary gradient: for g₂ = -g₁ it is -g₁ at any τ > 0. It
    never conflicts for τ = 0. It conflicts with a secondary gradient only where the conditions are
    dropped. The official code tries all 2^(m-1) sets of active conditions; here the nearest point
    is found by non-negative least squares. Another number of objectives starts the averages afresh.

    Args:
        tau: Share τ in [0, 1], for all secondary objectives or one for each, shape [m - 1].
        beta: Decay β of the averages of the squared lengths, in [0, 1).
        eps: Added to the averages, at least 0. Gradients shorter than its root count less.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range; later, `tau` has not m - 1 entries.

    Source: Varam & AlHajri, arXiv 2606.29521, Appendix B.2 for more than three objectives.
    Cost: the Gramian (m²n multiply-adds) and about m³ multiply-adds.

    Example:
        >>> import torch
        >>> from engines.aggregation import PCD
        >>> PCD(tau=0.5)(torch.tensor([[2., 0.], [-1., 1.]]))
        tensor([0.3382, 1.9712])
    """

    _parameters_shown = ("tau", "beta", "eps")

    gramian_weighting: PCDWeighting
    tau = Forwarded()
    beta = Forwarded()
    eps = Forwarded()

    def __init__(self, tau: float | Tensor = 0.02, beta: float = 0.999, eps: float = 1e-08) -> None:
        super().__init__(PCDWeighting(tau, beta, eps))

    def reset(self) -> None:
        """Forget the averages of the squared lengths."""
        self.gramian_weighting.reset()


RECORD = MethodRecord(
    name="PCD",
    make=PCD,
    make_weighting=PCDWeighting,
    summary="Stays as close to the first gradient as a least progress of every other objective "
    "allows.",
    formula="A(J) = |g₁| d/|d|, d = argmin { |d − g̃₁|² : g̃ⱼ·d ≥ τ|g̃ⱼ|² for j ≥ 2 }, "
    "g̃ᵢ = gᵢ/√(v̂ᵢ + ε), v̂ᵢ the moving average of |gᵢ|²",
    paper="Varam & AlHajri, Not All Objectives Are Born Equal: Priority-Constrained Descent for "
    "Hierarchical Multi-Objective Optimization, 2026, arXiv 2606.29521",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=False,
    stateful=True,
    parameters=(
        Parameter("tau", "number", 0.02, "Least progress of the secondary objectives.", 0.0, 1.0),
        Parameter("beta", "number", 0.999, "Decay of the averages.", 0.0, 0.9999),
        Parameter("eps", "number", 1e-08, "Added to the averages.", 0.0, 1e-2),
    ),
    remarks="The first objective is the primary one. Conflicts are with the first gradient, or "
    "where no direction gives every other objective its progress; for τ = 0 there are none. At the "
    "first call the result is |g₁| times a function of the directions of the gradients, so it "
    "would be linear if ε were 0; the scale of the other objectives does not count. In later calls "
    "it depends on the earlier lengths.",
)
