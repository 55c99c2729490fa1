"""Eigenvalues, groups and the leading plane of a Gramian, against the gradients themselves."""

import numpy as np
import pytest

from jdviz.spectrum import NO_GROUP, cluster_order, leading_plane, spectrum


def jacobians() -> list[np.ndarray]:
    """Jacobians by shape, rank and scale, shape [m, n] each."""
    rng = np.random.default_rng(0)
    made = [rng.normal(size=shape) for shape in [(1, 4), (2, 5), (5, 3), (7, 30)]]
    made.append(rng.normal(size=(6, 2)) @ rng.normal(size=(2, 20)))
    made.append(1e-6 * rng.normal(size=(4, 9)))
    return made


@pytest.mark.parametrize("jacobian", jacobians(), ids=lambda j: f"{j.shape}")
class TestAgainstVectors:
    def test_eigenvalues_are_squared_singular_values(self, jacobian: np.ndarray) -> None:
        singular = np.linalg.svd(jacobian, compute_uv=False)
        found = spectrum(jacobian @ jacobian.T)
        squares = np.zeros(len(jacobian))
        squares[: len(singular)] = singular**2
        np.testing.assert_allclose(found.values, squares, rtol=1e-9, atol=1e-12 * squares.sum())
        assert found.leading_share == pytest.approx(squares[:2].sum() / squares.sum())
        assert 1.0 - 1e-12 <= found.effective_rank <= len(jacobian) + 1e-12

    def test_plane_is_that_of_the_leading_singular_vectors(self, jacobian: np.ndarray) -> None:
        _, _, right = np.linalg.svd(jacobian, full_matrices=False)
        inside = np.sum((jacobian @ right[:2].T) ** 2, axis=1)
        squares = np.sum(jacobian**2, axis=1)
        found = leading_plane(jacobian @ jacobian.T)
        np.testing.assert_allclose(found.captured, inside / squares, atol=1e-9)
        assert found.total == pytest.approx(inside.sum() / squares.sum(), rel=1e-9)
        scale = np.sqrt(squares.max())
        np.testing.assert_allclose(found.mean, found.gradients.mean(axis=0), atol=1e-12 * scale)
        # The mean gradient has no negative coordinate, up to the rounding of a zero.
        assert (found.mean >= -1e-12 * scale).all()


def test_effective_rank_by_hand() -> None:
    # Equal eigenvalues count whole; with shares ½, ¼, ¼ the entropy is 1.5 log 2.
    assert spectrum(3.0 * np.eye(4)).effective_rank == pytest.approx(4.0)
    assert spectrum(np.diag([2.0, 1.0, 1.0])).effective_rank == pytest.approx(2.0**1.5)
    assert spectrum(np.ones((3, 3))).effective_rank == pytest.approx(1.0)


def test_nothing_to_spread() -> None:
    for G in (np.zeros((3, 3)), np.zeros((0, 0))):
        assert spectrum(G).effective_rank == 0.0
        assert np.isnan(spectrum(G).leading_share)
        assert leading_plane(G).gradients.shape == (len(G), 2)
        assert (leading_plane(G).captured == 1.0).all()


def test_plane_by_hand() -> None:
    # Lengths 3, 2 and 1 at right angles: the plane holds the first two.
    plane = leading_plane(np.diag([9.0, 4.0, 1.0]))
    np.testing.assert_allclose(plane.gradients, [[3, 0], [0, 2], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(plane.captured, [1.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(plane.axis_shares, [9 / 14, 4 / 14])
    # Two opposed gradients have no mean; the first of the longest is positive.
    opposed = leading_plane([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(opposed.gradients, [[1.0, 0.0], [-1.0, 0.0]], atol=1e-12)
    assert opposed.total == pytest.approx(1.0)


def test_clusters_by_hand() -> None:
    # Two families at a right angle, 0, 2, 4 and 1, 3; 5 conflicts with all of them; 6 is zero.
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    rows = np.array([a, b, 2 * a, 3 * b, a, -a - b, 0 * a])
    found = cluster_order(rows @ rows.T)
    np.testing.assert_array_equal(found.labels, [0, 1, 0, 1, 0, 2, NO_GROUP])
    assert sorted(found.order[:3]) == [0, 2, 4]
    assert sorted(found.order[3:5]) == [1, 3]
    np.testing.assert_array_equal(found.order[5:], [5, 6])
    assert found.order.dtype == np.int64


def test_a_right_angle_joins_no_groups() -> None:
    np.testing.assert_array_equal(cluster_order(np.eye(4)).labels, [0, 1, 2, 3])
    close = np.eye(2) + 1e-6 * np.array([[0, 1], [1, 0]])
    np.testing.assert_array_equal(cluster_order(close).labels, [0, 0])


@pytest.mark.parametrize("seed", range(5))
def test_remaining_groups_conflict_on_average(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(12, 4))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = cluster_order(rows @ rows.T)
    assert sorted(found.order) == list(range(12))
    sizes = [int((found.labels == label).sum()) for label in range(found.labels.max() + 1)]
    assert sizes == sorted(sizes, reverse=True)
    # Equal labels stand side by side.
    assert list(found.labels[found.order]) == sorted(found.labels)
    for first in range(len(sizes)):
        for second in range(first):
            between = unit[found.labels == first] @ unit[found.labels == second].T
            assert between.mean() <= 1e-12


@pytest.mark.parametrize("m", [0, 1])
def test_fewer_than_two_objectives(m: int) -> None:
    found = cluster_order(np.eye(m))
    np.testing.assert_array_equal(found.order, np.arange(m))
    np.testing.assert_array_equal(found.labels, np.zeros(m))


def test_what_does_not_fit_is_refused() -> None:
    for measure in (spectrum, cluster_order, leading_plane):
        with pytest.raises(ValueError, match="expected a square matrix"):
            measure(np.zeros((2, 3)))
    for measure in (spectrum, leading_plane):
        with pytest.raises(ValueError, match="not finite"):
            measure([[np.nan, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(cluster_order([[np.inf, 0.0], [0.0, 1.0]]).labels, [NO_GROUP, 0])
