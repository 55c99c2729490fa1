"""Memory: the documented loops run, and reset, checkpoints, copies and refusals do as they say."""

import copy
import io
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engines.scalarization import (
    DWA,
    FAMO,
    IMTLL,
    SCALARIZERS,
    UW,
    Random,
    Scalarizer,
    ScalarizerRecord,
)
from engines.stateful import Stateful
from tests.support.tolerances import assert_close

EVERY = pytest.mark.parametrize("record", SCALARIZERS.values(), ids=lambda r: r.name)
STATEFUL = pytest.mark.parametrize(
    "record", [r for r in SCALARIZERS.values() if r.stateful], ids=lambda r: r.name
)
Losses = Callable[[], Tensor]


def two_tasks() -> tuple[nn.Linear, Losses]:
    """A model and its two losses, one ten times the other."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.randn(2, 3, generator=generator))
        model.bias.zero_()
    x = torch.randn(16, 3, generator=generator)
    y = torch.randn(16, 2, generator=generator)
    sizes = torch.tensor([1.0, 10.0])
    return model, lambda: sizes * (model(x) - y).square().mean(dim=0)


def rows(count: int, m: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, m, generator=generator, dtype=torch.float64) + 0.1


def use(scalarizer: Scalarizer, losses: Tensor) -> None:
    """One epoch of one batch, for each row of losses."""
    for before, after in itertools.pairwise(losses):
        value = scalarizer(before.clone().requires_grad_())
        if isinstance(scalarizer, DWA):
            scalarizer.step()
        if isinstance(scalarizer, FAMO):
            scalarizer.update(after)
        parameters = list(scalarizer.parameters())
        if parameters:
            gradients = torch.autograd.grad(value, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= 0.1 * gradient


def gradient(scalarizer: Scalarizer, losses: Tensor) -> Tensor:
    losses = losses.clone().requires_grad_()
    (found,) = torch.autograd.grad(scalarizer(losses), losses)
    return found


@pytest.mark.parametrize(("make", "sign"), [(UW, 1), (IMTLL, -1)])
def test_learned_weights_in_a_loop(make: type[UW], sign: int) -> None:
    model, losses = two_tasks()
    scalarizer = make(2)
    optimizer = torch.optim.Adam([*model.parameters(), *scalarizer.parameters()], lr=0.05)
    first = losses().detach()
    for _ in range(600):
        optimizer.zero_grad()
        scalarizer(losses()).backward()
        optimizer.step()
    last = losses().detach()
    assert bool((last < first).all())
    # At the best parameter exp(±s) is the loss.
    (parameter,) = scalarizer.parameters()
    assert torch.allclose((sign * parameter).exp(), last, rtol=1e-2)


def test_dwa_in_a_loop() -> None:
    model, losses = two_tasks()
    scalarizer = DWA()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    history = []
    for _ in range(5):
        for _ in range(4):
            optimizer.zero_grad()
            scalarizer(losses()).backward()
            optimizer.step()
        scalarizer.step()
        history.append(losses().detach())
    assert bool((history[-1] < history[0]).all())
    weights = gradient(scalarizer, torch.ones(2))
    assert_close(weights.sum(), torch.tensor(2.0), torch.float32)
    # The loss with the smaller gradient fell less.
    assert float(weights[0]) > 1 > float(weights[1])


def test_famo_in_a_loop() -> None:
    model, losses = two_tasks()
    scalarizer = FAMO(2, lr=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    first = losses().detach()
    for _ in range(50):
        optimizer.zero_grad()
        scalarizer(losses()).backward()
        optimizer.step()
        with torch.no_grad():
            scalarizer.update(losses())
    assert bool((losses().detach() < first).all())
    assert bool(scalarizer.logits.isfinite().all())
    assert float(scalarizer.logits.abs().max()) > 0.1
    assert list(scalarizer.parameters()) == []


@STATEFUL
def test_reset_forgets_everything(record: ScalarizerRecord) -> None:
    scalarizer = record.scalarizer(3)
    assert isinstance(scalarizer, Stateful)
    losses = rows(6)
    use(scalarizer, losses)
    assert not torch.equal(
        gradient(scalarizer, losses[0]), gradient(record.scalarizer(3), losses[0])
    )
    scalarizer.reset()
    fresh = record.scalarizer(3)
    for _ in range(2):
        for one, other in zip(
            scalarizer.state_dict().values(), fresh.state_dict().values(), strict=True
        ):
            assert repr(one) == repr(other)
        use(scalarizer, losses)
        use(fresh, losses)
    assert torch.equal(gradient(scalarizer, losses[0]), gradient(fresh, losses[0]))


def through_file(scalarizer: Scalarizer) -> dict[str, object]:
    file = io.BytesIO()
    torch.save(scalarizer.state_dict(), file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded


def copied(scalarizer: Scalarizer, record: ScalarizerRecord, how: str) -> Scalarizer:
    if how == "deepcopy":
        return copy.deepcopy(scalarizer)
    if how == "pickle":
        loaded: Scalarizer = pickle.loads(pickle.dumps(scalarizer))
        return loaded
    other = record.scalarizer(3)
    other.load_state_dict(through_file(scalarizer) if how == "file" else scalarizer.state_dict())
    return other


@EVERY
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("how", ["file", "state_dict", "deepcopy", "pickle"])
def test_a_copy_goes_on_as_the_original(record: ScalarizerRecord, steps: int, how: str) -> None:
    losses = rows(8)
    scalarizer = record.scalarizer(3)
    use(scalarizer, losses[:steps])
    # In the middle of an epoch, and before an update.
    scalarizer(losses[steps])
    other = copied(scalarizer, record, how)
    assert repr(other) == repr(scalarizer)
    found = []
    for used in (scalarizer, other):
        if isinstance(used, DWA):
            used.step()
        if isinstance(used, FAMO):
            used.update(losses[-1])
        torch.manual_seed(0)
        use(used, losses[steps:])
        found.append(gradient(used, losses[0]))
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("name", ["DWA", "FAMO"])
def test_a_checkpoint_stays_what_it_was(name: str) -> None:
    losses = rows(6)
    scalarizer = SCALARIZERS[name].scalarizer(3)
    use(scalarizer, losses[:4])
    checkpoint = scalarizer.state_dict()
    before = repr(checkpoint)
    use(scalarizer, losses)
    assert repr(checkpoint) == before


def test_what_is_in_a_checkpoint() -> None:
    assert list(UW(2).state_dict()) == ["log_var"]
    assert list(IMTLL(2).state_dict()) == ["log_scale"]
    assert list(FAMO(2).state_dict()) == ["logits", "_min_losses", "_extra_state"]
    assert list(DWA().state_dict()) == ["_extra_state"]
    others = [r for r in SCALARIZERS.values() if not r.stateful]
    assert [list(r.scalarizer(2).state_dict()) for r in others] == [[]] * len(others)


def test_dwa_averages_over_the_calls_of_an_epoch() -> None:
    scalarizer, losses = DWA(), rows(6)
    for epoch in (losses[:4], losses[4:]):
        for batch in epoch:
            assert_close(gradient(scalarizer, batch), torch.ones(3, dtype=torch.float64))
        scalarizer.step()
        scalarizer.step()  # without a call in between
    ratios = losses[4:].mean(dim=0) / losses[:4].mean(dim=0)
    expected = 3 * torch.softmax(ratios / 2, dim=0)
    assert_close(gradient(scalarizer, losses[0]), expected)


def test_dwa_adds_up_narrow_losses_exactly() -> None:
    scalarizer = DWA()
    for _ in range(3000):
        scalarizer(torch.tensor([1.0, 2.0], dtype=torch.bfloat16))
    scalarizer.step()
    newer = scalarizer.get_extra_state()["_newer"]
    assert torch.equal(newer, torch.tensor([1.0, 2.0], dtype=torch.float64))


def test_dwa_temperature_evens_the_weights_out() -> None:
    losses = rows(3)
    cold, hot = DWA(0.01), DWA(1e9)
    for scalarizer in (cold, hot):
        use(scalarizer, losses)
    assert_close(gradient(hot, losses[0]), torch.ones(3), torch.float32)
    assert float(gradient(cold, losses[0]).max()) == pytest.approx(3, abs=1e-3)


def test_famo_needs_a_call_before_an_update() -> None:
    scalarizer = FAMO(2)
    with pytest.raises(ValueError, match="update before the first call"):
        scalarizer.update(torch.ones(2))
    scalarizer(torch.ones(2))
    scalarizer.update(torch.ones(2))
    scalarizer.reset()
    with pytest.raises(ValueError, match="update before the first call"):
        scalarizer.update(torch.ones(2))


@pytest.mark.parametrize(
    ("losses", "error", "says"),
    [
        ([1.0, 1.0], TypeError, "type list"),
        (torch.tensor([1, 1]), TypeError, r"torch\.int64"),
        (torch.ones(3), ValueError, "expected the same shape"),
        (torch.tensor([1.0, float("nan")]), ValueError, "flat positions 1,"),
        (torch.tensor([1.0, 0.0]), ValueError, "not above their min_losses at flat positions 1,"),
    ],
)
def test_a_refused_update_changes_nothing(
    losses: object, error: type[Exception], says: str
) -> None:
    scalarizer = FAMO(2)
    scalarizer(torch.tensor([1.0, 2.0]))
    scalarizer.update(torch.tensor([0.5, 1.5]))
    before = repr(scalarizer.state_dict())
    with pytest.raises(error, match=says):
        scalarizer.update(losses)
    if isinstance(losses, Tensor):
        with pytest.raises(error, match=says):
            scalarizer(losses)
    assert repr(scalarizer.state_dict()) == before


def test_famo_with_half_precision_logits_learns() -> None:
    """Adam's squares of small gradients are kept in float64."""
    scalarizer = FAMO(2, weight_decay=0.0).half()
    for _ in range(10):
        scalarizer(torch.ones(2))
        scalarizer.update(torch.tensor([1.0, 1.0 - 1e-5]))
    assert torch.allclose(scalarizer.logits, torch.tensor([0.25, -0.25]).half(), atol=2e-2)


