"""CR-MOGM: another method's weights, smoothed over the calls."""

from typing import Any

import torch
from torch import Tensor

from engines.aggregation.aggregators import StatefulGramianAggregator
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.scaled import TakesScaledGramian
from engines.aggregation.upgrad import UPGradWeighting
from engines.aggregation.validation import check_length, fraction, vector
from engines.aggregation.weightings import Weighting
from engines.stateful import Stateful


class CRMOGMWeighting(Stateful, Weighting):
    """Moving average of the weights of another weighting over the calls.

    λ ← αλ + (1 - α)λ̂, where λ̂ are the weights that the wrapped weighting gives in this call. The
    first call returns λ̂ itself, unless `initial_weights` are given to start from. On noisy
    gradients the weights of most methods are biased; the average varies less, and the paper proves
    that methods converge with it.

    The smoothed direction has only the properties that survive averaging over calls: it stays a
    combination of gradients, but it may conflict with one of them although λ̂ never does.

    The average is kept in float64 on the CPU and returned in the dtype and on the device of λ̂. With
    a weighting that can be differentiated, the result can too, through the λ̂ of this call only.
    The paper raises α towards 1 while the learning rate falls (Corollary 1); set `alpha` between
    calls to do so.

    Args:
        weighting: What gives λ̂, from a Gramian or a Jacobian.
        alpha: Share α of the earlier weights, in [0, 1]; 0 does not smooth, 1 keeps the first ones.
        initial_weights: The weights before the first call, shape [m]; None for the first λ̂.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range; later, `initial_weights` has not m entries, or m
            has changed without a `reset`.

    Source: Zhou et al., On the Convergence of Stochastic Multi-Objective Gradient Manipulation and
        Beyond, NeurIPS 2022, Algorithm 1.
    Cost: that of the wrapped weighting.

    Example:
        >>> import torch
        >>> from engines.aggregation import CRMOGMWeighting, MGDAWeighting
        >>> weighting = CRMOGMWeighting(MGDAWeighting(), alpha=0.5)
        >>> weighting(torch.diag(torch.tensor([1., 1.])))
        tensor([0.5000, 0.5000])
        >>> weighting(torch.diag(torch.tensor([1., 4.])))
        tensor([0.6500, 0.3500])
    """

    _parameters_shown = ("weighting", "alpha", "initial_weights")
    _state_names = ("_smoothed",)

    def __init__(
        self, weighting: Weighting, alpha: float = 0.9, initial_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.weighting = weighting
        self.alpha = alpha
        self.initial_weights = initial_weights
        self._smoothed: Tensor | None = None

    @property
    def alpha(self) -> float:
        """Share of the earlier weights, in [0, 1]."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._alpha = fraction("alpha", value)

    @property
    def initial_weights(self) -> Tensor | None:
        """The weights before the first call, shape [m]; a new value counts after `reset`."""
        return self._initial_weights

    @initial_weights.setter
    def initial_weights(self, value: Tensor | None) -> None:
        self._initial_weights = None if value is None else vector("initial_weights", value)

    @property
    def gramian_exponent(self) -> int:
        """That of the wrapped weighting, see `TakesScaledGramian`; 0 where it has none."""
        wrapped = self.weighting
        return wrapped.gramian_exponent if isinstance(wrapped, TakesScaledGramian) else 0

    @gramian_exponent.setter
    def gramian_exponent(self, value: int) -> None:
        if isinstance(self.weighting, TakesScaledGramian):
            self.weighting.gramian_exponent = value

    def reset(self) -> None:
        """Forget the earlier weights, and reset the wrapped weighting if it has memory."""
        if isinstance(self.weighting, Stateful):
            self.weighting.reset()
        self._smoothed = None

    def forward(self, stat: Tensor, /) -> Tensor:
        """Weigh, then average with the earlier weights.

        Args:
            stat: What the wrapped weighting takes, m rows.

        Returns:
            Weights, shape [m].

        Raises:
            ValueError: m has changed, `initial_weights` has not m entries, or the wrapped
                weighting gave no finite vector.
        """
        # Before the wrapped weighting is asked, which may have memory of its own.
        earlier = self._earlier(len(stat)) if isinstance(stat, Tensor) and stat.ndim else None
        fresh = vector("weights of the wrapped weighting", self.weighting(stat))
        if earlier is None:
            smoothed = fresh
        else:
            known = (self.alpha * earlier).to(fresh.device)
            smoothed = known + (1.0 - self.alpha) * fresh.to(torch.float64)
        self._smoothed = smoothed.detach().to(device="cpu", dtype=torch.float64, copy=True)
        return smoothed.to(fresh.dtype)

    def _earlier(self, m: int) -> Tensor | None:
        """The weights to average with, shape [m], float64, on the CPU."""
        if self._smoothed is not None:
            if len(self._smoothed) != m:
                raise ValueError(
                    f"got {m} objectives after {len(self._smoothed)}, expected the same number at "
                    "every call, call reset() before the number changes."
                )
            return self._smoothed
        if self.initial_weights is None:
            return None
        check_length("initial_weights", self.initial_weights, m)
        return self.initial_weights.detach().to(device="cpu", dtype=torch.float64)

    def __setattr__(self, name: str, value: Any) -> None:
        # Modules register through this method, past any property, so the check has to be here.
        if name == "weighting" and not isinstance(value, Weighting):
            raise TypeError(
                f"got weighting of {type(value).__name__}, expected a Weighting, pass for example "
                "UPGradWeighting()."
            )
        super().__setattr__(name, value)


def _smoothed_upgrad(alpha: float = 0.9) -> StatefulGramianAggregator:
    """The aggregator with the smoothed weights of UPGrad."""
    return StatefulGramianAggregator(_smoothed_upgrad_weighting(alpha))


def _smoothed_upgrad_weighting(alpha: float = 0.9) -> CRMOGMWeighting:
    """The smoothed weights of UPGrad."""
    return CRMOGMWeighting(UPGradWeighting(), alpha)


RECORD = MethodRecord(
    name="CRMOGM",
    make=_smoothed_upgrad,
    make_weighting=_smoothed_upgrad_weighting,
    summary="Smooths the weights of another method over the calls, here those of UPGrad.",
    formula="A(J) = Jᵀλ, λ ← αλ + (1 − α)λ̂, λ̂ the weights of UPGrad in this call",
    paper="Zhou et al., On the Convergence of Stochastic Multi-Objective Gradient Manipulation "
    "and Beyond, NeurIPS 2022",
    non_conflicting=True,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=True,
    stateful=True,
    parameters=(Parameter("alpha", "number", 0.9, "Share of the earlier weights.", 0.0, 1.0),),
    remarks="The first call is UPGrad, which the properties are those of. Later directions use "
    "weights of earlier Jacobians: they may conflict, and are linear in the scale of each gradient "
    "only for the share 1 − α.",
)
