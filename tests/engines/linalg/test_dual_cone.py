import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from engines.errors import NonFiniteGradientError, SolverError
from engines.linalg import (
    SOLVERS,
    dual_cone,
    goldfarb_idnani,
    least_squares,
    nearest_psd,
    project_rows,
    unit_diagonal,
)
from engines.linalg.batched import solve_by_products
from engines.linalg.dual_cone import solve_unit
from engines.linalg.kkt import Certificate, certificate, residuals
from tests.support.matrices import (
    SampledMatrix,
    exact_projection,
    gramian_limit,
    gramian_of,
    nearly_opposed,
    sample,
    sampled_matrices,
)

Array = NDArray[np.float64]

# Squaring the Jacobian loses half the digits of a direction that nearly vanishes: 1e-8 of the
# longest row; a margin of 100 for the condition of random matrices.
UPDATE = 1e-6


def reference(matrix: Array, row: Array) -> Array:
    """Projection of Jᵀu by non-negative least squares on J itself, without a Gramian.

    With v = u + z the problem is min |Jᵀz + Jᵀu| over z >= 0; rows at length 1 for its sake.
    """
    lengths = np.linalg.norm(matrix, axis=1)
    unit = (matrix / lengths[:, None]).T
    target = unit @ (row * lengths)
    z, _ = nnls(unit, -target, maxiter=100 * len(matrix))
    return np.asarray(unit @ z + target)


def rows_for(m: int) -> Array:
    """Each objective alone, all together, and an uneven preference; shape [m + 2, m]."""
    return np.vstack([np.eye(m), np.full(m, 1.0 / m), np.arange(1.0, m + 1)])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sampled", sampled_matrices(), ids=lambda s: s.name)
def test_projection_agrees_with_least_squares(sampled: SampledMatrix, solver: str) -> None:
    matrix = sampled.matrix
    rows = rows_for(len(matrix))
    found = project_rows(gramian_of(matrix), rows, solver) @ matrix
    for row, update in zip(rows, found, strict=True):
        scale = np.abs(row * np.linalg.norm(matrix, axis=1)).max()
        np.testing.assert_allclose(update, reference(matrix, row), atol=UPDATE * scale, rtol=0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sampled", sampled_matrices(), ids=lambda s: s.name)
def test_combinations_stay_above_their_bounds(sampled: SampledMatrix, solver: str) -> None:
    rows = rows_for(len(sampled.matrix))
    assert (project_rows(gramian_of(sampled.matrix), rows, solver) >= rows).all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("gap", [1e-2, 1e-5, 1e-8, 1e-12])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nearly_parallel_and_nearly_opposite_rows(solver: str, gap: float, sign: float) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(6, 8))
    matrix = np.vstack([base, sign * base + gap * rng.normal(size=(6, 8))])
    cosines, _ = unit_diagonal(gramian_of(matrix))
    solution = project_rows(cosines, np.eye(12), solver)
    assert residuals(cosines, np.eye(12), solution).max() <= 1e-14


# Roundings of an entry of the Gramian that a solution may be worth: four in scaling it to cosines,
# and a residual of 1e-15, which is nine of 2^-53.
ROUNDINGS = 10