def test_famo_moves_with_its_module() -> None:
    scalarizer = nn.ModuleList([FAMO(2, torch.tensor([0.0, 0.5]))]).to(torch.float64)[0]
    assert isinstance(scalarizer, FAMO)
    assert scalarizer.logits.dtype == scalarizer.min_losses.dtype == torch.float64
    scalarizer(torch.ones(2))
    scalarizer.update(torch.tensor([0.9, 0.9]))
    assert scalarizer.logits.dtype == torch.float64


def test_random_repeats_with_its_generator_and_is_new_at_each_call() -> None:
    losses = rows(1)[0]
    generator = torch.Generator().manual_seed(0)
    scalarizer = Random(generator=generator)
    first, second = gradient(scalarizer, losses), gradient(scalarizer, losses)
    assert not torch.equal(first, second)
    for weights in (first, second):
        assert bool((weights > 0).all())
        assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    generator.manual_seed(0)
    assert torch.equal(gradient(scalarizer, losses), first)
    # torch's global generator is left alone, and used without one.
    state = torch.get_rng_state()
    scalarizer(losses)
    assert torch.equal(torch.get_rng_state(), state)
    scalarizer.generator = None
    torch.manual_seed(0)
    assert torch.equal(gradient(scalarizer, losses), first)
    assert not torch.equal(torch.get_rng_state(), state)


@EVERY
def test_hooks_run(record: ScalarizerRecord) -> None:
    scalarizer = record.scalarizer(2)
    seen: list[Tensor] = []
    scalarizer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    scalarizer.register_forward_hook(lambda module, given, result: seen.append(result))
    losses = torch.tensor([1.0, 2.0])
    result = scalarizer(losses)
    assert seen[0] is losses
    assert seen[1] is result
