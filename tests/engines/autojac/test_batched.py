"""Tests of `backward` with `modules` and `batch_dim`: reference, pinned, structure, refusals."""

import copy
import gc
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.autogram import rows as engine_rows
from engines.autogram.rules import base
from engines.autojac import backward, batched
from engines.errors import BatchMixedError, UnsupportedGraphError
from tests.support.allocations import peak_bytes
from tests.support.architectures import ARCHITECTURES, Architecture
from tests.support.cases import CASES, Case, Tied
from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")


class Recording(nn.Module):
    """Aggregator that keeps the Jacobian it saw and returns a fixed combination."""

    def forward(self, jacobian: Tensor) -> Tensor:
        self.jacobian = jacobian.clone()
        weights = torch.linspace(-1, 1, len(jacobian), dtype=jacobian.dtype)
        return weights @ jacobian


def _both(losses: Tensor, model: nn.Module, batch_dim: int = 0) -> tuple[Tensor, Tensor]:
    """The Jacobian by samples, and row by row, columns in the order of the call's choice."""
    one, other = Recording(), Recording()
    backward(losses, one, retain_graph=True, modules=model, batch_dim=batch_dim)
    backward(losses, other, retain_graph=True, parallel_chunk_size=1)
    return one.jacobian, other.jacobian


def _left(parameters: list[Tensor]) -> Tensor:
    """What is in `.jac`, shape [m, n]."""
    return torch.cat([p.jac.flatten(1) for p in parameters], 1)


