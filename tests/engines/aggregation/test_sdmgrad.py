"""SDMGrad: its cases, its definition, where it ends, and its memory."""

from pathlib import Path

import numpy as np
import pytest
import quadprog
import torch
from torch import Tensor

from engines.aggregation import METHODS, MGDAWeighting, SDMGradWeighting
from engines.errors import NonDifferentiableError, NonFiniteGradientError
from tests.support.matrices import sample


def wide(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("product", "options", "expected"),
    [
        # The mean root of the diagonal is (4 + 0)/2 = 2, its square 4, and M/4 = diag(4, 0). From
        # (1/2, 1/2) the slope is (2, 0), a tenth of it leaves (0.3, 0.5), and 0.1 more for each.
        ([[16.0, 0.0], [0.0, 0.0]], {"lambda_": 0.0}, [0.4, 0.6]),
        # A negative entry counts as 0 for the division only: the slope is (2, -3/8), which leaves
        # (0.3, 0.5375), and 0.08125 more for each.
        ([[16.0, 0.0], [0.0, -3.0]], {"lambda_": 0.0}, [0.38125, 0.61875]),
        # With λ = 1 the slope is that at (1, 1), (4, 0): w = (0.3, 0.7), and half of w + (½, ½).
        ([[16.0, 0.0], [0.0, 0.0]], {"lambda_": 1.0}, [0.4, 0.6]),
        # A preference for the second: the slope is that at (1/2, 3/2), so w as without λ, and half
        # of (0.4, 1.6).
        (
            [[16.0, 0.0], [0.0, 0.0]],
            {"lambda_": 1.0, "pref_vector": torch.tensor([0, 1])},
            [0.2, 0.8],
        ),
        # Two steps: (0.4, 0.6) with v = (2, 0), then v = (1, 0) + (1.6, 0) and w = (0.14, 0.6)
        # and 0.13 more for each.
        ([[16.0, 0.0], [0.0, 0.0]], {"lambda_": 0.0, "n_iter": 2}, [0.27, 0.73]),
        # Mw, not Mᵀw: the mean root is 1, the slope (1/2 + 1, 1/2).
        ([[1.0, 2.0], [0.0, 1.0]], {"lambda_": 0.0}, [0.45, 0.55]),
        # No positive entry on the diagonal: over the largest entry, 2, the slope is (-1/2, 0). That
        # leaves (0.55, 0.5), and 0.025 less for each.
        ([[-2.0, 0.0], [0.0, 0.0]], {"lambda_": 0.0}, [0.525, 0.475]),
        ([[0.0, 0.0], [0.0, 0.0]], {"lambda_": 0.5}, [0.5, 0.5]),
        ([[9.0]], {}, [1.0]),
    ],
)
def test_pinned(
    product: list[list[float]], options: dict[str, float], expected: list[float]
) -> None:
    found = SDMGradWeighting(**{"lr": 0.1, "n_iter": 1, **options})(wide(product))
    torch.testing.assert_close(found, wide([expected])[0], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("m", [2, 5, 12])
@pytest.mark.parametrize(("lr", "momentum", "lambda_"), [(0.1, 0.5, 0.3), (0.5, 0.0, 2.0)])
def test_is_its_definition_over_several_calls(
    m: int, lr: float, momentum: float, lambda_: float
) -> None:
    rng = np.random.default_rng([m, int(10 * lr)])
    preferences = torch.arange(m, dtype=torch.float64) / m
    weighting = SDMGradWeighting(lr, momentum, 4, lambda_, preferences)
    w, wanted = np.full(m, 1.0 / m), lambda_ * preferences.numpy()
    conditions = np.column_stack([np.ones(m), np.eye(m)])
    for _ in range(4):
        first = rng.normal(size=(m, 8))
        second = first + 0.5 * rng.normal(size=(m, 8))
        product = first @ second.T
        scale = np.sqrt(np.maximum(np.diagonal(product), 0.0)).mean() ** 2
        velocity = np.zeros(m)
        for _ in range(4):
            velocity = momentum * velocity + product / scale @ (w + wanted)
            target = w - lr * velocity
            w = quadprog.solve_qp(np.eye(m), target, conditions, np.eye(1, m + 1)[0], 1)[0]
        found = weighting(torch.from_numpy(product)).numpy()
        np.testing.assert_allclose(found, (w + wanted) / (1 + lambda_), rtol=0, atol=1e-10)


def test_small_steps_end_at_the_shortest_combination() -> None:
    matrix = torch.from_numpy(sample((4, 6, 4), 1.0, "random", seed=2).matrix)
    gramian = matrix @ matrix.T
    weights = SDMGradWeighting(lr=0.2, n_iter=2000, lambda_=0.0)(gramian)
    torch.testing.assert_close(weights, MGDAWeighting(epsilon=1e-9)(gramian), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-20, 1e20, 1e200, 1e300])
