import math

import numpy as np
import pytest
import torch

from engines.aggregation import METHODS
from jdviz.compare import RANDOM_DRAWS, compare, rows_from_polar


def test_quarter_turns_are_exact():
    rows = rows_from_polar([0, 90, 180, 270, 360, -90], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(rows, [[1, 0], [0, 2], [-3, 0], [0, -4], [5, 0], [0, -6]])


def test_other_angles_and_zero_length():
    rows = rows_from_polar([30, 150, 77], [2, 2, 0])
    np.testing.assert_allclose(rows, [[math.sqrt(3), 1], [-math.sqrt(3), 1], [0, 0]], atol=1e-15)


def test_pinned_outcomes_of_two_gradients():
    # g1 = (2, 0), g2 = (-1, 1): Mean goes to (0.5, 0.5), which gives g1 1 and g2 0.
    # UPGrad: g1 is projected off g2: g1 + v g2 with <., g2> = 0, so -2 + 2v = 0, v = 1 -> (1, 1).
    # g2 is projected off g1: -2 + 4v = 0, v = 1/2 -> (0, 1). Their mean is (0.5, 1).
    jacobian = np.array([[2.0, 0.0], [-1.0, 1.0]])
    mean, upgrad = compare(jacobian, ["Mean", "UPGrad"], seed=0)
    np.testing.assert_allclose(mean.direction, [0.5, 0.5])
    np.testing.assert_allclose(mean.inner, [1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(upgrad.direction, [0.5, 1.0], atol=1e-9)
    np.testing.assert_allclose(upgrad.inner, [1.0, 0.5], atol=1e-9)
    np.testing.assert_allclose(mean.angle_to_mean_deg, 0.0, atol=1e-5)
    np.testing.assert_allclose(
        upgrad.angle_to_mean_deg, math.degrees(math.atan2(1.0, 0.5)) - 45.0, atol=1e-6
    )


@pytest.mark.parametrize("name", METHODS)
def test_fields_agree_with_each_other(name):
    jacobian = np.random.default_rng(5).standard_normal((4, 2))
    (outcome,) = compare(jacobian, [name], seed=1)
    assert outcome.draws.shape == (RANDOM_DRAWS if METHODS[name].random else 1, 2)
    np.testing.assert_allclose(outcome.direction, outcome.weights @ jacobian, atol=1e-12)
    np.testing.assert_allclose(outcome.inner, jacobian @ outcome.direction, atol=1e-12)
    np.testing.assert_allclose(outcome.norm, np.linalg.norm(outcome.direction), atol=1e-12)


def test_hurt_names_the_objectives_that_get_worse():
    jacobian = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    mean, upgrad = compare(jacobian, ["Mean", "UPGrad"], seed=0)
    np.testing.assert_array_equal(mean.hurt, [False, False, True])
    assert not upgrad.hurt.any()


def test_a_zero_gradient_has_no_angle():
    (outcome,) = compare(np.zeros((2, 2)), ["Mean"], seed=0)
    assert math.isnan(outcome.angle_to_mean_deg)
    assert not outcome.hurt.any()


def test_the_global_random_state_is_left_alone():
    state = torch.random.get_rng_state()
    jacobian = np.random.default_rng(0).standard_normal((5, 2))
    first, second = (compare(jacobian, ["PCGrad"], seed=4)[0] for _ in range(2))
    np.testing.assert_array_equal(first.draws, second.draws)
    assert torch.equal(state, torch.random.get_rng_state())
