"""The mathematics that `METHODS` claims: every yes over sampled matrices, every no by example."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.aggregation import METHODS, MGDA, PROPERTIES, DualProj, MethodRecord, UPGrad
from tests.support.matrices import SampledMatrix, few_entries, sample, sampled_matrices
from tests.support.methods import (
    RECORDS,
    aggregate,
    aggregator,
    named,
    seeded,
    statistic,
    weighting,
)

MATRICES = sampled_matrices()
# Share of |A| by which a direction may oppose a gradient. float64: half its digits, since the
# Gramian squares the Jacobian. float32: the rounding of the direction itself, with a margin.
ALLOWED = {torch.float64: 1e-6, torch.float32: 1e-4}
# Where the gradients cancel to this share in the direction, the point is Pareto-stationary as far
# as these dtypes can tell, and the direction is only known to be small.
CANCELS = {torch.float64: 1e-6, torch.float32: 1e-4}
# Promised to the last digit that the Gramian has, near stationary points too.
PROJECTED = frozenset({"UPGrad", "DualProj", "MGDA"})


def worst_conflict(matrix: Tensor, direction: Tensor) -> float:
    """min over i of gᵢ·A / (|gᵢ| max(|A|, 1e-6 max |gⱼ|)), in float64."""
    matrix, direction = matrix.double(), direction.double()
    norms = matrix.norm(dim=1)
    scale = max(float(direction.norm()), 1e-6 * float(norms.max()))
    return float((matrix @ direction / norms).min()) / scale


def that(**claims: bool) -> list[MethodRecord]:
    """The records with these properties."""
    return [r for r in RECORDS if all(getattr(r, k) is v for k, v in claims.items())]


def pairs(records: list[MethodRecord], *, of: list[SampledMatrix] | None = None) -> list[object]:
    """Every record with every sampled matrix that has enough rows for it."""
    return [
        pytest.param(record, sampled, id=f"{record.name}-{sampled.name}")
        for record in records
        for sampled in (MATRICES if of is None else of)
        if len(sampled.matrix) >= record.least_objectives
    ]


def cancellation(record: MethodRecord, matrix: Tensor, direction: Tensor) -> float:
    """|A| over the lengths that are added up to it."""
    weights = weighting(record, len(matrix))(statistic(record, matrix.double()))
    return float(direction.double().norm() / (weights.abs() @ matrix.double().norm(dim=1)))


@pytest.mark.parametrize("dtype", ALLOWED, ids=str)
@pytest.mark.parametrize(
    ("record", "sampled"),
    pairs(that(non_conflicting=True), of=[s for s in MATRICES if s.conflict != "stationary"]),
)
def test_non_conflicting(record: MethodRecord, sampled: SampledMatrix, dtype: torch.dtype) -> None:
    matrix = torch.from_numpy(sampled.matrix).to(dtype)
    direction = aggregate(record, matrix)
    if record.name not in PROJECTED and cancellation(record, matrix, direction) <= CANCELS[dtype]:
        return
    assert worst_conflict(matrix, direction) >= -ALLOWED[dtype]


@pytest.mark.parametrize("method", [UPGrad, DualProj])
@pytest.mark.parametrize("solver", ["quadprog", "batched"])
@pytest.mark.parametrize("shape", [(64, 400, 64), (64, 65, 64), (64, 20, 20)])
@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e6])
def test_non_conflicting_with_many_objectives(
    method: type[UPGrad], solver: str, shape: tuple[int, int, int], ratio: float
) -> None:
    matrix = torch.from_numpy(sample(shape, ratio, "random", seed=3).matrix)
    assert worst_conflict(matrix, method(solver=solver)(matrix)) >= -ALLOWED[torch.float64]


@pytest.mark.parametrize("shape", [(8, 6), (16, 12), (24, 20), (64, 60)])
@pytest.mark.parametrize("record", that(non_conflicting=True), ids=named)
def test_non_conflicting_with_few_entries(record: MethodRecord, shape: tuple[int, int]) -> None:
    for seed in range(8):
        matrix = torch.from_numpy(few_entries(*shape, seed))
        assert worst_conflict(matrix, aggregate(record, matrix)) >= -ALLOWED[torch.float64]


@pytest.mark.parametrize("max_iters", [1, 100])
@pytest.mark.parametrize("conflict", ["random", "strong"])
@pytest.mark.parametrize("m", [16, 128, 256])
def test_mgda_keeps_its_promise_with_many_objectives(m: int, conflict: str, max_iters: int) -> None:
    # More gradients are needed than 100 iterations could add.
    matrix = torch.from_numpy(sample((m, 2 * m, m), 1.0, conflict, seed=3).matrix)
    assert worst_conflict(matrix, MGDA(max_iters=max_iters)(matrix)) >= -ALLOWED[torch.float64]


@pytest.mark.parametrize("ratio", [1, 3, 10, 30, 100, 300, 1e3, 1e6])
@pytest.mark.parametrize("dtype", ALLOWED, ids=str)
@pytest.mark.parametrize(
    "record", [r for r in that(non_conflicting=True) if r.least_objectives <= 2], ids=named
)
def test_two_gradients_at_150_degrees(
    record: MethodRecord, dtype: torch.dtype, ratio: float
) -> None:
    angle = np.deg2rad(150.0)
    matrix = torch.tensor([[1.0, 0.0], [ratio * np.cos(angle), ratio * np.sin(angle)]], dtype=dtype)
    assert worst_conflict(matrix, aggregate(record, matrix)) >= -ALLOWED[dtype]


@pytest.mark.parametrize(
    ("record", "sampled"),
    pairs(
        that(non_conflicting=True),
        of=[s for s in MATRICES if s.conflict == "stationary" and len(s.matrix) > 1],
    ),
)
def test_direction_vanishes_where_all_gradients_balance(
    record: MethodRecord, sampled: SampledMatrix
) -> None:
    # A stationary matrix has a convex combination that is 0 with every weight positive, so the
    # dual cone lies in the orthogonal complement of all rows.
    matrix = torch.from_numpy(sampled.matrix)
    assert float(aggregate(record, matrix).norm()) <= 1e-6 * float(matrix.norm(dim=1).max())


def scaling_defect(record: MethodRecord, matrix: Tensor) -> float:
    """How far c -> A(diag(c) J) is from additive, over the size of the results."""
    rng = np.random.default_rng(0)
    one, other = torch.from_numpy(rng.uniform(0.1, 2.0, size=(2, len(matrix), 1)))
    parts = aggregate(record, one * matrix) + aggregate(record, other * matrix)
    whole = aggregate(record, (one + other) * matrix)
    return float((whole - parts).norm()) / float(matrix.norm(dim=1).max())


@pytest.mark.parametrize(("record", "sampled"), pairs(that(linear_under_scaling=True)))
def test_linear_under_scaling(record: MethodRecord, sampled: SampledMatrix) -> None:
    # As for conflicts: a direction that may vanish has half the digits.
    assert scaling_defect(record, torch.from_numpy(sampled.matrix)) <= 1e-6


def weighted_defect(record: MethodRecord, matrix: Tensor) -> float:
    """Distance of A(J) from the combination that the weighting's weights make."""
    weights = weighting(record, len(matrix))(statistic(record, matrix))
    scale = float((weights.abs() * matrix.norm(dim=1)).sum()) + 1e-300
    return float((weights @ matrix - aggregate(record, matrix)).norm()) / scale


