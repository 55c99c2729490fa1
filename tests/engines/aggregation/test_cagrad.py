"""CAGrad: worked out by hand, against a general solver, against its optimality, and its edges."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

import engines.linalg.ball_constrained as solver
from engines.aggregation import CAGrad, CAGradWeighting, DualProj
from engines.errors import SolverError
from engines.linalg import ball_constrained_weights
from tests.support.matrices import SampledMatrix, nearly_opposed, sample, sampled_matrices

Array = NDArray[np.float64]
MATRICES = sampled_matrices()
RADII = (0.1, 0.5, 1.0, 3.0)
NAMED = pytest.mark.parametrize("sampled", MATRICES, ids=lambda s: s.name)

# Rows (-4, 1, 1) and (6, 1, 1): squared lengths 18 and 38, inner product -22, mean (1, 1, 1).
MATRIX = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)


def test_one_gradient_binds() -> None:
    # c|g0| = √3/2. With w = (1, 0), d = g0 + √3/2 g1/√18 gains -2 + 3.7 for g1 and 8 - 4.5, which
    # is more, for g2. So w1 = 1/2 + √3/2/√18 = 1/2 + 1/√24 and w2 = 1/2.
    expected = torch.tensor([0.5 + 24**-0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(
        CAGradWeighting(0.5)(MATRIX @ MATRIX.T), expected, rtol=1e-12, atol=0
    )


def test_both_gradients_bind() -> None:
    # g = (1, 0) and (-1, 1), g0 = (0, 1/2), c = 1: |d - g0| = 1/2 and d1 = d2 - d1 give
    # d = (x, 2x) with x² + (2x - 1/2)² = 1/4, so 5x² = 2x and d = (2/5, 4/5).
    matrix = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([2 / 5, 4 / 5], dtype=torch.float64)
    torch.testing.assert_close(CAGrad(1.0)(matrix), expected, rtol=1e-12, atol=0)


def test_without_a_radius_it_is_the_mean() -> None:
    torch.testing.assert_close(CAGrad(0)(MATRIX), MATRIX.mean(dim=0), rtol=1e-14, atol=1e-14)


def test_where_no_direction_serves_all_it_is_dualproj() -> None:
    # g1 = -g2, and g3 does not conflict: the best worst gain is 0 as long as the ball has a
    # direction orthogonal to g1, and any such is optimal. g0 = (2/3, 1/3); nearest is (0, 1/3).
    matrix = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, 1 / 3], dtype=torch.float64)
    for c in (0.9, 1.0, 5.0):
        torch.testing.assert_close(CAGrad(c)(matrix), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(CAGrad(c)(matrix), DualProj()(matrix), rtol=0, atol=1e-12)
    # In a smaller ball (2/3 > c √5/3) g2 loses least: d = g0 - c|g0| (1, 0).
    found = CAGrad(0.5)(matrix)
    expected = torch.tensor([2 / 3 - 0.5 * 5**0.5 / 3, 1 / 3], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_zero_gradient_counts_in_the_mean_only() -> None:
    # g0 = (1/3, 1/3), |g0| = √2/3; the two others gain equally on the diagonal.
    matrix = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    expected = torch.full((2,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(CAGrad(0.5)(matrix), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("c", RADII)
def test_a_mean_of_zero_gives_zero(c: float) -> None:
    matrix = torch.tensor([[1.0, 2.0], [-3.0, 1.0], [2.0, -3.0]], dtype=torch.float64)
    assert not CAGrad(c)(matrix).any()


@pytest.mark.parametrize("c", RADII)
@pytest.mark.parametrize("seed", range(4))
def test_against_a_general_solver(seed: int, c: float) -> None:
    # The dual as in Algorithm 1, on the Jacobian itself.
    matrix = np.random.default_rng(seed).normal(size=(4, 6))
    mean = matrix.mean(axis=0)
    radius = c * np.linalg.norm(mean)

    def dual(w: Array) -> float:
        combined = w @ matrix
        return float(combined @ mean + radius * np.linalg.norm(combined))

    found = minimize(
        dual,
        np.full(4, 0.25),
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    combined = found.x @ matrix
    expected = mean + radius * combined / np.linalg.norm(combined)
    direction = CAGrad(c)(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(direction, expected, atol=1e-5 * max(1.0, c), rtol=0)
    # Strong duality: the worst gain is the dual's value.
    assert (matrix @ direction).min() == pytest.approx(found.fun, abs=1e-7)


@pytest.mark.parametrize("c", RADII)
@NAMED
def test_the_optimality_conditions_hold(sampled: SampledMatrix, c: float) -> None:
    matrix = sampled.matrix
    norms = np.linalg.norm(matrix, axis=1)
    mean = matrix.mean(axis=0)
    direction = matrix.T @ ball_constrained_weights(matrix @ matrix.T, c)
    if np.linalg.norm(mean) <= 1e-6 * norms.mean():
        return  # the mean itself is known to half its digits only
    radius = c * np.linalg.norm(mean)
    moved = direction - mean
    assert np.linalg.norm(moved) <= radius * (1 + 1e-8)
    # The value of the dual at w = λ/Σλ bounds every worst gain from above.
    multipliers = ball_constrained_weights(matrix @ matrix.T, c) - 1 / len(matrix)
    combined = multipliers @ matrix / multipliers.sum()
    bound = combined @ mean + radius * np.linalg.norm(combined)
    gap = bound - (matrix @ direction).min()
    if np.linalg.norm(moved) < radius * (1 - 1e-8):
        # No direction serves all: a convex combination is 0, and the value too.
        assert (matrix @ direction / norms).min() >= -1e-8 * np.linalg.norm(mean)
    else:
        # In units of the shortest gradient, of which the minimum is mostly made.
        assert gap <= 1e-7 * max(norms.min(), np.linalg.norm(combined)) * np.linalg.norm(mean)


@pytest.mark.parametrize("c", [1.0, 1.5, 4.0])
@NAMED
def test_non_conflicting_in_a_ball_that_contains_zero(sampled: SampledMatrix, c: float) -> None:
    for dtype, allowed in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        matrix = torch.from_numpy(sampled.matrix).to(dtype)
        direction = CAGrad(c)(matrix).double()
        norms = matrix.double().norm(dim=1)
        gains = matrix.double() @ direction / norms
        scale = max(float(direction.norm()), allowed * float(norms.max()))
        assert float(gains.min()) >= -allowed * scale


@pytest.mark.parametrize("c", [0.5, 1.0])
@pytest.mark.parametrize("shape", [(120, 240, 120), (120, 60, 60)])
@pytest.mark.parametrize("conflict", ["random", "strong", "stationary"])
def test_many_objectives(conflict: str, shape: tuple[int, int, int], c: float) -> None:
    matrix = sample(shape, 1e3, conflict, 1).matrix
    direction = matrix.T @ ball_constrained_weights(matrix @ matrix.T, c)
    mean = matrix.mean(axis=0)
    assert np.linalg.norm(direction - mean) <= c * np.linalg.norm(mean) * (1 + 1e-8)
    if c == 1.0:
        gains = matrix @ direction / np.linalg.norm(matrix, axis=1)
        assert gains.min() >= -1e-6 * max(np.linalg.norm(direction), 1e-6 * 1e3)


@pytest.mark.parametrize("c", RADII)
@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-8, 1e-6, 1e-3])
def test_nearly_opposed_gradients(gap: float, c: float) -> None:
    for seed in range(5):
        matrix = nearly_opposed(4, gap, seed)
        direction = matrix.T @ ball_constrained_weights(matrix @ matrix.T, c)
        mean = matrix.mean(axis=0)
        assert np.linalg.norm(direction - mean) <= c * np.linalg.norm(mean) * (1 + 1e-7)
        if c >= 1:
            gains = matrix @ direction / np.linalg.norm(matrix, axis=1)
            assert gains.min() >= -1e-6 * np.linalg.norm(direction)


@pytest.mark.parametrize("c", RADII)
def test_copies_of_gradients_change_only_the_mean(c: float) -> None:
    # Every gradient twice: the same mean and the same minimum.
    for seed in range(5):
        matrix = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 7)))
        twice = torch.cat([matrix, matrix])
        torch.testing.assert_close(CAGrad(c)(twice), CAGrad(c)(matrix), rtol=1e-7, atol=1e-7)


def test_norm_eps_is_without_effect() -> None:
    gramian = (1e-6 * MATRIX) @ (1e-6 * MATRIX).T
    expected = CAGradWeighting(0.5)(MATRIX @ MATRIX.T)
    for norm_eps in (0.0, 0.0001, 1e9):
        found = CAGradWeighting(0.5, norm_eps)(gramian)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_failures_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = sample((9, 11, 5), 1e3, "random", 5).matrix
    monkeypatch.setattr(solver, "_ROUNDS", 1)
    with pytest.raises(SolverError, match=r"residual of .* after 1 .*expected"):
        ball_constrained_weights(matrix @ matrix.T, 0.5)

    def give_up(*_: object) -> None:
        raise SolverError("got no optimum after 30 steps")

    monkeypatch.setattr(solver, "non_negative", give_up)
    with pytest.raises(SolverError, match="no optimum after"):
        ball_constrained_weights(matrix @ matrix.T, 0.5)


@pytest.mark.parametrize("make", [CAGrad, CAGradWeighting])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("c", -0.1, ValueError),
        ("c", float("nan"), ValueError),
        ("c", float("inf"), ValueError),
        ("c", "1", TypeError),
        ("norm_eps", -1e-9, ValueError),
        ("norm_eps", None, TypeError),
    ],
)
def test_parameters_are_checked(
    make: type[CAGrad], name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        make(**{"c": 1.0, name: value})
    instance = make(0.5)
    with pytest.raises(error, match=name):
        setattr(instance, name, value)
    assert (instance.c, instance.norm_eps) == (0.5, 0.0001)


def test_printed_forms() -> None:
    assert repr(CAGrad(0.5)) == "CAGrad(c=0.5, norm_eps=0.0001)"
    assert str(CAGrad(0.5)) == "CAGrad0.5"
    assert str(CAGrad(1.0)) == "CAGrad1"
    assert str(CAGradWeighting(10)) == "CAGradWeighting10"
