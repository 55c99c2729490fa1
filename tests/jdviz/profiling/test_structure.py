"""What a step needs, read by going through it without its numbers."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from jdviz.problems.subjects import SUBJECTS, Built, Subject
from jdviz.profiling.child import measure_here
from jdviz.profiling.dryrun import DryRun, dry_peak
from jdviz.profiling.estimate import predicted_bytes
from jdviz.profiling.spec import MeasurementError, MeasureSpec, StepMethod
from jdviz.profiling.structure import (
    PREDICTED,
    Structure,
    bundled_structures,
    read_structure,
    structure_of,
)

FLOAT = 4


@pytest.fixture(autouse=True)
def _same_plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, plans by constants instead of the machine's rates, and batches up to 1024."""
    monkeypatch.setattr("jdviz.problems.subjects.MAX_BATCH", 1024)
    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def subject_of(
    make: Callable[[], nn.Module],
    losses: Callable[[nn.Module, Tensor], Tensor],
    *,
    features: int,
    batch_dim: int | None = 0,
    tasks: int = 0,
    resizable: bool = True,
) -> Subject:
    """A subject of one model."""

    def build(size: str, batch_size: int, seed: int, device: str) -> Built:
        del size, seed, device
        model, inputs = make(), torch.randn(batch_size, features)
        return Built(model, lambda: losses(model, inputs), (inputs,))

    return Subject(
        "own", "own", "own", {"own": "own"}, "own", 8, batch_dim, tasks, resizable, build
    )


def wide(inputs: int, outputs: int) -> Subject:
    """One linear layer without a bias."""
    return subject_of(
        lambda: nn.Linear(inputs, outputs, bias=False),
        lambda model, x: model(x).square().mean(1),
        features=inputs,
    )


def test_tensors_are_counted_while_they_live() -> None:
    dry = DryRun()

    def step() -> None:
        first = torch.zeros(1000, 1000)
        second = first @ first
        del first
        second[3:].view(-1).add_(1)
        second.exp().sum().item()

    assert dry_peak(dry, step) == 2 * FLOAT * 10**6 + FLOAT
    assert dry.live_bytes == 0


def test_what_exists_before_is_not_counted() -> None:
    before = torch.zeros(1000, 1000)
    dry = DryRun()
    assert dry_peak(dry, lambda: before[1:].t().mul_(2)) == 0
    assert torch.equal(before, torch.zeros(1000, 1000))


def test_nothing_large_is_touched() -> None:
    # Memory that is never touched is never taken.
    def step() -> None:
        blocks = [torch.zeros(2**30, dtype=torch.uint8) + 1 for _ in range(40)]
        assert len(blocks) == 40

    assert dry_peak(DryRun(), step) == 41 * 2**30


def test_small_numbers_are_right_and_others_are_one_and_true() -> None:
    with DryRun():
        assert torch.arange(5).sum().item() == 10
        assert torch.tensor([1.5, 2.0]).sum().item() == 3.5
        large = torch.zeros(1000, 1000)
        assert large.sum().item() == 1
        assert bool((large > 3).all())
        assert large.isnan().nonzero().tolist() == []
        assert torch.unique(torch.arange(10**5) % 7).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_gradient_that_is_added_up_is_written_over() -> None:
    # x is used twice: autograd adds the second gradient into the memory of the first.
    x = torch.ones(1000, 1000, requires_grad=True)
    dry = DryRun()
    with dry:
        total = (x * 2).sum() + (x * 3).sum()
    held = dry.live_bytes
    assert dry_peak(dry, total.backward) == 2 * FLOAT * 10**6 + FLOAT
    assert x.grad is not None
    assert held == FLOAT


def test_the_jacobian_of_a_wide_layer_in_closed_form() -> None:
    # Half the columns of a wide matrix: the Jacobian, shape [m, n], dwarfs all else.
    found = read_structure(wide(500, 400), "own", seconds=0)
    n = 500 * 400
    assert (found.parameters, found.parameter_bytes) == (n, FLOAT * n)
    assert (found.batch_fixed_bytes, found.batch_sample_bytes) == (0, FLOAT * 500)
    for batch_size in (4, 16, 64):
        need = predicted_bytes(found, "autojac", batch_size)
        assert need is not None
        assert 0 <= need - FLOAT * batch_size * n <= 12 * FLOAT * n


def test_the_gradient_of_a_wide_layer_in_closed_form() -> None:
    # Alive when the weight's gradient is made, beside it: the losses, m; the output of the layer
    # was saved for its square and is freed; its gradient, m x 400; the mean and its gradient.
    found = read_structure(wide(500, 400), "own", seconds=0)
    for batch_size in (1, 4, 16):
        need = predicted_bytes(found, "sgd", batch_size)
        assert need == FLOAT * (500 * 400 + 400 * batch_size + batch_size) + 2 * FLOAT


