"""GradDrop: one sign for each column, at random."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from engines.aggregation import METHODS, GradDrop
from engines.aggregation.graddrop import identity
from engines.errors import NonDifferentiableError, NonFiniteGradientError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def always_positive(purity: Tensor) -> Tensor:
    return torch.ones_like(purity)


def never_positive(purity: Tensor) -> Tensor:
    return torch.zeros_like(purity)


def transcribed(matrix: Tensor, leak: Tensor, drawn: Tensor) -> Tensor:
    """Lines 10 to 15 of Algorithm 1, entry by entry."""
    direction = torch.zeros(matrix.shape[1], dtype=torch.float64)
    for k, column in enumerate(matrix.T):
        purity = 0.5 * (1 + column.sum() / column.abs().sum())
        for i, entry in enumerate(column):
            kept = (purity > drawn[k] and entry > 0) or (purity < drawn[k] and entry < 0)
            direction[k] += (leak[i] + (1 - leak[i]) * float(kept)) * entry
    return direction


def test_one_sign_is_kept() -> None:
    # Columns of one sign lose nothing; 0 has none.
    matrix = torch.tensor([[-4.0, 1.0, -1.0, 0.0], [6.0, 2.0, 0.0, 0.0], [1.0, 3.0, -2.0, 0.0]])
    assert torch.equal(GradDrop(always_positive)(matrix), torch.tensor([7.0, 6.0, 0.0, 0.0]))
    assert torch.equal(GradDrop(never_positive)(matrix), torch.tensor([-4.0, 0.0, -3.0, 0.0]))
    for seed in range(20):
        direction = GradDrop(generator=seeded(seed))(matrix)
        assert float(direction[0]) in (7.0, -4.0)
        assert torch.equal(direction[1:], torch.tensor([6.0, -3.0, 0.0]))


def test_a_leak_lets_a_part_through() -> None:
    # 7 + 0.25 · (-4) = 6 where the positive entries are kept; -4 + 0.5 · 6 + 1 = 0 where not.
    matrix = torch.tensor([[-4.0], [6.0], [1.0]])
    leak = torch.tensor([0.25, 0.5, 1.0])
    assert torch.equal(GradDrop(always_positive, leak)(matrix), torch.tensor([6.0]))
    assert torch.equal(GradDrop(never_positive, leak)(matrix), torch.tensor([0.0]))
    assert torch.equal(GradDrop(leak=torch.ones(3))(matrix), torch.tensor([3.0]))


@pytest.mark.parametrize("seed", range(4))
def test_against_the_algorithm(seed: int) -> None:
    matrix = torch.randn(4, 50, generator=seeded(seed), dtype=torch.float64)
    leak = torch.rand(4, generator=seeded(seed), dtype=torch.float64)
    drawn = torch.rand(50, generator=seeded(seed + 1), dtype=torch.float64)
    found = GradDrop(leak=leak, generator=seeded(seed + 1))(matrix)
    torch.testing.assert_close(found, transcribed(matrix, leak, drawn))


def test_the_share_kept_is_the_purity() -> None:
    # Purity ½ (1 + (3 - 1)/(3 + 1)) = ¾.
    matrix = torch.tensor([[3.0], [-1.0]]).expand(2, 40_000)
    direction = GradDrop(generator=seeded(0))(matrix)
    # The standard deviation of the share is 0.002.
    assert float((direction == 3).double().mean()) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_draw_for_every_dtype_and_order(dtype: torch.dtype) -> None:
    matrix = torch.randn(5, 300, generator=seeded(0)).to(dtype)
    direction = GradDrop(generator=seeded(1))(matrix)
    wide = GradDrop(generator=seeded(1))(matrix.double())
    torch.testing.assert_close(direction, wide.to(dtype))
    assert torch.equal(GradDrop(generator=seeded(1))(matrix.flip(0)), direction)


def test_columns_are_drawn_in_order_across_chunks() -> None:
    matrix = torch.randn(5, 120_000, generator=seeded(0))
    drawn = torch.rand(120_000, generator=seeded(1), dtype=torch.float64)
    wide = matrix.double()
    positive = 0.5 * (1 + wide.sum(dim=0) / wide.abs().sum(dim=0)) > drawn
    expected = torch.where(positive, wide.clamp_min(0), wide.clamp_max(0)).sum(dim=0)
    found = GradDrop(generator=seeded(1))(matrix)
    torch.testing.assert_close(found, expected.float())


@pytest.mark.parametrize("size", [1e-300, 1e307])
def test_the_purity_does_not_overflow(size: float) -> None:
    matrix = torch.tensor([[1.0, 1.0], [2.0, -1.0], [-9.0, -1.0]], dtype=torch.float64)
    expected = GradDrop(generator=seeded(0))(matrix)
    torch.testing.assert_close(GradDrop(generator=seeded(0))(matrix * size) / size, expected)


def test_no_weights_belong_to_it() -> None:
    # Kept signs -, +: (-1, 1) is on no line with rows that all lie along (1, 1).
    matrix = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])

    def by_column(purity: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0], dtype=purity.dtype)

    assert torch.equal(GradDrop(by_column)(matrix), torch.tensor([-1.0, 1.0]))
    with pytest.raises(ValueError, match="use its aggregator"):
        METHODS["GradDrop"].weighting(2)


def test_differentiating_raises() -> None:
    matrix = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(NonDifferentiableError, match="GradDrop"):
        GradDrop()(matrix).sum().backward()
    with torch.no_grad():
        assert not GradDrop()(matrix).requires_grad


def test_bad_input_draws_nothing() -> None:
    generator = seeded(0)
    before = generator.get_state()
    with pytest.raises(NonFiniteGradientError, match="rows 1"):
        GradDrop(generator=generator)(torch.tensor([[1.0], [float("nan")]]))
    with pytest.raises(ValueError, match="leak of 3 entries for 2 objectives"):
        GradDrop(leak=torch.zeros(3), generator=generator)(torch.ones(2, 2))
    assert torch.equal(generator.get_state(), before)


def test_what_f_returns_is_checked() -> None:
    matrix = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"got shape \[\] from f"):
        GradDrop(lambda purity: purity.sum())(matrix)
    with pytest.raises(ValueError, match="got float from f"):
        GradDrop(lambda _: 0.5)(matrix)
    with pytest.raises(ValueError, match="NaN from f"):
        GradDrop(lambda purity: purity * float("nan"))(matrix)


def test_the_parameters_are_checked_and_settable() -> None:
    aggregator = GradDrop()
    for name, bad, error in (
        ("f", 0.5, TypeError),
        ("leak", [0.5], TypeError),
        ("leak", torch.zeros(1, 2), ValueError),
        ("leak", torch.tensor([0.0, 1.5]), ValueError),
        ("leak", torch.tensor([-0.1, 1.0]), ValueError),
        ("leak", torch.tensor([0.0, float("nan")]), ValueError),
        ("generator", 0, TypeError),
    ):
        with pytest.raises(error, match=f"{name}.*expected"):
            GradDrop(**{name: bad})
        with pytest.raises(error, match=f"{name}.*expected"):
            setattr(aggregator, name, bad)
    with pytest.raises(TypeError):
        GradDrop(identity, None, seeded(0))
    aggregator.f, aggregator.leak, aggregator.generator = always_positive, torch.ones(2), seeded(0)
    assert (aggregator.f, aggregator.generator) == (always_positive, aggregator.generator)
    assert torch.equal(aggregator.leak, torch.ones(2))


def test_printed_forms() -> None:
    leaky = GradDrop(leak=torch.tensor([0.0, 1.0]))
    assert repr(leaky) == f"GradDrop(f={identity!r}, leak=tensor([0., 1.]))"
    assert (str(leaky), str(GradDrop())) == ("GradDrop([0., 1.])", "GradDrop")
    assert "leak=None, generator=<" in repr(GradDrop(generator=seeded(0)))


def test_copies_and_pickles_keep_the_function() -> None:
    aggregator = GradDrop(always_positive)
    for twin in (copy.deepcopy(aggregator), pickle.loads(pickle.dumps(aggregator))):
        assert twin.f is always_positive
    assert pickle.loads(pickle.dumps(GradDrop())).f is identity