@pytest.mark.parametrize("gap", [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("m", [2, 3, 4])
def test_nearly_opposed_rows_agree_with_rational_arithmetic(m: int, seed: int, gap: float) -> None:
    matrix = nearly_opposed(m, gap, seed)
    gramian = gramian_of(matrix)
    rows = np.vstack([np.eye(m), np.full(m, 1.0 / m)])
    exact = np.array([exact_projection(gramian, row) for row in rows]) @ matrix
    limit = ROUNDINGS * gramian_limit(matrix, gramian, rows) + 1e-12
    for solver in SOLVERS:
        found = project_rows(gramian, rows, solver) @ matrix
        assert np.linalg.norm(found - exact, axis=1).max() <= limit


@pytest.mark.parametrize("shape", [(60, 200, 60), (60, 61, 60), (60, 30, 30), (60, 4, 4)])
@pytest.mark.parametrize("conflict", ["random", "strong", "stationary"])
def test_the_solvers_agree_on_many_objectives(shape: tuple[int, int, int], conflict: str) -> None:
    matrix = sample(shape, 1.0, conflict, seed=7).matrix
    gramian = gramian_of(matrix)
    row_by_row = project_rows(gramian, np.eye(60), "quadprog") @ matrix
    together = project_rows(gramian, np.eye(60), "batched") @ matrix
    np.testing.assert_allclose(together, row_by_row, atol=UPDATE, rtol=0)


def test_negative_bounds_project_the_opposite_gradient() -> None:
    # -g1 = (-1, 0) conflicts with g1 = (1, 0) itself, so its projection on x >= 0 is 0.
    np.testing.assert_allclose(project_rows(np.eye(1), np.array([[-1.0]])), [[0.0]], atol=1e-15)


def test_pinned_two_gradients() -> None:
    # g1 = (1, 0), g2 = (-1, 1): g1·g2 = -1, |g2|² = 2. g1 loses its part along g2: g1 + g2/2;
    # g2 loses its part along g1: g2 + g1.
    gramian = np.array([[1.0, -1.0], [-1.0, 2.0]])
    np.testing.assert_allclose(project_rows(gramian, np.eye(2)), [[1, 0.5], [1, 1]], rtol=1e-14)


def test_zero_gradients_keep_their_entry_and_block_nothing() -> None:
    # As above with a zero gradient between.
    gramian = np.array([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 2.0]])
    expected = [[1, 0, 0.5], [0, 1, 0], [1, 0, 1]]
    np.testing.assert_allclose(project_rows(gramian, np.eye(3)), expected, rtol=1e-14)


@pytest.mark.parametrize("m", [0, 1, 3])
def test_zero_gramian_and_no_rows(m: int) -> None:
    np.testing.assert_array_equal(project_rows(np.zeros((m, m)), np.eye(m)), np.eye(m))
    assert project_rows(np.eye(m), np.zeros((0, m))).shape == (0, m)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n", [4, 8])
@pytest.mark.parametrize("m", [2, 16, 32])
def test_gramians_rounded_to_bfloat16(m: int, n: int, solver: str) -> None:
    matrix = torch.randn(m, n, generator=torch.Generator().manual_seed(m))
    rounded = (matrix @ matrix.T).bfloat16().double().numpy()
    solution = project_rows(rounded, np.eye(m), solver)
    norms = np.linalg.norm(matrix.double().numpy(), axis=1)
    inner = (solution @ matrix.double().numpy()) @ matrix.double().numpy().T / norms
    # Rounding moves cosines by 2^-9 each, and the combinations have total weight of some units.
    assert (inner >= -0.05 * (1 + np.abs(solution * norms).sum(axis=1, keepdims=True))).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_cosine_above_one(solver: str) -> None:
    solution = project_rows(np.array([[1.0, 1.001], [1.001, 1.0]]), np.eye(2), solver)
    np.testing.assert_array_equal(solution, np.eye(2))


def test_non_finite_gramian_is_refused() -> None:
    with pytest.raises(NonFiniteGradientError, match="rows 1"):
        project_rows(np.diag([1.0, np.nan]), np.eye(2))


def test_unknown_solver_is_refused() -> None:
    with pytest.raises(ValueError, match="'quadprog'"):
        project_rows(np.eye(2), np.eye(2), "magic")


def test_quadprog_failure_comes_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("constraints are inconsistent, no solution")

    monkeypatch.setattr(goldfarb_idnani.quadprog, "solve_qp", fail)
    with pytest.raises(SolverError, match="constraints are inconsistent"):
        project_rows(np.array([[1.0, -0.5], [-0.5, 1.0]]), np.eye(2), "quadprog")


def leave_the_rows(cosines: Array, rows: Array, *_: object) -> tuple[Array, Certificate]:
    """A solver that gives up: its candidates are the bounds, and its certificate says so."""
    return rows.copy(), certificate(rows, rows, rows @ cosines)


@pytest.mark.parametrize("solver", ["quadprog", "batched"])
def test_rows_that_fail_their_certificate_are_solved_one_by_one(
    solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dual_cone, f"solve_{solver}", leave_the_rows)
    # As in test_pinned_two_gradients.
    found = project_rows(np.array([[1.0, -1.0], [-1.0, 2.0]]), np.eye(2), solver)
    np.testing.assert_allclose(found, [[1, 0.5], [1, 1]], rtol=1e-14)


def test_what_is_not_optimal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object) -> None:
        raise SolverError("got no optimum after 30 steps")

    monkeypatch.setattr(dual_cone, "solve_quadprog", leave_the_rows)
    monkeypatch.setattr(least_squares, "non_negative", give_up)
    # For u = (1, 0) the multiplier is (1, -0.5), relative to 1 + |u| = 2 that is off by 0.25.
    with pytest.raises(SolverError, match=r"residual of 2\.5e-01 in rows \[0, 1\]"):
        project_rows(np.array([[1.0, -0.5], [-0.5, 1.0]]), np.eye(2), "quadprog")


