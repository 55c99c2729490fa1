"""Reference tests of what else a call of the engine does, with the batch over two ranks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from engines.errors import MemoryCapError, RankFailedError, UnsupportedGraphError
from tests.support.ranks import Ranks
from tests.support.spread import (
    TABLE,
    Outcome,
    Setting,
    alone,
    assert_parity,
    assert_same_bits,
    assert_same_outcome,
    outcome_of,
    steady,
    take_steps,
    travelling,
)
from tests.support.steps import assert_same_gradients, spread
from tests.support.tolerances import assert_close

SIZES = (3, 2)
WAYS = ["", "gradients", "factors 0", "factors 1", "ring"]


def _part(rank: int | None, *shape: int) -> Tensor:
    """Samples of one rank, or of both."""
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(sum(SIZES), *shape, generator=generator, dtype=torch.float64)
    return whole if rank is None else whole.split(SIZES)[rank]


def _layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def _losses(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().sum(1)


def shares_of(rank: int | None, world_size: int, way: str) -> dict[str, Tensor]:
    """Shares of the modules of a tied language model, a norm and a head."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.PReLU(), nn.Linear(5, 3)).double()
    with steady(), travelling(way):
        losses = _losses(model, _part(rank, 4))
        return Engine(model, batch_dim=0).compute_gramian(losses, by_module=True)


@pytest.mark.parametrize("way", WAYS)
def test_shares_of_modules(two_ranks: Ranks, way: str) -> None:
    found, other = two_ranks.run(shares_of, way)
    expected = shares_of(None, 1, "")
    assert list(found) == list(other) == list(expected) == ["0", "1", "2", "3"]
    for path, share in expected.items():
        assert torch.equal(found[path], other[path])
        assert torch.equal(found[path], found[path].T)
        assert_close(found[path], share)


def observed(rank: int | None, world_size: int, watchers: tuple[int, ...]) -> list[Any]:
    """What observers of some ranks are told by three calls, two of them with shares."""
    seen: list[Any] = []
    model = _layers()
    engine = Engine(model, batch_dim=0)
    if rank in watchers or rank is None:
        engine.observe(lambda *told: seen.append(told))
        asked = iter([True, False, True])
        engine.observe(lambda *told: seen.append(told), by_module=lambda: next(asked))
    engine.backward(_losses(model, _part(rank, 4)), spread)
    engine.backward(_losses(model, _part(rank, 4)), spread)
    engine.compute_gramian(_losses(model, _part(rank, 4)))
    return seen


@pytest.mark.parametrize("watchers", [(0,), (1,), (0, 1)])
def test_observers_are_told_of_all_ranks(two_ranks: Ranks, watchers: tuple[int, ...]) -> None:
    answers = two_ranks.run(observed, watchers)
    expected = observed(None, 1, watchers)
    for rank, seen in enumerate(answers):
        if rank not in watchers:
            assert seen == []
            continue
        assert [len(told) for told in seen] == [3, 4] * 3
        for told, wanted in zip(seen, expected, strict=True):
            assert torch.equal(told[0], wanted[0])  # losses are handed on, not added up
            assert not told[0].requires_grad
            assert_close(told[1], wanted[1])
            assert (told[2] is None) == (wanted[2] is None)
            if told[2] is not None:
                assert_close(told[2], wanted[2])
        shares = [told[3] for told in seen[1::2]]
        assert shares[1] is None
        for own, wanted in zip(shares, [told[3] for told in expected[1::2]], strict=True):
            for path in wanted or {}:
                assert_close(own[path], wanted[path])
    if len(watchers) == 2:
        for one, other in zip(*answers, strict=True):
            assert torch.equal(one[1], other[1])


def twice_through_a_graph(rank: int | None, world_size: int) -> Outcome:
    """Two steps on one graph, then a third on what the second has freed."""
    model = _layers()
    engine, losses = Engine(model, batch_dim=0), _losses(model, _part(rank, 4))
    engine.backward(losses, spread, retain_graph=True)
    step = engine.backward(losses, spread)
    with pytest.raises(UnsupportedGraphError, match="freed"):
        engine.backward(losses, spread)
    return outcome_of(step, model)


def test_a_graph_that_is_retained(two_ranks: Ranks) -> None:
    answers = two_ranks.run(twice_through_a_graph)
    assert_same_bits(answers)
    assert_same_outcome(answers[0], twice_through_a_graph(None, 1))


def test_the_general_path_in_blocks(two_ranks: Ranks) -> None:
    # A row of the bilinear map has 36 entries, 288 bytes: of 1000 two blocks of one row each are
    # left, of 3000 all rows of three samples fit, but not those of four.
    names = ["case: prelu", "case: bilinear", "case: embedding bag", "case: class token"]
    for name in names:
        settings = [
            Setting(name, sizes, memory_cap=cap)
            for sizes in [(3, 3), (1, 4)]
            for cap in [1000, 3000, 100_000]
        ]
        assert_parity(two_ranks.run(take_steps, settings), settings, alone)
    assert set(names) < set(TABLE)


