"""Steps of two ranks in which something goes wrong, and steps that show that they go on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from engines.autogram import Engine
from tests.support.reference import reference_jacobian

# What a call came to: the type of its exception, the message, and whether `.grad` is clean.
Outcome = tuple[str, str, bool]
SIZES = (2, 3)


def mlp(width: int = 6, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3)).to(dtype)


def part(rank: int, sizes: tuple[int, ...] = SIZES) -> Tensor:
    """The samples of a rank."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(sum(sizes), 4, generator=generator).double().split(sizes)[rank]


def uneven(gramian: Tensor) -> Tensor:
    """Weights that depend on the whole Gramian and on the order of its rows."""
    m = len(gramian)
    return (1 + torch.arange(m).to(gramian)) / (m + gramian.abs().sum(1))


def losses_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().sum(1)


def good_step(
    rank: int, engine: Engine | None = None, model: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """A step's gradient, and what one process would have: ranks are in step if it is right."""
    model = mlp() if model is None else model
    engine = Engine(model, batch_dim=0) if engine is None else engine
    model.zero_grad()
    engine.backward(losses_of(model, part(rank)), uneven)
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    plain = mlp()
    whole = torch.cat([part(0), part(1)])
    jacobian = reference_jacobian(losses_of(plain, whole), plain.parameters())
    return found, uneven(jacobian @ jacobian.T) @ jacobian


def outcome(call: Callable[[], object], *modules: nn.Module) -> Outcome:
    """Call something, and say what it came to."""
    kind, message = "", ""
    try:
        call()
    except Exception as error:
        kind, message = type(error).__name__, str(error)
    clean = all(p.grad is None for module in modules for p in module.parameters())
    return kind, message, clean


def trouble(*_: Any) -> Any:
    """What raises in the middle of something."""
    raise LookupError("lost the way")
