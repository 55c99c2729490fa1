from itertools import permutations, product

import numpy as np
import pytest
import torch

from engines.aggregation import PCGrad, PCGradWeighting, UPGrad
from engines.errors import NonFiniteGradientError
from jdviz.construction import MOST_ORDERED, pcgrad_orders, upgrad_construction

# One for each shape of the dual cone in the plane and in space, and each edge of a Jacobian.
JACOBIANS = {
    "none": np.zeros((0, 2)),
    "one": [[3.0, -1.0]],
    "agree": [[1.0, 0.0], [1.0, 1.0]],
    "conflict": [[2.0, 0.0], [-1.0, 1.0]],
    "antiparallel": [[1.0, 2.0], [-2.0, -4.0]],
    "a zero": [[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]],
    "all zero": [[0.0, 0.0], [0.0, 0.0]],
    "100 to 1": [[100.0, 0.0], [-0.5, 0.5]],
    "all opposed": [[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]],
    "more than dimensions": np.random.default_rng(0).normal(1.0, size=(8, 2)),
    "space": np.random.default_rng(1).normal(size=(3, 3)),
    "space, opposed": [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.2, 1.0, 0.5]],
    "space, many": np.random.default_rng(2).normal(1.0, size=(8, 3)),
}


@pytest.fixture(params=JACOBIANS)
def J(request: pytest.FixtureRequest) -> np.ndarray:
    return np.asarray(JACOBIANS[request.param], dtype=np.float64)


def test_the_mean_is_the_engines_upgrad(J: np.ndarray) -> None:
    expected = UPGrad()(torch.from_numpy(J)).numpy()
    scale = np.abs(J).max(initial=1.0)
    np.testing.assert_allclose(upgrad_construction(J).direction, expected, atol=1e-12 * scale)


def test_projections_are_the_nearest_points_of_the_cone(J: np.ndarray) -> None:
    made = upgrad_construction(J)
    slack = 1e-9 * np.abs(J).max(initial=1.0) ** 2
    # In the cone, ...
    assert (made.projections @ J.T >= -slack).all()
    # ... what is left is pushed by gradients only, ...
    np.testing.assert_allclose(made.projections, made.combinations @ J, atol=slack)
    np.testing.assert_allclose(made.gradients - made.residuals, made.projections, atol=slack)
    assert (made.combinations >= np.eye(len(J))).all()
    # ... and only by those at a right angle to the projection.
    inner = made.projections @ J.T
    np.testing.assert_allclose(inner[made.active], 0.0, atol=slack)
    pushes = made.combinations - np.eye(len(J))
    assert (pushes[~made.active] * np.linalg.norm(J, axis=1).max(initial=0.0) <= 1e-6).all()
    np.testing.assert_allclose((made.residuals * made.projections).sum(1), 0.0, atol=slack)
    np.testing.assert_allclose(made.weights @ J if len(J) else 0.0, made.direction, atol=slack)


def test_pinned_construction() -> None:
    # g1 = (2, 0) loses what goes against g2 = (-1, 1): (2, 0) + (-1, 1) = (1, 1).
    # g2 loses what goes against g1: (-1, 1) + (2, 0)/2 = (0, 1). The mean is (0.5, 1).
    made = upgrad_construction([[2.0, 0.0], [-1.0, 1.0]])
    np.testing.assert_allclose(made.combinations, [[1.0, 1.0], [0.5, 1.0]], atol=1e-14)
    np.testing.assert_allclose(made.projections, [[1.0, 1.0], [0.0, 1.0]], atol=1e-14)
    np.testing.assert_allclose(made.residuals, [[1.0, -1.0], [-1.0, 0.0]], atol=1e-14)
    np.testing.assert_array_equal(made.active, [[False, True], [True, False]])
    np.testing.assert_allclose(made.direction, [0.5, 1.0], atol=1e-14)


@pytest.mark.parametrize("name", ["antiparallel", "all opposed", "all zero"])
def test_where_nothing_is_left_it_is_exactly_zero(name: str) -> None:
    made = upgrad_construction(JACOBIANS[name])
    np.testing.assert_array_equal(made.projections, np.zeros_like(made.gradients))
    np.testing.assert_array_equal(made.direction, np.zeros(2))


def test_what_agrees_stays_where_it_is() -> None:
    made = upgrad_construction(JACOBIANS["agree"])
    np.testing.assert_array_equal(made.residuals, np.zeros((2, 2)))
    assert not made.active.any()