@pytest.mark.parametrize(("record", "sampled"), pairs(that(weighted=True)))
def test_weighted(record: MethodRecord, sampled: SampledMatrix) -> None:
    # The aggregator's Gramian and this one are rounded alike but not equal.
    assert weighted_defect(record, torch.from_numpy(sampled.matrix)) <= 1e-6


@pytest.mark.parametrize("record", that(weighted=False), ids=named)
def test_not_weighted(record: MethodRecord) -> None:
    # Three gradients in a plane of five dimensions: a direction outside the plane is no
    # combination of them.
    matrix = torch.from_numpy(sample((3, 5, 2), 1.0, "random", seed=2).matrix)
    direction = aggregate(record, matrix)
    outside = direction - matrix.T @ torch.linalg.pinv(matrix.T, rtol=1e-9) @ direction
    assert float(outside.norm()) > 1e-2 * float(direction.norm())
    assert record.make_weighting is None


def order_defect(record: MethodRecord, matrix: Tensor) -> float:
    """How far A(PJ) is from A(J) for a permutation P, with the same random numbers."""
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(1))
    exact = {"epsilon": 1e-8} if record.name == "MGDA" else {}
    difference = aggregate(record, matrix[order], **exact) - aggregate(record, matrix, **exact)
    return float(difference.norm()) / float(matrix.norm(dim=1).max())


@pytest.mark.parametrize(("record", "sampled"), pairs(that(permutation_invariant=True)))
def test_the_order_of_the_objectives_does_not_matter(
    record: MethodRecord, sampled: SampledMatrix
) -> None:
    assert order_defect(record, torch.from_numpy(sampled.matrix)) <= 1e-6


def counter_examples() -> Iterator[Tensor]:
    """Matrices on which methods show what they do not promise."""
    for shape in ((6, 3, 3), (4, 5, 4), (3, 5, 2), (5, 20, 5)):
        for conflict in ("strong", "random"):
            for ratio in (1.0, 1e3):
                for seed in range(1, 5):
                    matrix = torch.from_numpy(sample(shape, ratio, conflict, seed).matrix)
                    yield matrix
                    # Constants of a fixed size show on small gradients.
                    yield 1e-4 * matrix


# By how much a counter-example has to miss the property, as each defect measures it.
DEFECTS: dict[str, tuple[Callable[[MethodRecord, Tensor], float], float]] = {
    "non_conflicting": (lambda r, J: -worst_conflict(J, aggregate(r, J)), 0.02),
    "linear_under_scaling": (scaling_defect, 0.02),
    "permutation_invariant": (order_defect, 0.02),
}


