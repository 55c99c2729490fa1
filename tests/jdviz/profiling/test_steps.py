"""The steps that are measured: same gradients, the stated parts, the stated memory."""

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from engines import aggregation, autogram, autojac
from engines.aggregation import METHODS
from jdviz.problems import PROBLEMS
from jdviz.problems.subjects import SUBJECTS, find_subject
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import (
    OURS,
    PEERS,
    SGD,
    Measurement,
    MeasurementError,
    MeasureSpec,
    StepMethod,
    child,
    measurable_methods,
)
from jdviz.profiling.child import measure_here
from jdviz.profiling.results import OWNERS
from jdviz.profiling.steps import MeasuredStep
from tests.support.subjects import I, M, O, linear_spec, linear_subject

# Float32, two orders of summation.
TOLERANCE = 1e-5

METHODS_HERE: tuple[StepMethod, ...] = (SGD, *OURS)
PARTS = {
    "sgd": ["forward", "backward"],
    "autojac": ["forward", "jacobian", "weights", "backward"],
    "two-pass": ["forward", "gramian", "weights", "backward"],
    "fused": ["forward", "gramian", "weights", "backward"],
}


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def spec_of(problem: str, method: StepMethod, aggregator: str = "Mean") -> MeasureSpec:
    return MeasureSpec(problem, "small", 16, method, aggregator)


def step_of(spec: MeasureSpec) -> MeasuredStep:
    subject = find_subject(spec.problem)
    built = subject.build(spec.size, spec.batch_size, spec.seed)
    return MeasuredStep(spec, built, subject.batch_dim, subject.objectives(spec.batch_size))


def gradients(spec: MeasureSpec) -> Tensor:
    step = step_of(spec)
    step.run()
    found = [parameter.grad for parameter in step.model.parameters()]
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("aggregator", ["Mean", "UPGrad"])
def test_all_engines_leave_the_same_gradients(problem: str, aggregator: str) -> None:
    whole, *others = (gradients(spec_of(problem, one, aggregator)) for one in reversed(OURS))
    # UPGrad amplifies the rounding of the Gramian by the conditioning of its active set.
    bound = TOLERANCE if aggregator == "Mean" else 100 * TOLERANCE
    for other in others:
        assert (whole - other).norm() <= bound * whole.norm()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_with_mean_weights_they_are_those_of_the_plain_step(problem: str) -> None:
    plain = gradients(spec_of(problem, SGD))
    for method in OURS:
        assert (gradients(spec_of(problem, method)) - plain).norm() <= TOLERANCE * plain.norm()


@pytest.mark.parametrize("aggregator", measurable_methods())
def test_every_aggregator_in_the_menu_runs_with_every_engine(aggregator: str) -> None:
    for method in OURS:
        spec = spec_of("conflict_regression", method, aggregator)
        spec.validate()
        assert torch.isfinite(gradients(spec)).all()


@pytest.mark.parametrize(
    ("problem", "aggregator", "sentence"),
    [
        (
            "digits_mlp",
            "GradDrop",
            r"GradDrop needs more than the Gramian, .*; choose one of UPGrad",
        ),
        ("digits_mlp", "MoDo", "MoDo needs more than the Gramian"),
        ("digits_mlp", "Best", "There is no aggregator 'Best'; choose one of UPGrad"),
        ("digits_two_tasks", "Krum", "Krum needs at least 3 objectives, and this step has 2"),
    ],
)
def test_an_aggregator_that_not_all_engines_can_run_is_refused(
    problem: str, aggregator: str, sentence: str
) -> None:
    with pytest.raises(MeasurementError, match=sentence) as caught:
        spec_of(problem, "fused", aggregator).validate()
    assert str(caught.value).endswith(".")
    assert caught.value.kind == "refused"


def test_the_menu_is_the_methods_of_the_gramian() -> None:
    wanted = [name for name, record in METHODS.items() if record.statistic == "gramian"]
    assert list(measurable_methods()) == wanted


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_objectives_of_every_subject_are_a_vector(subject: str) -> None:
    found = SUBJECTS[subject]
    built = found.build(found.default_size, 2)
    assert built.losses().shape == (found.objectives(2),)
    assert built.batch_bytes > 0


def test_a_step_leaves_the_parameters_alone() -> None:
    step = step_of(spec_of("digits_mlp", "fused"))
    before = [p.detach().clone() for p in step.model.parameters()]
    step.run()
    assert all(torch.equal(p, q) for p, q in zip(before, step.model.parameters(), strict=True))
    step.clear()
    assert all(p.grad is None for p in step.model.parameters())


@pytest.mark.parametrize("method", METHODS_HERE)
def test_a_step_that_fails_closes_its_marks(method: StepMethod) -> None:
    step = step_of(spec_of("digits_mlp", method))
    next(step.model.parameters()).data.fill_(torch.nan)
    if method == SGD:
        # Plain differentiation passes numbers on that are not finite.
        step.run()
    else:
        with pytest.raises(ValueError, match="finite"):
            step.run()
    assert step.marks.began_ns[0][0] == "forward"
    assert step.marks.began_ns[-1][0] == ""


