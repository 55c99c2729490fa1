"""The mathematics that `METHODS` claims: every yes over sampled matrices, every no by example."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.aggregation import METHODS, MGDA, DualProj, MethodRecord, UPGrad
from tests.support.matrices import SampledMatrix, sample, sampled_matrices

RECORDS = list(METHODS.values())
MATRICES = sampled_matrices()
# Share of |A| by which a direction may oppose a gradient. float64: half its digits, since the
# Gramian squares the Jacobian. float32: the rounding of the direction itself, with a margin.
ALLOWED = {torch.float64: 1e-6, torch.float32: 1e-4}


def aggregate(record: MethodRecord, matrix: Tensor, **options: Any) -> Tensor:
    """A(J); random methods from one seed, so that two calls see the same orders."""
    if record.random:
        options["generator"] = torch.Generator().manual_seed(0)
    return record.make(**options)(matrix)


def worst_conflict(matrix: Tensor, direction: Tensor) -> float:
    """min over i of gᵢ·A / (|gᵢ| max(|A|, 1e-6 max |gⱼ|)), in float64."""
    matrix, direction = matrix.double(), direction.double()
    norms = matrix.norm(dim=1)
    scale = max(float(direction.norm()), 1e-6 * float(norms.max()))
    return float((matrix @ direction / norms).min()) / scale


def that(**claims: bool) -> list[MethodRecord]:
    """The records with these properties."""
    return [r for r in RECORDS if all(getattr(r, k) is v for k, v in claims.items())]


def named(value: object) -> str | None:
    return getattr(value, "name", None)


@pytest.mark.parametrize("dtype", ALLOWED, ids=str)
@pytest.mark.parametrize("sampled", [s for s in MATRICES if s.conflict != "stationary"], ids=named)
@pytest.mark.parametrize("record", that(non_conflicting=True), ids=named)
def test_non_conflicting(record: MethodRecord, sampled: SampledMatrix, dtype: torch.dtype) -> None:
    matrix = torch.from_numpy(sampled.matrix).to(dtype)
    assert worst_conflict(matrix, aggregate(record, matrix)) >= -ALLOWED[dtype]


@pytest.mark.parametrize("method", [UPGrad, DualProj])
@pytest.mark.parametrize("solver", ["quadprog", "batched"])
@pytest.mark.parametrize("shape", [(64, 400, 64), (64, 65, 64), (64, 20, 20)])
@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e6])
def test_non_conflicting_with_many_objectives(
    method: type[UPGrad], solver: str, shape: tuple[int, int, int], ratio: float
) -> None:
    matrix = torch.from_numpy(sample(shape, ratio, "random", seed=3).matrix)
    assert worst_conflict(matrix, method(solver=solver)(matrix)) >= -ALLOWED[torch.float64]


@pytest.mark.parametrize("max_iters", [1, 100])
@pytest.mark.parametrize("conflict", ["random", "strong"])
@pytest.mark.parametrize("m", [16, 128, 256])
def test_mgda_keeps_its_promise_with_many_objectives(m: int, conflict: str, max_iters: int) -> None:
    # More gradients are needed than 100 iterations could add.
    matrix = torch.from_numpy(sample((m, 2 * m, m), 1.0, conflict, seed=3).matrix)
    assert worst_conflict(matrix, MGDA(max_iters=max_iters)(matrix)) >= -ALLOWED[torch.float64]


@pytest.mark.parametrize("ratio", [1, 3, 10, 30, 100, 300, 1e3, 1e6])
@pytest.mark.parametrize("dtype", ALLOWED, ids=str)
@pytest.mark.parametrize("record", that(non_conflicting=True), ids=named)
def test_two_gradients_at_150_degrees(
    record: MethodRecord, dtype: torch.dtype, ratio: float
) -> None:
    angle = np.deg2rad(150.0)
    matrix = torch.tensor([[1.0, 0.0], [ratio * np.cos(angle), ratio * np.sin(angle)]], dtype=dtype)
    assert worst_conflict(matrix, aggregate(record, matrix)) >= -ALLOWED[dtype]


@pytest.mark.parametrize(
    "sampled",
    [s for s in MATRICES if s.conflict == "stationary" and len(s.matrix) > 1],
    ids=named,
)
@pytest.mark.parametrize("record", that(non_conflicting=True), ids=named)
def test_direction_vanishes_where_all_gradients_balance(
    record: MethodRecord, sampled: SampledMatrix
) -> None:
    # A stationary matrix has a convex combination that is 0 with every weight positive, so the
    # dual cone lies in the orthogonal complement of all rows.
    matrix = torch.from_numpy(sampled.matrix)
    assert float(aggregate(record, matrix).norm()) <= 1e-6 * float(matrix.norm(dim=1).max())


@pytest.mark.parametrize("record", that(non_conflicting=False), ids=named)
def test_may_conflict(record: MethodRecord) -> None:
    # Six gradients spread around the origin in three dimensions.
    matrix = torch.from_numpy(sample((6, 3, 3), 1.0, "strong", seed=1).matrix)
    assert worst_conflict(matrix, aggregate(record, matrix)) < -0.05


def scaling_defect(record: MethodRecord, matrix: Tensor) -> float:
    """How far c -> A(diag(c) J) is from additive, over the size of the results."""
    rng = np.random.default_rng(0)
    one, other = torch.from_numpy(rng.uniform(0.1, 2.0, size=(2, len(matrix), 1)))
    parts = aggregate(record, one * matrix) + aggregate(record, other * matrix)
    whole = aggregate(record, (one + other) * matrix)
    return float((whole - parts).norm()) / float(matrix.norm(dim=1).max())


@pytest.mark.parametrize("sampled", MATRICES, ids=named)
@pytest.mark.parametrize("record", that(linear_under_scaling=True), ids=named)
def test_linear_under_scaling(record: MethodRecord, sampled: SampledMatrix) -> None:
    # As for conflicts: a direction that may vanish has half the digits.
    assert scaling_defect(record, torch.from_numpy(sampled.matrix)) <= 1e-6


@pytest.mark.parametrize("record", that(linear_under_scaling=False), ids=named)
def test_not_linear_under_scaling(record: MethodRecord) -> None:
    # Four gradients in five dimensions, so that a direction that helps all exists.
    matrix = torch.from_numpy(sample((4, 5, 4), 1.0, "random", seed=2).matrix)
    assert scaling_defect(record, matrix) > 1e-2


@pytest.mark.parametrize("sampled", MATRICES, ids=named)
@pytest.mark.parametrize("record", that(weighted=True), ids=named)
def test_weighted(record: MethodRecord, sampled: SampledMatrix) -> None:
    matrix = torch.from_numpy(sampled.matrix)
    options = {"generator": torch.Generator().manual_seed(0)} if record.random else {}
    weights = record.make_weighting(**options)(matrix @ matrix.T)
    scale = float((weights.abs() * matrix.norm(dim=1)).sum()) + 1e-300
    difference = weights @ matrix - aggregate(record, matrix)
    assert float(difference.norm()) <= 1e-6 * scale


@pytest.mark.parametrize("sampled", MATRICES, ids=named)
@pytest.mark.parametrize("record", that(random=False), ids=named)
def test_the_order_of_the_objectives_does_not_matter(
    record: MethodRecord, sampled: SampledMatrix
) -> None:
    matrix = torch.from_numpy(sampled.matrix)
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(1))
    exact = {"epsilon": 1e-8} if record.name == "MGDA" else {}
    difference = aggregate(record, matrix[order], **exact) - aggregate(record, matrix, **exact)
    assert float(difference.norm()) <= 1e-6 * float(matrix.norm(dim=1).max())


@pytest.mark.parametrize("record", that(random=False), ids=named)
def test_a_second_call_gives_the_same_bits(record: MethodRecord) -> None:
    matrix = torch.from_numpy(sample((9, 11, 5), 1e3, "random", seed=5).matrix)
    aggregator = record.make()
    assert torch.equal(aggregator(matrix), aggregator(matrix))


@pytest.mark.parametrize("record", that(random=True), ids=named)
def test_a_random_method_follows_its_generator(record: MethodRecord) -> None:
    matrix = torch.from_numpy(sample((6, 3, 3), 1.0, "strong", seed=1).matrix)
    generator = torch.Generator().manual_seed(0)
    aggregator = record.make(generator=generator)
    first, second = aggregator(matrix), aggregator(matrix)
    assert not torch.equal(first, second)
    generator.manual_seed(0)
    assert torch.equal(aggregator(matrix), first)
    torch.manual_seed(0)
    assert torch.equal(record.make()(matrix), first)


@pytest.mark.parametrize("sampled", [s for s in MATRICES if s.conflict == "none"], ids=named)
@pytest.mark.parametrize("method", [UPGrad, DualProj])
def test_equals_the_mean_without_conflict(method: type[UPGrad], sampled: SampledMatrix) -> None:
    matrix = torch.from_numpy(sampled.matrix)
    torch.testing.assert_close(method()(matrix), matrix.mean(dim=0), rtol=1e-12, atol=1e-12)