def unit_problem(sampled: SampledMatrix) -> tuple[Array, Array]:
    """The cosines of a sampled matrix, and each gradient as a row to project."""
    cosines, _ = unit_diagonal(gramian_of(sampled.matrix))
    return nearest_psd(cosines), np.eye(len(cosines))


@pytest.mark.parametrize("solver", ["quadprog", "batched"])
@pytest.mark.parametrize("sampled", sampled_matrices(), ids=lambda s: s.name)
def test_the_certificate_is_true(sampled: SampledMatrix, solver: str) -> None:
    # Recomputed in extended precision; its own products are rounded like the solver's.
    cosines, rows = unit_problem(sampled)
    solution, found = solve_unit(cosines, rows, solver)
    wide = solution.astype(np.longdouble)
    slack, multipliers = wide - rows, wide @ cosines.astype(np.longdouble)
    size = 1 + np.abs(wide).sum(axis=1)
    expected = (
        np.maximum(-slack, 0).max(axis=1) / size,
        np.maximum(-multipliers, 0).max(axis=1) / size,
        np.maximum(np.minimum(slack, multipliers), 0).max(axis=1) / size,
    )
    parts = (found.primal, found.dual, found.complementarity)
    for part, wanted in zip(parts, expected, strict=True):
        np.testing.assert_allclose(part, wanted.astype(np.float64), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(found.residual, np.max(np.stack(parts), axis=0))


@pytest.mark.parametrize("shape", [(64, 400, 64), (64, 65, 64), (128, 300, 128)])
@pytest.mark.parametrize("conflict", ["none", "random", "strong"])
def test_the_batched_solver_certifies_regular_problems(
    shape: tuple[int, int, int], conflict: str
) -> None:
    cosines, rows = unit_problem(sample(shape, 1.0, conflict, seed=1))
    solution, found = solve_unit(cosines, rows, "batched")
    for part in (found.primal, found.dual, found.complementarity):
        assert part.max() <= 1e-15
    assert (solution >= rows).all()


@pytest.mark.parametrize("shape", [(6, 20, 6), (40, 400, 40), (40, 42, 40), (200, 400, 200)])
@pytest.mark.parametrize("conflict", ["none", "random", "strong"])
def test_products_alone_solve_regular_problems(shape: tuple[int, int, int], conflict: str) -> None:
    # What a CUDA device and large matrices get; on the CPU small ones are factorized instead.
    cosines, rows = unit_problem(sample(shape, 1.0, conflict, seed=1))
    solution = solve_by_products(cosines, rows, "cpu")
    assert residuals(cosines, rows, solution).max() <= 1e-15
    assert (solution >= rows).all()


def test_a_certificate_names_what_is_wrong() -> None:
    # w is below its bound by 1; λ = (1, -2) is below 0 by 2; in the last row both are above 0, the
    # smaller by 0.5. Relative to 1 + Σ|w|, which is 2, 4 and 3.
    rows = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.5]])
    solution = np.array([[1.0, 0.0], [1.0, 2.0], [0.5, 1.5]])
    multipliers = np.array([[0.0, 0.0], [1.0, -2.0], [3.0, -0.0]])
    found = certificate(rows, solution, multipliers)
    np.testing.assert_allclose(found.primal, [1 / 2, 0, 0])
    np.testing.assert_allclose(found.dual, [0, 2 / 4, 0])
    np.testing.assert_allclose(found.complementarity, [0, 0, 0.5 / 3])


def test_auto_takes_the_solver_for_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    for name in ("quadprog", "batched"):

        def note(
            cosines: Array, rows: Array, *_: object, name: str = name
        ) -> tuple[Array, Certificate]:
            taken.append(name)
            return leave_the_rows(cosines, rows)

        monkeypatch.setattr(dual_cone, f"solve_{name}", note)
    for m in (2, 16, 32, 128):
        project_rows(np.eye(m), np.eye(m))
    assert taken == ["quadprog", "quadprog", "batched", "batched"]
    taken.clear()
    for m in (32, 128):
        project_rows(np.ones((m, m)), np.eye(m))
    assert taken == ["quadprog", "batched"]
