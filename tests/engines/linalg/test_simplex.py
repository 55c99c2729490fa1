"""Projection onto the probability simplex."""

import numpy as np
import pytest
import quadprog

from engines.linalg import project_onto_simplex


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        # On the simplex already.
        ([0.2, 0.8], [0.2, 0.8]),
        # θ = (0.5 + 0.9 - 1)/2 = 0.2.
        ([0.5, 0.9], [0.3, 0.7]),
        # With three entries θ = (2 + 1.5 - 3 - 1)/3 < 1.5, but 3 entries would leave the last
        # negative; with two θ = (3.5 - 1)/2 = 1.25.
        ([2.0, -3.0, 1.5], [0.75, 0.0, 0.25]),
        ([5.0, 3.0], [1.0, 0.0]),
        ([-7.0], [1.0]),
        ([-4.0, -4.0, -4.0, -4.0], [0.25, 0.25, 0.25, 0.25]),
        # Entries equal to the last digit share; others are nothing beside them.
        ([1e308, 1e308, -1e308], [0.5, 0.5, 0.0]),
        ([1e300, 1e284], [1.0, 0.0]),
    ],
)
def test_pinned(point: list[float], expected: list[float]) -> None:
    found = project_onto_simplex(np.array(point))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("m", [1, 2, 3, 10, 40])
@pytest.mark.parametrize("size", [1e-6, 0.3, 1.0, 20.0])
def test_is_the_quadratic_problem(m: int, size: float) -> None:
    rng = np.random.default_rng([m, int(size)])
    for _ in range(5):
        point = size * rng.normal(size=m)
        conditions = np.column_stack([np.ones(m), np.eye(m)])
        wanted = quadprog.solve_qp(np.eye(m), point, conditions, np.eye(1, m + 1)[0], 1)[0]
        found = project_onto_simplex(point)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13)
        assert (found >= 0).all()
        assert abs(found.sum() - 1.0) <= 1e-14
        np.testing.assert_allclose(project_onto_simplex(found), found, rtol=0, atol=1e-15)


def test_nothing_is_projected_to_nothing() -> None:
    assert project_onto_simplex(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("point", [np.zeros((2, 2)), np.array([1.0, np.nan]), np.array([np.inf])])
def test_what_is_no_finite_vector_is_refused(point: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite vector"):
        project_onto_simplex(point)
