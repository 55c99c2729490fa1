import math
import re

import numpy as np
import pytest
import torch

from engines.aggregation import METHODS
from jdviz.compare import GRAMIAN_METHODS, RANDOM_DRAWS, Outcome, compare, plane_of_directions
from jdviz.construction import pcgrad_orders
from jdviz.gradients import (
    rows_from_gramian,
)

# One for each shape of the dual cone and each edge of the page's controls.
PLANES = {
    "two apart": [[2.0, 0.0], [-1.0, 1.0]],
    "two opposed": [[1.0, 0.0], [-2.0, 0.0]],
    "one is zero": [[1.0, 0.5], [0.0, 0.0], [-1.0, 1.0]],
    "all are zero": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
    "lengths far apart": [[100.0, 1.0], [-1e-2, 1e-3], [0.0, 1.0]],
    "five": [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8], [-1.0, 0.1]],
}


def outcomes(jacobian, methods, seed=0) -> tuple[Outcome, ...]:
    compared = compare(np.asarray(jacobian), methods, seed)
    assert compared.refusals == ()
    return compared.outcomes


def test_pinned_outcomes_of_two_gradients():
    # g1 = (2, 0), g2 = (-1, 1): Mean goes to (0.5, 0.5), which gives g1 1 and g2 0.
    # UPGrad: g1 is projected off g2: g1 + v g2 with <., g2> = 0, so -2 + 2v = 0, v = 1 -> (1, 1).
    # g2 is projected off g1: -2 + 4v = 0, v = 1/2 -> (0, 1). Their mean is (0.5, 1).
    jacobian = np.array([[2.0, 0.0], [-1.0, 1.0]])
    mean, upgrad = outcomes(jacobian, ["Mean", "UPGrad"])
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
    (outcome,) = outcomes(jacobian, [name], 1)
    assert outcome.draws.shape == (RANDOM_DRAWS if METHODS[name].random else 1, 2)
    if outcome.weights is not None:
        np.testing.assert_allclose(outcome.direction, outcome.weights @ jacobian, atol=1e-12)
    np.testing.assert_allclose(outcome.direction, outcome.draws.mean(0), atol=1e-12)
    np.testing.assert_allclose(outcome.inner, jacobian @ outcome.direction, atol=1e-12)
    np.testing.assert_allclose(outcome.norm, np.linalg.norm(outcome.direction), atol=1e-12)
    # Weights are missing where there is no weighting, and only there.
    assert (outcome.weights is None) == (METHODS[name].make_weighting is None)


@pytest.mark.parametrize("plane", PLANES)
def test_every_method_is_shown_or_says_how_many_gradients_it_needs(plane):
    jacobian = np.array(PLANES[plane])
    compared = compare(jacobian, tuple(METHODS), seed=0)
    shown = [outcome.method for outcome in compared.outcomes]
    refused = [refusal.method for refusal in compared.refusals]
    few = [name for name in METHODS if METHODS[name].least_objectives > len(jacobian)]
    assert refused == few
    assert shown == [name for name in METHODS if name not in few]
    for outcome in compared.outcomes:
        assert np.isfinite(outcome.draws).all(), outcome.method
        assert np.isfinite(outcome.inner).all(), outcome.method
    for refusal in compared.refusals:
        least = METHODS[refusal.method].least_objectives
        assert refusal.sentence.startswith(f"{refusal.method} needs at least {least} gradients")


def test_a_column_of_three_has_its_middle_in_the_trimmed_mean():
    # Columns (3, 0, -1) and (0, 5, 1) without their extremes: 0 and 1.
    jacobian = np.array([[3.0, 0.0], [0.0, 5.0], [-1.0, 1.0]])
    (outcome,) = outcomes(jacobian, ["TrimmedMean"])
    np.testing.assert_allclose(outcome.direction, [0.0, 1.0])
    np.testing.assert_allclose(outcome.inner, [0.0, 5.0, 1.0])
    assert outcome.weights is None


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].stateful])
def test_methods_with_memory_are_at_their_first_step_in_every_draw(name):
    jacobian = np.array(PLANES["five"])
    one, other = (outcomes(jacobian, [name, name]) for _ in range(2))
    for outcome in (*one, *other):
        np.testing.assert_array_equal(outcome.draws, one[0].draws)
    # Two gradients have no order, so that draws of a first step are equal.
    (pair,) = outcomes(PLANES["two apart"], [name])
    if METHODS[name].random:
        np.testing.assert_allclose(pair.draws, np.tile(pair.direction, (RANDOM_DRAWS, 1)))


