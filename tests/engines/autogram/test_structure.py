"""Structure tests: what the engine claims about passes, proofs, choices and memory is true."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import engines.autogram.passes as passes
import engines.autogram.probing as probing
from engines.autogram import Engine
from engines.autogram.graph import read_graph
from engines.autogram.plan import make_plan
from engines.autogram.probing import sample_codes
from engines.autogram.rules import RULES, Workspace
from engines.autogram.rules.contraction import add_products, product_options, product_rows
from engines.errors import BatchMixedError
from tests.support.allocations import peak_bytes
from tests.support.cases import CASES, CONVOLUTIONS, Case
from tests.support.reference import reference_gramian
from tests.support.steps import spread
from tests.support.tolerances import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")


def _passes(call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Passes for output gradients, and other backward passes that autograd runs from the losses."""
    sweeps, others = [], []
    inner, grad, whole = passes.sweep, torch.autograd.grad, torch.autograd.backward

    def counted(*arguments: object, **named: object) -> None:
        sweeps.append(1)
        inner(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(passes, "sweep", counted)
        patched.setattr(
            torch.autograd, "grad", lambda *a, **n: (others.append(1), grad(*a, **n))[1]
        )
        patched.setattr(
            torch.autograd, "backward", lambda *a, **n: (others.append(1), whole(*a, **n))[1]
        )
        call()
    return len(sweeps), len(others)


@pytest.mark.parametrize("fused", [False, True])
def test_passes(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, outside = nn.Linear(4, 3), nn.Linear(4, 4)
    x = torch.randn(6, 4)

    def count(losses: Tensor, batch_dim: int | None) -> tuple[int, int]:
        engine = Engine(model, batch_dim=batch_dim)
        if fused:
            return _passes(lambda: engine.backward(losses, spread), monkeypatch)
        return _passes(lambda: engine.compute_gramian(losses), monkeypatch)

    assert count(model(x).square().sum(1), 0) == (1, 0)
    assert count(model(x).mean(0), None) == (3, 0)
    assert count(model(x), 0) == (3, 0)
    # Another pass for what is outside, and only in the fused form.
    assert count(model(outside(x)).square().sum(1), 0) == (1, int(fused))
    # One pass for every objective on the general path, and one for the weighted sum.
    losses = (x @ torch.tanh(model.weight).T + model.bias).square().sum(1)
    assert count(losses, 0) == (1, 6 + int(fused))


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


@pytest.mark.parametrize("form", ["per-sample", "input-output"])
@pytest.mark.parametrize("budget_bytes", [0, 1, 2000, 2**24])
@pytest.mark.parametrize(("left_k", "right_k"), [(1, 1), (3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("positions", [1, 5])
@pytest.mark.parametrize("ones", [False, True])
def test_both_forms_in_any_workspace(
    form: str, budget_bytes: int, left_k: int, right_k: int, positions: int, ones: bool
) -> None:
    torch.manual_seed(0)
    workspace = Workspace(budget_bytes)
    for wide_left, wide_right in ((2, 9), (9, 2), (7, 7)):
        left = torch.randn(left_k, 4, positions, wide_left, dtype=torch.float64)
        right = torch.randn(right_k, 4, positions, wide_right, dtype=torch.float64)
        m = 4 * max(left_k, right_k)
        rows = (left.transpose(2, 3) @ right).expand(m // 4, -1, -1, -1).reshape(m, -1)
        assert_close(product_rows(left, right).flatten(1), rows)
        if ones:
            summed = left.sum(2).expand(m // 4, -1, -1).reshape(m, -1)
            rows = torch.cat([rows, summed], 1)
        start = torch.randn(m, m, dtype=torch.float64)
        total = start.clone()
        # Memory is handed on from use to use, whatever was in it.
        add_products(total, left, right, form, workspace, ones=ones)
        assert_close(total - start, rows @ rows.T)


def test_a_workspace_hands_out_what_was_asked_for() -> None:
    workspace, like = Workspace(1000), torch.empty(0, dtype=torch.float64)
    first, second = workspace.take(like, (2, 3), (4,))
    first.fill_(1)
    second.fill_(2)
    assert (first.shape, second.shape) == ((2, 3), (4,))
    assert first.eq(1).all()
    (again,) = workspace.take(like, (10,))
    assert again.data_ptr() == first.data_ptr()
    (single,) = workspace.take(torch.empty(0), (10,))
    assert (single.dtype, single.data_ptr() != again.data_ptr()) == (torch.float32, True)
    for count, bytes_each, pieces in ((10, 300, 1), (10, 1, 4), (3, 10**9, 1), (0, 8, 1)):
        cut = workspace.cut(count, bytes_each, pieces)
        assert [i for part in cut for i in range(part.start, part.stop)] == list(range(count))
        assert all(part.stop > part.start for part in cut)
        assert all((part.stop - part.start) * bytes_each <= 1000 for part in cut[:-1]) or all(
            part.stop - part.start == 1 for part in cut
        )


def test_predicted_work_is_what_the_sizes_say() -> None:
    # 6 samples, 5 positions, 4 inputs, 3 outputs, k = 1. Similarities of 30 rows with 30 rows,
    # five eighths of them: 5/8·900·(3 + 4); rows: 6·5·12 to build, 36·12 to multiply.
    products, blocks, rows = product_options(torch.Size((1, 6, 5, 3)), torch.Size((1, 6, 5, 4)), 8)
    assert (products.contraction, products.multiply_adds) == ("input-output", 5 * 900 * 7 // 8)
    assert (blocks.contraction, blocks.multiply_adds) == ("per-sample", 360 + 432)
    assert (rows.contraction, rows.multiply_adds) == ("rows", 360 + 432)
    assert [option.kept_rows for option in (products, blocks, rows)] == [False, False, True]
    assert rows.workspace_bytes == 8 * 6 * 12
    # The shorter of both sides is a row of a block.
    assert blocks.workspace_bytes == 8 * 6 * 3


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
    seen = set()
    for parameter in CASES:
        # The same layer can be another node in another dtype.
        for dtype in (torch.float64, torch.float32):
            model, x = parameter.values[0].build(dtype)
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
