import numpy as np
import pytest
import scipy.optimize
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg import non_negative as module
from engines.linalg.non_negative import non_negative
from tests.support.matrices import few_entries

Array = NDArray[np.float64]


def check(matrix: Array, target: Array, x: Array) -> None:
    """The optimality conditions, to a few roundings of what is added up in them."""
    slope = matrix.T @ (target - matrix @ x)
    lengths = np.linalg.norm(matrix, axis=0)
    allowed = 1e-14 * lengths * (np.linalg.norm(target) + lengths @ x)
    assert (x >= 0).all()
    assert (slope <= allowed).all()
    assert (np.abs(slope[x > 0]) <= allowed[x > 0]).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shape", [(24, 12), (24, 20), (64, 60)])
def test_columns_that_depend_on_each_other(shape: tuple[int, int], seed: int) -> None:
    # scipy 1.17 ends at a point that is not optimal for many of these.
    matrix = few_entries(*shape, seed).T
    matrix /= np.linalg.norm(matrix, axis=0)
    check(matrix, -matrix[:, 0], non_negative(matrix, -matrix[:, 0]))


@pytest.mark.parametrize("start", ["nothing", "anything"])
@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_start_is_improved(start: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    matrix, target = rng.normal(size=(12, 9)), rng.normal(size=12)
    expected, _ = scipy.optimize.nnls(matrix, target)
    given = np.zeros(9) if start == "nothing" else rng.uniform(size=9)
    monkeypatch.setattr(module.scipy.optimize, "nnls", lambda *_, **__: (given, 0.0))
    np.testing.assert_allclose(non_negative(matrix, target), expected, rtol=1e-10, atol=1e-12)


def test_a_solver_that_gives_up_is_followed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object, **__: object) -> None:
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(module.scipy.optimize, "nnls", give_up)
    # The first column alone: 2x = 1, and the second is opposed to what is left.
    found = non_negative(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1.0, -1.0]))
    np.testing.assert_allclose(found, [0.5, 0.0], rtol=1e-15)
    assert non_negative(np.zeros((3, 0)), np.ones(3)).shape == (0,)


def test_no_optimum_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_minimise_over", lambda _a, _b, x, use, _j: (x, use, True))
    with pytest.raises(SolverError, match="no optimum after 60 steps"):
        module._improved(np.eye(2), np.ones(2), np.zeros(2))
