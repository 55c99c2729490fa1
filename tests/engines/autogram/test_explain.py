"""What `explain` says, and Gramians by module."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.autogram import Engine
from engines.autogram.rules import RULES
from engines.autogram.rules.contraction import product_options
from tests.structure.sources import ROOT
from tests.support.allocations import peak_bytes
from tests.support.cases import CASES, Case, TiedHead
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")


@pytest.mark.parametrize("batch_dim", [0, None])
@pytest.mark.parametrize("case", CASES)
def test_every_use_is_explained(case: Case, batch_dim: int | None) -> None:
    model, x = case.build()
    plans = Engine(model, batch_dim=batch_dim).explain(case.losses(model, x))
    named = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {f"{p.path}.{p.parameter}".removeprefix(".") for p in plans} == named
    for plan in plans:
        assert plan.operation.endswith(tuple("0123456789"))
        assert plan.reason
        assert plan.contraction
        assert plan.flops >= 0
        assert plan.workspace_bytes >= 0
        assert (plan.rule == "general") == ("row by row" in plan.contraction)


def test_the_block_of_the_general_path_is_foreseen() -> None:
    m, layer = 8, nn.Bilinear(32, 32, 64, bias=False)
    x = torch.randn(m, 32)
    losses = layer(x, x).square().sum(1)
    engine = Engine(layer, batch_dim=0)
    (plan,) = engine.explain(losses)
    assert (plan.rule, plan.workspace_bytes) == ("general", 4 * m * 32 * 32 * 64)
    engine.compute_gramian(losses)
    peak = peak_bytes(lambda: engine.compute_gramian(losses))
    # Beside the block, gradients of one objective: of the weight, a few times while it is made.
    assert plan.workspace_bytes <= peak <= plan.workspace_bytes + 6 * 4 * 32 * 32 * 64


def test_predictions_follow_the_dtype() -> None:
    # A machine's rates differ from dtype to dtype, so another option may be chosen.
    left, right = torch.Size((1, 4, 2, 512)), torch.Size((1, 4, 2, 64))
    single, double = (product_options(left, right, itemsize) for itemsize in (4, 8))
    for one, other in zip(single, double, strict=True):
        assert one.contraction == other.contraction
        assert one.multiply_adds == other.multiply_adds
        assert 2 * one.workspace_bytes == other.workspace_bytes
        assert 2 * one.moved_bytes == other.moved_bytes
    layer = nn.Linear(64, 512)
    x = torch.randn(4, 2, 64)
    for dtype, options in ((torch.float32, single), (torch.float64, double)):
        layer.to(dtype)
        losses = layer(x.to(dtype)).square().sum((1, 2))
        weight = Engine(layer, batch_dim=0).explain(losses)[-1]
        (option,) = (o for o in options if o.contraction == weight.contraction)
        # Rows of the bias are kept beside those of the weight, or freed before its blocks.
        beside = 4 * 512 * dtype.itemsize
        together = option.workspace_bytes + beside
        larger = max(option.workspace_bytes, beside)
        assert weight.workspace_bytes == (together if option.kept_rows else larger)


def test_the_page_lists_the_rules() -> None:
    page = (ROOT / "docs" / "autogram.md").read_text("utf-8")
    table = page.partition("| rule | operations |")[2].partition("\n\n")[0]
    listed = {line.split("|")[1].strip() for line in table.splitlines()[2:]}
    assert listed == {rule.name for rule in RULES.values()}


REASONS: dict[str, Callable[[nn.Linear, Tensor], Tensor]] = {
    "reads no samples": lambda layer, x: x @ layer(torch.eye(4, dtype=x.dtype)),
    "has no rule": lambda layer, x: x @ torch.tanh(layer.weight).T + layer.bias,
    "from a hook": lambda layer, x: _hooked(layer(x)),
    "which cannot be asked by numbers": lambda layer, x: _Custom.apply(layer(x)),
    "AddmmBackward0 has a factor": lambda layer, x: torch.addmm(
        layer.bias, x, layer.weight.T, alpha=2
    ),
    "along a dimension that its rule does not take": lambda layer, x: (layer.weight @ x.T).T,
}


class _Custom(torch.autograd.Function):
    """Identity written in Python."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


def _hooked(h: Tensor) -> Tensor:
    h.register_hook(lambda gradient: gradient * 1)
    return h


