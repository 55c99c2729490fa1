import numpy as np
import pytest
import torch

from engines.errors import NonFiniteGradientError
from engines.linalg import (
    check_finite_gramian,
    compute_gramian,
    flatten_gramian,
    nearest_psd,
    unit_diagonal,
)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gramian_is_float64_whatever_comes_in(dtype: torch.dtype) -> None:
    matrix = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = matrix.double().numpy() @ matrix.double().numpy().T
    gramian = compute_gramian(matrix)
    assert gramian.dtype == torch.float64
    np.testing.assert_allclose(gramian.numpy(), expected, rtol=1e-14, atol=1e-14)


def test_gramian_of_many_columns_is_added_up_in_chunks() -> None:
    # 3 rows leave 699050 columns to a chunk, so this takes two.
    matrix = torch.ones(3, 700_000)
    assert torch.equal(compute_gramian(matrix), torch.full((3, 3), 7e5, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_gramian_of_an_empty_matrix(shape: tuple[int, int]) -> None:
    assert torch.equal(
        compute_gramian(torch.zeros(shape)), torch.zeros(shape[0], shape[0], dtype=torch.float64)
    )


def test_large_float32_does_not_overflow() -> None:
    gramian = compute_gramian(torch.full((1, 2), 1e20))
    assert gramian.item() == pytest.approx(2e40, rel=1e-6)


@pytest.mark.parametrize("size", [1e200, 1e-200, 5e-324])
def test_extreme_float64_keeps_its_cosines(size: float) -> None:
    matrix = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64) * size
    cosines, norms = unit_diagonal(compute_gramian(matrix).numpy())
    assert (norms > 0).all()
    assert cosines[0, 1] == pytest.approx(0.5**0.5, rel=1e-12)


def test_gramian_is_differentiable() -> None:
    matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    compute_gramian(matrix).diagonal().sum().backward()
    # The trace is the sum of squares, so its gradient is twice the matrix.
    assert matrix.grad is not None
    assert torch.equal(matrix.grad, 2 * matrix.detach())


def test_flattening_follows_the_order_of_the_losses() -> None:
    jacobian = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    generalized = torch.einsum("abn,cdn->abdc", jacobian, jacobian)
    flat = jacobian.reshape(6, 4)
    torch.testing.assert_close(flatten_gramian(generalized), flat @ flat.T)


def test_flattening_a_scalar_gives_one_by_one() -> None:
    assert flatten_gramian(torch.tensor(3.0)).shape == (1, 1)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 2, 3)])
def test_flattening_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[m1"):
        flatten_gramian(torch.zeros(shape))


def test_non_finite_rows_are_named() -> None:
    matrix = np.ones((4, 2))
    matrix[[1, 3], 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        gramian = matrix @ matrix.T
    with pytest.raises(NonFiniteGradientError, match=r"rows 1, 3\)"):
        check_finite_gramian(gramian)


def test_unit_diagonal_leaves_zero_rows_alone() -> None:
    # Rows (3, 4), 0 and (0, 2): norms 5, 0, 2 and cosine 8 / 10.
    cosines, norms = unit_diagonal(np.array([[25.0, 0.0, 8.0], [0.0, 0.0, 0.0], [8.0, 0.0, 4.0]]))
    np.testing.assert_array_equal(norms, [5.0, 0.0, 2.0])
    np.testing.assert_allclose(cosines, [[1, 0, 0.8], [0, 0, 0], [0.8, 0, 1]], rtol=1e-15)


def test_a_negative_diagonal_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1"):
        unit_diagonal(np.diag([1.0, -1.0]))


def test_slightly_indefinite_is_clipped() -> None:
    # Eigenvalues 2.001 and -0.001; what is left is 2.001 on (1, 1)/sqrt(2), so 1.0005 throughout.
    clipped = nearest_psd(np.array([[1.0, 1.001], [1.001, 1.0]]))
    np.testing.assert_allclose(clipped, np.full((2, 2), 1.0005), rtol=1e-12)


def test_semidefinite_is_returned_as_it_is() -> None:
    ones = np.ones((5, 5))
    assert nearest_psd(ones) is ones


def test_grossly_indefinite_is_refused() -> None:
    with pytest.raises(ValueError, match="positive semidefinite"):
        nearest_psd(np.array([[1.0, 5.0], [5.0, 1.0]]))


def test_gradients_whose_squares_underflowed_are_taken_for_zero() -> None:
    # In float32 the square of 2e-23 is 0 and that of 3e-23 the smallest number there is, 1.4e-45.
    long = np.full(1000, 1.0, dtype=np.float32)
    short = np.full(1000, 3e-23, dtype=np.float32)
    short[1:] = 2e-23
    matrix = np.stack([long, short, -2 * long])
    gramian = (matrix @ matrix.T).astype(np.float64)
    assert 0.0 < gramian[1, 1] < 1e-44 < 1e-21 < gramian[0, 1]
    cosines, norms = unit_diagonal(gramian)
    np.testing.assert_allclose(norms, np.sqrt(1000) * np.array([1.0, 0.0, 2.0]), rtol=1e-7)
    np.testing.assert_allclose(cosines, [[1, 0, -1], [0, 0, 0], [-1, 0, 1]], atol=1e-7)
    assert np.isfinite(nearest_psd(cosines)).all()


def test_short_gradients_with_all_their_digits_stay() -> None:
    matrix = np.array([[1.0, 0.0], [1e-60, -1e-60]])
    cosines, norms = unit_diagonal(matrix @ matrix.T)
    np.testing.assert_allclose(norms, [1.0, np.sqrt(2) * 1e-60])
    np.testing.assert_allclose(cosines, [[1, np.sqrt(0.5)], [np.sqrt(0.5), 1]])
