"""NashMTL: the bargain of the objectives over the direction."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import non_negative, whole
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import check_finite_gramian, fair_weights, unit_diagonal
from engines.linalg.dense import product
from engines.stateful import Stateful

Array = NDArray[np.float64]

_PARAMETERS = ("n_tasks", "max_norm", "update_weights_every", "optim_niter")


class NashMTLWeighting(Stateful, SolvedWeighting):
    """Weights of `NashMTL`: α > 0 with (G/|G|) α = 1/α, clipped where |Jᵀα| > max_norm.

    See `NashMTL` for the source, the parameters and what differs from the official code.

    Example:
        >>> import torch
        >>> from engines.aggregation import NashMTLWeighting
        >>> NashMTLWeighting(n_tasks=2, max_norm=0.0)(torch.diag(torch.tensor([3., 4.])))
        tensor([1.2910, 1.1180])
    """

    _parameters_shown = _PARAMETERS
    _state_names = ("_weights", "_calls")

    def __init__(
        self,
        n_tasks: int,
        max_norm: float = 1.0,
        update_weights_every: int = 1,
        optim_niter: int = 20,
    ) -> None:
        super().__init__()
        self.n_tasks = n_tasks
        self.max_norm = max_norm
        self.update_weights_every = update_weights_every
        self.optim_niter = optim_niter

    @property
    def n_tasks(self) -> int:
        """Number of objectives, at least 1; setting it forgets all earlier calls."""
        return self._n_tasks

    @n_tasks.setter
    def n_tasks(self, value: int) -> None:
        if whole("n_tasks", value, 0) == 0:
            raise ValueError(
                "got n_tasks=0, expected the number of objectives, at least 1, pass the number of "
                "rows."
            )
        self._n_tasks = value
        self.reset()

    @property
    def max_norm(self) -> float:
        """The largest length of the direction, at least 0; 0 for any length."""
        return self._max_norm

    @max_norm.setter
    def max_norm(self, value: float) -> None:
        self._max_norm = non_negative("max_norm", value)

    @property
    def update_weights_every(self) -> int:
        """Calls for which weights are used, at least 1."""
        return self._update_weights_every

    @update_weights_every.setter
    def update_weights_every(self, value: int) -> None:
        self._update_weights_every = whole("update_weights_every", value, 1)

    @property
    def optim_niter(self) -> int:
        """Newton steps at most where that is more than 100, at least 1."""
        return self._optim_niter

    @optim_niter.setter
    def optim_niter(self, value: int) -> None:
        self._optim_niter = whole("optim_niter", value, 1)

    def reset(self) -> None:
        """Forget the weights and count calls from 0."""
        self._weights: Tensor | None = None
        self._calls = 0

    def solve(self, gramian: Array) -> Array:
        """Find the bargain, or take the last one again, and clip.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            SolverError: Newton's method did not reach the answer.
            ValueError: No Gramian, or m is not n_tasks.
        """
        m = len(gramian)
        if m != self.n_tasks:
            raise ValueError(
                f"got {m} objectives, expected n_tasks={self.n_tasks}, set n_tasks to the number "
                "of rows."
            )
        check_finite_gramian(gramian)
        cosines, norms = unit_diagonal(gramian)
        kept = self._weights
        # A state that was loaded may be of another number of objectives.
        if kept is None or len(kept) != m or self._calls % self.update_weights_every == 0:
            weights = fair_weights(gramian, 1.0, self.optim_niter) * _root_of_norm(gramian)
            self._weights = torch.from_numpy(weights.copy())
        else:
            weights = np.array(kept.numpy())
        self._calls += 1
        return weights * self._clipped_share(cosines, weights * norms)

    def _clipped_share(self, cosines: Array, combination: Array) -> float:
        """What is left of the direction, from its combination of gradients of length 1."""
        squared = max(0.0, float(combination @ product(cosines, combination)))
        # The Gramian may be that of 2ᵉJ; the allowed length is brought to its units.
        allowed = float(np.ldexp(self.max_norm, self.gramian_exponent))
        if allowed == 0 or squared <= 0:
            return 1.0
        return min(1.0, allowed / float(np.sqrt(squared)))


def _root_of_norm(gramian: Array) -> float:
    """The square root of the Frobenius norm, which may itself be no float64 number."""
    largest = float(np.abs(gramian).max(initial=0.0))
    if largest == 0:
        return 0.0
    return float(np.sqrt(largest) * np.sqrt(np.sqrt(np.sum((gramian / largest) ** 2))))


class NashMTL(Stateful, GramianWeightedAggregator):
    """The direction on which the objectives agree as bargainers, by Nash's axioms.

    A(J) = Jᵀα with α > 0 and (G/|G|) α = 1/α, shortened to max_norm where it is longer; |G| is
    the Frobenius norm. Among directions of one length it is the one for which the product of the
    gains gᵢ · A is largest, so the direction conflicts with none, and does not depend on the
    lengths of the gradients. It is that of FairGrad for α = 1.

    The paper defines α without the division by |G|, and without a largest norm; both come from
    the official code and are kept. That code approaches α by a sequence of convex problems, each
    by a general solver, from the last call's α, and keeps that one where a solver fails. Here the
    equation is the optimality condition of one smooth convex problem, which Newton's method
    solves to rounding, so a call does not depend on earlier ones while weights are computed at
    every call; what is not solved raises `SolverError`. `optim_niter` counts only where it is
    more than 100 steps: 5 are usual, some hundred where gradients balance.

    Weights are computed at the first call after `reset` and at every k-th from there, k being
    `update_weights_every`; the calls between take the same α, each with its own clipping, and may
    therefore conflict. A call that raises does not count.

    Gradients of which a combination with positive weights is 0 have no bargain: they get weights
    that cancel, and the others agree in the space orthogonal to them. A zero gradient has weight
    0 where weights are computed.

    Args:
        n_tasks: Number of objectives, at least 1; a Jacobian of other height is refused.
        max_norm: The largest |A(J)|, at least 0; 0 for no limit.
        update_weights_every: Calls for which the same weights are used, at least 1.
        optim_niter: Newton steps at most, or 100 if that is more.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range; later, m is not n_tasks.

    Source: Navon et al., arXiv 2202.01017, Claim 3.1 and Algorithm 1.
    Cost: the Gramian (m²n multiply-adds), then m³/3 for each of about 6 Newton steps. Between
        calls m numbers are kept.

    Example:
        >>> import torch
        >>> from engines.aggregation import NashMTL
        >>> NashMTL(n_tasks=2)(torch.tensor([[1., 0.], [0., 8.]]))
        tensor([0.7071, 0.7071])
    """

    _parameters_shown = _PARAMETERS

    gramian_weighting: NashMTLWeighting
    n_tasks = Forwarded()
    max_norm = Forwarded()
    update_weights_every = Forwarded()
    optim_niter = Forwarded()

    def __init__(
        self,
        n_tasks: int,
        max_norm: float = 1.0,
        update_weights_every: int = 1,
        optim_niter: int = 20,
    ) -> None:
        super().__init__(NashMTLWeighting(n_tasks, max_norm, update_weights_every, optim_niter))

    def reset(self) -> None:
        """Forget the weights and count calls from 0."""
        self.gramian_weighting.reset()


def nash_mtl_arguments(m: int) -> dict[str, int]:
    """One task for each objective."""
    return {"n_tasks": m}


RECORD = MethodRecord(
    name="NashMTL",
    make=NashMTL,
    make_weighting=NashMTLWeighting,
    summary="Takes the direction for which the product of the objectives' gains is largest.",
    formula="A(J) = Jᵀα, α > 0 with (G/‖G‖) α = 1/α, shortened to at most max_norm",
    paper="Navon et al., Multi-Task Learning as a Bargaining Game, 2022, arXiv 2202.01017",
    non_conflicting=True,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    stateful=True,
    parameters=(
        Parameter(
            "max_norm", "number", 1.0, "The largest length of the direction; 0 for any.", 0.0, 10.0
        ),
        Parameter("update_weights_every", "integer", 1, "Calls for which weights are used.", 1, 50),
    ),
    arguments=nash_mtl_arguments,
    remarks="With update_weights_every > 1 the calls between two updates may conflict, and the "
    "result depends on the earlier calls; with 1 it does not.",
)
