"""The steps that are measured: same gradients, the stated phases, the stated memory."""

from collections.abc import Iterator
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from engines.aggregation import METHODS
from jdviz.problems import PROBLEMS, Batch, Data, Problem
from jdviz.problems.digits_samples import DigitsSamples
from jdviz.problems.models import Linear, build_seeded
from jdviz.profiling import (
    STEP_METHODS,
    MeasurementError,
    MeasureSpec,
    StepMethod,
    measurable_methods,
    steps,
)
from jdviz.profiling.child import measure_here
from jdviz.profiling.steps import MeasuredStep

# Float32, two orders of summation.
TOLERANCE = 1e-5

PHASES = {
    "autograd": ["forward", "backward"],
    "autojac": ["forward", "jacobian", "weights", "backward"],
    "autogram": ["forward", "gramian", "weights", "backward"],
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def spec_of(problem: str, method: StepMethod, aggregator: str = "Mean") -> MeasureSpec:
    return MeasureSpec(problem, "small", 16, method, aggregator, seed=0, repeats=1)


class WideLinear(DigitsSamples):
    """One linear layer from 4096 inputs to one output, whose squared output is the loss."""

    def make_model(self, size: str, seed: int) -> nn.Module:
        return build_seeded(lambda: Linear(4096, 1, bias=False), seed)

    def load(self, seed: int, conflict: float = 0.0) -> Data:
        inputs = torch.randn(32, 4096, generator=torch.Generator().manual_seed(seed))
        return Data(inputs, torch.zeros(32))

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch.tensors[0]).squeeze(1).square()


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Problem:
    problem = WideLinear(
        key="wide",
        title="Wide",
        summary="A wide linear layer.",
        objective_kind="samples",
        batch_dim=0,
        sizes={"small": (4096, 1)},
        n_samples=32,
        input_shape=(4096,),
        target_shape=(),
        target_dtype=torch.float32,
        default_size="small",
        default_batch=16,
        max_batch=32,
        default_learning_rate=0.1,
    )
    monkeypatch.setattr(steps, "PROBLEMS", MappingProxyType({"wide": problem}))
    return problem


def gradients(spec: MeasureSpec) -> Tensor:
    step = MeasuredStep(spec)
    step.run()
    return torch.cat([p.grad.flatten() for p in step.model.parameters()])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("aggregator", ["Mean", "UPGrad"])
def test_both_engines_leave_the_same_gradients(problem: str, aggregator: str) -> None:
    jac, gram = (gradients(spec_of(problem, m, aggregator)) for m in ("autojac", "autogram"))
    # UPGrad amplifies the rounding of the Gramian by the conditioning of its active set.
    bound = TOLERANCE if aggregator == "Mean" else 100 * TOLERANCE
    assert (jac - gram).norm() <= bound * jac.norm()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_with_mean_weights_they_are_those_of_the_plain_step(problem: str) -> None:
    plain = gradients(spec_of(problem, "autograd"))
    for method in ("autojac", "autogram"):
        assert (gradients(spec_of(problem, method)) - plain).norm() <= TOLERANCE * plain.norm()


@pytest.mark.parametrize("aggregator", measurable_methods())
def test_every_method_in_the_menu_runs_with_both_engines(aggregator: str) -> None:
    for method in ("autojac", "autogram"):
        spec = spec_of("conflict_regression", method, aggregator)
        spec.validate()
        assert torch.isfinite(gradients(spec)).all()


@pytest.mark.parametrize(
    ("problem", "aggregator", "sentence"),
    [
        (
            "digits_mlp",
            "GradDrop",
            "GradDrop needs more than the Gramian, .*; choose one of UPGrad",
        ),
        ("digits_mlp", "MoDo", "MoDo needs more than the Gramian"),
        ("digits_mlp", "Best", "There is no aggregator 'Best'; choose one of UPGrad"),
        ("digits_two_tasks", "Krum", "Krum needs at least 3 objectives, and this step has 2"),
    ],
)
def test_a_method_that_both_engines_cannot_run_is_refused(
    problem: str, aggregator: str, sentence: str
) -> None:
    with pytest.raises(MeasurementError, match=sentence) as caught:
        spec_of(problem, "autogram", aggregator).validate()
    assert str(caught.value).endswith(".")


def test_the_menu_is_the_methods_of_the_gramian() -> None:
    wanted = [name for name, record in METHODS.items() if record.statistic == "gramian"]
    assert list(measurable_methods()) == wanted


@pytest.mark.parametrize("method", STEP_METHODS)
@pytest.mark.parametrize("aggregator", ["Mean", "UPGrad"])
def test_phases_are_complete_and_in_order(method: StepMethod, aggregator: str) -> None:
    measurement = measure_here(spec_of("digits_mlp", method, aggregator))
    assert [phase.name for phase in measurement.phases] == PHASES[method]
    ends = [time_ms for phase in measurement.phases for time_ms in phase[1:]]
    assert ends == sorted(ends)
    assert ends[-1] <= measurement.times_ms[-1]
    assert measurement.peak_phase in PHASES[method]
    assert measurement.peak_operation.startswith("aten::")


@pytest.mark.parametrize("method", STEP_METHODS)
def test_what_remains_of_a_step_are_its_gradients(method: StepMethod) -> None:
    measurement = measure_here(spec_of("digits_cnn", method))
    assert measurement.live_bytes[0] == 0
    assert measurement.live_bytes[-1] == 4 * measurement.parameters == measurement.parameter_bytes


def test_a_step_leaves_the_parameters_alone() -> None:
    step = MeasuredStep(spec_of("digits_mlp", "autogram"))
    before = [p.detach().clone() for p in step.model.parameters()]
    step.run()
    assert all(torch.equal(p, q) for p, q in zip(before, step.model.parameters(), strict=True))
    step.clear()
    assert all(p.grad is None for p in step.model.parameters())


@pytest.mark.usefixtures("wide")
def test_autojac_holds_the_jacobian_and_autogram_does_not() -> None:
    m, n = 16, 4096
    jacobian_bytes = 4 * m * n
    jac = measure_here(MeasureSpec("wide", "small", m, "autojac", "Mean", 0, repeats=1))
    weights = next(phase for phase in jac.phases if phase.name == "weights")
    during = [
        live
        for time_ms, live in zip(jac.times_ms, jac.live_bytes, strict=True)
        if weights.start_ms <= time_ms <= weights.end_ms
    ]
    assert (jac.objectives, jac.parameters) == (m, n)
    assert min(during) >= jacobian_bytes
    # The Jacobian, the losses and what a Mean reads of its argument: nothing near a second copy
    # is alive when the weights are there.
    assert during[-1] <= jacobian_bytes + 64 * m
    gram = measure_here(MeasureSpec("wide", "small", m, "autogram", "Mean", 0, repeats=1))
    assert gram.peak_bytes < jacobian_bytes


@pytest.mark.usefixtures("wide")
def test_peak_of_the_plain_step_in_closed_form() -> None:
    m, n = 16, 4096
    plain = measure_here(MeasureSpec("wide", "small", m, "autograd", "Mean", 0, repeats=1))
    # While the weight's gradient is made: that gradient, the output's gradient, the m losses,
    # their mean and its gradient.
    assert plain.peak_bytes == 4 * (n + m + m + 1 + 1)
    assert plain.parameter_bytes == 4 * n