@pytest.mark.parametrize("method", PREDICTED)
@pytest.mark.parametrize(
    ("problem", "size", "batch_size"),
    [
        ("digits_mlp", "small", 8),
        ("digits_two_tasks", "medium", 8),
        ("conflict_regression", "small", 8),
        ("mlp", "64", 32),
    ],
)
def test_without_convolutions_the_prediction_is_exact_to_a_few_numbers(
    problem: str, size: str, batch_size: int, method: StepMethod
) -> None:
    measured = measure_here(MeasureSpec(problem, size, batch_size, method, "Mean")).peak_bytes
    assert abs(_peak(SUBJECTS[problem], size, batch_size, method) - measured) <= 16


@pytest.mark.parametrize("method", PREDICTED)
def test_with_convolutions_it_is_near(method: StepMethod) -> None:
    measured = measure_here(MeasureSpec("cifar_cnn", "full", 4, method, "Mean")).peak_bytes
    # What a convolution takes while it runs is known of processors with 512-bit vectors only.
    assert measured / 2 <= _peak(SUBJECTS["cifar_cnn"], "full", 4, method) <= 2 * measured


def _peak(subject: Subject, size: str, batch_size: int, method: StepMethod) -> int:
    """What is found at one batch size alone."""
    found = read_structure(only(subject, batch_size), size)
    assert found.missing == {}
    assert found.only_batch == batch_size
    [(batch, peak)] = found.peaks[method]
    assert batch == batch_size
    return peak


def only(subject: Subject, batch_size: int) -> Subject:
    """The same with one batch size."""
    return replace(subject, default_batch=batch_size, resizable=False)


def test_plain_steps_are_pieces_of_straight_lines_in_the_batch() -> None:
    # What is largest, the first gradients or the last, changes with the batch.
    found = read_structure(SUBJECTS["mlp"], "128", seconds=0)
    for batch_size, allowed in ((2, 0), (3, 0), (48, 0.03), (500, 0)):
        need = predicted_bytes(found, "sgd", batch_size)
        exact = _peak(SUBJECTS["mlp"], "128", batch_size, "sgd")
        assert need == pytest.approx(exact, rel=allowed, abs=16)


def test_between_the_batch_sizes_that_were_read_it_is_near() -> None:
    subject = SUBJECTS["digits_mlp"]
    found = read_structure(subject, "small", seconds=60)
    for method in PREDICTED:
        for batch_size in (90, 333):
            exact = _peak(subject, "small", batch_size, method)
            need = predicted_bytes(found, method, batch_size)
            assert need == pytest.approx(exact, rel=0.1), (method, batch_size)


def test_what_an_engine_refuses_is_missing_with_its_reason() -> None:
    mixing = subject_of(
        lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)),
        lambda model, x: model(x).square().mean(1),
        features=6,
    )
    found = read_structure(mixing, "own", seconds=0)
    assert set(found.peaks) == {"sgd"}
    assert set(found.missing) == {"fused", "two-pass", "autojac"}
    assert "BatchMixedError" in found.missing["fused"]
    # One sample has no variance, so the smallest batch is 2.
    assert found.peaks["sgd"][0][0] == 2


def test_a_batch_that_cannot_be_changed_is_read_alone() -> None:
    found = read_structure(only(SUBJECTS["conflict_regression"], 128), "small")
    assert found.only_batch == 128
    assert [batch for batch, _ in found.peaks["fused"]] == [128]
    assert (found.batch_fixed_bytes, found.batch_sample_bytes) == (
        SUBJECTS["conflict_regression"].build("small", 128).batch_bytes,
        0,
    )


@pytest.mark.parametrize(
    ("problem", "size"), [("digits_mlp", "small"), ("conflict_regression", "medium")]
)
def test_the_bundle_is_what_is_read(problem: str, size: str) -> None:
    known = bundled_structures()[problem, size]
    found = read_structure(SUBJECTS[problem], size, seconds=0)
    assert found.missing == known.missing == {}
    for name in ("parameter_bytes", "batch_fixed_bytes", "batch_sample_bytes", "tasks"):
        assert getattr(found, name) == getattr(known, name)
    plain = dict(known.peaks["sgd"])
    assert all(plain[batch] == peak for batch, peak in found.peaks["sgd"] if batch in plain)
    # How the engines contract depends on the machine's rates where two ways take about as long.
    for method in PREDICTED[:3]:
        for batch, peak in found.peaks[method]:
            if 8 <= batch <= 2000:
                assert predicted_bytes(known, method, batch) == pytest.approx(peak, rel=0.5)


def test_a_structure_goes_through_json() -> None:
    known = bundled_structures()["digits_mlp", "small"]
    assert Structure.from_dict(json.loads(json.dumps(known.to_dict()))) == known
    with pytest.raises(MeasurementError, match="it must have batch_fixed_bytes"):
        Structure.from_dict({"problem": "digits_mlp"})


def test_a_registered_problem_is_looked_up() -> None:
    known = bundled_structures()
    assert structure_of("digits_mlp", "small") is known["digits_mlp", "small"]


def test_an_unknown_problem_is_refused_by_the_child() -> None:
    with pytest.raises(MeasurementError, match="There is no problem 'nothing'"):
        structure_of("nothing", "small")


def test_objectives_are_samples_or_tasks() -> None:
    known = bundled_structures()
    assert known["digits_mlp", "small"].objectives(7) == 7
    assert known["conflict_regression", "small"].objectives(7) == 4
