"""Structure tests: what the engine claims about passes, proofs, choices and memory is true."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import engines.autogram.engine as engine_module
import engines.autogram.probing as probing
import engines.autogram.rules.base as base
import engines.autogram.rules.unfolding as unfolding
from engines.autogram import Engine
from engines.autogram.graph import read_graph
from engines.autogram.plan import make_plan
from engines.autogram.probing import sample_codes
from engines.autogram.rules.contraction import add_products, choose_contraction
from engines.errors import BatchMixedError
from tests.support.allocations import peak_bytes
from tests.support.cases import CASES, CONVOLUTIONS, Case
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")


def _passes(engine: Engine, losses: Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    sweeps = []
    inner = engine_module.sweep

    def counted(*arguments: object) -> None:
        sweeps.append(1)
        inner(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "sweep", counted)
        engine.compute_gramian(losses)
    return len(sweeps)


def test_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(4, 3)
    x = torch.randn(6, 4)
    assert _passes(Engine(model, batch_dim=0), model(x).square().sum(1), monkeypatch) == 1
    assert _passes(Engine(model, batch_dim=None), model(x).mean(0), monkeypatch) == 3
    assert _passes(Engine(model, batch_dim=0), model(x), monkeypatch) == 3


def _asked(
    engine: Engine, make: Callable[[], Tensor], calls: int, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """How many operations are asked by numbers at every call."""
    asked: list[int] = []
    inner = probing._Probe.run

    def counted(probe: object, slots: object) -> object:
        asked[-1] += 1
        return inner(probe, slots)

    with monkeypatch.context() as patched:
        patched.setattr(probing._Probe, "run", counted)
        for _ in range(calls):
            asked.append(0)
            engine.compute_gramian(make())
    return asked


def test_a_proof_by_numbers_costs_nothing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()

    def unlisted() -> Tensor:
        h = model[0](torch.randn(6, 4, dtype=torch.float64)).flip(1).flip(1)
        return model[2](h).square().sum(1)

    # Both reversals are one operation with the same shapes.
    assert _asked(Engine(model, batch_dim=0), unlisted, 3, monkeypatch) == [1, 0, 0]


def test_a_proof_that_data_may_change_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    order, x = torch.arange(6), torch.randn(6, 4, dtype=torch.float64)

    def indexed() -> Tensor:
        return model(x)[order].square().sum(1)

    assert _asked(Engine(model, batch_dim=0), indexed, 2, monkeypatch) == [1, 1]
    # A map of the batch that is diagonal at first.
    mix = torch.eye(6, dtype=torch.float64)

    def solved() -> Tensor:
        return torch.linalg.solve(mix, model(x)).square().sum(1)

    engine = Engine(model, batch_dim=0)
    assert _asked(engine, solved, 2, monkeypatch) == [1, 1]
    mix[1, 0] = 0.5
    with pytest.raises(BatchMixedError, match="LinalgSolveEx works across the batch"):
        engine.compute_gramian(solved())


# Pairs whose nodes show the same although the samples go elsewhere.
HIDDEN: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "cat": (
        lambda h: torch.cat([h.new_ones(1, 3), h, h.new_ones(2, 3)]),
        lambda h: torch.cat([h.new_ones(2, 3), h, h.new_ones(1, 3)]),
    ),
    "as_strided": (
        lambda h: h.as_strided((3, 3), (3, 1)),
        lambda h: h.t().contiguous().t().as_strided((3, 3), (3, 1)),
    ),
}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("pair", HIDDEN)
def test_what_a_node_hides_is_asked_at_every_call(pair: str, first: int) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    engine = Engine(model, batch_dim=0)
    for which in (first, 1 - first, first):
        h = model(torch.randn(3, 4, dtype=torch.float64)) * 1
        losses = HIDDEN[pair][which](h).square().sum(1)
        expected = reference_gramian(losses, model.parameters())
        assert_close(engine.compute_gramian(losses), expected)


@pytest.mark.parametrize("samples", [2, 5, 34, 35, 300, 1200])
@pytest.mark.parametrize("exponent", [4, 30, 100])
def test_codes_tell_samples_apart(samples: int, exponent: int) -> None:
    codes = sample_codes(samples, exponent)
    assert len({tuple(code) for code in codes.T.tolist()}) == samples
    assert codes.abs().log2().frac().eq(0).all()
    assert codes.abs().log2().abs().max() <= exponent


@pytest.mark.parametrize("case", CASES)
def test_walk_has_a_fixed_order(case: Case) -> None:
    model, x = case.build()
    parameters = list(model.parameters())
    graphs = [read_graph(case.losses(model, x), parameters) for _ in range(2)]
    described = [([n.name() for n in g.nodes], g.edges, g.postorder) for g in graphs]
    assert described[0] == described[1]


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_have_a_rule(case: Case) -> None:
    model, x = case.build()
    named = dict(model.named_parameters())
    plan = make_plan(read_graph(case.losses(model, x), list(named.values())), list(named.values()))
    assert not plan.general


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_folded_and_unfolded_agree(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = case.build()
    losses = case.losses(model, x)
    unfolded = Engine(model, batch_dim=0).compute_gramian(losses)
    monkeypatch.setattr(unfolding, "_MOST_POSITIONS", 0)
    folded = Engine(model, batch_dim=0).compute_gramian(losses)
    # One output channel or group at a time.
    monkeypatch.setattr(base, "WORKSPACE_BYTES", 1)
    blocked = Engine(model, batch_dim=0).compute_gramian(losses)
    assert_close(folded, unfolded)
    assert_close(blocked, unfolded)


@pytest.mark.parametrize("form", ["per-sample", "input-output"])
@pytest.mark.parametrize("workspace", [1, 2000, 2**24])
@pytest.mark.parametrize(("left_k", "right_k"), [(1, 1), (3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("ones", [False, True])
def test_both_forms_in_any_workspace(
    form: str,
    workspace: int,
    left_k: int,
    right_k: int,
    ones: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    wide = 40 if form == "input-output" else 2
    left = torch.randn(left_k, 4, 5, wide, dtype=torch.float64)
    right = torch.randn(right_k, 4, 5, wide + 1, dtype=torch.float64)
    assert choose_contraction(left.shape, right.shape).form == form
    monkeypatch.setattr(base, "WORKSPACE_BYTES", workspace)
    k = max(left_k, right_k)
    rows = (left.transpose(2, 3) @ right).expand(k, -1, -1, -1).reshape(k * 4, -1)
    if ones:
        summed = left.sum(2).expand(k, -1, -1).reshape(k * 4, -1)
        rows = torch.cat([rows, summed], 1)
    total = torch.zeros(k * 4, k * 4, dtype=torch.float64)
    add_products(total, left, right, ones=ones)
    assert_close(total, rows @ rows.T)


@pytest.mark.parametrize("case", CASES)
def test_symmetric_and_without_negative_eigenvalues(case: Case) -> None:
    model, x = case.build()
    found = Engine(model, batch_dim=0).compute_gramian(case.losses(model, x))
    assert torch.equal(found, found.T)
    assert torch.linalg.eigvalsh(found).min() >= -1e-12 * found.trace()


def test_wide_linear_stays_far_below_the_jacobian() -> None:
    b, i, o = 16, 512, 768
    torch.manual_seed(0)
    model = nn.Linear(i, o)
    losses = model(torch.randn(b, i)).square().sum(1)
    engine = Engine(model, batch_dim=0)
    engine.compute_gramian(losses)  # loads what torch loads at first use
    peak = peak_bytes(lambda: engine.compute_gramian(losses))
    # Live together at most: the gradient of the squares twice over (the expanded sum, its factor
    # 2y and their product: 3·b·o), and b×b matrices and vectors of the contraction (8·b²), 4 bytes
    # each; the Jacobian would be b·(i + 1)·o.
    bound = 4 * (3 * b * o + 8 * b * b)
    assert peak <= bound
    assert bound < 4 * b * (i + 1) * o / 100


def test_registry_lists_what_is_tested() -> None:
    from engines.autogram.rules import RULES

    seen = set()
    for parameter in CASES:
        model, x = parameter.values[0].build()
        graph = read_graph(parameter.values[0].losses(model, x), list(model.parameters()))
        plan = make_plan(graph, list(model.parameters()))
        seen |= {graph.nodes[index].name() for index in plan.nodes}
    assert seen == set(RULES)


def test_equal_seeds_give_equal_bits() -> None:
    case = CASES[0].values[0]
    found = []
    for _ in range(2):
        model, x = case.build(torch.float32)
        found.append(Engine(model, batch_dim=0).compute_gramian(case.losses(model, x)))
    assert torch.equal(*found)


def test_partial_gramians_add_up() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    losses = model(torch.randn(6, 4, dtype=torch.float64)).square().sum(1)
    parts = [Engine(model[n], batch_dim=0).compute_gramian(losses) for n in (0, 2)]
    assert_close(sum(parts), reference_gramian(losses, model.parameters()))
