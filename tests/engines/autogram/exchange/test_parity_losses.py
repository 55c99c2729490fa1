"""Reference tests of losses of every shape on ranks, against autograd with all of them in a row."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from tests.support.ranks import Ranks
from tests.support.reference import reference_gramian
from tests.support.spread import Attention, Outcome, assert_same_bits, steady, travelling
from tests.support.steps import assert_same_gradients, spread
from tests.support.tolerances import assert_close


@dataclass(frozen=True)
class Kind:
    """Losses of one shape.

    Attributes:
        losses: Of a rank's output and its number.
        batch_dim: Of the engine.
        make: Makes the model.
        sample: Shape of a sample, given the rank.
        integers: As in a case.
        sizes: Samples of every rank.
    """

    losses: Callable[[Tensor, int], Tensor]
    batch_dim: int | None
    make: Callable[[], nn.Module] = lambda: nn.Sequential(
        nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)
    )
    sample: Callable[[int], tuple[int, ...]] = lambda rank: (4,)
    integers: int = 0
    sizes: tuple[int, ...] = (3, 2)

    def inputs(self, rank: int) -> Tensor:
        """Samples of one rank."""
        generator = torch.Generator().manual_seed(rank)
        shape = (self.sizes[rank], *self.sample(rank))
        if self.integers:
            return torch.randint(self.integers, shape, generator=generator)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def model(self) -> nn.Module:
        """The same one on every rank."""
        torch.manual_seed(0)
        return self.make().double()


def _pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


KINDS = {
    "several per sample": Kind(lambda y, rank: y.square(), 0),
    "samples second": Kind(lambda y, rank: y.square().T, 1),
    "samples last": Kind(lambda y, rank: y.square().T, -1),
    "one per sample in two dimensions": Kind(lambda y, rank: y.square().sum(1, keepdim=True), 0),
    "three dimensions": Kind(lambda y, rank: torch.stack([y.square(), y.cos()], 1), 0),
    "samples in the middle": Kind(lambda y, rank: torch.stack([y.square(), y.cos()]), 1),
    "several per sample, some ranks empty": Kind(lambda y, rank: y.square(), 0, sizes=(0, 3)),
    "several per sample of several positions": Kind(
        lambda y, rank: y.square().sum(1), 0, sample=lambda rank: (3, 4)
    ),
    "tasks": Kind(lambda y, rank: y.square().mean(0), None),
    "tasks in two dimensions": Kind(
        lambda y, rank: torch.stack([y.square().mean(0), y.cos().mean(0)]), None
    ),
    "one loss": Kind(lambda y, rank: y.square().mean(), None),
    "numbers that differ": Kind(lambda y, rank: y.square().mean(0)[: rank + 1], None),
    "none on one rank": Kind(lambda y, rank: y.square().mean(0)[: 3 * rank], None),
    "sequences of two lengths": Kind(
        lambda y, rank: y.square().mean((1, 2)), 0, Attention, lambda rank: (3 + 2 * rank,), 11
    ),
    "several of sequences of two lengths": Kind(
        lambda y, rank: y.square().mean(1)[:, :2],
        0,
        Attention,
        lambda rank: (3 + 2 * rank,),
        11,
    ),
    "images of two sizes": Kind(
        lambda y, rank: y.square().sum(1), 0, _pooled, lambda rank: (2, 5 + rank, 6 - rank)
    ),
}


def steps_of(rank: int, world_size: int, way: str) -> list[Outcome]:
    """Take a step of every kind."""
    found = []
    with steady(), travelling(way):
        for kind in KINDS.values():
            model = kind.model()
            losses = kind.losses(model(kind.inputs(rank)), rank)
            engine = Engine(model, batch_dim=kind.batch_dim)
            travels = tuple(use.travels for use in engine.explain(losses))
            step = engine.backward(losses, spread)
            gradients = [p.grad for p in model.parameters()]
            found.append(Outcome(step.gramian, step.weights, gradients, travels))
    return found


def _expected(kind: Kind) -> Outcome:
    """The losses of all ranks in a row, by autograd."""
    model = kind.model()
    parts = [kind.losses(model(kind.inputs(rank)), rank) for rank in range(2)]
    losses = torch.cat([part.reshape(part.shape or (1,)) for part in parts], kind.batch_dim or 0)
    gramian = reference_gramian(losses, model.parameters())
    weights = spread(gramian)
    losses.backward(weights)
    return Outcome(gramian, weights, [p.grad for p in model.parameters()])


@pytest.mark.parametrize("way", ["", "gradients", "factors 0", "factors 1", "ring"])
def test_losses_of_every_shape(two_ranks: Ranks, way: str) -> None:
    for name, *outcomes in zip(KINDS, *two_ranks.run(steps_of, way), strict=True):
        expected = _expected(KINDS[name])
        assert_same_bits(outcomes)
        assert outcomes[0].weights.shape == expected.weights.shape, name
        assert_close(outcomes[0].gramian, expected.gramian)
        assert_close(outcomes[0].weights, expected.weights)
        assert_same_gradients(outcomes[0].gradients, expected.gradients)
        if way and name == "several per sample":
            assert set(outcomes[0].travels) == {way.split()[0]}