@pytest.mark.parametrize("method", PEERS)
@pytest.mark.parametrize("found", [None, ModuleType("torchjd.empty")], ids=["absent", "other"])
def test_what_the_fields_library_lacks_is_a_sentence(
    method: StepMethod, found: ModuleType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("autogram", "autojac", "aggregation"):
        monkeypatch.setitem(sys.modules, f"torchjd.{name}", found)
    with pytest.raises(MeasurementError, match=r"^torchjd has no auto.* here .*pip install torch"):
        step_of(spec_of("digits_mlp", method))


@pytest.mark.parametrize("method", PEERS)
@pytest.mark.parametrize("problem", ["digits_cnn", "digits_two_tasks"])
def test_the_fields_library_is_called_as_it_is_documented(
    method: StepMethod, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engines here have the same names and arguments, so they can stand in for it.
    for name, module in (
        ("autogram", autogram),
        ("autojac", autojac),
        ("aggregation", aggregation),
    ):
        monkeypatch.setitem(sys.modules, f"torchjd.{name}", module)
    plain = gradients(spec_of(problem, SGD))
    assert (gradients(spec_of(problem, method)) - plain).norm() <= TOLERANCE * plain.norm()


# One sample is enough to see a workload's parts; two Jacobians of AlexNet would be 1 GB.
CASES = [(problem, "small", 16) for problem in PROBLEMS] + [
    (workload, SUBJECTS[workload].default_size, 1) for workload in WORKLOADS
]


@pytest.mark.parametrize(("problem", "size", "batch_size"), CASES)
@pytest.mark.parametrize("method", METHODS_HERE)
def test_a_measurement_holds_together(
    problem: str,
    size: str,
    batch_size: int,
    method: StepMethod,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first of two profiles is enough of a warm-up here.
    monkeypatch.setattr(child, "WARM_UPS", 0)
    found = measure_here(MeasureSpec(problem, size, batch_size, method, "Mean"))
    # The split is complete.
    assert tuple(found.peak_split) == OWNERS
    assert sum(found.peak_split.values()) == found.peak_bytes
    assert min(found.peak_split.values()) >= 0
    assert sum(size for _, size in found.peak_layers) == found.peak_bytes
    # The peak is on the curve, and the curve ends with nothing but the gradients.
    assert found.peak_bytes == max(found.live_bytes)
    assert found.peak_ms == found.times_ms[found.live_bytes.index(found.peak_bytes)]
    assert (found.live_bytes[0], found.live_bytes[-1]) == (0, found.parameter_bytes)
    assert found.parameter_bytes == 4 * found.parameters
    # The parts are there, one after the other.
    assert [phase.name for phase in found.phases] == PARTS[method]
    ends = [time_ms for phase in found.phases for time_ms in phase[1:]]
    assert ends == sorted(ends)
    assert ends[-1] <= found.times_ms[-1]
    assert found.times_ms == sorted(found.times_ms)
    assert found.peak_phase in PARTS[method]
    assert found.peak_source.operation.startswith("aten::")
    if method == "autojac":
        jacobian_bytes = 4 * found.objectives * found.parameters
        assert found.peak_split["jacobian"] >= jacobian_bytes


def measured(monkeypatch: pytest.MonkeyPatch, method: StepMethod, aggregator: str) -> Measurement:
    monkeypatch.setattr(child, "find_subject", lambda name: linear_subject())
    return measure_here(linear_spec(method, aggregator))


N = O * I
LOSSES = GRADIENT_OF_LOSSES = WEIGHTS = 4 * M
OUTPUT_GRADIENTS = 4 * M * O
GRAMIAN = 4 * M * M


@pytest.mark.parametrize("aggregator", ["Mean", "UPGrad"])
@pytest.mark.parametrize(
    ("method", "split", "phase", "source"),
    [
        # While the weight's gradient is made: the losses, their mean and its gradient, and the
        # output gradients. The outputs are freed by then.
        ("sgd", {"workspace": OUTPUT_GRADIENTS + 4 + 4}, "backward", ("0", "aten::mm")),
        # The same, with weights where the mean was.
        ("two-pass", {"workspace": OUTPUT_GRADIENTS + WEIGHTS}, "backward", ("0", "aten::mm")),
        # The Gramian is returned, and output gradients are kept beside the weighted ones.
        (
            "fused",
            {"gramian": GRAMIAN, "workspace": 2 * OUTPUT_GRADIENTS + WEIGHTS},
            "backward",
            ("0", "aten::mm"),
        ),
    ],
)
def test_the_peak_of_a_linear_map_in_closed_form(
    method: StepMethod,
    split: dict[str, int],
    phase: str,
    source: tuple[str, str],
    aggregator: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = measured(monkeypatch, method, aggregator)
    expected = dict.fromkeys(OWNERS, 0) | {"activations": LOSSES, "gradients": 4 * N} | split
    assert found.peak_split == expected
    assert found.peak_bytes == sum(expected.values())
    assert (found.peak_phase, found.peak_source) == (phase, source)
    assert (found.objectives, found.parameters, found.parameter_bytes) == (M, N, 4 * N)
    assert found.batch_bytes == 4 * M * I


def test_the_peak_of_autojac_on_a_linear_map_in_closed_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = measured(monkeypatch, "autojac", "Mean")
    # The sum of the Jacobian's rows is taken in float64: the Jacobian and the weights are alive
    # once more in twice the size, and the sum too.
    doubled = 2 * (4 * M * N + WEIGHTS + 4 * N)
    expected = dict.fromkeys(OWNERS, 0) | {
        "activations": LOSSES,
        "jacobian": 4 * M * N,
        "workspace": WEIGHTS + doubled,
    }
    assert found.peak_split == expected
    assert found.peak_bytes == sum(expected.values())
    assert (found.peak_phase, found.peak_source.operation) == ("backward", "aten::mm")


def test_autogram_never_holds_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("fused", "two-pass"):
        assert measured(monkeypatch, method, "UPGrad").peak_bytes < 4 * M * N