def capped(rank: int, world_size: int) -> str:
    """A cap below two rows of a parameter without a rule."""
    model = nn.Bilinear(3, 3, 4).double()
    x = _part(rank, 3)
    with pytest.raises(MemoryCapError) as raised:
        Engine(model, batch_dim=0, memory_cap=300).backward(
            model(x, x.flip(1)).square().sum(1), spread
        )
    assert all(parameter.grad is None for parameter in model.parameters())
    return str(raised.value)


def test_a_cap_that_is_too_small(two_ranks: Ranks) -> None:
    # 4·3·3 entries of 8 bytes, twice.
    first, second = two_ranks.run(capped)
    assert first == second
    assert "got memory_cap=300, expected at least 576 bytes" in first


def with_others(rank: int | None, world_size: int) -> tuple[Outcome, list[Tensor | None]]:
    """A step with parameters that no engine tracks, and an input that wants a gradient."""
    model, outside = _layers(), nn.Linear(4, 4).double()
    x = _part(rank, 4).requires_grad_()
    losses = _losses(model, outside(x))
    step = Engine(model, batch_dim=0).backward(losses, spread)
    return outcome_of(step, model), [x.grad, outside.weight.grad, outside.bias.grad]


def test_leaves_beside_the_modules_parameters(two_ranks: Ranks) -> None:
    answers = two_ranks.run(with_others)
    expected, (whole, *known) = with_others(None, 1)
    assert whole is not None
    for (step, (x, *outside)), part in zip(answers, whole.split(SIZES), strict=True):
        assert_same_outcome(step, expected)
        # An input is this rank's own; parameters belong to all.
        assert_same_gradients([x, *outside], [part, *known])
    assert_same_bits([step for step, _ in answers])
    for one, other in zip(answers[0][1][1:], answers[1][1][1:], strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def _written(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad.clone()


def with_hooks(rank: int | None, world_size: int) -> tuple[Outcome, list[Tensor], list[Tensor]]:
    """A step with hooks that change gradients, and others that listen."""
    model, outside = _layers(), nn.Linear(4, 4).double()
    heard: list[Tensor] = []
    written: list[Tensor] = []
    first, _, _, last = model.parameters()
    for leaf in (first, last, outside.bias):
        leaf.register_hook(lambda gradient: gradient.clamp(-0.1, 0.2))
        leaf.register_post_accumulate_grad_hook(lambda leaf: written.append(_written(leaf)))
    outside.weight.register_hook(lambda gradient: heard.append(gradient.clone()))
    losses = _losses(model, outside(_part(rank, 4)))
    step = Engine(model, batch_dim=0).backward(losses, spread)
    return outcome_of(step, nn.ModuleList([model, outside])), heard, written


def test_hooks_on_parameters(two_ranks: Ranks) -> None:
    # Those of tracked parameters change rows too, as in one process; in the end they are called
    # with the sum of all ranks.
    answers = two_ranks.run(with_hooks)
    expected, _, known = with_hooks(None, 1)
    assert_same_bits([step for step, _, _ in answers])
    for step, heard, written in answers:
        assert_same_outcome(step, expected)
        assert_same_gradients(heard, [expected.gradients[4]])
        # After one write each, in whatever order.
        sizes = [tensor.numel() for tensor in written]
        assert sorted(sizes) == [3, 4, 20]
        in_order = [written[sizes.index(tensor.numel())] for tensor in known]
        assert_same_gradients(in_order, known)


def in_half_precision(rank: int | None, world_size: int, way: str) -> Outcome:
    """A step under autocast."""
    model = _layers().float()
    with steady(), travelling(way):
        with torch.autocast("cpu", torch.bfloat16):
            losses = model(_part(rank, 4).float()).float().square().sum(1)
        return outcome_of(Engine(model, batch_dim=0).backward(losses, spread), model)


@pytest.mark.parametrize("way", WAYS)
def test_autocast(two_ranks: Ranks, way: str) -> None:
    answers = two_ranks.run(in_half_precision, way)
    assert_same_bits(answers)
    assert answers[0].gramian.dtype == torch.float32
    assert_same_outcome(answers[0], in_half_precision(None, 1, ""), torch.bfloat16)


class Branches(nn.Module):
    """Calls one of two layers by what the data say."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.stem(x))
        return self.up(h) if x[0, 0] > 0 else self.down(h)


def branching(rank: int | None, world_size: int) -> Outcome:
    """A step in which each rank reaches another layer, and none a third."""
    torch.manual_seed(0)
    model = Branches().double()
    parts = [_part(each, 4) for each in range(2)]
    parts[0][0, 0], parts[1][0, 0] = 1.0, -1.0
    chosen = parts if rank is None else [parts[rank]]
    losses = torch.cat([_losses(model, part) for part in chosen])
    return outcome_of(Engine(model, batch_dim=0).backward(losses, spread), model)


def test_a_branch_that_differs(two_ranks: Ranks) -> None:
    answers = two_ranks.run(branching)
    assert_same_bits(answers)
    assert_same_outcome(answers[0], branching(None, 1))


def only_one_reaches(rank: int | None, world_size: int) -> Outcome:
    """A step in which rank 1 leaves out a layer, and nobody reaches another."""
    model = nn.ModuleList([_layers(), nn.Linear(4, 4).double(), nn.Linear(4, 4).double()])
    parts = [_part(each, 4) for each in range(2)]
    losses = [_losses(model[0], model[1](parts[0])), _losses(model[0], parts[1])]
    chosen = torch.cat(losses) if rank is None else losses[rank]
    return outcome_of(Engine(model, batch_dim=0).backward(chosen, spread), model)


def test_parameters_that_one_rank_reaches(two_ranks: Ranks) -> None:
    answers = two_ranks.run(only_one_reaches)
    assert_same_bits(answers)
    assert_same_outcome(answers[0], only_one_reaches(None, 1))
    assert [g is None for g in answers[1].gradients] == [False] * 6 + [True] * 2


def later(rank: int | None, world_size: int) -> list[Outcome]:
    """Steps of one engine with batches of several sizes, some of them more than once."""
    found = []
    model = _layers()
    engine = Engine(model, batch_dim=0)
    for sizes in [(3, 2), (2, 3), (3, 2), (0, 4), (3, 2), (1, 1), (0, 4)]:
        model.zero_grad()
        x = torch.linspace(-1, 1, 4 * sum(sizes), dtype=torch.float64).sin().view(-1, 4)
        part = x if rank is None else x.split(sizes)[rank]
        found.append(outcome_of(engine.backward(_losses(model, part), spread), model))
    return found


def test_later_steps_with_other_sizes(two_ranks: Ranks) -> None:
    for expected, *outcomes in zip(later(None, 1), *two_ranks.run(later), strict=True):
        assert_same_bits(outcomes)
        assert_same_outcome(outcomes[0], expected)


def on_one_plan(rank: int | None, world_size: int) -> tuple[Outcome, Outcome]:
    """A Gramian, then a step, on one graph; and an engine of two modules in two dtypes."""
    model = _layers()
    losses = _losses(model, _part(rank, 4))
    engine = Engine(model, batch_dim=0)
    gramian = engine.compute_gramian(losses)
    step = engine.backward(losses, spread)
    assert torch.equal(gramian, step.gramian)
    first, second = nn.Linear(4, 5), nn.Linear(5, 3).double()
    mixed = second(torch.tanh(first(_part(rank, 4).float())).double()).square().sum(1)
    other = Engine(second, first, batch_dim=0).backward(mixed, spread)
    return outcome_of(step, model), outcome_of(other, nn.ModuleList([first, second]))


def test_a_gramian_then_a_step_and_two_dtypes(two_ranks: Ranks) -> None:
    (first, mixed), (second, other) = two_ranks.run(on_one_plan)
    expected, wanted = on_one_plan(None, 1)
    assert_same_bits([first, second])
    assert_same_bits([mixed, other])
    assert_same_outcome(first, expected)
    assert_same_outcome(mixed, wanted, torch.float32)


def capped_beside_nothing(rank: int, world_size: int) -> str:
    """The same where the other rank has no samples."""
    model = nn.Bilinear(3, 3, 4).double()
    x = _part(0, 3)[: 3 * rank]
    with pytest.raises((MemoryCapError, RankFailedError)) as raised:
        Engine(model, batch_dim=0, memory_cap=300).backward(
            model(x, x.flip(1)).square().sum(1), spread
        )
    assert all(parameter.grad is None for parameter in model.parameters())
    return str(raised.value)


def test_a_cap_that_is_too_small_beside_an_empty_rank(two_ranks: Ranks) -> None:
    first, second = two_ranks.run(capped_beside_nothing)
    assert "rank 1: MemoryCapError: got memory_cap=300" in first
    assert "got memory_cap=300, expected at least 576 bytes" in second


class Turned(nn.Module):
    """Multiplies with one weight as it is or transposed, by what the data say, or once a sample."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.weight, self.way = nn.Parameter(torch.randn(4, 4).double()), way

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "transposed":
            return x @ (self.weight if x[0, 0] > 0 else self.weight.T)
        if self.way == "both, in another order":
            order = (self.weight, self.weight.T) if x[0, 0] > 0 else (self.weight.T, self.weight)
            return torch.tanh(x @ order[0]) @ order[1]
        return torch.cat([part @ self.weight for part in x.split(1)])


def turned(rank: int | None, world_size: int, kind: str, way: str) -> Outcome:
    """A step in which ranks use one weight differently."""
    torch.manual_seed(0)
    model = Turned(kind)
    parts = [_part(each, 4) for each in range(2)]
    parts[0][0, 0], parts[1][0, 0] = 1.0, -1.0
    chosen = parts if rank is None else [parts[rank]]
    with steady(), travelling(way):
        losses = torch.cat([_losses(model, part) for part in chosen])
        return outcome_of(Engine(model, batch_dim=0).backward(losses, spread), model)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["transposed", "both, in another order", "once a sample"])
def test_a_weight_that_is_used_differently(two_ranks: Ranks, kind: str, way: str) -> None:
    answers = two_ranks.run(turned, kind, way)
    assert_same_bits(answers)
    assert_same_outcome(answers[0], turned(None, 1, kind, ""))
