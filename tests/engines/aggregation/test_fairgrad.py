"""FairGrad: worked out by hand, against a general solver, against its equation, and its edges."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares

import engines.linalg.fair_allocation as solver
from engines.aggregation import FairGrad, FairGradWeighting
from engines.errors import SolverError
from engines.linalg import fair_weights
from tests.support.matrices import SampledMatrix, nearly_opposed, sample, sampled_matrices

Array = NDArray[np.float64]
MATRICES = sampled_matrices()
ALPHAS = (0.05, 0.5, 1.0, 2.0, 10.0, 100.0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_orthogonal_gradients(alpha: float) -> None:
    # |gᵢ|² wᵢ = wᵢ^(-1/α), so wᵢ = |gᵢ|^(-2α/(1+α)).
    gramian = torch.diag(torch.tensor([1.0, 4.0, 1e-10, 1e10], dtype=torch.float64))
    expected = torch.diagonal(gramian) ** (-alpha / (1 + alpha))
    torch.testing.assert_close(FairGradWeighting(alpha)(gramian), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_two_gradients_of_one_length(alpha: float) -> None:
    # Equal weights by symmetry: w ℓ²(1 + cos) = w^(-1/α), here with ℓ² = 4 and cos = -3/4.
    gramian = torch.tensor([[4.0, -3.0], [-3.0, 4.0]], dtype=torch.float64)
    expected = torch.ones(2, dtype=torch.float64)  # ℓ²(1 + cos) = 1
    torch.testing.assert_close(FairGradWeighting(alpha)(gramian), expected, rtol=1e-13, atol=0)


def test_two_gradients() -> None:
    # α = 1: wᵢ = 1/(|gᵢ|√(1 + cos)), with |g|² = 18, 38 and cos = -22/√684.
    gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
    expected = (torch.diagonal(gramian) * (1 - 22 / 684**0.5)) ** -0.5
    torch.testing.assert_close(FairGradWeighting(1)(gramian), expected, rtol=1e-13, atol=0)


def test_alpha_of_zero_is_the_mean() -> None:
    matrix = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    torch.testing.assert_close(FairGrad(0)(matrix), matrix.mean(dim=0))
    with pytest.raises(ValueError, match="rows 1"):
        FairGradWeighting(0)(torch.tensor([[1.0, 0.0], [0.0, float("nan")]]))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("seed", range(5))
def test_against_a_general_solver(alpha: float, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(5, 20))
    gramian = matrix @ matrix.T

    def equation(weights: Array) -> Array:
        return np.asarray(gramian @ weights - weights ** (-1 / alpha))

    # As the official code does it, with a closer end.
    found = least_squares(
        equation, np.full(5, 0.2), bounds=(0, np.inf), xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    np.testing.assert_allclose(fair_weights(gramian, alpha), found.x, rtol=1e-7)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    "sampled", [s for s in MATRICES if s.conflict != "stationary"], ids=lambda s: s.name
)
def test_the_equation_holds(sampled: SampledMatrix, alpha: float) -> None:
    matrix = sampled.matrix
    weights = fair_weights(matrix @ matrix.T, alpha)
    gains = matrix @ (matrix.T @ weights)
    norms = np.linalg.norm(matrix, axis=1)
    rounding = norms * (weights @ norms)
    # A row that was left out balances others: all of them gain 0.
    balanced = np.abs(gains) <= 1e-12 * rounding
    with np.errstate(divide="ignore"):
        wanted = weights ** (-1 / alpha)
    # wᵢ is known to some roundings, and its power to 1/α times as many.
    limit = 1e-12 * rounding + 1e-14 * (1 + 1 / alpha) * wanted
    inside = np.abs(gains - wanted) <= limit
    assert (weights >= 0).all()
    # For α = 100 a gradient a thousand times as long as is fair has a weight of 1e-300.
    inside |= weights == 0
    assert (inside | balanced).all()
    if sampled.rank == len(matrix):
        assert inside.all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e6])
def test_many_objectives(ratio: float, alpha: float) -> None:
    # 150 rows need torch's factorization, and half as many dimensions make them balance.
    for shape in ((150, 300, 150), (150, 75, 75)):
        matrix = sample(shape, ratio, "random", 1).matrix
        direction = matrix.T @ fair_weights(matrix @ matrix.T, alpha)
        gains = matrix @ direction / np.linalg.norm(matrix, axis=1)
        assert gains.min() >= -1e-6 * max(np.linalg.norm(direction), 1e-6 * ratio)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_stationary_part_leaves_the_others_their_own_space(alpha: float) -> None:
    # g1 + g2 + g3 = 0 in a plane. What g4 = (3, 0, 4) has outside it is (0, 0, 4), so
    # 16 w4 = w4^(-1/α); the direction is w4 (0, 0, 4).
    matrix = np.array([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0], [-2.0, -2.0, 0.0], [3.0, 0.0, 4.0]])
    weights = fair_weights(matrix @ matrix.T, alpha)
    expected = 16.0 ** (-alpha / (1 + alpha))
    np.testing.assert_allclose(weights[3], expected, rtol=1e-12)
    np.testing.assert_allclose(matrix.T @ weights, [0.0, 0.0, 4.0 * expected], atol=1e-12)
    assert (weights > 0).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
def test_nearly_opposed_gradients(gap: float, alpha: float) -> None:
    for seed in range(5):
        matrix = nearly_opposed(4, gap, seed)
        direction = matrix.T @ fair_weights(matrix @ matrix.T, alpha)
        gains = matrix @ direction / np.linalg.norm(matrix, axis=1)
        # The Gramian squares the Jacobian, so half the digits are left.
        assert gains.min() >= -1e-6 * np.linalg.norm(direction)


@pytest.mark.parametrize("alpha", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("size", [1e-200, 1e-150, 1e-30, 1e30, 1e150])
def test_the_length_follows_its_law(size: float, alpha: float) -> None:
    # A(sJ) = s^((1-α)/(1+α)) A(J), also where the squares leave float64.
    matrix = torch.from_numpy(sample((4, 3, 3), 10.0, "random", 1).matrix)
    expected = FairGrad(alpha)(matrix)
    found = FairGrad(alpha)(size * matrix)
    if size == 1e-200 and alpha == 10.0:
        # The weights are 1e363: they end at float64's, and the direction keeps its sense.
        expected, found = expected / expected.norm(), found / found.norm()
    else:
        expected = expected * size ** ((1 - alpha) / (1 + alpha))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("alpha", [1e-300, 1e-9, 1e9, 1e300])
def test_alphas_at_the_ends(alpha: float) -> None:
    for seed in range(5):
        matrix = np.random.default_rng(seed).normal(size=(4, 6))
        weights = fair_weights(matrix @ matrix.T, alpha)
        assert np.isfinite(weights).all()
        assert (matrix @ (matrix.T @ weights)).min() > -1e-12


def test_max_iters_gives_way() -> None:
    gramian = torch.from_numpy(sample((20, 40, 20), 1e3, "strong", 1).matrix)
    gramian = gramian @ gramian.T
    expected = FairGradWeighting(2.0)(gramian)
    assert torch.equal(FairGradWeighting(2.0, max_iters=1)(gramian), expected)


def test_a_failure_names_steps_and_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_STEPS", "_PATH_STEPS"):
        monkeypatch.setattr(solver, name, 2)
    gramian = sample((5, 20, 5), 1.0, "strong", 0).matrix
    with pytest.raises(SolverError, match=r"residual of .* after \d+ Newton steps .*expected"):
        fair_weights(gramian @ gramian.T, 2.0)


def test_a_path_is_followed_where_one_start_does_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = sample((9, 11, 5), 1e3, "random", 5).matrix
    gramian = matrix @ matrix.T + np.eye(9)
    expected = [fair_weights(gramian, alpha) for alpha in (0.05, 100.0)]
    monkeypatch.setattr(solver, "_STEPS", 1)
    for alpha, weights in zip((0.05, 100.0), expected, strict=True):
        np.testing.assert_allclose(fair_weights(gramian, alpha), weights, rtol=1e-9)


@pytest.mark.parametrize("make", [FairGrad, FairGradWeighting])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("alpha", -0.5, ValueError),
        ("alpha", float("inf"), ValueError),
        ("alpha", float("nan"), ValueError),
        ("alpha", "much", TypeError),
        ("max_iters", 0, ValueError),
        ("max_iters", 2.5, TypeError),
    ],
)
def test_parameters_are_checked(
    make: type[FairGrad], name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        make(**{"alpha": 1.0, name: value})
    instance = make(2.0)
    with pytest.raises(error, match=name):
        setattr(instance, name, value)
    assert (instance.alpha, instance.max_iters) == (2.0, None)


def test_printed_forms() -> None:
    assert repr(FairGrad(2.0)) == "FairGrad(alpha=2.0, max_iters=None)"
    assert str(FairGrad(2.0)) == "2.0-FairGrad"
    assert str(FairGradWeighting(1)) == "1-FairGradWeighting"
