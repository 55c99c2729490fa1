"""CRMOGM: the average of a wrapped weighting's weights, and what it passes through."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engines.aggregation import (
    METHODS,
    ConstantWeighting,
    CRMOGMWeighting,
    ExcessMTLWeighting,
    GradVacWeighting,
    GramianWeightedAggregator,
    MeanWeighting,
    MGDAWeighting,
    MoDoWeighting,
    PCDWeighting,
    UPGradWeighting,
    WeightedAggregator,
    Weighting,
)
from engines.errors import NonDifferentiableError, NonFiniteGradientError
from tests.support.matrices import sample


class Diagonal(Weighting):
    """A weighting that can be differentiated: the diagonal of its argument."""

    def forward(self, stat: Tensor, /) -> Tensor:
        return torch.diagonal(stat)


def diagonal(*entries: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.diag(torch.tensor(entries, dtype=dtype))


def vector(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=torch.float64)


def test_pinned() -> None:
    # 1, then 0.75 · 1 + 0.25 · 5 = 2, then 0.75 · 2 + 0.25 · (-2) = 1.
    weighting = CRMOGMWeighting(Diagonal(), alpha=0.75)
    found = [float(weighting(diagonal(x))) for x in (1.0, 5.0, -2.0)]
    assert found == [1.0, 2.0, 1.0]


def test_pinned_with_initial_weights() -> None:
    # 0.5 · 4 + 0.5 · 2 = 3 and 0.5 · 0 + 0.5 · 2 = 1, then 0.5 · 3 and 0.5 · 1.
    weighting = CRMOGMWeighting(Diagonal(), 0.5, torch.tensor([4, 0]))
    assert torch.equal(weighting(diagonal(2.0, 2.0)), vector(3.0, 1.0))
    assert torch.equal(weighting(diagonal(0.0, 0.0)), vector(1.5, 0.5))
    weighting.reset()
    assert torch.equal(weighting(diagonal(2.0, 2.0)), vector(3.0, 1.0))


def test_the_ends_of_alpha() -> None:
    for alpha, expected in ((0.0, [1.0, 5.0]), (1.0, [1.0, 1.0]), (0, [1.0, 5.0])):
        weighting = CRMOGMWeighting(Diagonal(), alpha)
        assert [float(weighting(diagonal(x))) for x in (1.0, 5.0)] == expected


def test_alpha_may_change_between_calls() -> None:
    # 1, then 5 unsmoothed, then half of 5.
    weighting = CRMOGMWeighting(Diagonal(), 0.9)
    weighting(diagonal(1.0))
    weighting.alpha = 0.0
    assert float(weighting(diagonal(5.0))) == 5.0
    weighting.alpha = 0.5
    assert float(weighting(diagonal(0.0))) == 2.5


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_is_a_weighted_mean_of_all_calls(alpha: float) -> None:
    # Unrolled: αᵏ⁻¹λ̂1 + (1 - α) Σ_{i >= 2} αᵏ⁻ⁱ λ̂i.
    weighting, inner = CRMOGMWeighting(UPGradWeighting(), alpha), UPGradWeighting()
    fresh = []
    for k in range(1, 6):
        matrix = torch.from_numpy(sample((4, 5, 4), 10.0, "strong", seed=k).matrix)
        gramian = matrix @ matrix.T
        fresh.append(inner(gramian))
        wanted = alpha ** (k - 1) * fresh[0]
        for i in range(2, k + 1):
            wanted = wanted + (1 - alpha) * alpha ** (k - i) * fresh[i - 1]
        torch.testing.assert_close(weighting(gramian), wanted, rtol=1e-12, atol=1e-14)


def test_wraps_a_weighting_of_the_jacobian() -> None:
    matrix = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    aggregator = WeightedAggregator(CRMOGMWeighting(ExcessMTLWeighting(), alpha=0.5))
    inner = ExcessMTLWeighting()
    first, second = inner(matrix), inner(matrix)
    torch.testing.assert_close(aggregator(matrix), first @ matrix)
    torch.testing.assert_close(aggregator(matrix), (first + second) / 2 @ matrix)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_average_is_kept_in_float64(dtype: torch.dtype) -> None:
    # A step of 1e-3 from 1 is lost in bfloat16; a thousand of them are not.
    weighting = CRMOGMWeighting(Diagonal(), alpha=0.999)
    weighting(diagonal(1.0, dtype=dtype))
    for _ in range(1000):
        found = weighting(diagonal(0.0, dtype=dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.tensor([0.999**1000], dtype=dtype))


def test_gradients_flow_through_this_call_only() -> None:
    weighting = CRMOGMWeighting(Diagonal(), alpha=0.75)
    first, second = diagonal(1.0, 2.0).requires_grad_(), diagonal(3.0, 4.0).requires_grad_()
    weighting(first).sum().backward()
    weighting(second).sum().backward()
    assert first.grad is not None
    assert second.grad is not None
    assert torch.equal(first.grad, torch.eye(2).double())
    assert torch.equal(second.grad, 0.25 * torch.eye(2).double())


def test_what_cannot_be_differentiated_still_cannot() -> None:
    weighting = CRMOGMWeighting(MGDAWeighting())
    for _ in range(2):
        with pytest.raises(NonDifferentiableError, match="MGDAWeighting"):
            weighting(diagonal(1.0, 2.0).requires_grad_()).sum().backward()
    # The average holds no graph: a call without gradients has none.
    assert not weighting(diagonal(1.0, 2.0)).requires_grad


def test_the_result_is_not_the_state() -> None:
    weighting = CRMOGMWeighting(Diagonal(), alpha=0.5)
    for expected in (1.0, 3.0):
        found = weighting(diagonal(expected if expected == 1.0 else 5.0))
        assert float(found) == expected
        found.zero_()


def test_another_number_of_objectives_needs_a_reset() -> None:
    weighting = CRMOGMWeighting(MeanWeighting())
    weighting(torch.eye(3))
    with pytest.raises(ValueError, match=r"got 2 objectives after 3, .* call reset\(\)"):
        weighting(torch.eye(2))
    weighting.reset()
    assert torch.equal(weighting(torch.eye(2)), torch.full((2,), 0.5))


def test_initial_weights_of_another_length_are_refused() -> None:
    weighting = CRMOGMWeighting(MeanWeighting(), initial_weights=torch.ones(3))
    with pytest.raises(ValueError, match="initial_weights of 3 entries for 2 objectives"):
        weighting(torch.eye(2))
    weighting.initial_weights = None
    assert torch.equal(weighting(torch.eye(2)), torch.full((2,), 0.5))


def test_reset_reaches_the_wrapped_weighting() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    weighting = CRMOGMWeighting(CRMOGMWeighting(MoDoWeighting()), alpha=0.5)
    first = weighting(matrix)
    weighting(matrix)
    weighting.reset()
    assert torch.equal(weighting(matrix), first)


def test_refused_calls_leave_the_average_alone() -> None:
    weighting = CRMOGMWeighting(UPGradWeighting(), alpha=0.5)
    first = weighting(diagonal(1.0, 1.0))
    with pytest.raises(NonFiniteGradientError, match=r"rows 1\)"):
        weighting(diagonal(1.0, float("nan")))
    assert torch.equal(weighting(diagonal(1.0, 1.0)), first)
    custom = CRMOGMWeighting(Diagonal(), alpha=0.5)
    custom(diagonal(1.0))
    with pytest.raises(ValueError, match="weights of the wrapped weighting"):
        custom(diagonal(float("nan")))
    assert float(custom(diagonal(1.0))) == 1.0


def test_the_scale_of_the_jacobian_is_passed_on() -> None:
    # What MoDo and PCD do depends on the size of J, of which the float64 Gramian holds only a
    # multiple here.
    matrix = torch.from_numpy(sample((3, 5, 3), 1.0, "random", seed=1).matrix)
    for inner in (MoDoWeighting, PCDWeighting, lambda: CRMOGMWeighting(MoDoWeighting())):
        for size in (1e-200, 1e200):
            wrapped = CRMOGMWeighting(inner())
            plain = GramianWeightedAggregator(inner())(size * matrix)
            found = GramianWeightedAggregator(wrapped)(size * matrix)
            assert torch.equal(found, plain)
            assert wrapped.gramian_exponent == 0
    other = CRMOGMWeighting(ConstantWeighting(torch.ones(3)))
    other.gramian_exponent = 5
    assert other.gramian_exponent == 0


def test_state_travels_through_a_file(tmp_path: Path) -> None:
    weighting, twin = (CRMOGMWeighting(MoDoWeighting(), alpha=0.5) for _ in range(2))
    for x in (1.0, 2.0):
        weighting(diagonal(x, 1.0))
    torch.save(weighting.state_dict(), tmp_path / "state.pt")
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(twin(diagonal(3.0, 1.0)), weighting(diagonal(3.0, 1.0)))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("alpha", -0.1, ValueError),
        ("alpha", 1.1, ValueError),
        ("alpha", float("nan"), ValueError),
        ("alpha", "0.5", TypeError),
        ("initial_weights", [1.0], TypeError),
        ("initial_weights", torch.ones(2, 2), ValueError),
        ("initial_weights", torch.tensor([float("inf")]), ValueError),
        ("weighting", torch.nn.Identity(), TypeError),
        ("weighting", None, TypeError),
    ],
)
def test_parameters_are_checked(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        CRMOGMWeighting(**{"weighting": MeanWeighting(), name: value})
    instance = CRMOGMWeighting(MeanWeighting())
    before = repr(instance)
    with pytest.raises(error, match="expected"):
        setattr(instance, name, value)
    assert repr(instance) == before


def test_the_wrapped_weighting_can_be_replaced() -> None:
    weighting = CRMOGMWeighting(MeanWeighting(), alpha=0.5)
    weighting(diagonal(1.0, 1.0))
    weighting.weighting = Diagonal()
    assert torch.equal(weighting(diagonal(1.5, 0.5)), vector(1.0, 0.5))


def test_printed_forms() -> None:
    weighting = CRMOGMWeighting(MeanWeighting(), initial_weights=torch.ones(2))
    shown = (
        "CRMOGMWeighting(weighting=MeanWeighting(), alpha=0.9, initial_weights=tensor([1., 1.]))"
    )
    assert repr(weighting) == shown
    assert str(weighting) == "CRMOGMWeighting"


def test_the_record_starts_as_upgrad() -> None:
    matrix = torch.from_numpy(sample((4, 5, 4), 10.0, "strong", seed=1).matrix)
    record = METHODS["CRMOGM"]
    assert torch.equal(record.make(alpha=0.5)(matrix), METHODS["UPGrad"].make()(matrix))


def test_later_directions_may_conflict() -> None:
    # Equal weights are kept, and at equal weights the second gradient is opposed.
    aggregator = METHODS["CRMOGM"].make()
    aggregator(torch.eye(2, dtype=torch.float64))
    matrix = torch.tensor([[3.0, 0.0], [-1.0, 0.1]], dtype=torch.float64)
    assert float((matrix @ aggregator(matrix)).min()) < 0


def test_a_call_that_raises_leaves_the_wrapped_memory_alone() -> None:
    weighting = CRMOGMWeighting(GradVacWeighting(generator=torch.Generator().manual_seed(0)))
    weighting(torch.eye(2) + 0.5)
    before = weighting.weighting.get_extra_state()["_usual_cosines"].clone()
    with pytest.raises(ValueError, match="3 objectives after 2"):
        weighting(torch.eye(3) + 0.5)
    assert torch.equal(weighting.weighting.get_extra_state()["_usual_cosines"], before)
