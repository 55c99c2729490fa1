"""Models in DistributedDataParallel, and what one process would make of the whole batch."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close

# Found and expected, for every thing that is compared.
Pairs = dict[str, tuple[Tensor, Tensor]]
SIZES = (3, 3)


class Tied(nn.Module):
    """One weight used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embedding((x[:, :3].abs() * 3).long() % 7).tanh()).mean(1)


class Forked(nn.Module):
    """Two ends, of which a batch takes one, and one that is never taken."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 5)
        self.ends = nn.ModuleList([nn.Linear(5, 3) for _ in range(3)])

    def forward(self, x: Tensor, end: int = 0) -> Tensor:
        return self.ends[end](self.trunk(x).tanh())


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "tied": Tied, "forked": Forked}


def made(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().to(dtype)


def batches(sizes: tuple[int, ...], seed: int = 1, dtype: torch.dtype = torch.float64) -> Any:
    """The part of every rank."""
    drawn = torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(seed))
    return drawn.to(dtype).split(sizes)


def losses_of(model: nn.Module, x: Tensor, *args: Any) -> Tensor:
    """One loss for each sample, shape [b]."""
    return model(x, *args).square().sum(1)


def uneven(gramian: Tensor) -> Tensor:
    """Weights that depend on the whole Gramian and on the order of its rows."""
    m = len(gramian)
    return (1 + torch.arange(m).to(gramian)) / (m + gramian.abs().sum(1))


def gradient(parameters: Iterator[nn.Parameter]) -> Tensor:
    """What is in `.grad`, zeros where there is none."""
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
    )


def expected(model: nn.Module, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gramian, weights and weighted gradient, as one process makes them of the whole batch."""
    jacobian = reference_jacobian(losses, model.parameters())
    gramian = jacobian @ jacobian.T
    weights = uneven(gramian)
    return gramian, weights, weights.to(jacobian) @ jacobian


def counted(ddp: DistributedDataParallel) -> list[int]:
    """Have the wrapper's reductions counted: one entry for each bucket."""
    seen: list[int] = []

    def hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        seen.append(bucket.buffer().numel())
        assert dist.group.WORLD is not None
        return allreduce_hook(dist.group.WORLD, bucket)

    ddp.register_comm_hook(None, hook)
    return seen


def pairs_of(step: Any, model: nn.Module, known: tuple[Tensor, Tensor, Tensor]) -> Pairs:
    """A step beside what one process has."""
    found = (step.gramian, step.weights, gradient(model.parameters()))
    return dict(
        zip(("Gramian", "weights", "gradient"), zip(found, known, strict=True), strict=True)
    )


def check(answers: list[list[Pairs]], dtype: torch.dtype = torch.float64) -> None:
    """The same bits on every rank, and those of one process to rounding."""
    for found in answers:
        for pairs, others in zip(found, answers[0], strict=True):
            for name, (one, other) in pairs.items():
                assert torch.equal(one, others[name][0]), name
                assert_close(one, other, dtype)
