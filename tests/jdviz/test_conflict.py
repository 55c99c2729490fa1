"""Measures of a Gramian against the same measures of the vectors themselves."""

import numpy as np
import pytest

from jdviz import conflict

# float64, and the Gramian squares the rounding of the vectors.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def jacobians() -> list[np.ndarray]:
    """Jacobians by shape, rank, scale and conflict, shape [m, n] each."""
    rng = np.random.default_rng(0)
    made = [rng.normal(size=shape) for shape in [(1, 4), (2, 5), (3, 2), (7, 30), (64, 100)]]
    made.append(rng.normal(size=(6, 2)) @ rng.normal(size=(2, 20)))
    made.append(rng.normal(size=(4, 9)) * np.array([[1e-3], [1.0], [1e3], [1.0]]))
    made.append(rng.normal(size=(5, 8)) + 3.0)
    return made


@pytest.mark.parametrize("jacobian", jacobians(), ids=lambda j: f"{j.shape}")
class TestAgainstVectors:
    def test_cosines(self, jacobian: np.ndarray) -> None:
        unit = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        result = conflict.cosines(jacobian @ jacobian.T)
        np.testing.assert_allclose(result, unit @ unit.T, **CLOSE)
        assert (np.diagonal(result) == 1.0).all()
        assert (np.abs(result) <= 1.0).all()

    def test_directions(self, jacobian: np.ndarray) -> None:
        w = np.random.default_rng(1).normal(size=len(jacobian))
        gramian, update, mean = jacobian @ jacobian.T, jacobian.T @ w, jacobian.mean(axis=0)
        scale = np.abs(gramian).max()
        np.testing.assert_allclose(
            conflict.improvements(gramian, w), jacobian @ update, rtol=1e-9, atol=1e-12 * scale
        )
        length = np.linalg.norm(update)
        assert conflict.direction_norm(gramian, w) == pytest.approx(length, rel=1e-9)
        assert conflict.cosine_to_mean(gramian, w) == pytest.approx(
            update @ mean / length / np.linalg.norm(mean), abs=1e-9
        )

    def test_plane(self, jacobian: np.ndarray) -> None:
        w = np.random.default_rng(2).uniform(size=len(jacobian))
        plane = conflict.update_plane(jacobian @ jacobian.T, w)
        update, mean = jacobian.T @ w, jacobian.mean(axis=0)
        # Mean and update lie in the plane, so the coordinates hold every product with them.
        scale = np.linalg.norm(jacobian, axis=1).max()
        for vector, coordinates in ((mean, plane.mean), (update, plane.update)):
            np.testing.assert_allclose(
                plane.gradients @ coordinates,
                jacobian @ vector,
                rtol=1e-7,
                atol=1e-7 * scale * np.linalg.norm(vector),
            )
        assert plane.mean @ plane.update == pytest.approx(mean @ update, rel=1e-7, abs=1e-9)
        assert plane.mean[0] == pytest.approx(np.linalg.norm(mean), rel=1e-9)
        assert plane.mean[1] == pytest.approx(0.0, abs=1e-9 * scale)
        assert plane.update[1] >= -1e-9 * scale
        basis = np.linalg.qr(np.stack([mean, update], axis=1))[0]
        if abs(conflict.cosine_to_mean(jacobian @ jacobian.T, w)) < 0.999999:
            inside = np.sum((jacobian @ basis) ** 2, axis=1) / np.sum(jacobian**2, axis=1)
            np.testing.assert_allclose(plane.captured, inside, rtol=1e-6, atol=1e-6)

    def test_permutation_and_scale(self, jacobian: np.ndarray) -> None:
        m = len(jacobian)
        rng = np.random.default_rng(3)
        order, w = rng.permutation(m), rng.uniform(size=m)
        gramian = jacobian @ jacobian.T
        moved = gramian[np.ix_(order, order)]
        np.testing.assert_array_equal(
            conflict.cosines(moved), conflict.cosines(gramian)[np.ix_(order, order)]
        )
        np.testing.assert_allclose(conflict.cosines(25.0 * gramian), conflict.cosines(gramian))
        if m > 1:
            assert conflict.conflict_rate(moved) == conflict.conflict_rate(gramian)
        plane, other = conflict.update_plane(gramian, w), conflict.update_plane(moved, w[order])
        scale = np.sqrt(np.trace(gramian))
        np.testing.assert_allclose(
            other.gradients, plane.gradients[order], rtol=1e-6, atol=1e-6 * scale
        )
        grown = conflict.update_plane(25.0 * gramian, w)
        np.testing.assert_allclose(
            grown.gradients, 5.0 * plane.gradients, rtol=1e-6, atol=1e-6 * scale
        )