def test_the_size_of_the_gradients_does_not_matter(size: float) -> None:
    matrix = torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed=0).matrix)
    make = METHODS["SDMGrad"].make
    found = make(lr=0.1)(size * matrix) / size
    torch.testing.assert_close(found, make(lr=0.1)(matrix), rtol=1e-9, atol=1e-12)
    # As a product, whose entries are squares.
    product = matrix @ matrix.T
    expected = SDMGradWeighting(lr=0.1)(product)
    torch.testing.assert_close(SDMGradWeighting(lr=0.1)(size * product), expected)


def test_a_tiny_diagonal_makes_a_long_step() -> None:
    # The batches agree on nothing but the first objective, and hardly on that.
    for tiny in (1e-200, 1e-320):
        weights = SDMGradWeighting(lambda_=0.0)(wide([[tiny, 1e100], [0.0, 0.0]]))
        assert torch.equal(weights, wide([[0.0, 1.0]])[0])


def test_the_result_is_not_the_state() -> None:
    product = wide([[2.0, 0.0], [0.0, 1.0]])
    weighting, twin = (SDMGradWeighting(lr=0.1, lambda_=0.0) for _ in range(2))
    weighting(product).zero_()
    twin(product)
    assert torch.equal(weighting(product), twin(product))


def test_another_number_of_objectives_starts_afresh() -> None:
    product = wide([[2.0, 1.0], [0.0, 1.0]])
    weighting = SDMGradWeighting(lr=0.1, n_iter=1)
    first = weighting(product)
    assert not torch.equal(weighting(product), first)
    weighting(torch.eye(3))
    assert torch.equal(weighting(product), first)
    weighting.reset()
    assert torch.equal(weighting(product), first)
    assert weighting(torch.zeros(0, 0)).shape == (0,)


def test_state_travels_through_a_file(tmp_path: Path) -> None:
    product = wide([[2.0, 1.0], [0.0, 1.0]])
    weighting, twin = (SDMGradWeighting(lr=0.1, n_iter=1) for _ in range(2))
    weighting(product)
    torch.save(weighting.state_dict(), tmp_path / "state.pt")
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(twin(product), weighting(product))


def test_refused_products_leave_the_weights_alone() -> None:
    product = wide([[2.0, 1.0], [0.0, 1.0]])
    weighting, twin = (SDMGradWeighting(lr=0.1, n_iter=1) for _ in range(2))
    weighting(product)
    twin(product)
    bad = torch.zeros(4, 4)
    bad[2] = float("inf")
    with pytest.raises(NonFiniteGradientError, match=r"rows 2\)"):
        weighting(bad)
    with pytest.raises(ValueError, match=r"product of Jacobians of shape \[2, 3\]"):
        weighting(torch.ones(2, 3))
    with pytest.raises(TypeError, match="floating-point"):
        weighting(torch.ones(2, 2, dtype=torch.complex64))
    weighting.pref_vector = torch.ones(3)
    with pytest.raises(ValueError, match="3 entries for 2 objectives"):
        weighting(product)
    weighting.pref_vector = None
    assert torch.equal(weighting(product), twin(product))


def test_differentiating_raises() -> None:
    with pytest.raises(NonDifferentiableError, match="SDMGradWeighting"):
        SDMGradWeighting()(torch.eye(2, requires_grad=True)).sum().backward()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("lr", 0.0, ValueError),
        ("lr", "1", TypeError),
        ("momentum", 1.0, ValueError),
        ("momentum", -0.1, ValueError),
        ("n_iter", 0, ValueError),
        ("n_iter", 2.5, TypeError),
        ("lambda_", -0.1, ValueError),
        ("lambda_", float("nan"), ValueError),
        ("pref_vector", torch.ones(2, 2), ValueError),
        ("pref_vector", [1.0, 2.0], TypeError),
    ],
)
def test_parameters_are_checked(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        SDMGradWeighting(**{name: value})
    instance = SDMGradWeighting()
    with pytest.raises(error, match="expected"):
        setattr(instance, name, value)
    shown = "SDMGradWeighting(lr=10.0, momentum=0.5, n_iter=20, lambda_=0.3, pref_vector=None)"
    assert repr(instance) == shown


def test_printed_forms() -> None:
    assert str(SDMGradWeighting()) == "SDMGradWeighting"
    assert str(SDMGradWeighting(pref_vector=torch.tensor([1.0, 2.0]))) == (
        "SDMGradWeighting([1., 2.])"
    )


def test_long_steps_end_in_a_conflict() -> None:
    matrix = wide([[1.0], [-0.5]])
    assert float((matrix @ METHODS["SDMGrad"].make()(matrix)).min()) < -0.1
