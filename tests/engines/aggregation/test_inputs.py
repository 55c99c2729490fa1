"""Shapes, dtypes, sizes, hooks, and what is refused: the same for every method."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from engines.aggregation import (
    Flattening,
    Mean,
    MethodRecord,
    UPGrad,
    UPGradWeighting,
    WeightedAggregator,
)
from engines.errors import NonDifferentiableError, NonFiniteGradientError
from tests.support.matrices import few_entries, sample
from tests.support.methods import (
    DIFFERENTIABLE,
    NEEDS_A_ROW,
    NOT_HOMOGENEOUS,
    RECORDS,
    aggregate,
    aggregator,
    named,
    statistic,
    weighting,
)

EVERY = pytest.mark.parametrize("record", RECORDS, ids=named)
WEIGHED = pytest.mark.parametrize(
    "record", [r for r in RECORDS if r.make_weighting is not None], ids=named
)
SOLVED = pytest.mark.parametrize(
    "record", [r for r in RECORDS if r.name not in DIFFERENTIABLE], ids=named
)
OF_A_GRAMIAN = pytest.mark.parametrize(
    "record",
    [r for r in RECORDS if r.name not in DIFFERENTIABLE - {"Krum"} and r.statistic == "gramian"],
    ids=named,
)
OF_A_SQUARE = pytest.mark.parametrize(
    "record",
    [r for r in RECORDS if r.name not in DIFFERENTIABLE - {"Krum"} and r.statistic != "jacobian"],
    ids=named,
)


def mildly_conflicting(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed=0).matrix).to(dtype)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_dtype_comes_back(record: MethodRecord, dtype: torch.dtype) -> None:
    matrix = mildly_conflicting(dtype)
    direction = aggregate(record, matrix)
    assert direction.dtype == dtype
    assert direction.shape == (20,)
    # Inside is float64, so only the result is rounded, and weights that follow the dtype of J.
    wide = aggregate(record, matrix.double()).to(dtype)
    atol = torch.finfo(dtype).eps * float(matrix.double().norm(dim=1).max())
    torch.testing.assert_close(direction, wide, rtol=2 * torch.finfo(dtype).eps, atol=atol)


@WEIGHED
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_dtype_of_weights_comes_back(record: MethodRecord, dtype: torch.dtype) -> None:
    given = statistic(record, mildly_conflicting()).to(dtype)
    weights = weighting(record, 5)(given)
    assert weights.dtype == dtype
    assert weights.shape == (5,)
    assert torch.isfinite(weights).all()


def check_size(record: MethodRecord, matrix: Tensor, size: float, tolerance: float) -> None:
    """A(size J) / size = A(J), or just finite where that is not so."""
    found = aggregate(record, matrix * size)
    assert torch.isfinite(found).all()
    if record.name not in NOT_HOMOGENEOUS:
        expected = aggregate(record, matrix)
        torch.testing.assert_close(found / size, expected, rtol=tolerance, atol=tolerance)


@EVERY
@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_sizes_whose_squares_leave_float32(record: MethodRecord, size: float) -> None:
    check_size(record, mildly_conflicting(torch.float32), size, 1e-5)


@EVERY
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sizes_whose_squares_leave_float64(record: MethodRecord, size: float) -> None:
    check_size(record, mildly_conflicting(), size, 1e-9)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_largest_and_smallest_numbers_of_a_dtype(
    record: MethodRecord, dtype: torch.dtype
) -> None:
    matrix = mildly_conflicting().sign()
    for size in (torch.finfo(dtype).max / 8, torch.finfo(dtype).tiny):
        direction = aggregate(record, (matrix * size).to(dtype))
        # A sum of five rows of a dtype's largest numbers would leave it.
        assert torch.isfinite(direction).all()


@EVERY
@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0), (1, 4), (3, 4), (5, 4)])
def test_zeros_and_empty_matrices_give_zero(record: MethodRecord, shape: tuple[int, int]) -> None:
    m, n = shape
    if m < record.least_objectives and (m > 0 or record.name in NEEDS_A_ROW):
        with pytest.raises(ValueError, match=r"expected .*(at least|one per|n_tasks)"):
            aggregate(record, torch.zeros(shape))
        return
    assert torch.equal(aggregate(record, torch.zeros(shape)), torch.zeros(n))
    if record.make_weighting is not None:
        weights = weighting(record, m)(statistic(record, torch.zeros(shape)))
        assert weights.shape == (m,)
        assert torch.isfinite(weights).all()


@pytest.mark.parametrize("record", [r for r in RECORDS if r.least_objectives == 1], ids=named)
def test_one_gradient_is_kept_up_to_its_scale(record: MethodRecord) -> None:
    gradient = torch.tensor([3.0, -4.0])
    direction = aggregate(record, gradient[None])
    assert float(direction.norm()) > 0
    torch.testing.assert_close(direction / direction.norm(), gradient / 5.0)


@EVERY
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_non_finite_rows_are_named(record: MethodRecord, bad: float, dtype: torch.dtype) -> None:
    matrix = mildly_conflicting(dtype)
    matrix[1, 3] = matrix[4, 0] = bad
    with pytest.raises(NonFiniteGradientError, match=r"rows 1, 4\)"):
        aggregate(record, matrix)
    if record.make_weighting is not None:
        with pytest.raises(NonFiniteGradientError, match="rows"):
            weighting(record, 5)(statistic(record, matrix))


@EVERY
def test_other_inputs_are_refused(record: MethodRecord) -> None:
    aggregates = aggregator(record, 3)
    for shape in ((3,), (2, 2, 2), ()):
        with pytest.raises(ValueError, match="expected two dimensions"):
            aggregates(torch.zeros(shape))
        if record.make_weighting is not None:
            with pytest.raises(ValueError, match="expected two dimensions"):
                weighting(record, 3)(torch.zeros(shape))
    for matrix in (torch.ones(3, 3, dtype=torch.int64), torch.ones(3, 3, dtype=torch.complex64)):
        with pytest.raises(TypeError, match="floating-point"):
            aggregates(matrix)
    with pytest.raises(TypeError, match="got list"):
        aggregates([[1.0, 2.0]])


@OF_A_SQUARE
def test_a_gramian_must_be_square(record: MethodRecord) -> None:
    with pytest.raises(ValueError, match=r"of shape \[5, 3\]"):
        weighting(record, 5)(torch.zeros(5, 3))


@OF_A_GRAMIAN
def test_what_is_no_gramian_never_passes_as_one(record: MethodRecord) -> None:
    # Rounding makes a Gramian slightly indefinite; the nearest one serves.
    slightly = torch.tensor([[1.0, 1.001], [1.001, 1.0]])
    full = torch.block_diag(slightly, slightly)
    assert torch.isfinite(weighting(record, 4)(full)).all()


@OF_A_GRAMIAN
def test_gramians_rounded_to_bfloat16(record: MethodRecord) -> None:
    for m in (4, 16, 32):
        matrix = torch.randn(m, m // 2, generator=torch.Generator().manual_seed(m))
        rounded = (matrix @ matrix.T).bfloat16()
        assert torch.isfinite(weighting(record, m)(rounded)).all()


@EVERY
def test_inference_mode_leaves_nothing_behind(record: MethodRecord) -> None:
    matrix = mildly_conflicting()
    aggregates = aggregator(record, 5)
    with torch.inference_mode():
        aggregates(matrix)
    assert torch.isfinite(aggregates(matrix)).all()


@EVERY
def test_another_default_device_is_no_trouble(record: MethodRecord) -> None:
    matrix = mildly_conflicting()
    expected = aggregate(record, matrix)
    aggregates = aggregator(record, 5)
    with torch.device("meta"):
        found = aggregates(matrix)
    assert torch.equal(found, expected)


@EVERY
def test_a_row_whose_square_is_no_float64(record: MethodRecord) -> None:
    matrix = mildly_conflicting()
    matrix[1] *= 1e-155
    assert torch.isfinite(aggregate(record, matrix)).all()


@WEIGHED
@pytest.mark.parametrize("m", [24, 32, 64])
def test_gradients_with_few_entries(record: MethodRecord, m: int) -> None:
    # Many are equal, opposed or dependent, and least squares meets ties at every step.
    matrix = torch.from_numpy(few_entries(m, m - 4, seed=0))
    assert torch.isfinite(aggregate(record, matrix)).all()


@EVERY
@pytest.mark.parametrize("gap", [0.0, 1e-15, 1e-8, 1e-4])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_equal_and_opposed_rows(record: MethodRecord, sign: float, gap: float) -> None:
    matrix = mildly_conflicting()
    matrix[1] = sign * matrix[0] + gap * matrix[1]
    direction = aggregate(record, matrix)
    assert torch.isfinite(direction).all()
    # Whatever cancels, no method here is longer than the sum of the gradients it combines.
    if record.name not in NOT_HOMOGENEOUS | {"IMTLG"}:
        assert float(direction.norm()) <= 2 * float(matrix.norm(dim=1).sum())


@pytest.mark.parametrize(
    "record", [r for r in RECORDS if r.name not in ("Constant", "PCD", "Krum")], ids=named
)
def test_a_zero_gradient_blocks_nothing(record: MethodRecord) -> None:
    # Four gradients that agree and one that is zero. MGDA's answer is 0 by its definition: the
    # hull contains the origin.
    matrix = torch.eye(5, dtype=torch.float64) + 0.5
    matrix[2] = 0.0
    direction = aggregate(record, matrix)
    if record.name == "MGDA":
        assert not direction.any()
        return
    others = matrix[[0, 1, 3, 4]]
    assert (others @ direction > 0).all()


@SOLVED
def test_differentiating_through_the_solver_raises(record: MethodRecord) -> None:
    matrix = mildly_conflicting().requires_grad_()
    with pytest.raises(NonDifferentiableError, match="detach"):
        aggregate(record, matrix).sum().backward()
    if record.make_weighting is not None:
        with pytest.raises(NonDifferentiableError, match="detach"):
            weighting(record, 5)(statistic(record, matrix)).sum().backward()


@SOLVED
def test_without_grad_mode_nothing_is_tied(record: MethodRecord) -> None:
    matrix = mildly_conflicting().requires_grad_()
    with torch.no_grad():
        assert not aggregate(record, matrix).requires_grad


@pytest.mark.parametrize("record", [r for r in RECORDS if r.name in DIFFERENTIABLE], ids=named)
def test_the_others_are_differentiable(record: MethodRecord) -> None:
    matrix = mildly_conflicting().requires_grad_()
    aggregate(record, matrix).sum().backward()
    assert matrix.grad is not None
    # Each entry of the direction is a combination of its column, with weights of the same sum.
    total = matrix.grad.sum(dim=0)
    torch.testing.assert_close(total, total[0].expand(20))


def test_mean_is_differentiable() -> None:
    matrix = torch.ones(4, 3, requires_grad=True)
    Mean()(matrix).sum().backward()
    assert matrix.grad is not None
    assert torch.equal(matrix.grad, torch.full((4, 3), 0.25))


@WEIGHED
def test_hooks_see_the_call(record: MethodRecord) -> None:
    aggregates = aggregator(record, 5)
    seen: list[Tensor] = []
    aggregates.weighting.register_forward_hook(lambda _m, _i, out: seen.append(out))
    aggregates.register_forward_hook(lambda _m, inputs, out: seen.extend((inputs[0], out)))
    matrix = mildly_conflicting()
    direction = aggregates(matrix)
    weights, given, returned = seen
    assert given is matrix
    assert returned is direction
    torch.testing.assert_close(weights @ matrix, direction)


@OF_A_SQUARE
def test_hooks_see_the_gramian(record: MethodRecord) -> None:
    aggregates = aggregator(record, 5)
    seen: list[Tensor] = []
    aggregates.gramian_weighting.register_forward_hook(lambda _m, i, out: seen.extend((i[0], out)))
    matrix = mildly_conflicting()
    aggregates(matrix)
    torch.testing.assert_close(seen[0], matrix @ matrix.T)
    assert seen[1].shape == (5,)


def test_a_hook_can_replace_the_weights() -> None:
    aggregator = UPGrad()
    aggregator.gramian_weighting.register_forward_hook(lambda _m, _i, out: torch.ones_like(out))
    matrix = mildly_conflicting()
    torch.testing.assert_close(aggregator(matrix), matrix.sum(dim=0))


@EVERY
def test_copies_and_pickles_work_alike(record: MethodRecord) -> None:
    matrix = mildly_conflicting()
    original = record.aggregator(5)
    original(matrix)
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        torch.manual_seed(0)
        expected = copy.deepcopy(original)(2.0 * matrix)
        torch.manual_seed(0)
        assert torch.equal(twin(2.0 * matrix), expected)


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
