"""NashMTL: worked out by hand, against its definition, its memory, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from engines.aggregation import FairGrad, NashMTL, NashMTLWeighting
from tests.support.matrices import SampledMatrix, sample, sampled_matrices

Array = NDArray[np.float64]
MATRICES = sampled_matrices()

# Rows (-4, 1, 1) and (6, 1, 1): squared lengths 18 and 38, inner product -22.
MATRIX = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)


def test_two_gradients() -> None:
    # (G/|G|) α = 1/α has αᵢ = √|G| / (|gᵢ|√(1 + cos)), with |G|² = 18² + 38² + 2·22² = 2736 and
    # cos = -22/√684; |Jᵀα|² = αᵀGα = 2|G|.
    lengths = torch.tensor([18.0, 38.0], dtype=torch.float64).sqrt()
    expected = 2736**0.25 / (lengths * (1 - 22 / 684**0.5) ** 0.5)
    found = NashMTLWeighting(2, max_norm=0.0)(MATRIX @ MATRIX.T)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
    clipped = NashMTLWeighting(2, max_norm=3.0)(MATRIX @ MATRIX.T)
    torch.testing.assert_close(clipped, 3 * expected / (2 * 2736**0.5) ** 0.5, rtol=1e-13, atol=0)
    unclipped = NashMTLWeighting(2, max_norm=11.0)(MATRIX @ MATRIX.T)
    torch.testing.assert_close(unclipped, expected, rtol=1e-13, atol=0)


def test_one_gradient() -> None:
    # (g²/g²) α = 1/α, so α = 1.
    row = torch.tensor([[3.0, -4.0]])
    assert torch.equal(NashMTL(1, max_norm=0.0)(row), row[0])
    assert torch.equal(NashMTL(1, max_norm=10.0)(row), row[0])
    torch.testing.assert_close(NashMTL(1)(row), row[0] / 5)


@pytest.mark.parametrize(
    "sampled", [s for s in MATRICES if s.conflict in ("none", "random")], ids=lambda s: s.name
)
def test_the_equation_holds(sampled: SampledMatrix) -> None:
    matrix = sampled.matrix
    gramian = matrix @ matrix.T
    found = NashMTLWeighting(len(matrix), max_norm=0.0)(torch.from_numpy(gramian)).numpy()
    products = found * (matrix @ (matrix.T @ found)) / np.linalg.norm(gramian)
    norms = np.linalg.norm(matrix, axis=1)
    cancelled = np.linalg.norm(matrix.T @ found) / (found @ norms)
    # Where gradients balance to the square root of float64's precision there is no solution.
    if cancelled > 1e-6:
        np.testing.assert_allclose(products, 1.0, rtol=1e-13 / cancelled**2)


@pytest.mark.parametrize("seed", range(5))
def test_the_product_of_the_gains_is_largest(seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(4, 8))
    direction = NashMTL(4)(torch.from_numpy(matrix)).numpy()

    def negative_logarithm(d: Array) -> float:
        # Among directions of one length; 1e-9 keeps the search where all gain.
        return float(-np.log(np.maximum(matrix @ d / np.linalg.norm(d), 1e-9)).sum())

    near = [direction + 0.1 * r for r in np.random.default_rng(9).normal(size=(20, 8))]
    best = min(minimize(negative_logarithm, d, method="BFGS").fun for d in near)
    assert negative_logarithm(direction) <= best + 1e-9


def test_the_direction_is_that_of_fairgrad() -> None:
    matrix = torch.from_numpy(sample((9, 11, 5), 1e3, "random", 5).matrix)
    fair, nash = FairGrad(1.0)(matrix), NashMTL(9)(matrix)
    torch.testing.assert_close(nash / nash.norm(), fair / fair.norm(), rtol=1e-12, atol=1e-14)
    assert float(nash.norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e30, 1e200])
def test_the_largest_norm_is_that_of_the_direction(size: float) -> None:
    matrix = torch.from_numpy(sample((4, 3, 3), 10.0, "random", 1).matrix)
    length = float(NashMTL(4, max_norm=0.0)(matrix).norm())
    torch.testing.assert_close(
        NashMTL(4, max_norm=0.0)(size * matrix),
        size * NashMTL(4, max_norm=0.0)(matrix),
        rtol=1e-12,
        atol=0,
    )
    # 2**800 squared is no float64, so both are measured in units of the size.
    found = NashMTL(4, max_norm=0.5 * length * size)(size * matrix) / size
    assert float(found.norm()) == pytest.approx(0.5 * length)


def test_a_stationary_part_is_left_out() -> None:
    # g1 = -g2, and of g3 only the part orthogonal to them counts.
    matrix = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(NashMTL(3)(matrix), expected, rtol=0, atol=1e-12)


def test_weights_are_used_for_several_calls() -> None:
    first, second, third = (
        torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed).matrix) for seed in range(3)
    )
    aggregator = NashMTL(5, max_norm=0.7, update_weights_every=2)
    weights = NashMTLWeighting(5, max_norm=0.0)(first @ first.T)
    aggregator(first)
    # The same weights on another Jacobian, shortened to the length allowed there.
    again = weights @ second
    torch.testing.assert_close(aggregator(second), 0.7 * again / again.norm())
    torch.testing.assert_close(aggregator(third), NashMTL(5, max_norm=0.7)(third))
    aggregator.reset()
    torch.testing.assert_close(aggregator(second), NashMTL(5, max_norm=0.7)(second))


def test_calls_that_raise_do_not_count() -> None:
    first, second = (
        torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed).matrix) for seed in range(2)
    )
    aggregator = NashMTL(5, update_weights_every=2)
    aggregator(first)
    with pytest.raises(ValueError, match="rows 0"):
        aggregator(second * float("nan"))
    with pytest.raises(ValueError, match="n_tasks=5"):
        aggregator(second[:4])
    twin = NashMTL(5, update_weights_every=2)
    twin(first)
    assert torch.equal(aggregator(second), twin(second))


def test_the_number_of_tasks_can_change() -> None:
    aggregator = NashMTL(2, update_weights_every=3)
    aggregator(MATRIX)
    with pytest.raises(ValueError, match="got 3 objectives, expected n_tasks=2"):
        aggregator(torch.eye(3))
    aggregator.n_tasks = 3
    torch.testing.assert_close(aggregator(torch.eye(3)), torch.full((3,), 3**-0.5))
    # A state of two objectives is no state of three.
    other = NashMTL(2, update_weights_every=3)
    other(MATRIX)
    aggregator.load_state_dict(other.state_dict())
    torch.testing.assert_close(aggregator(torch.eye(3)), torch.full((3,), 3**-0.5))


def test_optim_niter_gives_way() -> None:
    matrix = torch.from_numpy(sample((20, 40, 20), 1e3, "strong", 1).matrix)
    assert torch.equal(NashMTL(20, optim_niter=1)(matrix), NashMTL(20, optim_niter=500)(matrix))


@pytest.mark.parametrize("make", [NashMTL, NashMTLWeighting])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n_tasks", 0, ValueError),
        ("n_tasks", -1, ValueError),
        ("n_tasks", 2.0, TypeError),
        ("max_norm", -0.5, ValueError),
        ("max_norm", float("nan"), ValueError),
        ("max_norm", None, TypeError),
        ("update_weights_every", 0, ValueError),
        ("update_weights_every", 1.5, TypeError),
        ("optim_niter", 0, ValueError),
        ("optim_niter", True, TypeError),
    ],
)
def test_parameters_are_checked(
    make: type[NashMTL], name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        make(**{"n_tasks": 2, name: value})
    instance = make(2)
    before = repr(instance)
    with pytest.raises(error, match=name):
        setattr(instance, name, value)
    assert repr(instance) == before


def test_printed_forms() -> None:
    shown = "NashMTL(n_tasks=3, max_norm=1.0, update_weights_every=1, optim_niter=20)"
    assert repr(NashMTL(3)) == shown
    assert str(NashMTL(3)) == "NashMTL"