class Ordered(PCGradWeighting):
    """PCGrad with orders that are given."""

    given: np.ndarray

    def orders(self, m: int) -> np.ndarray:
        return self.given


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 3])
def test_every_order_of_the_engine_is_there_and_counts_as_often(m: int, n: int) -> None:
    J = np.random.default_rng(10 * m + n).normal(size=(m, n))
    orders, method = pcgrad_orders(J), Ordered()
    counts = np.zeros(len(orders.directions))
    for given in product(permutations(range(m)), repeat=m):
        method.given = np.array(given).reshape(m, m)
        direction = method.solve(J @ J.T) @ J
        near = np.linalg.norm(orders.directions - direction, axis=1) < 1e-12
        assert near.sum() == 1
        counts += near
    np.testing.assert_allclose(counts / counts.sum(), orders.shares, atol=1e-14)
    np.testing.assert_allclose(orders.direction, orders.shares @ orders.directions)
    assert orders.shares.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("n", [2, 3])
def test_random_draws_of_four_are_among_them(n: int) -> None:
    J = np.random.default_rng(n).normal(size=(4, n))
    orders = pcgrad_orders(J)
    method = PCGrad(generator=torch.Generator().manual_seed(0))
    for _ in range(100):
        direction = method(torch.from_numpy(J)).numpy()
        assert np.linalg.norm(orders.directions - direction, axis=1).min() < 1e-12


def test_two_gradients_have_one_order_which_is_twice_upgrad() -> None:
    J = JACOBIANS["conflict"]
    orders = pcgrad_orders(J)
    np.testing.assert_allclose(orders.directions, 2 * upgrad_construction(J).direction[None])
    np.testing.assert_array_equal(orders.shares, [1.0])


def test_the_order_can_decide_pinned() -> None:
    # g1 = (1, 0) conflicts with g2 = (-1, 1) and with g3 = (-1, -1), which do not conflict.
    # g1 off g2 is (0.5, 0.5), against g3, off that (0, 0); g3 first ends there too. g2 off g1 is
    # (0, 1), against g3, off that (-0.5, 0.5); g3 first leaves g2 as it is, then g1 makes (0, 1).
    # So g2 gives one of two and g3 their mirror images, and the sums are four.
    orders = pcgrad_orders([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    order = np.lexsort(orders.directions.T)
    np.testing.assert_allclose(
        orders.directions[order], [[-0.5, -0.5], [-1.0, 0.0], [0.0, 0.0], [-0.5, 0.5]], atol=1e-15
    )
    np.testing.assert_allclose(orders.shares, np.full(4, 0.25))
    np.testing.assert_allclose(orders.direction, [-0.5, 0.0], atol=1e-15)


@pytest.mark.parametrize("m", [0, MOST_ORDERED + 1])
def test_no_or_many_gradients_are_refused(m: int) -> None:
    with pytest.raises(ValueError, match=f"got {m} gradients, expected 1 to 4"):
        pcgrad_orders(np.ones((m, 2)))


@pytest.mark.parametrize("make", [upgrad_construction, pcgrad_orders])
def test_what_is_no_matrix_or_not_finite_is_refused(make) -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \[m, n\]"):
        make([1.0, 2.0])
    with pytest.raises(NonFiniteGradientError, match="rows 1"):
        make([[1.0, 2.0], [np.nan, 1.0]])


def test_a_zero_gradient_has_no_part_in_the_orders() -> None:
    with_zero = pcgrad_orders([[2.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
    np.testing.assert_allclose(with_zero.directions, [[1.0, 2.0]])


def test_regularisation_hurts_a_gradient_a_hundred_times_shorter() -> None:
    J = np.array([[4.0, 0.0], [-0.03, 0.03]])
    exact, regularised = upgrad_construction(J), upgrad_construction(J, 1e-4)
    assert (exact.inner >= 0).all()
    assert regularised.inner[1] < 0
    # With G / tr G + ε I for two gradients, v₁ = (1, −g₁₂ / (g₂₂ + ε tr G)) and v₂ = e₂ + (c, 0).
    G = J @ J.T
    assert regularised.combinations[0, 1] == pytest.approx(
        -G[0, 1] / (G[1, 1] + 1e-4 * np.trace(G))
    )
    np.testing.assert_allclose(regularised.projections, regularised.combinations @ J)


def test_a_little_regularisation_changes_little() -> None:
    J = np.array([[1.0, 0.2], [-0.5, 1.0], [0.3, -1.0]])
    exact, close = upgrad_construction(J), upgrad_construction(J, 1e-9)
    np.testing.assert_allclose(close.direction, exact.direction, atol=1e-6)
    assert exact.regularisation == 0.0


@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf])
def test_what_is_no_regularisation_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        upgrad_construction(np.eye(2), value)


def test_zero_gradients_can_be_regularised() -> None:
    np.testing.assert_array_equal(upgrad_construction(np.zeros((2, 2)), 0.1).direction, [0.0, 0.0])