def test_parameters_are_taken():
    # Weights of 1 and 0 follow the first gradient alone.
    jacobian = np.array([[2.0, 0.0], [-1.0, 1.0]])
    first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    compared = compare(jacobian, ["Constant", "Mean"], 0, {"Constant": {"weights": first}})
    np.testing.assert_array_equal(compared.outcomes[0].direction, [2.0, 0.0])
    np.testing.assert_array_equal(compared.outcomes[1].direction, [0.5, 0.5])


@pytest.mark.parametrize(
    ("method", "parameters", "words"),
    [
        ("TrimmedMean", {"trim_number": 2}, "got 3 objective.* for TrimmedMean"),
        ("Krum", {"n_byzantine": 3}, "for Krum"),
        ("UPGrad", {"pref_vector": torch.ones(2)}, "UPGrad: got .* 2 entries for 3 objectives"),
        ("MGDA", {"epsilon": -1.0}, "MGDA: got epsilon=-1.0"),
    ],
)
def test_a_parameter_that_does_not_fit_leaves_the_others_shown(method, parameters, words):
    jacobian = np.array(PLANES["one is zero"])
    compared = compare(jacobian, ["Mean", method], 0, {method: parameters})
    assert [outcome.method for outcome in compared.outcomes] == ["Mean"]
    (refusal,) = compared.refusals
    assert refusal.method == method
    assert re.search(words, refusal.sentence)


def test_what_is_not_finite_is_refused_by_all_and_an_unknown_method_raises():
    compared = compare(np.full((4, 2), np.nan), tuple(METHODS), seed=0)
    assert compared.outcomes == ()
    assert len(compared.refusals) == len(METHODS)
    with pytest.raises(KeyError):
        compare(np.eye(2), ["Magic"], seed=0)


def test_hurt_names_the_objectives_that_get_worse():
    jacobian = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    mean, upgrad = outcomes(jacobian, ["Mean", "UPGrad"])
    np.testing.assert_array_equal(mean.hurt, [False, False, True])
    assert not upgrad.hurt.any()


def test_a_zero_gradient_has_no_angle():
    (outcome,) = outcomes(np.zeros((2, 2)), ["Mean"])
    assert math.isnan(outcome.angle_to_mean_deg)
    assert not outcome.hurt.any()


def test_the_global_random_state_is_left_alone():
    state = torch.random.get_rng_state()
    jacobian = np.random.default_rng(0).standard_normal((5, 2))
    first, second = (outcomes(jacobian, ["PCGrad"], 4)[0] for _ in range(2))
    np.testing.assert_array_equal(first.draws, second.draws)
    assert torch.equal(state, torch.random.get_rng_state())


def test_methods_that_a_gramian_is_enough_for():
    missing = [name for name in METHODS if name not in GRAMIAN_METHODS]
    assert missing == ["GradDrop", "ExcessMTL", "TrimmedMean"]


JACOBIANS = {
    "more parameters than gradients": np.random.default_rng(1).standard_normal((4, 9)),
    "fewer": np.random.default_rng(2).standard_normal((6, 3)) + 0.3,
    "in conflict": np.random.default_rng(3).standard_normal((5, 7)) - 1.0,
}


@pytest.mark.parametrize("name", GRAMIAN_METHODS)
@pytest.mark.parametrize("jacobian", JACOBIANS)
def test_a_gramian_gives_the_weights_of_the_gradients(jacobian, name):
    J = JACOBIANS[jacobian]
    (wanted,) = outcomes(J, [name])
    (found,) = outcomes(rows_from_gramian(J @ J.T), [name])
    # SDMGrad and the solvers with tolerances amplify the rounding of G.
    np.testing.assert_allclose(found.weights, wanted.weights, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.inner, wanted.inner, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found.norm, wanted.norm, rtol=1e-7)
    np.testing.assert_allclose(found.angle_to_mean_deg, wanted.angle_to_mean_deg, atol=1e-4)
    np.testing.assert_array_equal(found.hurt, wanted.hurt)


