"""Paths on the small problems: those of autograd and the aggregator, remembered and bounded."""

import numpy as np
import pytest
import torch

from engines.aggregation import METHODS
from jdviz.landscapes import LANDSCAPES
from jdviz.trajectories import (
    BEYOND,
    MOST_STEPS,
    TWO_OBJECTIVE_METHODS,
    simulate,
    simulate_all,
)
from tests.jdviz.test_landscapes import DEFINITIONS


def by_autograd(key, method, start, rate, steps, seed, parameters=None):
    """The same descent by autograd and the aggregator, in float64, shape [steps + 1, 2]."""
    generator = torch.Generator().manual_seed(seed)
    aggregator = METHODS[method].aggregator(2, generator=generator, **(parameters or {}))
    points = [torch.tensor(start, dtype=torch.float64)]
    for _ in range(steps):
        jacobian = torch.autograd.functional.jacobian(DEFINITIONS[key], points[-1])
        points.append(points[-1] - rate * aggregator(jacobian))
    return torch.stack(points).numpy()


@pytest.mark.parametrize("method", TWO_OBJECTIVE_METHODS)
def test_a_path_is_that_of_autograd_and_the_aggregator(method):
    # With memory and random numbers too: one aggregator and one generator for the whole path.
    problem = LANDSCAPES["cqf"]
    start, rate = problem.starts[0], problem.rate_of(method)
    path = simulate("cqf", method, start, rate=rate, steps=25, seed=7)
    assert path.ending == "complete"
    expected = by_autograd("cqf", method, start, rate, 25, 7)
    np.testing.assert_allclose(path.points, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("key", LANDSCAPES)
@pytest.mark.parametrize("method", ["UPGrad", "Mean", "PCGrad"])
def test_on_every_problem_to_rounding(key, method):
    problem = LANDSCAPES[key]
    start, rate = problem.starts[1], problem.rate_of(method)
    path = simulate(key, method, start, rate=rate, steps=20)
    expected = by_autograd(key, method, start, rate, 20, 0)
    np.testing.assert_allclose(path.points, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(path.values, problem.values(path.points))
    np.testing.assert_array_equal(path.distances, problem.distances(path.values))


def test_the_mean_by_hand():
    # A(J) = (x₁, x₂), so each step takes a tenth away.
    path = simulate("ewq", "Mean", (3.0, -2.0), rate=0.1, steps=2)
    np.testing.assert_allclose(path.points, [[3, -2], [2.7, -1.8], [2.43, -1.62]], rtol=1e-14)


def test_parameters_are_taken_and_vectors_in_any_form():
    given = [
        torch.tensor([0.25, 0.75], dtype=torch.float64),
        [0.25, 0.75],
        (0.25, 0.75),
    ]
    paths = [
        simulate(
            "cqf", "UPGrad", (0.5, 0.5), rate=0.1, steps=10, parameters={"pref_vector": vector}
        )
        for vector in given
    ]
    assert paths[0] is paths[1] is paths[2]
    expected = by_autograd("cqf", "UPGrad", (0.5, 0.5), 0.1, 10, 0, {"pref_vector": given[0]})
    np.testing.assert_allclose(paths[0].points, expected, rtol=1e-11)
    plain = simulate("cqf", "UPGrad", (0.5, 0.5), rate=0.1, steps=10)
    assert np.abs(plain.points[-1] - paths[0].points[-1]).max() > 0.01


def test_what_was_followed_is_remembered_and_cannot_be_changed():
    before = simulate_all("hqf", {"Mean": 0.005, "UPGrad": 0.005}, [(-6.0, 4.0)], steps=9)
    after = simulate_all(
        "hqf", {"Mean": 0.004, "UPGrad": 0.005}, [(-6.0, 4.0), (1.0, 1.0)], steps=9
    )
    assert after["UPGrad"][0] is before["UPGrad"][0]
    assert after["Mean"][0] is not before["Mean"][0]
    assert [len(own) for own in after.values()] == [2, 2]
    with pytest.raises(ValueError, match="read-only"):
        before["Mean"][0].points[0, 0] = 0.0


def test_a_random_path_follows_its_seed_alone():
    first = simulate("cqf", "Random", (0.5, 0.5), rate=0.1, steps=8, seed=1)
    other = simulate("cqf", "Random", (0.5, 0.5), rate=0.1, steps=8, seed=2)
    assert np.abs(first.points - other.points).max() > 1e-3
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    simulate("cqf", "Random", (0.25, 0.5), rate=0.1, steps=8, seed=1)
    assert torch.equal(torch.rand(3), undisturbed)


def test_a_path_that_leaves_ends_at_its_last_point_near_the_frame():
    # Each step multiplies x by 1 − 3 = −2: 4, −8, 16, and −32 is beyond 4 · 5.
    path = simulate("ewq", "Mean", (4.0, 1.0), rate=3.0, steps=50)
    assert path.ending == "diverged"
    np.testing.assert_array_equal(path.points, [[4, 1], [-8, -2], [16, 4]])
    assert len(path.values) == len(path.distances) == 3
    assert BEYOND == 4.0
    np.testing.assert_array_equal(path.at(40), path.points[-1])
    np.testing.assert_array_equal(path.at(1), [-8, -2])


def test_a_step_that_is_not_finite_ends_a_path():
    path = simulate("ewq", "Sum", (4.0, 1.0), rate=1e308, steps=3)
    assert path.ending == "diverged"
    assert len(path.points) == 1


def test_a_refusal_is_kept_with_its_reason():
    path = simulate("ewq", "UPGrad", (1.0, 1.0), rate=0.1, steps=3, parameters={"solver": "no"})
    assert path.ending == "refused"
    assert "got 'no'" in path.reason or "no" in path.reason
    assert len(path.points) == 1


@pytest.mark.parametrize("steps", [-1, MOST_STEPS + 1])
def test_too_many_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"got {steps} steps, expected 0 to 500"):
        simulate("ewq", "Mean", (1.0, 1.0), rate=0.1, steps=steps)


def test_methods_for_two_objectives():
    assert "Krum" not in TWO_OBJECTIVE_METHODS
    assert set(METHODS) - set(TWO_OBJECTIVE_METHODS) == {"Krum"}


def test_pcgrad_takes_twice_the_step_of_upgrad():
    # What the page says: of two gradients, each is projected once, and PCGrad adds what UPGrad
    # averages.
    start = (-0.3, 7.0)
    slow = simulate("cqf", "UPGrad", start, rate=0.125, steps=60)
    fast = simulate("cqf", "PCGrad", start, rate=0.0625, steps=60)
    np.testing.assert_allclose(slow.points, fast.points, rtol=1e-9, atol=1e-9)


def test_on_a_front_that_bulges_the_mean_ends_next_to_an_end():
    # What the page says: there, f₁ + f₂ is least next to an end of the front.
    problem = LANDSCAPES["fonseca"]
    for start in problem.starts[:3]:
        path = simulate("fonseca", "Mean", start, rate=problem.rate, steps=100)
        assert path.distances[-1] < 1e-9
        assert path.values[-1].min() < 0.01
    for start in problem.starts[:2]:
        path = simulate("fonseca", "MGDA", start, rate=problem.rate, steps=100)
        assert path.distances[-1] < 1e-6
        assert path.values[-1].min() > 0.5