def test_pinned_three_gradients() -> None:
    # g1 = (1, 0), g2 = (0, 2), g3 = (-1, 1): angles 90, 135 and 45 degrees, one pair in conflict.
    jacobian = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    gramian = jacobian @ jacobian.T
    np.testing.assert_allclose(conflict.pair_angles_deg(gramian), [90.0, 135.0, 45.0])
    assert conflict.conflict_rate(gramian) == pytest.approx(1 / 3)
    # A = g1 + g2 = (1, 2): products 1, 4 and 1.
    np.testing.assert_allclose(conflict.improvements(gramian, [1, 1, 0]), [1.0, 4.0, 1.0])
    assert conflict.direction_norm(gramian, [1, 1, 0]) == pytest.approx(5**0.5)
    # The mean is (0, 1), so the cosine is 2/√5.
    assert conflict.cosine_to_mean(gramian, [1, 1, 0]) == pytest.approx(2 / 5**0.5)


def test_pinned_plane() -> None:
    # Mean (0.5, 0.5, 0), update g1 = (1, 0, 0): x = (1, 1, 0)/√2 and y = (1, -1, 0)/√2.
    plane = conflict.update_plane(np.eye(2), [1.0, 0.0])
    half = 0.5**0.5
    np.testing.assert_allclose(plane.gradients, [[half, half], [half, -half]])
    np.testing.assert_allclose(plane.mean, [half, 0.0], atol=1e-15)
    np.testing.assert_allclose(plane.update, [half, half])
    np.testing.assert_allclose(plane.captured, [1.0, 1.0])


class TestDegenerate:
    def test_zero_gradient(self) -> None:
        gramian = np.diag([1.0, 0.0, 4.0])
        result = conflict.cosines(gramian)
        assert np.isnan(result[1]).all()
        assert np.isnan(result[:, 1]).all()
        assert result[0, 0] == result[2, 2] == 1.0
        np.testing.assert_allclose(conflict.pair_angles_deg(gramian), [90.0])
        assert conflict.update_plane(gramian, [1, 1, 1]).captured[1] == 1.0

    def test_antiparallel_pair(self) -> None:
        gramian = np.array([[1.0, -1.0], [-1.0, 1.0]])
        assert conflict.conflict_rate(gramian) == 1.0
        np.testing.assert_allclose(conflict.pair_angles_deg(gramian), [180.0])
        # The mean and the update are zero, and the gradients lie along the first axis.
        plane = conflict.update_plane(gramian, [0.5, 0.5])
        np.testing.assert_allclose(plane.gradients, [[1.0, 0.0], [-1.0, 0.0]], atol=1e-12)
        np.testing.assert_allclose(plane.mean, [0.0, 0.0], atol=1e-12)
        np.testing.assert_allclose(plane.captured, [1.0, 1.0])
        assert np.isnan(conflict.cosine_to_mean(gramian, [1.0, 0.0]))

    def test_mean_zero_puts_the_update_on_the_first_axis(self) -> None:
        # g1 = (1, 0), g2 = (0, 1), g3 = (-1, -1), and A = g1.
        jacobian = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        plane = conflict.update_plane(jacobian @ jacobian.T, [1.0, 0.0, 0.0])
        np.testing.assert_allclose(plane.update, [1.0, 0.0], atol=1e-12)
        np.testing.assert_allclose(plane.gradients @ plane.gradients.T, jacobian @ jacobian.T)

    @pytest.mark.parametrize("noise", [0.0, 1e-9])
    def test_update_along_the_mean_shows_the_widest_spread(self, noise: float) -> None:
        # Means 1 along x; spread 3 along y and 1 along z, so y is chosen.
        jacobian = np.array([[1.0, 3.0, 0], [1.0, -3.0, 0], [1.0, 0, 1.0], [1.0, 0, -1.0]])
        w = np.full(4, 0.25) + noise * np.array([1.0, 0.0, 2.0, 0.0])
        plane = conflict.update_plane(jacobian @ jacobian.T, w)
        np.testing.assert_allclose(np.abs(plane.gradients[:, 1]), [3, 3, 0, 0], atol=1e-6)
        np.testing.assert_allclose(plane.captured, [1.0, 1.0, 0.5, 0.5], atol=1e-6)

    def test_all_zero_and_none(self) -> None:
        plane = conflict.update_plane(np.zeros((3, 3)), np.ones(3))
        assert not plane.gradients.any()
        assert (plane.captured == 1.0).all()
        assert conflict.update_plane(np.zeros((0, 0)), np.zeros(0)).gradients.shape == (0, 2)
        assert np.isnan(conflict.conflict_rate(np.zeros((3, 3))))
        assert conflict.pair_angles_deg(np.zeros((0, 0))).size == 0

    def test_not_finite(self) -> None:
        gramian = np.array([[np.inf, np.nan], [np.nan, 1.0]])
        result = conflict.cosines(gramian)
        assert np.isnan(result[0]).all()
        assert result[1, 1] == 1.0
        assert conflict.pair_angles_deg(gramian).size == 0
        assert np.isnan(conflict.cosine_to_mean(gramian, [1.0, 1.0]))
        with pytest.raises(ValueError, match="not finite"):
            conflict.update_plane(gramian, [1.0, 1.0])

    def test_huge_and_tiny_scales(self) -> None:
        for scale in (1e-150, 1e150):
            jacobian = scale * np.array([[1.0, 0.0], [-1.0, 1.0]])
            result = conflict.cosines(jacobian @ jacobian.T)
            assert result[0, 1] == pytest.approx(-(0.5**0.5))

    @pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)])
    def test_shape_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="expected a square matrix"):
            conflict.cosines(np.zeros(shape))
        with pytest.raises(ValueError, match="weights of shape"):
            conflict.improvements(np.eye(2), np.ones(3))


