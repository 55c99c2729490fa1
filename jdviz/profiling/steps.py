"""The training steps that are measured, cut into phases."""

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from engines import autojac
from engines.aggregation import WeightedAggregator
from engines.autogram import Engine
from jdviz.problems.subjects import Built
from jdviz.profiling.marks import PhaseMarks
from jdviz.profiling.spec import MeasurementError, MeasureSpec, StepMethod
from jdviz.training.methods import make_aggregator, make_weighting

Differentiate = Callable[[Tensor], object]


class MeasuredStep:
    """One training step up to the gradients, ready to run again and again.

    Args:
        spec: A valid specification.
        built: The model and batch that it is about. The engine of the field's library leaves hooks
            on its model, so let no other step share that one.
        batch_dim: Dimension of the losses that indexes samples, None where objectives are tasks.
        m: Number of objectives.

    Attributes:
        model: The model; a step leaves its gradients in `.grad` and its parameters alone.
        marks: When the parts of the latest step began.

    Raises:
        MeasurementError: The field's library is asked for what it does not have.
    """

    def __init__(self, spec: MeasureSpec, built: Built, batch_dim: int | None, m: int) -> None:
        self.model: nn.Module = built.model
        self.marks = PhaseMarks()
        self._losses = built.losses
        make = _MAKERS[spec.method]
        self._differentiate = make(spec, built.model, batch_dim, m, self.marks)

    def run(self) -> None:
        """Runs the step: forward, then the method."""
        try:
            self.marks.begin("forward")
            self._differentiate(self._losses())
        finally:
            self.marks.close()

    def clear(self) -> None:
        """Removes the gradients, so that the next step allocates them again."""
        self.model.zero_grad(set_to_none=True)


def _sgd(
    spec: MeasureSpec, model: nn.Module, batch_dim: int | None, m: int, marks: PhaseMarks
) -> Differentiate:
    """Differentiates the mean of the losses."""

    def differentiate(losses: Tensor) -> None:
        marks.switch("backward")
        losses.mean().backward()

    return differentiate


def _fused(
    spec: MeasureSpec, model: nn.Module, batch_dim: int | None, m: int, marks: PhaseMarks
) -> Differentiate:
    """Makes the Gramian and the weighted gradient of one pass."""
    engine = Engine(model, batch_dim=batch_dim)
    weighting = make_weighting(spec.aggregator, m, spec.seed)
    weighting.register_forward_pre_hook(lambda *_: marks.switch("weights"))
    weighting.register_forward_hook(lambda *_: marks.switch("backward"))

    def differentiate(losses: Tensor) -> None:
        marks.switch("gramian")
        engine.backward(losses, weighting)

    return differentiate


def _two_pass(
    spec: MeasureSpec, model: nn.Module, batch_dim: int | None, m: int, marks: PhaseMarks
) -> Differentiate:
    """Computes the Gramian, then differentiates the weighted losses."""
    weighting = make_weighting(spec.aggregator, m, spec.seed)
    engine = Engine(model, batch_dim=batch_dim)
    return _in_two_passes(engine, weighting, marks)


def _in_two_passes(engine: Any, weighting: Any, marks: PhaseMarks) -> Differentiate:
    """Both libraries have the same two calls."""

    def differentiate(losses: Tensor) -> None:
        marks.switch("gramian")
        gramian = engine.compute_gramian(losses)
        marks.switch("weights")
        weights = weighting(gramian)
        # The Gramian is not needed any more; a loop that records it holds m² numbers longer.
        del gramian
        marks.switch("backward")
        losses.backward(weights.to(losses.dtype))

    return differentiate


def _autojac(
    spec: MeasureSpec, model: nn.Module, batch_dim: int | None, m: int, marks: PhaseMarks
) -> Differentiate:
    """Computes the Jacobian, aggregates its rows and adds the result to the gradients.

    The weights phase holds the Gramian of the Jacobian, where the method needs it, and the
    weights; the backward phase holds the weighted sum of the Jacobian's rows.
    """
    aggregator = make_aggregator(spec.aggregator, m, spec.seed)
    aggregator.register_forward_pre_hook(lambda *_: marks.switch("weights"))
    if isinstance(aggregator, WeightedAggregator):
        aggregator.weighting.register_forward_hook(lambda *_: marks.switch("backward"))

    def differentiate(losses: Tensor) -> None:
        marks.switch("jacobian")
        if batch_dim is None:
            autojac.backward(losses, aggregator)
        else:
            autojac.backward(losses, aggregator, modules=[model], batch_dim=batch_dim)

    return differentiate


def _peer_two_pass(
    spec: MeasureSpec, model: nn.Module, batch_dim: int | None, m: int, marks: PhaseMarks
) -> Differentiate:
    """The same two calls of the field's library, with its own weighting."""
    engine = _peer("autogram", "Engine")(model, batch_dim=batch_dim)
    weighting = _peer("aggregation", f"{spec.aggregator}Weighting")()
    return _in_two_passes(engine, weighting, marks)


def _peer_autojac(
    spec: MeasureSpec, model: nn.Module, batch_dim: int | None, m: int, marks: PhaseMarks
) -> Differentiate:
    """The Jacobian of the field's library, with its own aggregator.

    A hook on that would make it concatenate the Jacobian, which it avoids where it can; so weights
    and weighted sum are one phase.
    """
    backward, jac_to_grad = _peer("autojac", "backward"), _peer("autojac", "jac_to_grad")
    aggregator = _peer("aggregation", spec.aggregator)()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def differentiate(losses: Tensor) -> None:
        marks.switch("jacobian")
        backward(losses)
        marks.switch("backward")
        jac_to_grad(parameters, aggregator)

    return differentiate


def _peer(module: str, name: str) -> Any:
    """Looks something up in the field's library.

    Raises:
        MeasurementError: It is not installed or has no such thing.
    """
    try:
        return getattr(importlib.import_module(f"torchjd.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise MeasurementError(
            f"torchjd has no {module}.{name} here ({error}); `pip install torchjd` beside jdviz, "
            "or choose an aggregator that both have."
        ) from error


_MAKERS: dict[
    StepMethod,
    Callable[[MeasureSpec, nn.Module, int | None, int, PhaseMarks], Differentiate],
] = {
    "sgd": _sgd,
    "fused": _fused,
    "two-pass": _two_pass,
    "autojac": _autojac,
    "torchjd two-pass": _peer_two_pass,
    "torchjd autojac": _peer_autojac,
}
