"""The training steps that are measured, cut into phases."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.profiler import record_function

from engines import autojac
from engines.aggregation import WeightedAggregator
from engines.autogram import Engine
from jdviz.problems import PROBLEMS
from jdviz.problems.base import Batch, Problem
from jdviz.profiling.memory import PHASE_PREFIX
from jdviz.profiling.spec import MeasureSpec
from jdviz.training.methods import make_aggregator, make_weighting


class PhaseMarks:
    """Marks where the parts of a step begin; without a profiler the marks cost microseconds.

    The end of the Jacobian is inside a call of the engine, where no `with` statement can be put:
    hooks switch the mark there.
    """

    def __init__(self) -> None:
        self._open: record_function | None = None

    def switch(self, name: str) -> None:
        """Ends the current part, if there is one, and begins another."""
        self.close()
        self._open = record_function(PHASE_PREFIX + name)
        self._open.__enter__()

    def close(self) -> None:
        """Ends the current part."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None


class MeasuredStep:
    """Model, batch and method of a specification, ready to run the same step again and again.

    Args:
        spec: A valid specification.

    Attributes:
        model: The model; a step leaves its gradients in `.grad` and its parameters alone.
    """

    def __init__(self, spec: MeasureSpec) -> None:
        self.problem: Problem = PROBLEMS[spec.problem]
        self.model: nn.Module = self.problem.make_model(spec.size, spec.seed)
        data = self.problem.load(spec.seed)
        self._batch: Batch = self.problem.batch(data, 0, spec.batch_size, spec.seed)
        self._marks = PhaseMarks()
        m = self.problem.objectives(spec.batch_size)
        self._aggregator = make_aggregator(spec.aggregator, m, spec.seed)
        self._weighting = make_weighting(spec.aggregator, m, spec.seed)
        self._engine = Engine(self.model, batch_dim=self.problem.batch_dim)
        methods: dict[str, Callable[[Tensor], None]] = {
            "autograd": self._autograd,
            "autojac": self._autojac,
            "autogram": self._autogram,
        }
        self._differentiate = methods[spec.method]

    def run(self) -> None:
        """Runs the step: forward, then the method."""
        try:
            self._marks.switch("forward")
            self._differentiate(self.problem.losses(self.model, self._batch))
        finally:
            self._marks.close()

    def clear(self) -> None:
        """Removes the gradients, so that the next step allocates them again."""
        self.model.zero_grad(set_to_none=True)

    def _autograd(self, losses: Tensor) -> None:
        """Differentiates the mean of the losses."""
        self._marks.switch("backward")
        losses.mean().backward()

    def _autogram(self, losses: Tensor) -> None:
        """Computes the Gramian, then differentiates the weighted losses."""
        self._marks.switch("gramian")
        gramian = self._engine.compute_gramian(losses)
        self._marks.switch("weights")
        weights = self._weighting(gramian)
        # The Gramian is not needed any more; a loop that records it holds m² numbers longer.
        del gramian
        self._marks.switch("backward")
        losses.backward(weights)

    def _autojac(self, losses: Tensor) -> None:
        """Computes the Jacobian, aggregates its rows and adds the result to the gradients.

        The weights phase holds the Gramian of the Jacobian, where the method needs it, and the
        weights; the backward phase holds the weighted sum of the Jacobian's rows.
        """

        def jacobian_is_there(*_: object) -> None:
            self._marks.switch("weights")

        def weights_are_there(*_: object) -> None:
            self._marks.switch("backward")

        handles = [self._aggregator.register_forward_pre_hook(jacobian_is_there)]
        if isinstance(self._aggregator, WeightedAggregator):
            handles.append(self._aggregator.weighting.register_forward_hook(weights_are_there))
        try:
            self._marks.switch("jacobian")
            autojac.backward(losses, self._aggregator)
        finally:
            for handle in handles:
                handle.remove()
