"""Reference tests of plans: every admissible one is exact, not just the one that is chosen."""

import random

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine, passes
from engines.autogram.rules import RULES, Workspace
from engines.autogram.schedule import Task
from engines.errors import MemoryCapError
from tests.support.architectures import ARCHITECTURES, Architecture
from tests.support.cases import CASES, Case
from tests.support.plans import describe, force
from tests.support.reference import reference_gramian, reference_jacobian
from tests.support.steps import assert_same_gradients, draw, spread
from tests.support.tolerances import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")


class Expected:
    """Gramian and gradients of one graph, which is retained."""

    def __init__(self, model: nn.Module, losses: Tensor, batch_dim: int | None) -> None:
        self.model, self.losses, self.batch_dim = model, losses, batch_dim
        self.gramian = reference_gramian(losses, model.parameters())
        self.weights = spread(self.gramian)
        self.gradients = self._gradients(lambda: losses.backward(self.weights, retain_graph=True))

    def _gradients(self, call: object) -> list[Tensor | None]:
        self.model.zero_grad()
        call()
        return [p.grad for p in self.model.parameters()]

    def compare(self, *, gramian: bool = True, memory_cap: int | None = None) -> None:
        """Hold both forms against it."""
        engine = Engine(self.model, batch_dim=self.batch_dim, memory_cap=memory_cap)
        if gramian:
            assert_close(engine.compute_gramian(self.losses), self.gramian)

        def step() -> None:
            found = engine.backward(self.losses, lambda _: self.weights, retain_graph=True)
            assert_close(found.gramian, self.gramian)

        found = self._gradients(step)
        assert_same_gradients(found, self.gradients)
        assert self.gradients is not found


def _several(model: nn.Module, case: Case, x: Tensor) -> Tensor:
    """Two losses for every sample, shape [b, 2]."""
    first = case.losses(model, x)
    return torch.stack([first, torch.tanh(first / (1 + first.detach().abs()))], 1)


@pytest.mark.parametrize("form", ["samples", "batch", "two for each sample"])
@pytest.mark.parametrize("case", CASES)
def test_every_plan_of_every_case(case: Case, form: str) -> None:
    model, x = case.build()
    losses = _several(model, case, x) if form.startswith("two") else case.losses(model, x)
    expected = Expected(model, losses, None if form == "batch" else 0)
    number = 0
    described: set[tuple[str, ...]] = set()
    while True:

        def choose(_: int, found: list[Task], number: int = number) -> Task:
            described.update(describe(task) for task in found)
            return found[number % len(found)]

        with pytest.MonkeyPatch.context() as patched:
            met = force(patched, choose)
            expected.compare()
        number += 1
        if number >= max((len(ways) for tasks in met for ways in tasks), default=1):
            break
    kept = {one[-1] for one in described}
    assert not described or "nothing" in kept


def test_every_option_of_every_rule_is_tried() -> None:
    # Names that no case reaches would be plans that no test runs.
    tried: dict[str, set[tuple[str, str]]] = {}
    offered: dict[str, set[str]] = {}
    for parameter in CASES:
        for dtype in (torch.float64, torch.float32):
            model, x = parameter.values[0].build(dtype)

            def choose(_: int, found: list[Task]) -> Task:
                for task in found:
                    for share in task.shares:
                        name = share.rule.name
                        tried.setdefault(name, set()).add((share.option.contraction, task.keep))
                        offered.setdefault(name, set()).add(share.option.contraction)
                return found[0]

            with pytest.MonkeyPatch.context() as patched:
                force(patched, choose)
                losses = parameter.values[0].losses(model, x)
                Engine(model, batch_dim=0).explain(losses)
    assert set(tried) == {rule.name for rule in RULES.values()}
    for name, contractions in offered.items():
        for contraction in contractions:
            keeps = {keep for other, keep in tried[name] if other == contraction}
            assert keeps == {
                "nothing",
                "rows" if "rows" in contraction and contraction != "rows that occur" else "factors",
            }, (name, contraction)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.id)
