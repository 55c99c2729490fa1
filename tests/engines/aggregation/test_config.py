"""ConFIG: equal cosines with all gradients."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.aggregation import ConFIG, ConFIGWeighting, GramianWeightedAggregator
from tests.support.matrices import SampledMatrix, sampled_matrices

Array = NDArray[np.float64]
MATRICES = sampled_matrices()


def transcribed(matrix: Array, preferences: Array) -> Array:
    """Equation 2 on the Jacobian itself."""
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    # Rounding leaves 1e-16 of singular values that are 0.
    u = np.linalg.pinv(units, rcond=1e-10) @ preferences
    unit = u / np.linalg.norm(u)
    return np.asarray((matrix @ unit).sum() * unit)


def full_rank(sampled: SampledMatrix) -> bool:
    return len(sampled.matrix) == sampled.rank and (
        sampled.conflict != "stationary" or sampled.rank == 1
    )


def test_two_gradients() -> None:
    # (3, 0) and (0, 4): û = (1, 1)/√2, the projections add up to 7/√2, so A = (3.5, 3.5).
    matrix = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    torch.testing.assert_close(ConFIG()(matrix), torch.tensor([3.5, 3.5]))
    weights = ConFIGWeighting()(matrix @ matrix.T)
    torch.testing.assert_close(weights, torch.tensor([3.5 / 3, 3.5 / 4]))
    # p = (3, 4): û = (3, 4)/5, the projections add up to 9/5 + 16/5 = 5.
    found = ConFIG(torch.tensor([3.0, 4.0]))(matrix)
    torch.testing.assert_close(found, torch.tensor([3.0, 4.0]))


@pytest.mark.parametrize("sampled", MATRICES, ids=lambda s: s.name)
def test_against_the_equation(sampled: SampledMatrix) -> None:
    matrix = sampled.matrix
    m = len(matrix)
    if m == 2 and sampled.conflict == "stationary":
        # Opposed gradients: no direction has a positive cosine with both.
        assert torch.equal(ConFIG()(torch.from_numpy(matrix)), torch.zeros(3).double())
        return
    for preferences in (np.ones(m), np.arange(1.0, m + 1.0)):
        expected = transcribed(matrix, preferences)
        found = ConFIG(torch.from_numpy(preferences))(torch.from_numpy(matrix)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-9 * sampled.ratio, rtol=0)
    np.testing.assert_array_equal(
        ConFIG()(torch.from_numpy(matrix)), ConFIG(torch.ones(m))(torch.from_numpy(matrix))
    )


@pytest.mark.parametrize("sampled", [s for s in MATRICES if full_rank(s)], ids=lambda s: s.name)
def test_independent_gradients_have_equal_positive_cosines(sampled: SampledMatrix) -> None:
    direction = ConFIG()(torch.from_numpy(sampled.matrix)).numpy()
    cosines = sampled.matrix @ direction / np.linalg.norm(sampled.matrix, axis=1)
    cosines /= np.linalg.norm(direction)
    assert cosines[0] > 0
    np.testing.assert_allclose(cosines, cosines[0], atol=1e-9)


def test_dependent_gradients_may_conflict() -> None:
    # u minimises (x - 1)² + (x - 1)² + (-x - 1)², so it is 1/3, against the third.
    matrix = torch.tensor([[1.0], [2.0], [-1.0]])
    torch.testing.assert_close(ConFIG()(matrix), torch.tensor([2.0]))


def test_gradients_that_balance_give_zero() -> None:
    radians = torch.deg2rad(torch.tensor([10.0, 130.0, 250.0], dtype=torch.float64))
    matrix = torch.tensor([[1.0], [20.0], [0.3]]) * torch.stack([radians.cos(), radians.sin()], 1)
    assert torch.equal(ConFIG()(matrix), torch.zeros(2, dtype=torch.float64))
    assert torch.equal(ConFIG(torch.zeros(2))(torch.eye(2)), torch.zeros(2))
    for m in (0, 2):
        assert torch.equal(ConFIGWeighting()(torch.zeros(m, m)), torch.zeros(m))


def test_a_zero_gradient_is_left_out() -> None:
    matrix = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    torch.testing.assert_close(ConFIG()(matrix), torch.tensor([3.5, 3.5]))


@pytest.mark.parametrize("factor", [1e-300, 1e-3, 1e3, 1e300])
def test_a_common_factor_of_the_preferences_has_no_effect(factor: float) -> None:
    matrix = torch.from_numpy(MATRICES[-1].matrix)
    preferences = torch.linspace(0.5, 2.0, len(matrix), dtype=torch.float64)
    expected = ConFIG(preferences)(matrix)
    torch.testing.assert_close(ConFIG(factor * preferences)(matrix), expected, rtol=1e-9, atol=0)


def test_it_works_from_a_gramian() -> None:
    assert isinstance(ConFIG(), GramianWeightedAggregator)
    matrix = torch.from_numpy(MATRICES[20].matrix)
    weights = ConFIGWeighting()(matrix @ matrix.T)
    torch.testing.assert_close(weights @ matrix, ConFIG()(matrix))


@pytest.mark.parametrize("method", [ConFIG, ConFIGWeighting])
def test_the_parameter_is_checked_and_settable(method: type[ConFIG]) -> None:
    instance = method()
    for bad, error in (([1.0], TypeError), (torch.ones(1, 2), ValueError)):
        with pytest.raises(error, match=r"pref_vector.*expected"):
            method(bad)
        with pytest.raises(error, match=r"pref_vector.*expected"):
            instance.pref_vector = bad
    with pytest.raises(ValueError, match="3 entries for 2 objectives"):
        method(torch.ones(3))(torch.eye(2))
    name = method.__name__
    assert (str(instance), repr(instance)) == (name, f"{name}(pref_vector=None)")
    instance.pref_vector = torch.tensor([3.0, 4.0])
    torch.testing.assert_close(instance(torch.eye(2)), torch.tensor([0.84, 1.12]))
    assert (str(instance), repr(instance)) == (
        f"{name}([3., 4.])",
        f"{name}(pref_vector=tensor([3., 4.]))",
    )
