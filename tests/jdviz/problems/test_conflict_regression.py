"""What the conflict dial does, on the targets and on the gradients."""

import pytest
import torch

from jdviz.problems import PROBLEMS
from jdviz.problems.conflict_regression import N_TASKS

PROBLEM = PROBLEMS["conflict_regression"]
DIAL = [step / 10 for step in range(11)]


def mean_off_diagonal(matrix: torch.Tensor) -> float:
    m = len(matrix)
    return float((matrix.sum() - matrix.diagonal().sum()) / (m * (m - 1)))


def gradient_cosines(size: str, seed: int, conflict: float) -> torch.Tensor:
    model = PROBLEM.make_model(size, seed)
    batch = PROBLEM.batch(PROBLEM.load(seed, conflict), 0, PROBLEM.default_batch, seed)
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])])
        for loss in [PROBLEM.losses(model, batch)[task] for task in range(N_TASKS)]
    ]
    unit = torch.nn.functional.normalize(torch.stack(rows).double())
    return unit @ unit.T


@pytest.mark.parametrize("conflict", DIAL)
def test_targets_have_the_stated_correlation(conflict: float) -> None:
    targets = PROBLEM.load(seed=1, conflict=conflict).targets.double()
    k, rho = N_TASKS, 1 - conflict * N_TASKS / (N_TASKS - 1)
    expected = torch.full((k, k), rho, dtype=torch.float64).fill_diagonal_(1)
    torch.testing.assert_close(targets.T @ targets / len(targets), expected, rtol=0, atol=1e-6)
    assert targets.mean(dim=0).abs().max() < 1e-6


def test_at_the_ends_targets_are_equal_and_add_up_to_zero() -> None:
    agreeing = PROBLEM.load(seed=2, conflict=0.0).targets
    torch.testing.assert_close(agreeing, agreeing[:, :1].expand_as(agreeing))
    opposed = PROBLEM.load(seed=2, conflict=1.0).targets
    assert opposed.sum(dim=1).abs().max() < 1e-5


@pytest.mark.parametrize("size", PROBLEM.sizes)
@pytest.mark.parametrize("seed", range(3))
def test_gradients_conflict_more_as_the_dial_goes_up(size: str, seed: int) -> None:
    means = [mean_off_diagonal(gradient_cosines(size, seed, c)) for c in DIAL]
    assert means == sorted(means, reverse=True)
    assert len(set(means)) == len(means)
    assert means[0] == pytest.approx(1.0, abs=1e-6)
    # The least possible mean is -1/(k-1) = -1/3.
    assert -1 / 3 - 1e-6 <= means[-1] < -0.29


def test_dial_changes_targets_only() -> None:
    low, high = PROBLEM.load(3, 0.1), PROBLEM.load(3, 0.9)
    assert torch.equal(low.inputs, high.inputs)
    assert not torch.equal(low.targets, high.targets)


def test_seed_changes_the_data() -> None:
    assert not torch.equal(PROBLEM.load(0, 0.5).inputs, PROBLEM.load(1, 0.5).inputs)


@pytest.mark.parametrize("conflict", [-0.1, 1.1, float("nan")])
def test_dial_outside_its_range_is_refused(conflict: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        PROBLEM.load(0, conflict)
