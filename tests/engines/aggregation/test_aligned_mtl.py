"""Aligned-MTL: the nearest orthogonal gradients of equal length."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.aggregation import AlignedMTL, AlignedMTLWeighting
from tests.support.matrices import SampledMatrix, sampled_matrices

Array = NDArray[np.float64]
MATRICES = sampled_matrices()


def transcribed(sampled: SampledMatrix, preferences: Array, scale_mode: str) -> Array:
    """Algorithm 1 on the Jacobian itself: σ Σₖ (vₖ·p) wₖ over its singular vectors."""
    matrix = sampled.matrix
    v, singular, w = np.linalg.svd(matrix, full_matrices=False)
    balanced = sampled.conflict == "stationary" and 1 < len(matrix) == sampled.rank
    rank = sampled.rank - balanced
    kept = singular[:rank]
    scale = {
        "min": kept.min(),
        "median": np.sort(kept)[(rank - 1) // 2],
        "rmse": np.sqrt(np.mean(kept**2)),
    }[scale_mode]
    return np.asarray(scale * (v[:, :rank].T @ preferences) @ w[:rank])


def test_orthogonal_gradients_get_one_length() -> None:
    # Lengths 1, 2, 6: of 1, of 2, or of √(41/3) each.
    gramian = torch.diag(torch.tensor([1.0, 4.0, 36.0], dtype=torch.float64))
    for scale_mode, length in (("min", 1.0), ("median", 2.0), ("rmse", (41 / 3) ** 0.5)):
        found = AlignedMTLWeighting(scale_mode=scale_mode)(gramian)
        expected = length / 3 / torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        torch.testing.assert_close(found, expected)


def test_the_lower_of_two_middle_values_is_the_median() -> None:
    gramian = torch.diag(torch.tensor([1.0, 4.0, 16.0, 64.0], dtype=torch.float64))
    found = AlignedMTLWeighting(torch.ones(4), "median")(gramian)
    torch.testing.assert_close(found, torch.tensor([2.0, 1.0, 0.5, 0.25], dtype=torch.float64))


def test_two_gradients() -> None:
    # (1, 1) and (1, -1) are the eigenvectors of [[2, -1], [-1, 2]], with singular values 1 and
    # √3. For p = (1, 1)/2 only the first counts: w = σ/1 · p with σ = 1, √3 or √2.
    gramian = torch.tensor([[2.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    for scale_mode, scale in (("min", 1.0), ("median", 1.0), ("rmse", 2**0.5)):
        found = AlignedMTLWeighting(scale_mode=scale_mode)(gramian)
        torch.testing.assert_close(found, torch.full((2,), scale / 2, dtype=torch.float64))
    # p = (1, -1) is the second: w = σ/√3 · p.
    found = AlignedMTLWeighting(torch.tensor([1.0, -1.0]))(gramian)
    torch.testing.assert_close(found, torch.tensor([1.0, -1.0]).double() / 3**0.5)


@pytest.mark.parametrize("scale_mode", ["min", "median", "rmse"])
@pytest.mark.parametrize("sampled", MATRICES, ids=lambda s: s.name)
def test_against_the_algorithm(sampled: SampledMatrix, scale_mode: str) -> None:
    m = len(sampled.matrix)
    matrix = torch.from_numpy(sampled.matrix)
    expected = transcribed(sampled, np.full(m, 1 / m), scale_mode)
    found = AlignedMTL(scale_mode=scale_mode)(matrix).numpy()
    # The reference itself loses the digits of the length ratio.
    limit = 1e-13 * sampled.ratio * np.linalg.norm(expected) + 1e-15 * sampled.ratio
    np.testing.assert_allclose(found, expected, atol=limit * m, rtol=0)
    preferences = np.arange(1.0, m + 1.0)
    expected = transcribed(sampled, preferences, scale_mode)
    found = AlignedMTL(torch.from_numpy(preferences), scale_mode)(matrix).numpy()
    np.testing.assert_allclose(found, expected, atol=limit * m * m**2, rtol=0)


def test_a_short_gradient_is_not_lost() -> None:
    # Two orthogonal gradients: the direction is half the sum of their unit vectors, times 1.
    matrix = torch.tensor([[1.0, 0.0], [0.0, 1e6]])
    torch.testing.assert_close(AlignedMTL()(matrix), torch.tensor([0.5, 0.5]))


def test_zero_gradients_are_left_out() -> None:
    matrix = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    weights = AlignedMTLWeighting(torch.ones(3))(matrix @ matrix.T)
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0, 0.5]))
    for m in (0, 2):
        assert torch.equal(AlignedMTLWeighting()(torch.zeros(m, m)), torch.zeros(m))


def test_it_may_conflict_and_is_not_linear_under_scaling() -> None:
    # √G 1 has a negative entry for a short gradient at a wide angle to a long one.
    matrix = torch.tensor([[0.1, 0.0], [-0.9, 0.1]], dtype=torch.float64)
    direction = AlignedMTL()(matrix)
    assert float((matrix @ direction)[0]) < -1e-2 * float(matrix[0].norm() * direction.norm())
    # With orthogonal gradients it is σ (1, 1)/2, and the least of lengths is not linear.
    lengths = [torch.diag(torch.tensor(c)) for c in ([1.0, 3.0], [3.0, 1.0], [4.0, 4.0])]
    one, other, both = (AlignedMTL()(matrix) for matrix in lengths)
    torch.testing.assert_close(one + other, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(both, torch.tensor([2.0, 2.0]))


@pytest.mark.parametrize("method", [AlignedMTL, AlignedMTLWeighting])
def test_the_parameters_are_checked_and_settable(method: type[AlignedMTL]) -> None:
    instance = method()
    bad: tuple[tuple[str, Any, type[Exception]], ...] = (
        ("pref_vector", [1.0], TypeError),
        ("pref_vector", torch.ones(1, 2), ValueError),
        ("scale_mode", "max", ValueError),
        ("scale_mode", None, ValueError),
    )
    for name, value, error in bad:
        with pytest.raises(error, match=f"{name}.*expected"):
            method(**{name: value})
        with pytest.raises(error, match=f"{name}.*expected"):
            setattr(instance, name, value)
    with pytest.raises(ValueError, match="3 entries for 2 objectives"):
        method(torch.ones(3))(torch.eye(2))
    instance.pref_vector, instance.scale_mode = torch.tensor([1.0, 3.0]), "median"
    torch.testing.assert_close(instance(torch.eye(2)), torch.tensor([1.0, 3.0]))
    name = method.__name__
    assert repr(instance) == f"{name}(pref_vector=tensor([1., 3.]), scale_mode='median')"
    assert str(instance) == f"{name}([1., 3.])"
    assert (str(method()), repr(method())) == (
        name,
        f"{name}(pref_vector=None, scale_mode='min')",
    )
