"""ExcessMTL: more weight to the objectives that are still far from their optimum."""

import math
from typing import Any

import torch
from torch import Tensor

from engines.aggregation.aggregators import WeightedAggregator
from engines.aggregation.constants import outside_autograd
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import positive, whole
from engines.aggregation.weightings import MatrixWeighting
from engines.linalg.gramian import column_chunks
from engines.stateful import Stateful

# Added to the accumulated squares and to the baseline, as in the official code.
_EPSILON = 1e-7
# Beyond this an excess is as good as infinite, and differences of two still fit.
_LARGEST = 1e300
# A weight stays a normal float64, or no later call could raise it again.
_LEAST_LOG_WEIGHT = -700.0


class ExcessMTLWeighting(Stateful, MatrixWeighting):
    """Weights of `ExcessMTL`, from the Jacobian; its Gramian would not do.

    See `ExcessMTL` for the source, the parameters and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import ExcessMTLWeighting
        >>> ExcessMTLWeighting()(torch.tensor([[3., 0., 0.], [0., 1., 1.]]))
        tensor([0.7311, 0.2689])
    """

    _parameters_shown = ("robust_step_size", "n_warmup_steps")
    _state_names = ("_root", "_log_weights", "_baseline", "_collected", "_calls")

    def __init__(self, robust_step_size: float = 1.0, n_warmup_steps: int = 0) -> None:
        super().__init__()
        self.robust_step_size = robust_step_size
        self.n_warmup_steps = n_warmup_steps
        self.reset()

    @property
    def robust_step_size(self) -> float:
        """Step η of the weights, above 0."""
        return self._robust_step_size

    @robust_step_size.setter
    def robust_step_size(self, value: float) -> None:
        self._robust_step_size = positive("robust_step_size", value)

    @property
    def n_warmup_steps(self) -> int:
        """Calls that only collect the baseline, at least 0; without effect after them."""
        return self._n_warmup_steps

    @n_warmup_steps.setter
    def n_warmup_steps(self, value: int) -> None:
        self._n_warmup_steps = whole("n_warmup_steps", value, 0)

    def reset(self) -> None:
        """Forget the accumulated squares, the weights and the baseline."""
        # The root of the accumulated squares, [m, n]: the squares themselves leave float32.
        self._root: Tensor | None = None
        self._log_weights: Tensor | None = None
        self._baseline: Tensor | None = None
        # The mean excess of the calls so far, while they are warm-up.
        self._collected: Tensor | None = None
        self._calls = 0

    def get_extra_state(self) -> dict[str, Any]:
        """What `state_dict()` keeps.

        Returns:
            The state by name.
        """
        state = super().get_extra_state()
        # It is updated in place, and a checkpoint must not change afterwards.
        state["_root"] = None if self._root is None else self._root.clone()
        return state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave.

        Args:
            state: The state by name.
        """
        super().set_extra_state(state)
        # It is updated in place, so that two weightings must not share it.
        self._root = None if self._root is None else self._root.clone()

    def forward(self, stat: Tensor, /) -> Tensor:
        """Estimate the excess risks and update the weights.

        Args:
            stat: Jacobian, shape [m, n].

        Returns:
            Weights, shape [m], positive up to the rounding to their dtype, with sum 1 unless m
            is 0.
        """
        matrix = stat.detach()
        log_weights = self._prepare(matrix)
        excess = self._accumulate(matrix).clamp(max=_LARGEST).cpu()
        if self._baseline is None and self._calls < self.n_warmup_steps:
            self._collect(excess)
        else:
            gain = self.robust_step_size * self._relative(excess)
            log_weights = torch.log_softmax(log_weights + gain.clamp(max=_LARGEST), dim=0)
            self._log_weights = log_weights.clamp(min=_LEAST_LOG_WEIGHT)
            log_weights = self._log_weights
        weights = torch.softmax(log_weights, dim=0).to(device=stat.device, dtype=stat.dtype)
        return outside_autograd(weights, stat, type(self).__name__)

    def _prepare(self, matrix: Tensor) -> Tensor:
        """Start afresh for a Jacobian of another kind; returns the log-weights so far, [m]."""
        dtype = torch.float64 if matrix.dtype == torch.float64 else torch.float32
        root, log_weights = self._root, self._log_weights
        if root is None or log_weights is None or root.shape != matrix.shape or root.dtype != dtype:
            self.reset()
            # A tensor made in inference mode could not be updated outside of it.
            with torch.inference_mode(False):
                root = torch.zeros(matrix.shape, dtype=dtype, device=matrix.device)
            log_weights = torch.full(
                (len(matrix),), -math.log(max(1, len(matrix))), dtype=torch.float64, device="cpu"
            )
            self._log_weights = log_weights
        self._root = root.to(matrix.device)
        return log_weights

    def _accumulate(self, matrix: Tensor) -> Tensor:
        """Add the squares to those so far; returns Σ_k g_ik²/√(S_ik + ε), shape [m], float64."""
        excess = torch.zeros(len(matrix), dtype=torch.float64, device=matrix.device)
        if self._root is None:
            return excess
        largest = torch.finfo(self._root.dtype).max
        for chunk, root in zip(column_chunks(matrix), column_chunks(self._root), strict=True):
            lengths = chunk.abs().to(root.dtype)
            torch.hypot(root, lengths, out=root).clamp_(max=largest)
            lengths = lengths.to(torch.float64)
            curvature = torch.hypot(root.to(torch.float64), lengths.new_tensor(math.sqrt(_EPSILON)))
            # The quotient is at most 1, so nothing leaves float64 before the sum does.
            excess += (lengths * (lengths / curvature)).sum(dim=1)
        return excess

    def _collect(self, excess: Tensor) -> None:
        """Take one call of the warm-up into the mean."""
        self._calls += 1
        earlier = torch.zeros_like(excess) if self._collected is None else self._collected
        self._collected = earlier + (excess - earlier) / self._calls

    def _relative(self, excess: Tensor) -> Tensor:
        """The excess relative to the baseline, which the first call after the warm-up sets."""
        if self._baseline is None:
            self._baseline, self._collected = self._collected, None
            if self._baseline is None:
                self._baseline = excess
                return excess
        return excess / (self._baseline + _EPSILON)


class ExcessMTL(Stateful, WeightedAggregator):
    """Weighs each gradient by how far its objective still is from its optimum.

    A(J) = Jᵀw, where each call multiplies wᵢ by exp(η·eᵢ) and divides by the sum. The excess risk
    eᵢ = Σₖ gᵢₖ²/√(Sᵢₖ + 10⁻⁷) estimates how far the loss is above what it can reach: Sᵢₖ, the sum
    of gᵢₖ² over all calls, stands for a diagonal Hessian as in Adagrad. A loss that stays high
    because of noise in its labels has a small gradient, and gains no weight by it. eᵢ is divided
    by a baseline, its mean over the first `n_warmup_steps` calls, in which the weights are equal.

    Without warm-up (the default) the first call is the baseline and itself updates the weights, by
    the excess as it is: where the gradients are long it puts all weight on one objective for many
    calls. The official code leaves the weights equal in the first call, which
    ``n_warmup_steps=1`` does here; the paper warms up for three epochs. The official code makes
    the weights sum to m; here they sum to 1, as in the paper. A weight stays above 10⁻³⁰⁴, so that
    one very long gradient does not take the others out for good. An objective with a zero gradient
    in all calls of the baseline gets all weight as soon as its gradient is not zero.

    The direction may conflict with a gradient, and depends on the coordinates of the parameters.
    A Jacobian of another shape, or float64 after a narrower dtype or the reverse, starts afresh.

    Args:
        robust_step_size: Step η of the weights, above 0.
        n_warmup_steps: Calls with equal weights that only collect the baseline, at least 0.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range.

    Source: He et al., Robust Multi-Task Learning with Excess Risks, ICML 2024, Equations 6, 7 and
        9, Section 3.2 for the baseline, Appendix C.1 for the warm-up.
    Cost: about 6m·n operations and no Gramian. Memory: m·n numbers from call to call, of the size
        of the Jacobian, float64 if it is, else float32; besides 6 MiB of workspace.

    Example:
        >>> import torch
        >>> from engines.aggregation import ExcessMTL
        >>> ExcessMTL()(torch.tensor([[3., 0., 0.], [0., 1., 1.]]))
        tensor([2.1932, 0.2689, 0.2689])
    """

    _parameters_shown = ("robust_step_size", "n_warmup_steps")

    weighting: ExcessMTLWeighting
    robust_step_size = Forwarded()
    n_warmup_steps = Forwarded()

    def __init__(self, robust_step_size: float = 1.0, n_warmup_steps: int = 0) -> None:
        super().__init__(ExcessMTLWeighting(robust_step_size, n_warmup_steps))

    def reset(self) -> None:
        """Forget the accumulated squares, the weights and the baseline."""
        self.weighting.reset()


RECORD = MethodRecord(
    name="ExcessMTL",
    make=ExcessMTL,
    make_weighting=ExcessMTLWeighting,
    summary="Multiplies the weight of each gradient by the exponential of its objective's "
    "estimated excess risk.",
    formula="A(J) = Jᵀw, wᵢ ← wᵢ exp(η·eᵢ) / Σⱼ wⱼ exp(η·eⱼ), eᵢ = Σₖ gᵢₖ²/√(Σ gᵢₖ² over the "
    "calls), relative to a baseline",
    paper="He et al., Robust Multi-Task Learning with Excess Risks, ICML 2024",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    stateful=True,
    statistic="jacobian",
    parameters=(
        Parameter("robust_step_size", "number", 1.0, "Step of the weights.", 1e-3, 10.0),
        Parameter("n_warmup_steps", "integer", 0, "Calls that only collect a baseline.", 0, 1000),
    ),
    remarks="Keeps a number for every entry of the Jacobian. With a warm-up, the first calls are "
    "those of Mean. Later calls go on from the weights of the earlier ones.",
)
