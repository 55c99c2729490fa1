"""MoDo: its cases, its definition, where it ends, and its memory."""

from pathlib import Path

import numpy as np
import pytest
import quadprog
import torch
from torch import Tensor

from engines.aggregation import METHODS, GramianWeightedAggregator, MGDAWeighting, MoDoWeighting
from engines.errors import NonDifferentiableError, NonFiniteGradientError
from tests.support.matrices import sample


def wide(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("product", "gamma", "rho", "expected"),
    [
        # Mλ = (1, 1/2) at λ = (1/2, 1/2): λ - Mλ/10 = (0.4, 0.45), and 0.075 more for each.
        ([[2.0, 0.0], [0.0, 1.0]], 0.1, 0.0, [0.475, 0.525]),
        # ρ shrinks both alike from equal weights, so it changes nothing yet.
        ([[2.0, 0.0], [0.0, 1.0]], 0.1, 0.5, [0.475, 0.525]),
        # Mλ, not Mᵀλ: (2, 0), so λ - Mλ/10 = (0.3, 0.5), and 0.1 more for each.
        ([[0.0, 4.0], [0.0, 0.0]], 0.1, 0.0, [0.4, 0.6]),
        # A long step ends in the corner; the diagonal may be negative.
        ([[-2.0, 0.0], [0.0, 1.0]], 10.0, 0.1, [1.0, 0.0]),
        ([[0.0, 0.0], [0.0, 0.0]], 0.1, 0.1, [0.5, 0.5]),
        ([[7.0]], 0.1, 0.1, [1.0]),
    ],
)
def test_pinned(
    product: list[list[float]], gamma: float, rho: float, expected: list[float]
) -> None:
    found = MoDoWeighting(gamma, rho)(wide(product))
    torch.testing.assert_close(found, wide([expected])[0], rtol=1e-14, atol=1e-15)