@pytest.mark.parametrize("name", ["GradDrop", "TrimmedMean"])
def test_what_works_coordinate_by_coordinate_cannot_be_had_from_a_gramian(name):
    J = JACOBIANS["in conflict"]
    (wanted,) = outcomes(J, [name])
    (found,) = outcomes(rows_from_gramian(J @ J.T), [name])
    assert np.abs(found.inner - wanted.inner).max() > 0.01 * np.abs(wanted.inner).max()


def test_a_plane_that_shows_half():
    # G = diag(4, 1, 1, 0): the two leading eigenvectors hold 4 + 1 of 6, and the last gradient is
    # zero. Mean goes to a quarter of the sum: squared length 6/16, outside 1/16, a sixth.
    rows = rows_from_gramian(np.diag([4.0, 1.0, 1.0, 0.0]))
    (mean,) = outcomes(rows, ["Mean"])
    plane = plane_of_directions(rows, [mean])
    np.testing.assert_allclose(plane.outside, 1 / 6)
    np.testing.assert_allclose(plane.outside_directions["Mean"], 1 / 6)
    np.testing.assert_allclose(np.linalg.norm(plane.rows, axis=1)[[0, 3]], [2.0, 0.0])
    np.testing.assert_allclose(np.linalg.norm(plane.rows), math.sqrt(5))
    np.testing.assert_allclose(np.linalg.norm(plane.directions["Mean"]), math.sqrt(5) / 4)
    assert plane.directions["Mean"].shape == (2,)


def test_draws_of_a_random_method_are_all_in_the_plane():
    G = JACOBIANS["in conflict"] @ JACOBIANS["in conflict"].T
    rows = rows_from_gramian(G)
    compared = compare(rows, ["Random"], 0, draws=7)
    plane = plane_of_directions(rows, compared.outcomes)
    assert plane.directions["Random"].shape == (7, 2)
    np.testing.assert_array_equal(plane.directions["Random"], compared.outcomes[0].draws[:, :2])
    assert 0 < plane.outside_directions["Random"] < 1


def test_few_gradients_are_taken_by_pcgrad_in_every_order():
    jacobian = np.array([[1.5, 0.0], [-0.6, 1.3], [-0.9, -0.4]])
    compared = compare(jacobian, ["PCGrad", "Mean"], seed=3)
    outcome = compared.outcomes[0]
    assert compared.drawn == {"PCGrad": "8 orders"}
    orders = pcgrad_orders(jacobian)
    np.testing.assert_allclose(outcome.draws, orders.directions, atol=1e-14)
    np.testing.assert_allclose(outcome.direction, orders.direction, atol=1e-14)
    np.testing.assert_allclose(outcome.weights @ jacobian, outcome.direction, atol=1e-14)
    # Two gradients have one order, and a single arrow.
    pair = compare(jacobian[:2], ["PCGrad"], seed=3)
    assert pair.drawn == {}
    assert pair.directions["PCGrad"].shape == (2,)
    # Four are drawn.
    many = compare(np.vstack([jacobian, [0.2, 0.1]]), ["PCGrad"], seed=3, draws=5)
    assert many.drawn == {"PCGrad": "5 seeds"}
    assert many.directions["PCGrad"].shape == (5, 2)


def test_the_rounding_of_a_gradient_across_the_plane_is_no_side_of_the_cone():
    rows = np.array([[2.0, 0.0, 0.0], [0.0, 1.5, 0.0], [-1e-5, 0.0, 1.0]])
    plane = plane_of_directions(rows, ())
    np.testing.assert_array_equal(plane.rows, [[2.0, 0.0], [0.0, 1.5], [0.0, 0.0]])


def test_gradients_that_are_all_zero_have_no_share():
    plane = plane_of_directions(rows_from_gramian(np.zeros((3, 3))), ())
    np.testing.assert_array_equal(plane.rows, np.zeros((3, 2)))
    assert math.isnan(plane.outside)
