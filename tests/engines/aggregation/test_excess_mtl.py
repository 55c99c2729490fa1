"""ExcessMTL: its cases, its definition with squares kept as squares, its memory."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engines.aggregation import ExcessMTL, ExcessMTLWeighting
from engines.errors import NonFiniteGradientError


def wide(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_pinned_without_warm_up() -> None:
    # S = g² after the first call, so the excess is Σ|g| up to the 1e-7 in the root: 3 and 2, and
    # the weights are as 1 to 1/e.
    weighting = ExcessMTLWeighting()
    matrix = wide([[3.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    e = math.e
    torch.testing.assert_close(
        weighting(matrix), wide([[e / (1 + e), 1 / (1 + e)]])[0], rtol=1e-6, atol=0
    )
    # 4 in the same entry: S = 9 + 16, excess 16/5 of the baseline 3. The second row again:
    # S = 2, excess 2/√2 of the baseline 2. Log-weights 1 + 16/15 against 1/√2.
    second = weighting(wide([[4.0, 0.0, 0.0], [0.0, 1.0, 1.0]]))
    ratio = math.exp(1 + 16 / 15 - 0.5**0.5)
    torch.testing.assert_close(
        second, wide([[ratio / (1 + ratio), 1 / (1 + ratio)]])[0], rtol=1e-6, atol=0
    )


def test_pinned_with_one_warm_up_step() -> None:
    # The first call only sets the baseline, 3 and 1. In the second the excess is 16/5 for the row
    # that grew and 1/√2 for the one that came again.
    weighting = ExcessMTLWeighting(robust_step_size=2.0, n_warmup_steps=1)
    first = wide([[3.0, 0.0], [0.0, 1.0]])
    assert torch.equal(weighting(first), wide([[0.5, 0.5]])[0])
    second = weighting(wide([[4.0, 0.0], [0.0, 1.0]]))
    ratio = math.exp(2 * (16 / 15 - 0.5**0.5))
    torch.testing.assert_close(
        second, wide([[ratio / (1 + ratio), 1 / (1 + ratio)]])[0], rtol=1e-6, atol=0
    )


class Reference:
    """Equations 6, 7 and 9 with the squares kept as squares."""

    def __init__(self, step: float, warm_up: int) -> None:
        self.step, self.warm_up = step, warm_up
        self.squares = self.weights = self.baseline = None
        self.collected: list[Tensor] = []

    def __call__(self, matrix: Tensor) -> Tensor:
        m = len(matrix)
        if self.squares is None:
            self.squares, self.weights = (
                torch.zeros_like(matrix),
                torch.full((m,), 1 / m, dtype=torch.float64),
            )
        self.squares = self.squares + matrix**2
        excess = (matrix**2 / (self.squares + 1e-7).sqrt()).sum(dim=1)
        if len(self.collected) < self.warm_up:
            self.collected.append(excess)
            return self.weights
        if self.baseline is None and self.collected:
            self.baseline = torch.stack(self.collected).mean(dim=0)
        relative = excess if self.baseline is None else excess / (self.baseline + 1e-7)
        if self.baseline is None:
            self.baseline = excess
        grown = self.weights * torch.exp(self.step * relative)
        self.weights = grown / grown.sum()
        return self.weights


@pytest.mark.parametrize("m", [1, 2, 7])
@pytest.mark.parametrize(("step", "warm_up"), [(1.0, 0), (0.3, 1), (2.0, 3)])
def test_is_its_definition_over_several_calls(m: int, step: float, warm_up: int) -> None:
    generator = torch.Generator().manual_seed(m)
    weighting, aggregator = ExcessMTLWeighting(step, warm_up), ExcessMTL(step, warm_up)
    reference = Reference(step, warm_up)
    for _ in range(7):
        matrix = 0.3 * torch.randn(m, 12, generator=generator, dtype=torch.float64)
        wanted = reference(matrix)
        torch.testing.assert_close(weighting(matrix), wanted, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(aggregator(matrix), wanted @ matrix, rtol=1e-11, atol=1e-13)


def test_many_columns_are_taken_in_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    weighting, reference = ExcessMTLWeighting(1e-4), Reference(1e-4, 0)
    for _ in range(2):
        matrix = torch.randn(3, 200_000, generator=generator)
        wanted = reference(matrix.double())
        torch.testing.assert_close(weighting(matrix).double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float16, 6e4),
        (torch.bfloat16, 1e38),
        (torch.float32, 1e20),
        (torch.float32, 1e38),
        (torch.float64, 1e200),
        (torch.float64, 1e308),
    ],
)
def test_huge_gradients_leave_everything_finite(dtype: torch.dtype, size: float) -> None:
    aggregator = ExcessMTL()
    huge = torch.tensor([[1.0, -1.0], [0.0, 1e-4]], dtype=dtype) * size
    for _ in range(3):
        weights = aggregator.weighting(huge)
        assert torch.isfinite(weights).all()
        assert float(weights.double().sum()) == pytest.approx(1.0, abs=1e-3)
    for name, value in aggregator.weighting.get_extra_state().items():
        assert name in ("_calls", "_collected") or torch.isfinite(value).all()
    assert torch.isfinite(aggregator(torch.eye(2, dtype=dtype))).all()


def test_one_long_step_is_undone_by_a_few() -> None:
    weighting = ExcessMTLWeighting()
    weighting(wide([[1e20, 0.0], [0.0, 1.0]]))
    # From here on the first row is zero and the second relative to a baseline of 1.
    calls, weight = 0, 0.0
    while weight < 0.5 and calls < 3000:
        weight = float(weighting(wide([[0.0, 0.0], [0.0, 2.0 ** (calls / 10)]]))[1])
        calls += 1
    assert calls < 120


def test_small_gradients_do_not_vanish() -> None:
    # Far below the 1e-7 in the root the excess is of second order: the weights stay equal.
    for dtype, size in ((torch.float32, 1e-20), (torch.float32, 1e-38), (torch.float64, 1e-200)):
        matrix = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=dtype) * size
        direction = ExcessMTL()(matrix)
        torch.testing.assert_close(direction, matrix.mean(dim=0), rtol=1e-6, atol=0)


def test_a_zero_baseline_takes_all_weight_when_it_ends() -> None:
    aggregator = ExcessMTL()
    aggregator(wide([[0.0, 0.0], [0.0, 1.0]]))
    found = aggregator(wide([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(found, wide([[1.0, 0.0]])[0], rtol=0, atol=1e-300)


@pytest.mark.parametrize(
    "other",
    [torch.ones(2, 3), torch.ones(3, 2), torch.ones(2, 2, dtype=torch.float64)],
    ids=["n", "m", "dtype"],
)
def test_a_jacobian_of_another_kind_starts_afresh(other: Tensor) -> None:
    first = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    aggregator = ExcessMTL()
    expected = aggregator(first)
    assert not torch.equal(aggregator(first), expected)
    torch.testing.assert_close(aggregator(other), ExcessMTL()(other))
    assert torch.equal(aggregator(first), expected)


def test_narrow_dtypes_share_one_state() -> None:
    aggregator = ExcessMTL()
    first = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    expected = ExcessMTL()
    expected(first)
    aggregator(first.bfloat16())
    torch.testing.assert_close(aggregator(first), expected(first))


def test_the_warm_up_can_be_cut_short() -> None:
    # Three calls of baseline 3 and 1 are enough once `n_warmup_steps` says so; afterwards it has
    # no effect.
    matrix = wide([[3.0, 0.0], [0.0, 1.0]])
    aggregator = ExcessMTL(n_warmup_steps=100)
    for _ in range(3):
        assert torch.equal(aggregator(matrix), matrix.mean(dim=0))
    aggregator.n_warmup_steps = 3
    grown = wide([[6.0, 0.0], [0.0, 1.0]])
    assert float(aggregator.weighting(grown)[0]) > 0.5
    aggregator.n_warmup_steps = 100
    weights = aggregator.weighting(grown)
    assert float(weights[0]) > 0.5


def test_refused_calls_leave_the_state_alone() -> None:
    first, other = wide([[3.0, 0.0], [0.0, 1.0]]), wide([[0.0, 1.0], [2.0, 1.0]])
    aggregator, twin = ExcessMTL(), ExcessMTL()
    aggregator(first)
    twin(first)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(NonFiniteGradientError, match=r"rows 1\)"):
            aggregator(wide([[3.0, 0.0], [bad, 1.0]]))
    with pytest.raises(ValueError, match="two dimensions"):
        aggregator(torch.ones(3))
    assert torch.equal(aggregator(other), twin(other))


def test_state_travels_through_a_file_and_is_not_shared(tmp_path: Path) -> None:
    matrices = [torch.randn(3, 5, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    for warm_up in (0, 3):
        aggregator = ExcessMTL(n_warmup_steps=warm_up)
        for matrix in matrices[:2]:
            aggregator(matrix)
        torch.save(aggregator.state_dict(), tmp_path / "state.pt")
        read, live = ExcessMTL(n_warmup_steps=warm_up), ExcessMTL(n_warmup_steps=warm_up)
        read.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        live.load_state_dict(aggregator.state_dict())
        expected = aggregator(matrices[2])
        assert torch.equal(read(matrices[2]), expected)
        assert torch.equal(live(matrices[2]), expected)
    aggregator.reset()
    assert torch.equal(aggregator(matrices[0]), ExcessMTL(n_warmup_steps=3)(matrices[0]))
    assert aggregator.weighting.state_dict()["_extra_state"]["_baseline"] is None


@pytest.mark.parametrize("make", [ExcessMTL, ExcessMTLWeighting])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("robust_step_size", 0.0, ValueError),
        ("robust_step_size", -1.0, ValueError),
        ("robust_step_size", float("inf"), ValueError),
        ("robust_step_size", "1", TypeError),
        ("n_warmup_steps", -1, ValueError),
        ("n_warmup_steps", 1.0, TypeError),
        ("n_warmup_steps", True, TypeError),
    ],
)
def test_parameters_are_checked(
    make: type[ExcessMTL], name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected"):
        make(**{name: value})
    instance = make()
    before = repr(instance)
    with pytest.raises(error, match="expected"):
        setattr(instance, name, value)
    assert repr(instance) == before


def test_printed_forms() -> None:
    assert repr(ExcessMTL()) == "ExcessMTL(robust_step_size=1.0, n_warmup_steps=0)"
    assert str(ExcessMTL()) == "ExcessMTL"
