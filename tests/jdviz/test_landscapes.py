"""The small problems: gradients against autograd, sets and fronts against their closed forms."""

import numpy as np
import pytest
import torch

from jdviz.landscapes import LANDSCAPES

T = np.linspace(0.0, 1.0, 41)


@pytest.fixture(params=LANDSCAPES)
def problem(request):
    return LANDSCAPES[request.param]


def in_frame(problem, k, seed=0):
    """Points of the frame, shape [k, 2]."""
    low, high = np.array(problem.frame).T
    return low + (high - low) * np.random.default_rng(seed).uniform(size=(k, 2))


# The definitions once more, in torch, for autograd.
def quadratic(x, A, u):
    away = x - torch.tensor(u, dtype=torch.float64)
    return away @ torch.tensor(A, dtype=torch.float64) @ away


def bell(x, centre):
    return 1 - torch.exp(-((x - centre) ** 2).sum())


HOMOGENEOUS = [[2.0, -1.0], [-1.0, 2.0]]
DEFINITIONS = {
    "ewq": lambda x: x**2,
    "cqf": lambda x: torch.stack(
        [
            quadratic(x, [[1.0, 0.2], [0.2, 0.05]], [1.0, 0.0]),
            quadratic(x, [[3.0, -0.6], [-0.6, 0.2]], [-1.0, 0.0]),
        ]
    ),
    "hqf": lambda x: torch.stack(
        [quadratic(x, HOMOGENEOUS, [1.0, 0.0]), 10 * quadratic(x, HOMOGENEOUS, [-10.0, 0.0])]
    ),
    "fonseca": lambda x: torch.stack([bell(x, 2**-0.5), bell(x, -(2**-0.5))]),
}