@pytest.mark.parametrize(
    ("name", "record"),
    [(name, record) for name in DEFECTS for record in that(**{name: False})],
    ids=named,
)
def test_every_no_has_a_counter_example(name: str, record: MethodRecord) -> None:
    defect, least = DEFECTS[name]
    assert max(defect(record, matrix) for matrix in counter_examples()) > least


def test_every_property_is_tested() -> None:
    assert set(PROPERTIES) == {*DEFECTS, "weighted", "stateful", "random"}


@pytest.mark.parametrize("record", that(stateful=False, random=False), ids=named)
def test_a_second_call_gives_the_same_bits(record: MethodRecord) -> None:
    first, other = (
        torch.from_numpy(sample((9, 11, 5), 1e3, "random", seed).matrix) for seed in (5, 6)
    )
    aggregates = aggregator(record, 9)
    found = aggregates(first)
    aggregates(other)
    assert torch.equal(aggregates(first), found)


@pytest.mark.parametrize("record", that(stateful=True), ids=named)
def test_a_stateful_method_remembers_until_reset(record: MethodRecord) -> None:
    first, other = (
        torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed).matrix) for seed in (5, 6)
    )
    options = {"update_weights_every": 2} if record.name == "NashMTL" else {}
    aggregates = aggregator(record, 5, **options)
    found = aggregates(first)
    assert not torch.equal(aggregates(other), aggregate(record, other, **options))
    aggregates.reset()
    if record.random:
        aggregates.generator = seeded()
    assert torch.equal(aggregates(first), found)


@pytest.mark.parametrize("record", that(stateful=True), ids=named)
def test_the_state_travels_with_state_dict(record: MethodRecord) -> None:
    matrices = [
        torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed).matrix) for seed in range(3)
    ]
    aggregates = aggregator(record, 5)
    for matrix in matrices[:2]:
        aggregates(matrix)
    twin = aggregator(record, 5)
    twin.load_state_dict(aggregates.state_dict())
    if record.random:
        aggregates.generator, twin.generator = seeded(), seeded()
    assert torch.equal(twin(matrices[2]), aggregates(matrices[2]))


@pytest.mark.parametrize("record", that(stateful=True), ids=named)
def test_a_refused_call_leaves_the_state_alone(record: MethodRecord) -> None:
    first, other = (
        torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed).matrix) for seed in (5, 6)
    )
    aggregates, twin = aggregator(record, 5), aggregator(record, 5)
    aggregates(first)
    twin(first)
    with pytest.raises(ValueError, match="rows 2"):
        aggregates(first.index_fill(0, torch.tensor([2]), float("nan")))
    if record.random:
        aggregates.generator, twin.generator = seeded(), seeded()
    assert torch.equal(aggregates(other), twin(other))


@pytest.mark.parametrize("record", that(stateful=True), ids=named)
def test_a_checkpoint_does_not_change_with_later_calls(record: MethodRecord) -> None:
    first, other, last = (
        torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed).matrix) for seed in range(3)
    )
    aggregates, twin = aggregator(record, 5), aggregator(record, 5)
    aggregates(first)
    state = aggregates.state_dict()
    if record.random:
        aggregates.generator, twin.generator = seeded(), seeded()
    aggregates(other)
    twin.load_state_dict(state)
    twin(other)
    torch.testing.assert_close(twin(last), aggregates(last), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("record", that(random=True), ids=named)
def test_a_random_method_follows_its_generator(record: MethodRecord) -> None:
    matrix = torch.from_numpy(sample((6, 3, 3), 1.0, "strong", seed=1).matrix)
    generator = seeded()
    aggregates = record.aggregator(6, generator=generator)
    first, second = aggregates(matrix), aggregates(matrix)
    assert not torch.equal(first, second)
    generator.manual_seed(0)
    if record.stateful:
        aggregates.reset()
    assert torch.equal(aggregates(matrix), first)
    torch.manual_seed(0)
    assert torch.equal(record.aggregator(6)(matrix), first)


@pytest.mark.parametrize("sampled", [s for s in MATRICES if s.conflict == "none"], ids=named)
@pytest.mark.parametrize("method", [UPGrad, DualProj])
def test_equals_the_mean_without_conflict(method: type[UPGrad], sampled: SampledMatrix) -> None:
    matrix = torch.from_numpy(sampled.matrix)
    torch.testing.assert_close(method()(matrix), matrix.mean(dim=0), rtol=1e-12, atol=1e-12)


def test_only_upgrad_and_its_average_have_all_three() -> None:
    # The headline of Quinton & Rey; CRMOGM is UPGrad at its first call.
    three = that(non_conflicting=True, linear_under_scaling=True, weighted=True)
    assert {record.name for record in three} <= {"UPGrad", "CRMOGM"}
    assert METHODS["UPGrad"] in three
