"""Steps whose batch is spread over the ranks of a group, and the same steps in one process."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from engines.aggregation import UPGradWeighting
from engines.autogram import Engine, GramianStep
from engines.autogram.exchange import routes
from engines.autogram.grouped import Exchange
from tests.support.cases import CASES, Case, TiedHead, Twice
from tests.support.reference import reference_jacobian
from tests.support.steps import assert_same_gradients, spread
from tests.support.tolerances import assert_close

WEIGHTINGS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "upgrad": UPGradWeighting,
    "spread": lambda: spread,
}


class Attention(nn.Module):
    """A language model with one block of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner, self.head = nn.Linear(8, 16), nn.Linear(16, 11)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        normed = self.norm(h)
        h = h + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.head(torch.tanh(self.inner(h)))


class LastState(nn.Module):
    """Reads a sequence and maps its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def mlp() -> nn.Module:
    """Three layers."""
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3))


def cnn() -> nn.Module:
    """Convolutions of three kinds, and a norm between them."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.Tanh(),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 5),
    )


# Their batches are as large as a setting says.
MODELS = {
    "mlp": Case(mlp, (0, 6)),
    "cnn": Case(cnn, (0, 2, 6, 6)),
    "transformer": Case(Attention, (0, 4), integers=11),
    "tied embedding and head": Case(lambda: TiedHead(twice=True), (0, 3), integers=9),
    "lstm": Case(LastState, (0, 4, 3)),
    "module called twice": Case(lambda: Twice(nn.Linear(4, 4), reduce=True), (0, 3, 4)),
}
# By "case: " and the words of the table.
_ROWS: list[Any] = list(CASES)
TABLE: dict[str, Case] = {f"case: {row.id}": row.values[0] for row in _ROWS}


@dataclass(frozen=True)
class Setting:
    """One step, as it is told to every rank.

    Attributes:
        model: A key of `MODELS` or `TABLE`.
        sizes: Samples of every rank.
        dtype: Of parameters and data.
        way: What travels wherever it can: "gradients", "factors 0", "factors 1" (the axis that is
            cut) or "ring"; "" as planned.
        apart: Whether every group of parameters is a shipment of its own.
        weighting: A key of `WEIGHTINGS`.
        memory_cap: Of the engine.
    """

    model: str
    sizes: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    way: str = ""
    apart: bool = False
    weighting: str = "spread"
    memory_cap: int | None = None

    @property
    def case(self) -> Case:
        """The model, with a batch of all ranks' samples."""
        known = {**MODELS, **TABLE}[self.model]
        dim = 0 if known.batch_first else 1
        return replace(known, x=(*known.x[:dim], sum(self.sizes), *known.x[dim + 1 :]))

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """The samples of every rank."""
        return x.split(self.sizes, 0 if self.case.batch_first else 1)

    def losses(self, model: nn.Module, x: Tensor, seed: int) -> Tensor:
        """One loss for each sample, also where there is none; masks are drawn from the seed."""
        torch.manual_seed(seed)
        if x.numel():
            return self.case.losses(model, x)
        output = model(x)
        return (output[0] if isinstance(output, tuple) else output).flatten(1).square().sum(1)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a step gave one rank, or a single process.

    Attributes:
        gramian: Of all objectives.
        weights: Of all objectives.
        gradients: What `.grad` is afterwards, for every parameter.
        travels: What `explain` says of every use.
        exchange: What the step exchanged.
    """

    gramian: Tensor
    weights: Tensor
    gradients: list[Tensor | None]
    travels: tuple[str, ...] = ()
    exchange: Exchange | None = None


def outcome_of(step: GramianStep, model: nn.Module, travels: tuple[str, ...] = ()) -> Outcome:
    """What a step gave, and the gradients that it left."""
    return Outcome(step.gramian, step.weights, [p.grad for p in model.parameters()], travels)


@contextmanager
def travelling(way: str, *, apart: bool = False) -> Iterator[None]:
    """Let groups of parameters travel in one way, those that cannot as gradients.

    Args:
        way: As in a setting.
        apart: As in a setting.

    Yields:
        While engines plan so.
    """
    offered = routes._offered

    def chosen(*arguments: Any, **named: Any) -> list[routes.Route]:
        found = offered(*arguments, **named)
        kind, _, axis = way.partition(" ")
        wanted = [r for r in found if r.travels == kind and (not axis or r.axis == int(axis))]
        return wanted or [r for r in found if r.travels == "gradients"]

    with pytest.MonkeyPatch.context() as patched:
        if way:
            patched.setattr(routes, "_offered", chosen)
        if apart:
            patched.setattr(routes, "SHIPMENT_BYTES", 0)
        yield


@contextmanager
def steady() -> Iterator[None]:
    """Plan by constants, and fill memory that nobody wrote with NaN, so that reading it shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    with warnings.catch_warnings():
        # Torch warns once that an even kernel copies its input; some cases have one.
        warnings.filterwarnings("ignore", "Using padding=.same.")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def step_of(setting: Setting, rank: int, group: "dist.ProcessGroup | None" = None) -> Outcome:
    """Take a setting's step on one rank of a group, by default of all processes."""
    with travelling(setting.way, apart=setting.apart):
        model, x = setting.case.build(setting.dtype)
        losses = setting.losses(model, setting.parts(x)[rank], seed=rank)
        engine = Engine(model, batch_dim=0, memory_cap=setting.memory_cap, process_group=group)
        uses = engine.explain(losses)
        step = engine.backward(losses, WEIGHTINGS[setting.weighting]())
    gradients = [parameter.grad for parameter in model.parameters()]
    travels = tuple(use.travels for use in uses)
    return Outcome(step.gramian, step.weights, gradients, travels, engine.exchange)