def test_values_and_gradients_are_those_of_autograd(problem):
    points = in_frame(problem, 20)
    values, rows = problem.values(points), problem.jacobian(points)
    assert values.shape == (20, 2)
    assert rows.shape == (20, 2, 2)
    for point, value, jacobian in zip(points, values, rows, strict=True):
        x = torch.tensor(point, dtype=torch.float64)
        f = DEFINITIONS[problem.key]
        np.testing.assert_allclose(value, f(x).numpy(), rtol=1e-12, atol=1e-14)
        expected = torch.autograd.functional.jacobian(f, x).numpy()
        np.testing.assert_allclose(jacobian, expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(problem.jacobian(point), jacobian)


def test_points_of_the_set_are_pareto_stationary(problem):
    # The shortest combination (1 − w) g₁ + w g₂ of the gradients is zero.
    rows = problem.jacobian(problem.pareto(T))
    difference = rows[:, 0] - rows[:, 1]
    squares = (difference**2).sum(axis=1)
    share = np.zeros(len(T))
    np.divide((rows[:, 0] * difference).sum(axis=1), squares, out=share, where=squares > 0)
    shortest = rows[:, 0] - share.clip(0, 1)[:, None] * difference
    lengths = np.linalg.norm(rows, axis=2).max(axis=1)
    assert (np.linalg.norm(shortest, axis=1) <= 1e-14 * np.maximum(lengths, 1.0)).all()


def test_no_point_dominates_one_of_the_front(problem):
    front = problem.values(problem.pareto(T))
    values = problem.values(in_frame(problem, 4000))
    no_worse = (values[:, None] <= front[None] - 1e-12).all(axis=2)
    assert not no_worse.any()
    # Nor does one point of the front another.
    assert (np.diff(front[:, 0]) >= 0).all()
    assert (np.diff(front[:, 1]) <= 0).all()


def test_the_ends_of_the_set_are_the_minima(problem):
    ends = {
        "ewq": [(0, 0), (0, 0)],
        "cqf": [(1, 0), (-1, 0)],
        "hqf": [(1, 0), (-10, 0)],
        "fonseca": [(2**-0.5,) * 2, (-(2**-0.5),) * 2],
    }
    np.testing.assert_allclose(problem.pareto([0.0, 1.0]), ends[problem.key], atol=1e-13)


def test_the_set_of_the_convex_forms_in_the_middle():
    # A₁ + A₂ = [4 −0.4; −0.4 0.25] and A₁u₁ + A₂u₂ = (1, 0.2) + (−3, 0.6) = (−2, 0.8), so that
    # x = (−0.5 + 0.32, −0.8 + 3.2) / 0.84 = (−0.18, 2.4) / 0.84.
    # Both weights are equal where (1 − t)² / 1.05 = t² / 3.2, the traces.
    expected = np.array([-0.18, 2.4]) / 0.84
    middle = np.sqrt(3.2) / (np.sqrt(3.2) + np.sqrt(1.05))
    np.testing.assert_allclose(LANDSCAPES["cqf"].pareto(middle), expected, rtol=1e-13)


def test_the_set_of_one_form_at_two_scales_is_a_segment_with_its_front():
    problem = LANDSCAPES["hqf"]
    points = problem.pareto(T)
    np.testing.assert_allclose(points[:, 1], 0.0, atol=1e-14)
    # On the segment, with u₁ − u₂ = (11, 0): f₁ = 242 s² and f₂ = 2420 (1 − s)².
    first, second = problem.values(points).T
    np.testing.assert_allclose(np.sqrt(first / 242) + np.sqrt(second / 2420), 1.0, rtol=1e-13)


def test_the_front_that_is_not_convex():
    # With both coordinates equal, ‖x ∓ c‖² = 4t² and 4(1 − t)².
    first, second = LANDSCAPES["fonseca"].pareto_front(41).T
    np.testing.assert_allclose(first, 1 - np.exp(-4 * T**2), atol=1e-14)
    np.testing.assert_allclose(second, 1 - np.exp(-4 * (1 - T) ** 2), atol=1e-14)
    # The chord of its ends lies below it.
    middle = np.argmin(np.abs(T - 0.5))
    assert first[middle] + second[middle] > first[0] + second[0]


def test_distances_in_small_cases():
    np.testing.assert_array_equal(LANDSCAPES["ewq"].distances([[3.0, 4.0], [0.0, 0.0]]), [5.0, 0.0])
    # Beyond the ends of the front (0, 2420) and (242, 0) of the two scales.
    far = LANDSCAPES["hqf"].distances([[0.0, 2423.0], [246.0, 0.0]])
    np.testing.assert_allclose(far, [3.0, 4.0], rtol=1e-12)
    # Fonseca's front is symmetric, and its middle is closest to (1, 1).
    corner = LANDSCAPES["fonseca"].distances([[1.0, 1.0]])
    np.testing.assert_allclose(corner, [np.sqrt(2) * np.exp(-1)], rtol=1e-12)


def test_points_of_the_front_have_no_distance_and_others_that_of_a_dense_front(problem):
    on = problem.pareto_front(57)
    size = max(1.0, float(np.abs(on).max()))
    assert (problem.distances(on) <= 1e-14 * size).all()
    away = problem.values(in_frame(problem, 50, seed=3))
    dense = problem.pareto_front(20001)
    expected = np.linalg.norm(away[:, None] - dense[None], axis=2).min(axis=1)
    found = problem.distances(away)
    assert (found <= expected + 1e-12 * size).all()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5 * size)


def test_cosines_are_those_of_the_gradients(problem):
    first, second = problem.grid(8)
    assert [first[0], first[-1]] == list(problem.frame[0])
    assert [second[0], second[-1]] == list(problem.frame[1])
    field = problem.cosines(8)
    g1, g2 = problem.jacobian([first[5], second[2]])
    expected = g1 @ g2 / (np.linalg.norm(g1) * np.linalg.norm(g2))
    np.testing.assert_allclose(field[2, 5], expected, rtol=1e-12, atol=1e-15)
    assert (np.abs(field) <= 1.0).all()


def test_there_is_no_cosine_where_a_gradient_is_zero():
    # Odd, so that the middle row and column are the axes.
    field = LANDSCAPES["ewq"].cosines(5)
    assert np.isnan(field[2]).all()
    assert np.isnan(field[:, 2]).all()
    np.testing.assert_array_equal(field[[0, 0, 4], [0, 4, 1]], 0.0)


def test_starts_are_on_the_picture(problem):
    low, high = np.array(problem.frame).T
    starts = np.array(problem.starts)
    assert starts.shape == (5, 2)
    assert ((starts >= low) & (starts <= high)).all()
    assert 1 <= problem.count <= 5
    # Two decimals, as the controls have.
    np.testing.assert_array_equal(starts, starts.round(2))


def test_rates_make_steps_alike():
    problem = LANDSCAPES["cqf"]
    assert [problem.rate_of(name) for name in ("Mean", "MGDA", "PCGrad")] == [0.125, 0.25, 0.0625]
