"""TrimmedMean: column by column, without the extremes."""

import numpy as np
import pytest
import torch
from scipy.stats import trim_mean

from engines.aggregation import METHODS, Mean, TrimmedMean
from engines.errors import NonFiniteGradientError


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_four_gradients() -> None:
    # First column without 1 and 99: (2 + 4)/2. Second without -99 and 9: (8 + 7)/2.
    matrix = torch.tensor([[1.0, 9.0], [2.0, 8.0], [99.0, 7.0], [4.0, -99.0]])
    assert torch.equal(TrimmedMean(1)(matrix), torch.tensor([3.0, 7.5]))


@pytest.mark.parametrize("trim_number", [0, 1, 2, 4])
def test_against_scipy(trim_number: int) -> None:
    matrix = seeded(10, 7)
    found = TrimmedMean(trim_number)(matrix).numpy()
    expected = trim_mean(matrix.numpy(), trim_number / 10, axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_the_ends_of_the_parameter() -> None:
    matrix = seeded(7, 5)
    torch.testing.assert_close(TrimmedMean(0)(matrix), Mean()(matrix))
    torch.testing.assert_close(TrimmedMean(3)(matrix), matrix.median(dim=0).values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_largest_numbers_do_not_overflow(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max / 2
    # Of the second column -1 and one 1 are left out.
    shares = [[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.5]]
    matrix = (torch.tensor(shares, dtype=torch.float64) * largest).to(dtype)
    expected = torch.tensor([1.0, 2.5 / 3], dtype=torch.float64) * largest
    torch.testing.assert_close(TrimmedMean(1)(matrix), expected.to(dtype))


def test_many_columns_go_in_chunks() -> None:
    matrix = seeded(5, 120_000).float()
    expected = matrix.double().sort(dim=0).values[1:4].mean(dim=0).float()
    torch.testing.assert_close(TrimmedMean(1)(matrix), expected)


def test_the_direction_is_differentiable() -> None:
    # Kept are 2 of the first column and 3 of the second.
    matrix = torch.tensor([[1.0, 9.0], [2.0, -8.0], [5.0, 3.0]], requires_grad=True)
    TrimmedMean(1)(matrix).sum().backward()
    assert matrix.grad is not None
    assert torch.equal(matrix.grad, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))


def test_no_weights_belong_to_it() -> None:
    # All rows have x + y = z, but the medians are (1, 1, 1).
    matrix = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [2.0, 2.0, 4.0]])
    direction = TrimmedMean(1)(matrix)
    assert torch.equal(direction, torch.tensor([1.0, 1.0, 1.0]))
    assert int(torch.linalg.matrix_rank(matrix)) == 2
    assert int(torch.linalg.matrix_rank(torch.cat([matrix, direction[None]]))) == 3
    with pytest.raises(ValueError, match="use its aggregator"):
        METHODS["TrimmedMean"].weighting(3)


def test_it_is_not_linear_under_scaling() -> None:
    # Medians of 0, 1, 3: 1; of 0, 4, 3: 3; with the second row (1 + 4)/2 times as long, 2.5.
    matrix = torch.tensor([[0.0], [1.0], [3.0]])
    medians = [
        float(TrimmedMean(1)(torch.tensor([[1.0], [c], [1.0]]) * matrix)) for c in (1, 4, 2.5)
    ]
    assert medians == [1.0, 3.0, 2.5]
    assert medians[2] != (medians[0] + medians[1]) / 2


def test_too_few_objectives_are_refused() -> None:
    for m in (0, 4):
        with pytest.raises(ValueError, match=rf"got {m} objective\(s\) for TrimmedMean, .*least 5"):
            TrimmedMean(2)(torch.zeros(m, 3))
    with pytest.raises(ValueError, match="at least 1"):
        TrimmedMean(0)(torch.zeros(0, 3))
    assert TrimmedMean(1)(torch.zeros(3, 0)).shape == (0,)


def test_non_finite_rows_are_named() -> None:
    # Trimming would hide them.
    matrix = seeded(5, 3)
    matrix[3, 1] = float("inf")
    with pytest.raises(NonFiniteGradientError, match="rows 3"):
        TrimmedMean(1)(matrix)


def test_the_parameter_is_checked_and_settable() -> None:
    aggregator = TrimmedMean(1)
    for bad, error in ((-1, ValueError), (0.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"trim_number=.*expected"):
            TrimmedMean(bad)
        with pytest.raises(error, match=r"trim_number=.*expected"):
            aggregator.trim_number = bad
    aggregator.trim_number = 2
    assert (repr(aggregator), str(aggregator)) == ("TrimmedMean(trim_number=2)", "TM2")


def test_example_arguments() -> None:
    arguments = METHODS["TrimmedMean"].arguments
    assert [arguments(m)["trim_number"] for m in (1, 2, 3, 9)] == [0, 0, 1, 1]