def test_a_random_plan_of_every_architecture(architecture: Architecture) -> None:
    model, inputs = architecture.build(torch.float64)
    expected = Expected(model, architecture.losses(model, inputs), 0)
    draw = random.Random(architecture.id)
    with pytest.MonkeyPatch.context() as patched:
        force(patched, lambda _, found: draw.choice(found))
        expected.compare(gramian=False)


@pytest.mark.parametrize("budget_bytes", [0, 1, 1000])
@pytest.mark.parametrize("case", CASES)
def test_any_workspace(case: Case, budget_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks as small as they get: one row, one channel, one sample at a time.
    model, x = case.build()
    expected = Expected(model, case.losses(model, x), 0)
    monkeypatch.setattr(passes, "Workspace", lambda _: Workspace(budget_bytes))
    for which in (0, -1):
        with pytest.MonkeyPatch.context() as patched:
            unkept = force(
                patched,
                lambda _, found, which=which: (
                    [t for t in found if not t.shares[0].option.kept_rows] or found
                )[which],
            )
            expected.compare(gramian=False)
        assert len(unkept) == 1


CAPS = [0, 300, 1_000, 3_000, 10_000, 10**9]


@pytest.mark.parametrize("form", ["samples", "two for each sample"])
@pytest.mark.parametrize("case", [c for c in CASES if "batch" not in c.id])
def test_any_cap_is_exact_or_refused(case: Case, form: str) -> None:
    model, x = case.build()
    losses = _several(model, case, x) if form.startswith("two") else case.losses(model, x)
    expected = Expected(model, losses, None if form == "batch" else 0)
    refused, said = [], []
    for cap in CAPS:
        model.zero_grad()
        try:
            expected.compare(memory_cap=cap)
        except MemoryCapError as error:
            refused.append(cap)
            said.append(str(error))
            assert all(p.grad is None for p in model.parameters())
    for cap, words in zip(refused, said, strict=True):
        assert f"memory_cap={cap:,}" in words
    # What fits once fits with more, and everything here fits at last.
    assert refused == CAPS[: len(refused)]
    assert 10**9 not in refused


def test_the_cap_that_an_error_asks_for_is_enough() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 10)).double()
    losses = model(draw(6, 30)).square().sum(1)
    with pytest.raises(MemoryCapError) as caught:
        Engine(model, batch_dim=0, memory_cap=0).compute_gramian(losses)
    words = str(caught.value).replace(",", "").split()
    needed = max(int(word) for word in words if word.isdigit())
    Expected(model, losses, 0).compare(memory_cap=needed)


@pytest.mark.parametrize("batch_dim", [0, None])
def test_an_expert_that_sees_no_sample_under_any_plan(batch_dim: int | None) -> None:
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)]).double()
    x = draw(6, 4)
    losses = torch.cat([model[0](x), model[1](x[:0])]).square().sum(1)
    expected = Expected(model, losses, batch_dim)
    for number in range(8):
        with pytest.MonkeyPatch.context() as patched:
            force(patched, lambda _, found, number=number: found[number % len(found)])
            expected.compare()


def test_equal_plans_give_equal_bits() -> None:
    # The same seed and the same plan, however often, with or without what was kept from before.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5))
    x = torch.randn(8, 2, 6, 6)
    found = []
    kept = Engine(model, batch_dim=0)
    for engine in (Engine(model, batch_dim=0), kept, kept, kept):
        model.zero_grad()
        step = engine.backward(model(x).square().sum(1), spread)
        found.append([step.gramian, step.weights, *(p.grad for p in model.parameters())])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_rows_are_those_of_the_jacobian() -> None:
    # Weighted sums of kept rows see every objective: one at a time gives its row.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    losses = model(draw(3, 4)).square()
    jacobian = reference_jacobian(losses, model.parameters())
    for row in range(6):
        model.zero_grad()
        weights = torch.zeros(6, dtype=torch.float64)
        weights[row] = 1
        Engine(model, batch_dim=0).backward(
            losses, lambda _, w=weights: w.reshape(3, 2), retain_graph=True
        )
        assert_close(torch.cat([p.grad.flatten() for p in model.parameters()]), jacobian[row])
