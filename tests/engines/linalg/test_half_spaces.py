"""The nearest point of half-spaces, against the problem in the space of the vectors themselves."""

import numpy as np
import pytest
import quadprog
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg import half_spaces, nearest_in_half_spaces, nearest_psd
from tests.support.matrices import nearly_opposed

Array = NDArray[np.float64]
RESOLUTION = 2.0**-52


def units(rng: np.random.Generator, k: int, n: int) -> Array:
    """k unit vectors, shape [k, n]."""
    vectors = rng.normal(size=(k, n))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def solve(vectors: Array, length: float, bounds: Array) -> Array | None:
    cosines = nearest_psd(vectors @ vectors.T)
    return nearest_in_half_spaces(cosines, length, bounds, RESOLUTION)


def reference(vectors: Array, length: float, bounds: Array) -> Array | None:
    """The same point by quadprog, or None where it finds the conditions inconsistent."""
    try:
        solution = quadprog.solve_qp(
            np.eye(vectors.shape[1]), length * vectors[0], vectors[1:].T.copy(), bounds
        )
    except ValueError as error:
        if "inconsistent" not in str(error):
            raise
        return None
    return np.asarray(solution[0])


@pytest.mark.parametrize("k", [2, 3, 5, 12, 30])
@pytest.mark.parametrize("tau", [0.0, 1e-3, 0.3])
def test_is_the_nearest_point(k: int, tau: float) -> None:
    rng = np.random.default_rng([k, int(1e4 * tau)])
    feasible = 0
    for n in (2, k // 2 + 1, k, 2 * k):
        for _ in range(6):
            vectors = units(rng, k, n)
            length, bounds = float(rng.uniform(0.0, 2.0)), tau * rng.uniform(0.5, 1.0, size=k - 1)
            wanted = reference(vectors, length, bounds)
            found = solve(vectors, length, bounds)
            assert (found is None) is (wanted is None)
            if found is None or wanted is None:
                continue
            feasible += 1
            assert (found >= 0).all()
            point = length * vectors[0] + found @ vectors[1:]
            # quadprog itself is off by more where the vectors are close to dependent.
            np.testing.assert_allclose(point, wanted, rtol=1e-8, atol=1e-9)
            slack = vectors[1:] @ point - bounds
            assert slack.min() >= -1e-10 * (1.0 + np.linalg.norm(point))
    assert feasible > 0


def test_repeated_and_dependent_normals() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        base = units(rng, 4, 5)
        vectors = np.vstack([base, base[1:], base[2:3]])
        bounds = rng.uniform(0.0, 0.5, size=len(vectors) - 1)
        wanted, found = reference(vectors, 1.0, bounds), solve(vectors, 1.0, bounds)
        assert wanted is not None
        assert found is not None
        point = vectors[0] + found @ vectors[1:]
        np.testing.assert_allclose(point, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1e-200, 1e-3, 1e200])
def test_is_homogeneous(size: float) -> None:
    vectors = units(np.random.default_rng(3), 6, 8)
    bounds = np.full(5, 0.2)
    whole, scaled = solve(vectors, 1.0, bounds), solve(vectors, size, size * bounds)
    assert whole is not None
    assert scaled is not None
    np.testing.assert_allclose(scaled / size, whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-9, 1e-8])
def test_opposed_up_to_rounding_has_no_common_point(gap: float) -> None:
    for m in (3, 4, 8):
        for seed in range(5):
            vectors = nearly_opposed(m, gap, seed)[::-1]
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            assert solve(vectors, 1.0, np.full(m - 1, 0.02)) is None
            # Without a distance to keep, the opposed pair leaves the plane between them.
            assert solve(vectors, 1.0, np.zeros(m - 1)) is not None


@pytest.mark.parametrize("gap", [1e-6, 1e-4, 1e-2])
def test_nearly_opposed_has_a_distant_point(gap: float) -> None:
    for m in (3, 4, 8):
        for seed in range(5):
            vectors = nearly_opposed(m, gap, seed)[::-1]
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            found = solve(vectors, 1.0, np.full(m - 1, 0.02))
            assert found is not None
            point = vectors[0] + found @ vectors[1:]
            # What the rounding of the Gramian leaves unknown of so distant a point.
            allowed = 1e-14 * (1.0 + found.sum())
            assert (vectors[1:] @ point).min() >= 0.02 - allowed


def test_a_failing_solver_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object) -> None:
        raise SolverError("got no optimum after 30 steps")

    monkeypatch.setattr(half_spaces, "non_negative", give_up)
    cosines = np.array([[1.0, -0.5], [-0.5, 1.0]])
    with pytest.raises(SolverError, match="no optimum after"):
        nearest_in_half_spaces(cosines, 1.0, np.array([0.1]), RESOLUTION)


def test_a_wrong_answer_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_spaces, "non_negative", lambda _factor, _target: np.array([0.0]))
    cosines = np.array([[1.0, -0.5], [-0.5, 1.0]])
    with pytest.raises(SolverError, match="residual"):
        nearest_in_half_spaces(cosines, 1.0, np.array([0.1]), RESOLUTION)