def test_the_second_step_starts_where_the_first_ended() -> None:
    # From (0.4, 0.6): Mλ + ρλ = (2.4, 0) + (0.2, 0.3), a tenth of it leaves (0.14, 0.57), and
    # 0.145 more for each.
    weighting = MoDoWeighting(0.1, 0.5)
    product = wide([[0.0, 4.0], [0.0, 0.0]])
    weighting(product)
    torch.testing.assert_close(weighting(product), wide([[0.285, 0.715]])[0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("m", [2, 5, 12])
@pytest.mark.parametrize(("gamma", "rho"), [(0.1, 0.1), (0.01, 0.0), (2.0, 1.0)])
def test_is_its_definition_over_several_calls(m: int, gamma: float, rho: float) -> None:
    rng = np.random.default_rng([m, int(100 * gamma)])
    weighting, weights = MoDoWeighting(gamma, rho), np.full(m, 1.0 / m)
    conditions = np.column_stack([np.ones(m), np.eye(m)])
    for _ in range(6):
        first = rng.normal(size=(m, 8))
        second = first + 0.5 * rng.normal(size=(m, 8))
        product = first @ second.T
        target = weights - gamma * (product @ weights + rho * weights)
        weights = quadprog.solve_qp(np.eye(m), target, conditions, np.eye(1, m + 1)[0], 1)[0]
        found = weighting(torch.from_numpy(product)).numpy()
        np.testing.assert_allclose(found, weights, rtol=0, atol=1e-12)


def test_small_steps_end_at_the_shortest_combination() -> None:
    matrix = torch.from_numpy(sample((4, 6, 4), 1.0, "random", seed=2).matrix)
    gramian = matrix @ matrix.T
    weighting = MoDoWeighting(gamma=0.2, rho=0.0)
    for _ in range(3000):
        weights = weighting(gramian)
    torch.testing.assert_close(weights, MGDAWeighting(epsilon=1e-9)(gramian), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-20, 1e20, 1e160, 1e200, 1e300])
def test_the_step_has_the_size_of_the_gradients(size: float) -> None:
    # Far below 1 the weights stay equal, far above they jump to the shortest gradient.
    matrix = size * wide([[3.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    expected = matrix.mean(dim=0) if size < 1 else matrix[1]
    aggregator = GramianWeightedAggregator(MoDoWeighting())
    torch.testing.assert_close(aggregator(matrix) / size, expected / size, rtol=1e-12, atol=1e-15)
    assert float(aggregator.gramian_weighting._weights.sum()) == pytest.approx(1.0, abs=1e-14)


def test_a_scaled_gramian_gives_the_same_step() -> None:
    product = wide([[2.0, 1.0], [0.5, 3.0]])
    plain, scaled = MoDoWeighting(), MoDoWeighting()
    scaled.gramian_exponent = 3
    assert torch.equal(plain(product), scaled(product * 2.0**6))


def test_parameters_of_any_size_leave_weights() -> None:
    for gamma, rho in ((1e300, 0.0), (1e300, 1e300), (5e-324, 1e300), (1e-300, 0.0)):
        weights = MoDoWeighting(gamma, rho)(1e300 * wide([[2.0, 0.0], [0.0, 1.0]]))
        assert float(weights.sum()) == pytest.approx(1.0)
        assert (weights >= 0).all()


def test_the_result_is_not_the_state() -> None:
    product = wide([[2.0, 0.0], [0.0, 1.0]])
    weighting, twin = MoDoWeighting(), MoDoWeighting()
    weighting(product).zero_()
    twin(product)
    assert torch.equal(weighting(product), twin(product))


def test_another_number_of_objectives_starts_afresh() -> None:
    product = wide([[2.0, 1.0], [0.0, 1.0]])
    weighting = MoDoWeighting()
    first = weighting(product)
    assert not torch.equal(weighting(product), first)
    weighting(torch.eye(3))
    assert torch.equal(weighting(product), first)
    weighting.reset()
    assert torch.equal(weighting(product), first)
    assert weighting(torch.zeros(0, 0)).shape == (0,)


def test_state_travels_through_a_file(tmp_path: Path) -> None:
    product = wide([[2.0, 1.0], [0.0, 1.0]])
    weighting, twin = MoDoWeighting(), MoDoWeighting()
    weighting(product)
    torch.save(weighting.state_dict(), tmp_path / "state.pt")
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(twin(product), weighting(product))


def test_refused_products_leave_the_weights_alone() -> None:
    product = wide([[2.0, 1.0], [0.0, 1.0]])
    weighting, twin = MoDoWeighting(), MoDoWeighting()
    weighting(product)
    twin(product)
    bad = torch.zeros(4, 4)
    bad[:, 2] = float("nan")
    with pytest.raises(NonFiniteGradientError, match=r"rows 2\)"):
        weighting(bad)
    with pytest.raises(ValueError, match=r"product of Jacobians of shape \[2, 3\].*J₁ J₂ᵀ"):
        weighting(torch.ones(2, 3))
    with pytest.raises(ValueError, match="two dimensions"):
        weighting(torch.ones(3))
    for other in (torch.ones(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.complex64)):
        with pytest.raises(TypeError, match="floating-point"):
            weighting(other)
    assert torch.equal(weighting(product), twin(product))


def test_differentiating_raises() -> None:
    with pytest.raises(NonDifferentiableError, match="MoDoWeighting"):
        MoDoWeighting()(torch.eye(2, requires_grad=True)).sum().backward()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("gamma", 0.0, ValueError),
        ("gamma", float("nan"), ValueError),
        ("gamma", None, TypeError),
        ("rho", -0.1, ValueError),
        ("rho", float("inf"), ValueError),
        ("rho", "0", TypeError),
    ],
)
def test_parameters_are_checked(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        MoDoWeighting(**{name: value})
    instance = MoDoWeighting()
    with pytest.raises(error, match="expected"):
        setattr(instance, name, value)
    assert repr(instance) == "MoDoWeighting(gamma=0.1, rho=0.1)"
    assert str(instance) == "MoDoWeighting"


def test_equal_weights_may_conflict() -> None:
    # Mλ = (1/4, -1/8): a step of a tenth hardly moves the weights from 1/2, and the first
    # gradient, which is longer, decides.
    matrix = wide([[1.0, 0.0], [-0.5, 0.0]])
    assert float(matrix[1] @ METHODS["MoDo"].make()(matrix)) < -0.1
