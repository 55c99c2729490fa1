"""Structure tests: what a step holds beside plain training stays within its bound, in total."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine, passes
from engines.autogram.reading import Reader
from engines.errors import MemoryCapError
from tests.support.allocations import peak_bytes

MEBIBYTE = 2**20
# Matrices of m×m, vectors, and results of single numbers, which no plan counts.
SMALL_BYTES = MEBIBYTE


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 16, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def _sequence() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.LayerNorm(256), nn.Linear(256, 64))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn": (_cnn, (3, 16, 16)),
    "mlp": (_mlp, (784,)),
    "sequence": (_sequence, (32, 64)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def _made(name: str, samples: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    return make(), torch.randn(samples, *shape)


def _losses(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().flatten(1).sum(1)


def _peak(model: nn.Module, step: Callable[[], object]) -> int:
    """Peak of one step whose gradients are new; what torch loads at first use is loaded before."""
    model.zero_grad()
    step()
    model.zero_grad()
    found = peak_bytes(step)
    model.zero_grad()
    return found


def _uniform(gramian: Tensor) -> Tensor:
    return gramian.new_full(gramian.shape[:1], 1 / len(gramian))


def _plain_peak(model: nn.Module, x: Tensor, *, retained: bool = False) -> int:
    """Peak of plain training, which frees the graph as it goes, or does not."""

    def step() -> Tensor:
        losses = _losses(model, x)
        losses.mean().backward(retain_graph=retained)
        return losses

    return _peak(model, step)


@pytest.mark.parametrize("name", ["cnn", "mlp"])
@pytest.mark.parametrize("samples", [4, 16, 64, 128])
def test_workspace_of_a_step(name: str, samples: int) -> None:
    model, x = _made(name, samples)
    engine = Engine(model, batch_dim=0)
    plain = _plain_peak(model, x)
    fused = _peak(model, lambda: engine.backward(_losses(model, x), _uniform))
    assert fused - plain <= max(16 * MEBIBYTE, plain / 4)


@pytest.mark.parametrize("samples", [16, 128, 600])
def test_what_a_step_with_positions_keeps(samples: int) -> None:
    # Output gradients of wide layers are most of what plain training needs.
    model, x = _made("sequence", samples)
    engine = Engine(model, batch_dim=0)
    plain = _plain_peak(model, x)
    fused = _peak(model, lambda: engine.backward(_losses(model, x), _uniform))
    assert fused - plain <= max(16 * MEBIBYTE, 2 * plain / 3) + SMALL_BYTES


def test_gradients_are_taken_over_without_a_copy() -> None:
    # A parameter takes a new gradient for its own if nothing else holds it.
    model, x = _made("mlp", 4)
    engine = Engine(model, batch_dim=0)
    peak = _peak(model, lambda: engine.backward(_losses(model, x), _uniform))
    # All gradients, and what is small at 4 samples; the smallest of the large weights is 1 MiB.
    assert peak <= sum(4 * p.numel() for p in model.parameters()) + MEBIBYTE // 2


@every_model
def test_what_a_gramian_takes_beside_its_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The pass alone, delivering output gradients to nobody, is what the form in two passes needs
    # in any case; the rest is workspace.
    model, x = _made(name, 64)
    engine = Engine(model, batch_dim=0)
    losses = _losses(model, x)
    engine.compute_gramian(losses)
    whole = peak_bytes(lambda: engine.compute_gramian(losses))
    inner = passes.sweep

    def silent(*arguments: object, **named: object) -> None:
        listed = list(arguments)
        listed[4] = lambda *_: None
        inner(*listed, **named)

    with monkeypatch.context() as patched:
        patched.setattr(passes, "sweep", silent)
        patched.setattr(passes.Accumulation, "unfinished", lambda self: [])
        alone = peak_bytes(lambda: engine.compute_gramian(losses))
    plain = _peak(model, lambda: _losses(model, x).mean().backward())
    assert whole - alone <= max(16 * MEBIBYTE, plain / 4)


@every_model
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("cap", [MEBIBYTE // 4, 2 * MEBIBYTE, 8 * MEBIBYTE])
def test_a_cap_bounds_everything_that_is_kept(name: str, fused: bool, cap: int) -> None:
    model, x = _made(name, 32)
    engine = Engine(model, batch_dim=0, memory_cap=cap)

    def step() -> None:
        losses = _losses(model, x)
        if fused:
            engine.backward(losses, _uniform)
        else:
            losses.backward(_uniform(engine.compute_gramian(losses)))

    try:
        peak = _peak(model, step)
    except MemoryCapError:
        assert cap < MEBIBYTE
        return
    # What does not fit is left to another pass, for which the graph has to outlive the first.
    assert peak - _plain_peak(model, x, retained=True) <= cap + SMALL_BYTES


@every_model
@pytest.mark.parametrize("cap", [None, MEBIBYTE // 4, 2 * MEBIBYTE, 8 * MEBIBYTE])
def test_what_is_planned_fits_together(
    name: str, cap: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = []
    inner = Reader._read

    def watched(*arguments: object) -> object:
        found = inner(*arguments)
        schedules.append(found.schedule)
        return found

    monkeypatch.setattr(Reader, "_read", watched)
    model, x = _made(name, 32)
    engine = Engine(model, batch_dim=0, memory_cap=cap)
    try:
        engine.explain(_losses(model, x))
    except MemoryCapError:
        assert cap == MEBIBYTE // 4
        return
    (schedule,) = schedules
    kept = sum(task.kept_bytes for task in schedule.tasks)
    passing = max(task.passing_bytes for task in schedule.tasks)
    assert kept + passing <= schedule.budget.total_bytes
    assert cap is None or schedule.budget.total_bytes == cap
    # More room, more is kept: nothing at all only where nothing fits.
    if cap is None:
        assert all(task.keep != "nothing" for task in schedule.tasks)


@pytest.mark.parametrize("batch_dim", [0, None])
def test_several_losses_of_a_sample_stay_within_the_bound(batch_dim: int | None) -> None:
    torch.manual_seed(0)
    model = _mlp()
    x = torch.randn(24, 784)
    engine = Engine(model, batch_dim=batch_dim)

    def losses() -> Tensor:
        y = model(x)
        return y if batch_dim == 0 else y.square().mean(0)

    def flat(gramian: Tensor) -> Tensor:
        return torch.full_like(losses(), 0.1)

    plain = _peak(model, lambda: losses().mean().backward())
    fused = _peak(model, lambda: engine.backward(losses(), flat))
    assert fused - plain <= max(16 * MEBIBYTE, plain / 4)


def test_nothing_is_held_after_a_step() -> None:
    model, x = _made("cnn", 16)
    engine = Engine(model, batch_dim=0)
    held = []
    for _ in range(3):
        step = engine.backward(_losses(model, x), _uniform)
        del step
        model.zero_grad()
        held.append(_held_by(lambda: engine.backward(_losses(model, x), _uniform), model))
    # Gradients are all that is left.
    size = sum(4 * p.numel() for p in model.parameters())
    assert all(size <= one <= size + SMALL_BYTES // 16 for one in held)


def _held_by(step: Callable[[], object], model: nn.Module) -> int:
    """Bytes allocated and not freed by a step, whose result is dropped."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = recorded.profiler.kineto_results.events()
    held = sum(event.nbytes() for event in events if event.name() == "[memory]")
    model.zero_grad()
    return held
