"""Reference and refusal tests of the loop with a gradient scaler that the documentation shows."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.aggregation import MeanWeighting, UPGradWeighting
from engines.autogram import Engine
from engines.errors import NonFiniteGradientError
from tests.support.tolerances import assert_close

# Half of the largest number of float16, as a factor of losses whose gradients are near 1.
TOO_LARGE = 2.0**40


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def _batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    solution = torch.randn(8, generator=generator)
    for _ in range(count):
        x = torch.randn(16, 8, generator=generator)
        yield x, torch.tanh(x @ solution)


def _losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.float16):
        prediction = model(x).squeeze(1)
    return F.mse_loss(prediction.float(), y, reduction="none")


def _train(
    model: nn.Module, scaler: torch.amp.GradScaler, weighting: nn.Module, steps: int
) -> tuple[list[float], list[int], list[float]]:
    """The documented loop: mean losses, the steps that were skipped, and the scales before each."""
    engine = Engine(model, batch_dim=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    means, skipped, scales = [], [], []
    for step, (x, y) in enumerate(_batches(steps)):
        optimizer.zero_grad()
        losses = _losses(model, x, y)
        means.append(float(losses.detach().mean()))
        scaled = scaler.scale(losses)
        scales.append(scaler.get_scale())
        try:
            engine.backward(scaled, weighting)
        except NonFiniteGradientError:
            before = [p.detach().clone() for p in model.parameters()]
            scaler.update(scaler.get_scale() * scaler.get_backoff_factor())
            skipped.append(step)
            assert all(p.grad is None for p in model.parameters())
            assert all(map(torch.equal, before, model.parameters()))
            continue
        scaler.step(optimizer)
        scaler.update()
    return means, skipped, scales


@pytest.mark.parametrize("weighting", [MeanWeighting(), UPGradWeighting()], ids=["mean", "upgrad"])
def test_an_overflow_is_skipped_and_later_steps_train(weighting: nn.Module) -> None:
    model = _model()
    scaler = torch.amp.GradScaler("cpu", init_scale=TOO_LARGE, growth_interval=1000)
    means, skipped, scales = _train(model, scaler, weighting, 120)
    assert skipped
    # Nothing but the first steps, each of which halves the scale.
    assert skipped == list(range(len(skipped)))
    assert len(skipped) < 60
    assert scales[: len(skipped) + 1] == [TOO_LARGE / 2**n for n in range(len(skipped) + 1)]
    assert scaler.get_scale() == scales[len(skipped)]
    assert sum(means[-10:]) < sum(means[len(skipped) : len(skipped) + 10]) / 2


def test_a_scale_changes_nothing() -> None:
    # Powers of two are exact, and a mean does not look at the Gramian.
    found = []
    for scale in (1.0, 256.0):
        model = _model()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        _, skipped, _ = _train(model, scaler, MeanWeighting(), 5)
        assert skipped == []
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert_close(found[1], found[0], torch.float16)


def test_a_scaler_finds_nothing_left_to_find() -> None:
    # What the scaler looks for was looked for before any gradient was written.
    model = _model()
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (x, y), *_ = _batches(1)
    step = Engine(model, batch_dim=0).backward(
        scaler.scale(_losses(model, x, y)), UPGradWeighting()
    )
    scaler.unscale_(optimizer)
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert found.isfinite().all()
    plain = _model()
    _losses(plain, x, y).backward(step.weights)
    expected = torch.cat([p.grad.flatten() for p in plain.parameters()])
    assert_close(found, expected, torch.float16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gramian_under_autocast_is_in_float32(dtype: torch.dtype) -> None:
    model = _model()
    (x, y), *_ = _batches(1)
    with torch.autocast("cpu", dtype):
        losses = F.mse_loss(model(x).squeeze(1).float(), y, reduction="none")
        step = Engine(model, batch_dim=0).backward(losses, UPGradWeighting())
    assert step.gramian.dtype == step.weights.dtype == torch.float32
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
