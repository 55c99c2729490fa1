"""Shapes, dtypes, sizes, hooks, and what is refused: the same for every method."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from engines.aggregation import (
    METHODS,
    Flattening,
    Mean,
    MethodRecord,
    UPGrad,
    UPGradWeighting,
    WeightedAggregator,
)
from engines.errors import NonDifferentiableError, NonFiniteGradientError
from tests.support.matrices import sample

EVERY = pytest.mark.parametrize("record", METHODS.values(), ids=lambda r: r.name)
SOLVED = pytest.mark.parametrize(
    "record", [r for r in METHODS.values() if r.name not in ("Mean", "Sum")], ids=lambda r: r.name
)


def mildly_conflicting(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed=0).matrix).to(dtype)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_dtype_comes_back(record: MethodRecord, dtype: torch.dtype) -> None:
    matrix = mildly_conflicting(dtype)
    torch.manual_seed(0)
    direction = record.make()(matrix)
    torch.manual_seed(0)
    wide = record.make()(matrix.double())
    assert direction.dtype == dtype
    assert direction.shape == (20,)
    # Inside is float64, so only the result is rounded, and for Mean the weight 1/m.
    torch.testing.assert_close(direction, wide.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=0)
    assert record.make_weighting()((matrix.double() @ matrix.double().T).to(dtype)).dtype == dtype


@EVERY
@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_sizes_whose_squares_leave_float32(record: MethodRecord, size: float) -> None:
    matrix = mildly_conflicting(torch.float32)
    torch.manual_seed(0)
    expected = record.make()(matrix)
    torch.manual_seed(0)
    found = record.make()(matrix * size)
    torch.testing.assert_close(found / size, expected, rtol=1e-5, atol=1e-6)


@EVERY
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sizes_whose_squares_leave_float64(record: MethodRecord, size: float) -> None:
    matrix = mildly_conflicting()
    torch.manual_seed(0)
    expected = record.make()(matrix)
    torch.manual_seed(0)
    torch.testing.assert_close(record.make()(matrix * size) / size, expected, rtol=1e-9, atol=1e-9)


@EVERY
@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0), (1, 4), (3, 4)])
def test_zeros_and_empty_matrices_give_zero(record: MethodRecord, shape: tuple[int, int]) -> None:
    assert torch.equal(record.make()(torch.zeros(shape)), torch.zeros(shape[1]))
    assert record.make_weighting()(torch.zeros(shape[0], shape[0])).shape == (shape[0],)


@EVERY
def test_one_gradient_is_kept(record: MethodRecord) -> None:
    matrix = torch.tensor([[3.0, -4.0]])
    torch.testing.assert_close(record.make()(matrix), matrix[0])


@EVERY
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_non_finite_rows_are_named(record: MethodRecord, bad: float, dtype: torch.dtype) -> None:
    matrix = mildly_conflicting(dtype)
    matrix[1, 3] = matrix[4, 0] = bad
    with pytest.raises(NonFiniteGradientError, match=r"rows 1, 4\)"):
        record.make()(matrix)
    with pytest.raises(NonFiniteGradientError, match="rows"):
        record.make_weighting()(matrix @ matrix.T)


@EVERY
def test_other_inputs_are_refused(record: MethodRecord) -> None:
    for shape in ((3,), (2, 2, 2), ()):
        with pytest.raises(ValueError, match="expected two dimensions"):
            record.make()(torch.zeros(shape))
        with pytest.raises(ValueError, match="expected two dimensions"):
            record.make_weighting()(torch.zeros(shape))
    for matrix in (torch.ones(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.complex64)):
        with pytest.raises(TypeError, match="floating-point"):
            record.make()(matrix)
    with pytest.raises(TypeError, match="got list"):
        record.make()([[1.0, 2.0]])


@SOLVED
def test_a_gramian_must_be_square(record: MethodRecord) -> None:
    with pytest.raises(ValueError, match=r"got a Gramian of shape \[2, 3\]"):
        record.make_weighting()(torch.zeros(2, 3))


@SOLVED
def test_differentiating_through_the_solver_raises(record: MethodRecord) -> None:
    matrix = mildly_conflicting().requires_grad_()
    with pytest.raises(NonDifferentiableError, match=f"{record.name}Weighting"):
        record.make()(matrix).sum().backward()
    with pytest.raises(NonDifferentiableError, match="detach"):
        record.make_weighting()(matrix @ matrix.T).sum().backward()


@SOLVED
def test_without_grad_mode_nothing_is_tied(record: MethodRecord) -> None:
    matrix = mildly_conflicting().requires_grad_()
    with torch.no_grad():
        assert not record.make()(matrix).requires_grad


def test_mean_is_differentiable() -> None:
    matrix = torch.ones(4, 3, requires_grad=True)
    Mean()(matrix).sum().backward()
    assert matrix.grad is not None
    assert torch.equal(matrix.grad, torch.full((4, 3), 0.25))


@EVERY
def test_hooks_see_the_call(record: MethodRecord) -> None:
    aggregator = record.make()
    seen: list[Tensor] = []
    aggregator.weighting.register_forward_hook(lambda _m, _i, out: seen.append(out))
    aggregator.register_forward_hook(lambda _m, inputs, out: seen.extend((inputs[0], out)))
    matrix = mildly_conflicting()
    direction = aggregator(matrix)
    weights, given, returned = seen
    assert given is matrix
    assert returned is direction
    torch.testing.assert_close(weights @ matrix, direction)


@SOLVED
def test_hooks_see_the_gramian(record: MethodRecord) -> None:
    aggregator = record.make()
    seen: list[Tensor] = []
    aggregator.gramian_weighting.register_forward_hook(lambda _m, i, out: seen.extend((i[0], out)))
    matrix = mildly_conflicting()
    aggregator(matrix)
    torch.testing.assert_close(seen[0], matrix @ matrix.T)
    assert seen[1].shape == (5,)


def test_a_hook_can_replace_the_weights() -> None:
    aggregator = UPGrad()
    aggregator.gramian_weighting.register_forward_hook(lambda _m, _i, out: torch.ones_like(out))
    matrix = mildly_conflicting()
    torch.testing.assert_close(aggregator(matrix), matrix.sum(dim=0))


@EVERY
def test_copies_and_pickles_work_alike(record: MethodRecord) -> None:
    aggregator = record.make()
    for twin in (copy.deepcopy(aggregator), pickle.loads(pickle.dumps(aggregator))):
        torch.manual_seed(0)
        expected = aggregator(mildly_conflicting())
        torch.manual_seed(0)
        assert torch.equal(twin(mildly_conflicting()), expected)


def test_many_columns_are_combined_in_chunks() -> None:
    matrix = torch.ones(3, 700_000)
    matrix[0] = -1.0
    torch.testing.assert_close(Mean()(matrix), torch.full((700_000,), 1 / 3))


def test_combine_takes_weights_of_another_dtype() -> None:
    combined = WeightedAggregator.combine(torch.eye(2), torch.tensor([1.0, 2.0]).double())
    assert torch.equal(combined, torch.tensor([1.0, 2.0]))


def test_composition_applies_the_function_first() -> None:
    weighting = UPGradWeighting() << (lambda matrix: matrix @ matrix.T)
    torch.testing.assert_close(weighting(torch.eye(3, 7)), torch.full((3,), 1 / 3))


def test_flattening_weighs_a_generalized_gramian() -> None:
    jacobian = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    generalized = torch.einsum("abn,cdn->abdc", jacobian, jacobian)
    flat = jacobian.reshape(6, 4)
    weights = Flattening(UPGradWeighting())(generalized)
    torch.testing.assert_close(weights, UPGradWeighting()(flat @ flat.T).reshape(2, 3))
    assert Flattening(UPGradWeighting())(torch.tensor(2.0)).shape == ()
    with pytest.raises(ValueError, match="m1"):
        Flattening(UPGradWeighting())(torch.zeros(2, 3))
