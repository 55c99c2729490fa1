"""Gradients from angles and lengths, from their inner products, and back."""

import math

import numpy as np
import pytest

from jdviz.gradients import (
    gramian_from_rows,
    polar_from_rows,
    rows_from_gramian,
    rows_from_polar,
    rows_from_spherical,
)
from jdviz.spectrum import leading_plane

JACOBIANS = {
    "more parameters than gradients": np.random.default_rng(1).standard_normal((4, 9)),
    "fewer": np.random.default_rng(2).standard_normal((6, 3)) + 0.3,
    "in conflict": np.random.default_rng(3).standard_normal((5, 7)) - 1.0,
}


def test_quarter_turns_are_exact():
    rows = rows_from_polar([0, 90, 180, 270, 360, -90], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(rows, [[1, 0], [0, 2], [-3, 0], [0, -4], [5, 0], [0, -6]])


def test_other_angles_and_zero_length():
    rows = rows_from_polar([30, 150, 77], [2, 2, 0])
    np.testing.assert_allclose(rows, [[math.sqrt(3), 1], [-math.sqrt(3), 1], [0, 0]], atol=1e-15)


@pytest.mark.parametrize("jacobian", JACOBIANS)
def test_rows_of_a_gramian_have_it_and_the_leading_plane_first(jacobian):
    J = JACOBIANS[jacobian]
    G = J @ J.T
    rows = rows_from_gramian(G)
    assert rows.shape[0] == len(J)
    np.testing.assert_allclose(rows @ rows.T, G, atol=1e-12)
    # The columns are orthogonal, as long as the eigenvalues, and descend.
    values = np.linalg.eigvalsh(G)[::-1][: rows.shape[1]]
    np.testing.assert_allclose(rows.T @ rows, np.diag(values), atol=1e-12)
    np.testing.assert_array_equal(rows[:, :2], leading_plane(G).gradients)


@pytest.mark.parametrize(("m", "shape"), [(0, (0, 2)), (1, (1, 2)), (2, (2, 2))])
def test_few_gradients_have_a_plane(m, shape):
    rows = rows_from_gramian(np.eye(m))
    assert rows.shape == shape
    np.testing.assert_allclose(rows @ rows.T, np.eye(m), atol=1e-15)


def test_single_precision_is_enough_of_a_gramian():
    J = np.random.default_rng(4).standard_normal((6, 3))
    G = (J @ J.T).astype(np.float32).astype(np.float64)
    assert np.linalg.eigvalsh(G)[0] < 0
    rows = rows_from_gramian(G)
    np.testing.assert_allclose(rows @ rows.T, G, atol=1e-5)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\), expected a square"),
        (np.full((2, 2), np.nan), "expected a square one of finite numbers"),
        (np.array([[1.0, 0.5], [0.2, 1.0]]), "not symmetric"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "smallest eigenvalue is -1, expected a Gramian"),
    ],
)
def test_what_is_no_gramian_is_refused(matrix, words):
    with pytest.raises(ValueError, match=words):
        rows_from_gramian(matrix)


def test_orthogonal_up_to_rounding_is_orthogonal():
    # cos 20° cos 110° + sin 20° sin 110° is 1e-17 in floating point.
    rows = rows_from_polar([20.0, 110.0, 20.0], [2.5, 1e-6, 0.0])
    G = gramian_from_rows(rows)
    np.testing.assert_array_equal(G[0, 1:], [0.0, 0.0])
    np.testing.assert_allclose(np.diag(G), [6.25, 1e-12, 0.0])


def test_rises_lift_out_of_the_plane():
    rows = rows_from_spherical([0.0, 90.0, 45.0, 30.0], [0.0, 90.0, -30.0, 0.0], [2.0, 3.0, 4.0, 0])
    half = 4.0 * math.cos(math.radians(30)) / math.sqrt(2)
    expected = [[2.0, 0.0, 0.0], [0.0, 0.0, 3.0], [half, half, -2.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(rows[:2], expected[:2])


def test_angles_and_lengths_of_rows_scale_the_longest():
    rows = np.array([[0.03, 0.0], [0.0, -0.01], [-0.02, 0.02], [0.0, 0.0]])
    taken = polar_from_rows(rows, most=8, longest=3.0)
    assert taken.places == (0, 1, 2, 3)
    assert taken.polar == ((0.0, 3.0), (-90.0, 1.0), (135.0, 2.83), (0.0, 0.0))


def test_of_many_rows_the_longest_are_taken_in_their_order():
    rows = np.array([[1.0, 0.0], [0.0, 4.0], [2.0, 0.0], [0.0, 3.0]])
    taken = polar_from_rows(rows, most=2)
    assert taken.places == (1, 3)
    assert taken.polar == ((90.0, 2.0), (90.0, 1.5))


def test_rows_of_zeros_stay_and_rows_in_space_are_refused():
    assert polar_from_rows(np.zeros((2, 2)), most=8).polar == ((0.0, 0.0), (0.0, 0.0))
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected \[m, 2\]"):
        polar_from_rows(np.zeros((2, 3)), most=8)