def take_steps(rank: int, world_size: int, settings: Sequence[Setting]) -> list[Outcome]:
    """Take one step after the other; called by every rank."""
    with steady():
        return [step_of(setting, rank) for setting in settings]


def take_steps_among(
    rank: int, world_size: int, ranks: Sequence[int], settings: Sequence[Setting]
) -> list[Outcome]:
    """The same in a group of some ranks; the others take none."""
    group = dist.new_group(list(ranks))
    if rank not in ranks:
        return []
    with steady():
        return [step_of(setting, dist.get_rank(group), group) for setting in settings]


def alone(setting: Setting) -> Outcome:
    """The same step of an engine in one process, with the whole batch."""
    model, x = setting.case.build(setting.dtype)
    losses = setting.losses(model, x, seed=0)
    step = Engine(model, batch_dim=0).backward(losses, WEIGHTINGS[setting.weighting]())
    return Outcome(step.gramian, step.weights, [p.grad for p in model.parameters()])


def by_autograd(setting: Setting, *, parted: bool) -> Outcome:
    """The same step with one call of autograd for every row of the Jacobian.

    Args:
        setting: The step.
        parted: Whether the model is called with every rank's samples in turn, as the ranks do,
            instead of with the whole batch.

    Returns:
        Gramian and weights, and gradients by autograd with these weights.
    """
    model, x = setting.case.build(setting.dtype)
    parts = setting.parts(x) if parted else (x,)
    losses = torch.cat([setting.losses(model, part, seed) for seed, part in enumerate(parts)])
    jacobian = reference_jacobian(losses, model.parameters())
    gramian = jacobian @ jacobian.T
    weights = WEIGHTINGS[setting.weighting]()(gramian)
    losses.backward(weights)
    return Outcome(gramian, weights, [p.grad for p in model.parameters()])


def assert_same_bits(outcomes: Sequence[Outcome]) -> None:
    """Every rank has the same, to the bit."""
    first = outcomes[0]
    for other in outcomes[1:]:
        assert torch.equal(first.gramian, other.gramian)
        assert torch.equal(first.weights, other.weights)
        for one, two in zip(first.gradients, other.gradients, strict=True):
            assert (one is None) == (two is None)
            assert one is None or two is None or torch.equal(one.to_dense(), two.to_dense())


def assert_same_outcome(
    found: Outcome, expected: Outcome, dtype: torch.dtype = torch.float64
) -> None:
    """Gramian, weights and gradients are equal within the table's tolerance."""
    assert found.gramian.dtype == expected.gramian.dtype
    mirrored = found.gramian.permute(*reversed(range(found.gramian.ndim)))
    assert torch.equal(found.gramian, mirrored)
    assert_close(found.gramian, expected.gramian, dtype)
    assert_close(found.weights, expected.weights, dtype)
    assert_same_gradients(found.gradients, expected.gradients, dtype)


def assert_parity(
    answers: Sequence[Sequence[Outcome]],
    settings: Sequence[Setting],
    expected: Callable[[Setting], Outcome],
) -> None:
    """Every step of every rank is what one process takes; all failures are reported together."""
    failures = []
    for setting, outcomes in zip(settings, zip(*answers, strict=True), strict=True):
        try:
            assert_same_bits(outcomes)
            assert_same_outcome(outcomes[0], expected(setting), setting.dtype)
        except AssertionError as error:
            failures.append(f"{setting}: {str(error).splitlines()[0]}")
    assert not failures, "\n".join(failures)


def settings_of(
    models: Sequence[str],
    sizes: Sequence[tuple[int, ...]],
    dtypes: Sequence[torch.dtype] = (torch.float64,),
    ways: Sequence[str] = ("",),
    **others: Any,
) -> list[Setting]:
    """All combinations."""
    return [
        Setting(model, each, dtype, way, **others)
        for model, each, dtype, way in itertools.product(models, sizes, dtypes, ways)
    ]