def test_rounding_is_told_from_harm_by_the_lengths_of_the_gradients() -> None:
    # Lengths 1e-6 and 100, weights 1: the terms are 1e-6 · 100 and 100 · 100 (to 1e-8), of which
    # 1e-8 is 1e-12 and 1e-4.
    gramian = np.diag([1e-12, 1e4])
    inner = [-2e-7, -5e-5]
    np.testing.assert_array_equal(
        conflict.without_rounding(inner, gramian, [1.0, 1.0]), [-2e-7, 0.0]
    )
    np.testing.assert_array_equal(conflict.hurt_mask([-2e-7, 0.0, np.nan]), [True, False, False])
    # Two opposed gradients whose weighted sum is zero up to rounding.
    opposed = np.array([[1.0, -2.0], [-2.0, 4.0]])
    cleaned = conflict.without_rounding([1e-16, -2e-16], opposed, [2 / 3, 1 / 3])
    assert not conflict.hurt_mask(cleaned).any()
    assert conflict.hurt_mask([]).shape == (0,)


@pytest.mark.parametrize("jacobian", jacobians(), ids=lambda j: f"{j.shape}")
def test_the_plane_of_an_update_is_the_same_without_its_weights(jacobian: np.ndarray) -> None:
    gramian, w = jacobian @ jacobian.T, np.linspace(0.1, 1.0, len(jacobian))
    update = w @ jacobian
    plane = conflict.update_plane(gramian, w)
    other = conflict.update_plane_without_weights(
        gramian, jacobian @ update, float(np.linalg.norm(update))
    )
    size = np.abs(jacobian).max() * np.abs(jacobian).sum()
    if len(jacobian) > 1:
        for name in ("gradients", "mean", "update"):
            x, y = getattr(plane, name), getattr(other, name)
            np.testing.assert_allclose(x, y, atol=1e-9 * size, err_msg=name)
        np.testing.assert_allclose(plane.captured, other.captured, atol=1e-9)


def test_an_update_across_all_gradients_has_its_own_axis() -> None:
    # g1 = (1, 0, 0), g2 = (0, 1, 0) and A = (0, 0, 2): the mean has length √½, A lies across it.
    plane = conflict.update_plane_without_weights(np.eye(2), [0.0, 0.0], 2.0)
    np.testing.assert_allclose(plane.mean, [np.sqrt(0.5), 0.0], atol=1e-15)
    np.testing.assert_allclose(plane.update, [0.0, 2.0], atol=1e-15)
    np.testing.assert_allclose(plane.gradients, [[np.sqrt(0.5), 0.0]] * 2, atol=1e-15)
    with pytest.raises(ValueError, match="not finite"):
        conflict.update_plane_without_weights(np.eye(2), [0.0, 0.0], float("nan"))


def test_without_weights_rounding_is_that_of_a_sum() -> None:
    gramian = np.diag([1.0, 4.0])
    # |g1| (|g1| + |g2|) = 3: what is below 3e-8 is rounding.
    values = conflict.without_rounding([-2e-8, -1.0], gramian, None)
    np.testing.assert_array_equal(values, [0.0, -1.0])