@pytest.mark.parametrize("reason", REASONS)
def test_reasons_for_the_general_path(reason: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    losses = REASONS[reason](layer, torch.randn(6, 4, dtype=torch.float64)).square().sum(1)
    engine = Engine(layer, batch_dim=0)
    plan = next(plan for plan in engine.explain(losses) if plan.parameter == "weight")
    assert (plan.rule, reason in plan.reason) == ("general", True)
    assert_close(engine.compute_gramian(losses), reference_gramian(losses, layer.parameters()))


def test_pinned_costs_of_a_linear_layer() -> None:
    # One position. Similarities: 36 pairs of 4 and of 3 numbers. Gradients of the weight: 6·12 to
    # build and 36·12 to multiply. Beside both the bias: its rows are there, 36·3 to multiply.
    layer = nn.Linear(4, 3)
    losses = layer(torch.randn(6, 4)).square().sum(1)
    bias, weight = Engine(layer, batch_dim=0).explain(losses)
    assert [(p.path, p.parameter, p.rule) for p in (bias, weight)] == [
        ("", "bias", "linear"),
        ("", "weight", "linear"),
    ]
    costs = {bias.contraction: bias.flops, **dict(bias.alternatives)}
    built = 6 * 12 + 36 * 12 + 36 * 3
    similar = 36 * 4 + 36 * 3 + 36 * 3
    assert costs == {"input-output": similar, "per-sample": built, "rows": built}
    # Contracted together with the bias, so it costs nothing more.
    assert (weight.contraction, weight.flops) == (bias.contraction, 0)
    assert weight.seconds == 0 < bias.seconds


def test_a_step_explains_what_is_kept() -> None:
    layer = nn.Linear(4, 3)
    losses = layer(torch.randn(6, 4)).square().sum(1)
    kept = {"rows": "its rows are kept", "factors": "its output gradients are kept"}
    (first, _) = Engine(layer, batch_dim=0).explain(losses)
    assert any(words in first.reason for words in kept.values())
    # 6·3 output gradients of 4 bytes do not fit beside the least that any contraction takes.
    least = 4 * 6 * 3
    (tight, _) = Engine(layer, batch_dim=0, memory_cap=least).explain(losses)
    assert "another backward pass" in tight.reason
    assert tight.workspace_bytes <= least


@pytest.mark.parametrize("case", [c for c in CASES if "batch" not in c.id])
def test_shares_of_modules_add_up(case: Case) -> None:
    model, x = case.build()
    losses = case.losses(model, x)
    shares = Engine(model, batch_dim=0).compute_gramian(losses, by_module=True)
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert set(shares) == {name.rpartition(".")[0] for name in named}
    for path, share in shares.items():
        own = [p for name, p in named.items() if name.rpartition(".")[0] == path]
        expected = reference_gramian(losses, own)
        assert torch.equal(share, share.T)
        assert_close(share, expected)


@pytest.mark.parametrize("tied", [False, True])
def test_a_large_vocabulary_is_never_a_block_for_every_sample(tied: bool) -> None:
    m, t, words, d = 8, 6, 40_000, 4
    torch.manual_seed(0)
    model = TiedHead()
    model.embedding = nn.Embedding(words, d)
    model.head = nn.Linear(d, words, bias=False)
    if tied:
        model.head.weight = model.embedding.weight
    tokens = torch.randint(words, (m, t))
    h = torch.tanh(model.embedding(tokens))
    scores = model.head(h[:, 0]) if tied else h.sum(1)
    losses = F.cross_entropy(scores, tokens[:, 1] % scores.shape[1], reduction="none")
    engine = Engine(model.embedding, batch_dim=0)
    engine.compute_gramian(losses)  # loads what torch loads at first use
    peak = peak_bytes(lambda: engine.compute_gramian(losses))
    block = 4 * m * words * d
    if tied:
        # The gradient of the scores, m·V, a few times over while it is made and read: the softmax
        # reads one and writes one, and the rows that occur are picked from a copy.
        assert peak <= 4 * 4 * m * words
    else:
        # Rows that occur, m·t of d entries each, for every sample, with their sorting.
        assert peak <= 4 * m * (m * t) * d + 64 * m * t * (d + 8)
        assert peak < block / 20