def _trained(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("case", CASES)
def test_reference(case: Case) -> None:
    model, x = case.build()
    losses = case.losses(model, x)
    expected = reference_jacobian(losses, model.parameters())
    backward(losses, inputs=_trained(model), retain_graph=True, modules=[model], batch_dim=0)
    assert_close(_left(_trained(model)), expected)
    assert_close(*_both(losses, model))


@pytest.mark.parametrize("case", CASES)
def test_reference_sample_by_sample(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where the gradient of one sample is larger than a block.
    monkeypatch.setattr(base, "BLOCK_BYTES", 1)
    model, x = case.build()
    assert_close(*_both(case.losses(model, x), model))


@pytest.mark.parametrize("name", ["rows", "rows, one by one", "rows, unfolded"])
@pytest.mark.parametrize("case", [c for c in CASES if "conv" in c.id or c.id == "kernel at two"])
def test_reference_of_every_way_to_build_rows(
    case: Case, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = engine_rows._contraction

    def chosen(share, *rest):
        offered = {share.option.contraction, *(option.contraction for option, _ in share.others)}
        return name if name in offered else choose(share, *rest)

    monkeypatch.setattr(engine_rows, "_contraction", chosen)
    model, x = case.build()
    assert_close(*_both(case.losses(model, x), model))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.id)
def test_reference_of_architectures(architecture: Architecture) -> None:
    model, inputs = architecture.build(torch.float64)
    assert_close(*_both(architecture.losses(model, inputs), model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reference_in_other_dtypes(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(20, 2)).to(dtype)
    losses = model(torch.randn(5, 3, 7).to(dtype)).square().sum(1)
    found, expected = _both(losses, model)
    assert found.dtype == expected.dtype == dtype
    assert_close(found, expected, dtype)


def test_reference_of_a_model_in_two_dtypes() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2).double())
    model[1].register_forward_hook(lambda module, inputs, output: output.double())
    losses = model(torch.randn(5, 3)).square().sum(1)
    found, expected = _both(losses, model)
    assert found.dtype == torch.float64
    assert_close(found, expected, torch.float32)
    backward(losses, modules=model, batch_dim=0)
    assert [p.jac.dtype for p in model.parameters()] == [p.dtype for p in model.parameters()]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


SHAPES: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "samples, losses": (0, lambda y: y),
    "losses, samples": (1, lambda y: y.T),
    "from the end": (-1, lambda y: y.T),
    "samples between": (1, lambda y: torch.stack([y, y.square()]).double()),
    "samples first of three": (0, lambda y: torch.stack([y, y.sin()], 1)),
    "samples last of three": (2, lambda y: torch.stack([y, y.sin()]).mT),
    "one loss in a row": (1, lambda y: y.sum(1).unsqueeze(0)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("samples", [1, 6])
def test_losses_of_any_shape(shape: str, samples: int, model: nn.Module, x: Tensor) -> None:
    batch_dim, reshape = SHAPES[shape]
    losses = reshape(model(x[:samples]).square())
    expected = reference_jacobian(losses, model.parameters())
    backward(losses, retain_graph=True, modules=model, batch_dim=batch_dim)
    assert_close(_left(_trained(model)), expected)
    assert_close(*_both(losses, model, batch_dim))


def test_one_pass_serves_all_samples(
    model: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, others = [], []
    sweep, differentiate = engine_rows.sweep, batched.differentiate
    monkeypatch.setattr(engine_rows, "sweep", lambda *a, **k: (passes.append(1), sweep(*a, **k))[1])
    monkeypatch.setattr(
        batched, "differentiate", lambda *a: (others.append(len(a[1])), differentiate(*a))[1]
    )
    backward(model(x).square().sum(1), modules=model, batch_dim=0)
    assert (len(passes), others) == (1, [0])
    passes.clear()
    for parameter in model.parameters():
        del parameter.jac
    backward(model(x).square(), modules=model, batch_dim=0)
    assert len(passes) == 3


def test_inputs_restrict_and_order_the_columns(model: nn.Module, x: Tensor) -> None:
    chosen = [model[2].bias, model[0].weight]
    losses = model(x).square().sum(1)
    recording = Recording()
    expected = reference_jacobian(losses, chosen)
    backward(losses, recording, inputs=chosen, modules=model, batch_dim=0)
    assert_close(recording.jacobian, expected)
    assert model[0].bias.grad is None
    assert model[2].weight.grad is None


def test_inputs_outside_the_modules_belong_to_the_jacobian(model: nn.Module, x: Tensor) -> None:
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    points = x.requires_grad_()
    hidden = model[0](points)
    hidden.retain_grad()
    unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    losses = (model[2](model[1](hidden)) * scale).square().sum(1)
    assert_close(*_both(losses, model[2]))
    scale.grad = points.grad = None
    hidden.grad = None
    everything = [hidden, unused, scale, model[2].weight, points, model[0].bias]
    expected = torch.autograd.functional.jacobian(
        lambda h: (model[2](model[1](h)) * scale).square().sum(1), hidden
    )
    parameters = [scale, model[2].weight, points, model[0].bias]
    rest = reference_jacobian(losses, parameters)
    hidden.grad = None
    backward(losses, inputs=everything, modules=model, batch_dim=0)
    assert_close(hidden.jac, expected)
    assert torch.equal(unused.jac, torch.zeros(6, 2, dtype=torch.float64))
    assert_close(_left(parameters), rest)
    assert hidden.grad is None


def test_inputs_without_any_of_the_modules_parameters(model: nn.Module, x: Tensor) -> None:
    scale = torch.ones(3, dtype=torch.float64, requires_grad=True)
    losses = (model(x) * scale).square().sum(1)
    expected = reference_jacobian(losses, [scale])
    backward(losses, inputs=[scale], modules=model, batch_dim=0)
    assert_close(scale.jac, expected)


def test_frozen_parameters_are_left_out_and_may_change(model: nn.Module, x: Tensor) -> None:
    for frozen in (model[0].weight, model[2].bias):
        frozen.requires_grad_(False)
        losses = model(x).square().sum(1)
        expected = reference_jacobian(losses, model.parameters())
        backward(losses, modules=model, batch_dim=0)
        assert not hasattr(frozen, "jac")
        assert_close(_left(_trained(model)), expected)
        frozen.requires_grad_(True)
        for parameter in _trained(model):
            if hasattr(parameter, "jac"):
                del parameter.jac


def test_several_modules_with_a_tied_weight() -> None:
    torch.manual_seed(0)
    first, second = Tied().double(), nn.Linear(6, 6).double()
    second.bias = first.bias
    losses = second(first(torch.randn(5, 6, dtype=torch.float64))).square().sum(1)
    parameters = [*first.parameters(), second.weight]
    expected = reference_jacobian(losses, parameters)
    backward(losses, modules=[first, second], batch_dim=0)
    assert_close(_left(parameters), expected)


def test_hooks_of_parameters_run_row_by_row(model: nn.Module, x: Tensor) -> None:
    seen: list[Tensor] = []
    handle = model[0].weight.register_hook(lambda g: (seen.append(g), 2 * g)[1])
    losses = model(x).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    seen.clear()
    backward(losses, parallel_chunk_size=1, modules=model, batch_dim=0)
    handle.remove()
    assert_close(_left(_trained(model)), expected)
    # One row for each sample, beside the zeros with which hooks are looked for.
    assert sum(bool(gradient.any()) for gradient in seen) == 6


class _Cut(torch.autograd.Function):
    """A function whose backward says that there is no gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> None:
        return None


def test_what_autograd_never_delivers_is_zero(model: nn.Module, x: Tensor) -> None:
    losses = model[2](_Cut.apply(model[0](x))).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    backward(losses, inputs=_trained(model), modules=model, batch_dim=0)
    assert_close(_left(_trained(model)), expected)
    assert not model[0].weight.jac.any()


@pytest.mark.parametrize("last", [8, 12])
def test_parameters_that_are_read_in_parts(last: int, x: Tensor) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 12).double()
    keys, values = layer.weight[:4], layer.weight[4:last]
    losses = (torch.tanh(x @ keys.T) @ values.T + layer.bias[:last].sum()).square().sum(1)
    found, expected = _both(losses, layer)
    assert_close(found, expected)
    assert found.shape == (6, 60)


def test_results_are_added_to_what_is_there(model: nn.Module, x: Tensor) -> None:
    losses = model(x).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    for _ in range(2):
        backward(losses, retain_graph=True, modules=model, batch_dim=0)
        backward(losses, lambda j: j.mean(0), retain_graph=True, modules=model, batch_dim=0)
    assert_close(_left(_trained(model)), 2 * expected)
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert_close(gradients, 2 * expected.mean(0))


def test_the_same_bits_twice(model: nn.Module, x: Tensor) -> None:
    losses = model(x).square()
    one, other = Recording(), Recording()
    for recording in (one, other):
        backward(losses, recording, retain_graph=True, modules=model, batch_dim=0)
    assert torch.equal(one.jacobian, other.jacobian)


def test_jacobians_have_their_own_storage(model: nn.Module, x: Tensor) -> None:
    backward(model(x).square(), modules=model, batch_dim=0)
    for parameter in model.parameters():
        assert parameter.jac.is_contiguous()
        assert parameter.jac.untyped_storage().nbytes() == 8 * 18 * parameter.numel()


@pytest.mark.parametrize("outside", [False, True])
def test_the_graph_is_freed_unless_it_is_kept(outside: bool, model: nn.Module, x: Tensor) -> None:
    scale = torch.ones(3, dtype=torch.float64, requires_grad=outside)
    losses = (model(x) * scale).square().sum(1)
    backward(losses, retain_graph=True, modules=model, batch_dim=0)
    backward(losses, modules=model, batch_dim=0)
    with pytest.raises(UnsupportedGraphError, match="freed"):
        backward(losses, modules=model, batch_dim=0)


def test_no_sample_at_all(model: nn.Module) -> None:
    losses = model(torch.zeros(0, 4, dtype=torch.float64)).square().sum(1)
    backward(losses, modules=model, batch_dim=0)
    assert model[0].weight.jac.shape == (0, 5, 4)


def test_modules_can_be_copied_afterwards(model: nn.Module, x: Tensor) -> None:
    assert_close(*_both(model(x).square().sum(1), model))
    other = copy.deepcopy(model)
    assert_close(*_both(other(x[:3]).square().sum(1), other))
    kept = len(engine_rows._READERS)
    del model, other
    gc.collect()
    assert len(engine_rows._READERS) < kept


def test_autocast_does_not_reach_the_rows(x: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    losses = model(x.float()).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        backward(losses, modules=model, batch_dim=0)
    assert_close(_left(_trained(model)), expected, torch.float32)


# Pinned: peak bytes.

M, WIDTH = 16, 1024
N = WIDTH * WIDTH
FORMS: dict[str, Callable[[Tensor, nn.Module], None]] = {
    "aggregated": lambda y, model: backward(y, lambda j: j[0].clone(), modules=model, batch_dim=0),
    "left in .jac": lambda y, model: backward(y, modules=model, batch_dim=0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("positions", [1, 4])
def test_rows_of_a_linear_layer_are_built_in_the_jacobian(form: str, positions: int) -> None:
    torch.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH, bias=False)
    losses = model(torch.randn(M, positions, WIDTH)).square().sum((1, 2))
    found = peak_bytes(lambda: FORMS[form](losses, model))
    # The Jacobian, the direction and the gradient, and four of the size of an output.
    jacobian, activations = 4 * M * N, 4 * M * positions * WIDTH
    gradients = 2 * 4 * N if form == "aggregated" else 0
    assert jacobian <= found <= jacobian + gradients + 4 * activations + 2**16


@pytest.mark.parametrize("name", ["rows", "rows, one by one"])
def test_rows_of_a_kernel_are_copied_in_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(engine_rows, "_contraction", lambda *_: name)
    model = nn.Conv2d(256, 256, 3, bias=False)
    losses = model(torch.randn(M, 256, 4, 4)).square().sum((1, 2, 3))
    found = peak_bytes(lambda: backward(losses, modules=model, batch_dim=0))
    one, block = 4 * model.weight.numel(), 8 * 2**20
    activations = 4 * M * 256 * (16 + 4 * 4)
    # A block, and what torch makes of it: two copies in its own layout, and the kernel's.
    assert M * one <= found <= M * one + 4 * max(one, block) + activations


def test_rows_of_a_table_are_not_copied() -> None:
    torch.manual_seed(0)
    model = nn.Embedding(20000, 64)
    losses = model(torch.randint(20000, (8, 10))).square().sum((1, 2))
    found = peak_bytes(lambda: backward(losses, modules=model, batch_dim=0))
    jacobian, activations = 4 * 8 * model.weight.numel(), 4 * 8 * 10 * 64
    assert jacobian <= found <= jacobian + 6 * activations + 2**16


# Refusals.


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"modules": nn.Linear(2, 2)}, ValueError, "got modules without batch_dim"),
        ({"batch_dim": 0}, ValueError, "got batch_dim without modules"),
        ({"modules": [], "batch_dim": 0}, ValueError, "got no module"),
        ({"modules": 3, "batch_dim": 0}, TypeError, "got int as modules"),
        ({"modules": [3], "batch_dim": 0}, TypeError, "got int as argument 0"),
        ({"modules": nn.Linear(2, 2), "batch_dim": 1}, ValueError, "with batch_dim=1"),
        ({"modules": nn.Linear(2, 2), "batch_dim": 0.0}, TypeError, "got batch_dim=0.0"),
        ({"modules": nn.Tanh(), "batch_dim": 0}, ValueError, "without a trainable parameter"),
        (
            {"modules": nn.Tanh(), "batch_dim": 0, "jac_tensors": torch.ones(2, 6)},
            ValueError,
            "got jac_tensors together with modules",
        ),
    ],
)
@pytest.mark.parametrize("aggregator", [None, lambda jacobian: jacobian.mean(0)])
def test_arguments_are_refused(aggregator, given, kind, message, model, x) -> None:
    losses = model(x).square().sum(1)
    with pytest.raises(kind, match=message):
        backward(losses, aggregator, **given)
    assert all(p.grad is None and not hasattr(p, "jac") for p in model.parameters())


def test_several_tensors_are_refused(model: nn.Module, x: Tensor) -> None:
    losses = model(x).square()
    with pytest.raises(ValueError, match="got 2 tensors with batch_dim=0, expected one"):
        backward([losses[0], losses[1]], modules=model, batch_dim=0)


def test_mixed_samples_are_refused_and_nothing_is_written() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    losses = F.mse_loss(model(torch.randn(5, 3)), torch.zeros(5, 2), reduction="none").sum(1)
    for aggregator in (None, Recording()):
        with pytest.raises(BatchMixedError, match=r"(?s)batch_dim=0.*1  BatchNorm"):
            backward(losses, aggregator, modules=model, batch_dim=0)
    assert all(p.grad is None and not hasattr(p, "jac") for p in model.parameters())
