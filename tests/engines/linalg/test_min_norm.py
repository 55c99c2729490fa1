import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import nnls

from engines.errors import NonFiniteGradientError, SolverError
from engines.linalg import min_norm, min_norm_weights
from tests.support.matrices import SampledMatrix, gramian_of, sampled_matrices

Array = NDArray[np.float64]


def reference(matrix: Array) -> Array:
    """Shortest vector of the hull by non-negative least squares on J (Lawson & Hanson, ch. 23).

    min |Jᵀy|² + s²(Σy - 1)² over y >= 0 has the weights as its direction.
    """
    shortest = np.linalg.norm(matrix, axis=1).min()
    stacked = np.vstack([matrix.T / shortest, np.ones(len(matrix))])
    target = np.zeros(matrix.shape[1] + 1)
    target[-1] = 1.0
    y, _ = nnls(stacked, target, maxiter=100 * len(matrix))
    return np.asarray(y @ matrix / y.sum())


@pytest.mark.parametrize("sampled", sampled_matrices(), ids=lambda s: s.name)
def test_shortest_vector_agrees_with_least_squares(sampled: SampledMatrix) -> None:
    matrix = sampled.matrix
    weights = min_norm_weights(gramian_of(matrix), epsilon=1e-8, max_iters=1000)
    # 1e-6 of the shortest row: half the digits of a vector that may vanish, with a margin.
    shortest = np.linalg.norm(matrix, axis=1).min()
    np.testing.assert_allclose(weights @ matrix, reference(matrix), atol=1e-6 * shortest, rtol=0)


@pytest.mark.parametrize("epsilon", [0.5, 1e-3, 1e-6])
@pytest.mark.parametrize("sampled", sampled_matrices(), ids=lambda s: s.name)
def test_the_gap_is_at_most_epsilon_squared(sampled: SampledMatrix, epsilon: float) -> None:
    gramian = gramian_of(sampled.matrix)
    weights = min_norm_weights(gramian, epsilon, max_iters=1000)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    inner, norms = gramian @ weights, np.sqrt(np.diagonal(gramian))
    allowed = 1e-12 * norms * np.abs(weights * norms).sum()
    assert (inner >= (1 - epsilon**2) * (weights @ gramian @ weights) - allowed).all()


@pytest.fixture
def without_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Non-negative least squares that gives up, so that Wolfe's method does all of it."""

    def give_up(*_: object) -> None:
        raise SolverError("got no optimum after 30 steps")

    monkeypatch.setattr(min_norm, "non_negative", give_up)


@pytest.mark.usefixtures("without_a_start")
@pytest.mark.parametrize("sampled", sampled_matrices(), ids=lambda s: s.name)
def test_wolfes_method_finds_it_alone(sampled: SampledMatrix) -> None:
    matrix = sampled.matrix
    weights = min_norm_weights(gramian_of(matrix), epsilon=1e-8, max_iters=1000)
    shortest = np.linalg.norm(matrix, axis=1).min()
    np.testing.assert_allclose(weights @ matrix, reference(matrix), atol=1e-6 * shortest, rtol=0)


@pytest.mark.usefixtures("without_a_start")
def test_one_iteration_is_one_line_search() -> None:
    # From g1 = (1, 0, 0), the shortest, towards g2 = (0, 2, 0), the worst served: the shortest
    # point of that segment has weights (4, 1) / 5.
    gramian = np.diag([1.0, 4.0, 9.0])
    weights = min_norm_weights(gramian, epsilon=1e-6, max_iters=1)
    np.testing.assert_allclose(weights, [0.8, 0.2, 0.0], rtol=1e-14)


def test_pinned_orthogonal_gradients() -> None:
    # Orthogonal rows of squared length 1, 4, 9: weights proportional to 1, 1/4, 1/9.
    weights = min_norm_weights(np.diag([1.0, 4.0, 9.0]), epsilon=1e-9, max_iters=10)
    np.testing.assert_allclose(weights, np.array([36, 9, 4]) / 49, rtol=1e-12)


def test_zero_gradients_share_the_weight() -> None:
    np.testing.assert_array_equal(
        min_norm_weights(np.diag([0.0, 1.0, 0.0]), 1e-3, 10), [0.5, 0, 0.5]
    )


def test_no_gradients() -> None:
    assert min_norm_weights(np.zeros((0, 0)), 1e-3, 10).shape == (0,)


def test_non_finite_gramian_is_refused() -> None:
    with pytest.raises(NonFiniteGradientError, match="rows 0"):
        min_norm_weights(np.diag([np.inf, 1.0]), 1e-3, 10)
