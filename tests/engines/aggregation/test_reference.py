"""Each method against a direct transcription of its definition on the Jacobian itself."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from engines.aggregation import DualProj, PCGrad, UPGrad, UPGradWeighting
from engines.aggregation import projection as aggregation_projection
from engines.linalg import compute_gramian
from tests.support.matrices import (
    SampledMatrix,
    exact_projection,
    gramian_limit,
    nearly_opposed,
    sampled_matrices,
)

Array = NDArray[np.float64]
MATRICES = sampled_matrices()


def projection(matrix: Array, vector: Array) -> Array:
    """Onto {x : gᵢ·x >= 0}, by Moreau: x plus the non-negative combination nearest to -x."""
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    z, _ = nnls(unit.T, -vector, maxiter=100 * len(matrix))
    return np.asarray(vector + z @ unit)


def pcgrad(matrix: Array, generator: torch.Generator) -> Array:
    """Algorithm 1 of Yu et al., vector by vector."""
    total = np.zeros(matrix.shape[1])
    orders = [torch.randperm(len(matrix), generator=generator).tolist() for _ in matrix]
    for i, order in enumerate(orders):
        gradient = matrix[i].copy()
        for j in order:
            inner = gradient @ matrix[j]
            if j != i and inner < 0:
                gradient -= inner / (matrix[j] @ matrix[j]) * matrix[j]
        total += gradient
    return total


@pytest.mark.parametrize("solver", ["quadprog", "batched"])
@pytest.mark.parametrize("sampled", MATRICES, ids=lambda s: s.name)
def test_upgrad(sampled: SampledMatrix, solver: str) -> None:
    matrix = sampled.matrix
    expected = np.mean([projection(matrix, row) for row in matrix], axis=0)
    found = UPGrad(solver=solver)(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6 * sampled.ratio, rtol=0)


@pytest.mark.parametrize("solver", ["quadprog", "batched"])
@pytest.mark.parametrize("sampled", MATRICES, ids=lambda s: s.name)
def test_upgrad_and_dualproj_with_preferences(sampled: SampledMatrix, solver: str) -> None:
    matrix = sampled.matrix
    preferences = np.arange(len(matrix), dtype=np.float64)  # the first objective has none
    options = {"pref_vector": torch.from_numpy(preferences), "solver": solver}
    limit = 1e-6 * sampled.ratio * max(1.0, preferences.sum())
    each = sum(p * projection(matrix, row) for p, row in zip(preferences, matrix, strict=True))
    found = UPGrad(**options)(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, each, atol=limit, rtol=0)
    found = DualProj(**options)(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, projection(matrix, preferences @ matrix), atol=limit, rtol=0)


@pytest.mark.parametrize("method", [UPGrad, DualProj])
@pytest.mark.parametrize("solver", ["quadprog", "batched"])
@pytest.mark.parametrize("gap", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("seed", range(4))
def test_nearly_opposed_gradients_in_rational_arithmetic(
    method: type[UPGrad], solver: str, gap: float, seed: int
) -> None:
    matrix = nearly_opposed(3, gap, seed)
    gramian = compute_gramian(torch.from_numpy(matrix)).numpy()
    rows = np.eye(3) / 3 if method is UPGrad else np.full((1, 3), 1 / 3)
    exact = np.sum([exact_projection(gramian, row) for row in rows], axis=0) @ matrix
    # Ten roundings of each entry of the Gramian for each row.
    limit = 10 * len(rows) * gramian_limit(matrix, gramian, rows) + 1e-12
    found = method(solver=solver)(torch.from_numpy(matrix)).numpy()
    assert np.linalg.norm(found - exact) <= limit


@pytest.mark.parametrize("method", [UPGrad, DualProj])
@pytest.mark.parametrize("gap", [1e-7, 1e-8, 1e-9, 1e-12])
def test_what_the_gramian_cannot_tell_stays_bounded(method: type[UPGrad], gap: float) -> None:
    # A projection is no longer than what it projects; rounding may add as much, and no more.
    for seed in range(50):
        matrix = torch.from_numpy(nearly_opposed(3, gap, seed))
        assert float(method()(matrix).norm()) <= 2 * float(matrix.norm(dim=1).max())


@pytest.mark.parametrize("sampled", MATRICES, ids=lambda s: s.name)
def test_pcgrad(sampled: SampledMatrix) -> None:
    matrix = sampled.matrix
    found = PCGrad(generator=torch.Generator().manual_seed(4))(torch.from_numpy(matrix)).numpy()
    expected = pcgrad(matrix, torch.Generator().manual_seed(4))
    np.testing.assert_allclose(found, expected, atol=1e-10 * sampled.ratio, rtol=0)


@pytest.mark.parametrize(("kind", "taken"), [("cuda", "cuda"), ("mps", "cpu"), ("cpu", "cpu")])
def test_the_projections_are_computed_where_the_gramian_is(
    kind: str, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []

    def note(gramian: Array, rows: Array, solver: str, device: torch.device) -> Array:
        devices.append(device.type)
        return rows

    monkeypatch.setattr(aggregation_projection, "project_rows", note)
    UPGradWeighting().solve_on(np.eye(2), torch.device(kind))
    assert devices == [taken]
