"""IMTL-G: equal projections onto all gradients."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.aggregation import IMTLG, IMTLGWeighting
from tests.support.matrices import SampledMatrix, sample, sampled_matrices

Array = NDArray[np.float64]
MATRICES = sampled_matrices()


def by_differences(matrix: Array) -> Array:
    """The paper's own form, for independent gradients: α = g₁Uᵀ(D Uᵀ)⁻¹ for rows 2 to m."""
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    u, d = unit[0] - unit[1:], matrix[0] - matrix[1:]
    alpha = np.linalg.solve((d @ u.T).T, u @ matrix[0])
    return np.concatenate([[1.0 - alpha.sum()], alpha]) @ matrix


def independent(sampled: SampledMatrix) -> bool:
    return len(sampled.matrix) == sampled.rank and (
        sampled.conflict != "stationary" or sampled.rank == 1
    )


def test_two_gradients() -> None:
    # Lengths √18 and √38, inner product -22. With independent gradients wᵢ is proportional to
    # (C⁻¹1)ᵢ/|gᵢ|, and C⁻¹1 to (1, 1): w ∝ (1/√18, 1/√38).
    gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
    inverse = torch.tensor([18.0, 38.0], dtype=torch.float64).rsqrt()
    torch.testing.assert_close(IMTLGWeighting()(gramian), inverse / inverse.sum())


@pytest.mark.parametrize("sampled", [s for s in MATRICES if independent(s)], ids=lambda s: s.name)
def test_projections_are_equal(sampled: SampledMatrix) -> None:
    direction = IMTLG()(torch.from_numpy(sampled.matrix)).numpy()
    projections = sampled.matrix @ direction / np.linalg.norm(sampled.matrix, axis=1)
    np.testing.assert_allclose(projections, projections[0], atol=1e-9 * sampled.ratio, rtol=0)


@pytest.mark.parametrize("conflict", ["none", "random", "strong"])
@pytest.mark.parametrize("shape", [(2, 3, 2), (5, 20, 5), (20, 40, 20)])
def test_against_the_paper(shape: tuple[int, int, int], conflict: str) -> None:
    matrix = sample(shape, 10.0, conflict, seed=7).matrix
    found = IMTLG()(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, by_differences(matrix), atol=1e-8)


def solved(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """The solution of a regular system, without rounding."""
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for i in range(len(rows)):
        k = next(k for k in range(i, len(rows)) if rows[k][i] != 0)
        rows[i], rows[k] = rows[k], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(len(rows)):
            if k != i:
                rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return [line[-1] for line in rows]


def product(left: Array, right: Array) -> list[list[Fraction]]:
    """L Rᵀ of matrices of whole numbers."""
    return [
        [Fraction(sum(int(x) * int(y) for x, y in zip(a, b, strict=True))) for b in right]
        for a in left
    ]


@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3, 3), (9, 11, 5)])
def test_deficient_rank_in_rational_arithmetic(shape: tuple[int, int, int], ratio: float) -> None:
    # J = F R of full ranks, so G⁺ = F (FᵀF)⁻¹ (R Rᵀ)⁻¹ (FᵀF)⁻¹ Fᵀ.
    m, n, rank = shape
    rng = np.random.default_rng(3)
    scales = np.round(np.logspace(0.0, np.log10(ratio), m))[:, None]
    left = scales * rng.integers(-9, 10, size=(m, rank))
    right = rng.integers(-9, 10, size=(rank, n)).astype(np.float64)
    matrix = left @ right
    lengths = np.linalg.norm(matrix, axis=1)
    inside = [
        sum(Fraction(x) * Fraction(d) for x, d in zip(column, lengths.tolist(), strict=True))
        for column in left.T.tolist()
    ]
    square = product(left.T, left.T)
    z = solved(square, solved(product(right, right), solved(square, inside)))
    exact = [sum(Fraction(x) * y for x, y in zip(line, z, strict=True)) for line in left.tolist()]
    expected = np.array([float(w / sum(exact)) for w in exact]) * lengths
    found = IMTLGWeighting()(torch.from_numpy(matrix @ matrix.T)).numpy() * lengths
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_balanced_gradients_give_zero() -> None:
    # 1ᵀG⁺d is 0: of two opposed gradients, and of three at 120 degrees, d is orthogonal to the
    # range of G.
    for angles in ([0.0, 180.0], [10.0, 130.0, 250.0]):
        radians = torch.deg2rad(torch.tensor(angles, dtype=torch.float64))
        matrix = torch.stack([radians.cos(), radians.sin()], dim=1)
        for dtype in (torch.float64, torch.float32):
            assert torch.equal(IMTLG()(matrix.to(dtype)), torch.zeros(2, dtype=dtype))


def test_copies_share_a_weight() -> None:
    matrix = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    weights = IMTLGWeighting()(matrix @ matrix.T)
    # (1/2, 1) for the two directions, over their sum 3/2; the first is shared.
    torch.testing.assert_close(weights, torch.tensor([1 / 6, 1 / 6, 2 / 3]))


def test_a_zero_gradient_is_left_out() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    weights = IMTLGWeighting()(matrix @ matrix.T)
    torch.testing.assert_close(weights, torch.tensor([0.75, 0.0, 0.25]))


def test_every_projection_can_be_negative() -> None:
    # Two gradients at 60 degrees, the third over their bisector: it has the larger projection, so
    # it gets a negative coefficient, which counts most as the third is short.
    matrix = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.75**0.5, 0.0], [0.75**0.5, 0.5, 0.2]])
    matrix = matrix.double() * torch.tensor([[1.0], [1.0], [0.01]]).double()
    direction = IMTLG()(matrix)
    projections = matrix @ direction / matrix.norm(dim=1) / direction.norm()
    torch.testing.assert_close(projections, projections[:1].expand(3))
    assert float(projections[0]) < -0.1


def test_printed_forms() -> None:
    assert (repr(IMTLG()), str(IMTLG())) == ("IMTLG()", "IMTLG")
    assert repr(IMTLGWeighting()) == "IMTLGWeighting()"
