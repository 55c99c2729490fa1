"""Compares one fused step with its two-pass form, leaf by leaf."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from tests.support.tolerances import RELATIVE, assert_close

both_modes = pytest.mark.parametrize("batch_dim", [0, None])

Weighting = Callable[[Tensor], Tensor]
# Roundings where terms of other leaves' size cancel, as in the bias of attention's keys.
_CANCELLED = 1e-3


def draw(*shape: int) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64)


@dataclass(frozen=True)
class Scene:
    """What one step is made with."""

    modules: tuple[nn.Module, ...]
    losses: Tensor
    leaves: tuple[Tensor, ...] = ()  # beside the modules' parameters

    @property
    def everything(self) -> list[Tensor]:
        """All leaves, each once."""
        own = [p for module in self.modules for p in module.parameters()]
        return list({id(leaf): leaf for leaf in (*own, *self.leaves)}.values())


def spread(gramian: Tensor) -> Tensor:
    """Different weights, one of them negative, that depend on the Gramian."""
    shape = gramian.shape[: gramian.ndim // 2]
    weights = torch.linspace(-0.4, 1.6, shape.numel(), dtype=gramian.dtype).reshape(shape)
    flat = gramian.reshape(-1)
    scale = flat.abs().max() if len(flat) else flat.sum()
    return weights + flat.sum() / (1 + scale) / max(1, len(flat))


def two_pass(
    scene: Scene, batch_dim: int | None, weights: Weighting, memory_cap: int | None = None
) -> Tensor:
    """What `Engine.backward` is defined by; returns the Gramian."""
    engine = Engine(*scene.modules, batch_dim=batch_dim, memory_cap=memory_cap)
    gramian = engine.compute_gramian(scene.losses)
    scene.losses.backward(weights(gramian))
    return gramian


def assert_same_gradients(
    found: Sequence[Tensor | None],
    expected: Sequence[Tensor | None],
    dtype: torch.dtype = torch.float64,
    cancelled: float = _CANCELLED,
) -> None:
    """The same leaves have gradients, of the same kind, shape and numbers."""
    whole = max(
        (float(e.to_dense().abs().double().norm()) for e in expected if e is not None), default=0.0
    )
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one is None) == (other is None), f"leaf {index}"
        if one is None or other is None:
            continue
        kinds = [(g.dtype, g.layout, g.shape) for g in (one, other)]
        assert kinds[0] == kinds[1], f"leaf {index}"
        one, other = one.to_dense(), other.to_dense()
        error = float((one - other).abs().double().norm())
        allowed = RELATIVE[dtype] * max(float(other.abs().double().norm()), cancelled * whole)
        assert error <= allowed, f"leaf {index}: {error:.2e} > {allowed:.2e}"


def assert_same_step(
    make: Callable[[], Scene],
    batch_dim: int | None = 0,
    *,
    weights: Weighting = spread,
    dtype: torch.dtype = torch.float64,
    memory_cap: int | None = None,
) -> Scene:
    """Make the scene twice from one seed, and step both ways; returns the one of the fused step."""
    scenes = []
    for _ in range(2):
        torch.manual_seed(0)
        scenes.append(make())
    fused, plain = scenes
    engine = Engine(*fused.modules, batch_dim=batch_dim, memory_cap=memory_cap)
    step = engine.backward(fused.losses, weights)
    # In low precision the weights themselves would carry the Gramian's roundings.
    gramian = two_pass(plain, batch_dim, lambda _: step.weights, memory_cap)
    assert_close(step.gramian, gramian, dtype)
    assert step.weights.shape == fused.losses.shape
    found = [leaf.grad for leaf in fused.everything]
    assert_same_gradients(found, [leaf.grad for leaf in plain.everything], dtype)
    return fused
