"""Reference and refusal tests where torch's less usual features meet the engine."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engines.autogram import Engine
from engines.autojac import backward
from engines.errors import BatchMixedError, UnsupportedGraphError
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close


class Checkpointed(nn.Module):
    """A layer inside a checkpoint and one outside."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.outer, self.reentrant = nn.Linear(3, 4), nn.Linear(4, 1), reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint(self.inner, x, use_reentrant=self.reentrant)
        return self.outer(torch.tanh(h)).squeeze(1)


def _input(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_checkpointed_block() -> None:
    torch.manual_seed(0)
    model = Checkpointed(reentrant=False).double()
    losses = model(_input(5, 3))
    found = Engine(model, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, model.parameters()))


@pytest.mark.parametrize("batch_dim", [0, None])
@pytest.mark.parametrize("part", ["inner", "outer"])
def test_reentrant_checkpoint_is_refused(batch_dim: int | None, part: str) -> None:
    model = Checkpointed(reentrant=True).double()
    losses = model(_input(5, 3).requires_grad_())
    engine = Engine(getattr(model, part), batch_dim=batch_dim)
    with pytest.raises(UnsupportedGraphError, match="use_reentrant=False"):
        engine.compute_gramian(losses)


@pytest.mark.parametrize("named", [True, False])
def test_reentrant_checkpoint_is_refused_by_autojac(named: bool) -> None:
    model = Checkpointed(reentrant=True).double()
    losses = model(_input(5, 3).requires_grad_())
    inputs = model.parameters() if named else None
    with pytest.raises(UnsupportedGraphError, match="use_reentrant=False"):
        backward(losses, lambda jacobian: jacobian.mean(0), inputs=inputs)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_complex_parameter() -> None:
    torch.manual_seed(4)
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(3, dtype=torch.complex128))
    losses = (torch.randn(4, 3, dtype=torch.complex128) @ module.weight).abs()
    found = Engine(module, batch_dim=0).compute_gramian(losses)
    rows = [
        torch.view_as_real(torch.autograd.grad(loss, module.weight, retain_graph=True)[0]).flatten()
        for loss in losses
    ]
    jacobian = torch.stack(rows)
    assert_close(found, jacobian @ jacobian.T)


@pytest.mark.parametrize("transposed", [False, True])
def test_real_parameter_cast_to_complex(transposed: bool) -> None:
    torch.manual_seed(5)
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(3, 3, dtype=torch.float64))
    weight = module.weight.T if transposed else module.weight
    x = torch.randn(5, 3, dtype=torch.complex128)
    losses = (x @ weight.to(torch.complex128)).abs().sum(1)
    found = Engine(module, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, module.parameters()))


def test_complex_output_is_refused() -> None:
    layer = nn.Linear(3, 1).double()
    output = layer(_input(5, 3)).squeeze(1) * (1 + 2j)
    with pytest.raises(TypeError, match="complex output"):
        Engine(layer, batch_dim=0).compute_gramian(output)
    with pytest.raises(TypeError, match="complex tensor at position 0"):
        backward(output, lambda jacobian: jacobian.mean(0))


@pytest.mark.parametrize("unknown", [False, True])
def test_threads_take_turns_on_one_graph(unknown: bool) -> None:
    torch.manual_seed(6)
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(12)]
    model = nn.Sequential(*blocks, nn.Linear(16, 1)).double()
    losses = model(_input(32, 16)).squeeze(1)
    losses = losses.flip(0).flip(0) if unknown else losses
    expected = reference_gramian(losses, model.parameters())
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(8):
                found = Engine(model, batch_dim=0).compute_gramian(losses)
                assert_close(found, expected)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.ConvTranspose1d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1, 2])
def test_convolution_of_a_transposed_input(
    layer: type[nn.Module], dtype: torch.dtype, length: int
) -> None:
    torch.manual_seed(7)
    conv = layer(2, 2, length).to(dtype)
    losses = conv(_input(4, length, 2).to(dtype).transpose(1, 2)).square().sum((1, 2))
    found = Engine(conv, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, conv.parameters()), dtype)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_uses_without_rows_inputs_or_outputs() -> None:
    torch.manual_seed(8)
    used, empty = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    narrow, none = nn.Linear(0, 2).double(), nn.Linear(3, 0).double()
    x = _input(4, 3)
    losses = used(x).square().sum(1) + empty(_input(4, 0, 3)).sum((1, 2))
    losses = losses + narrow(_input(4, 0)).square().sum(1) + none(x).sum(1)
    modules = [used, empty, narrow, none]
    parameters = [p for module in modules for p in module.parameters()]
    found = Engine(*modules, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, parameters))
    only = Engine(empty, batch_dim=0).compute_gramian(empty(_input(4, 0, 3)).sum((1, 2)))
    assert torch.equal(only, torch.zeros(4, 4, dtype=torch.float64))


def test_convolution_without_positions() -> None:
    conv = nn.Conv1d(2, 3, 2).double()
    losses = conv(_input(4, 2, 5))[:, :, :0].sum((1, 2))
    found = Engine(conv, batch_dim=0).compute_gramian(losses)
    assert torch.equal(found, torch.zeros(4, 4, dtype=torch.float64))


def test_bias_of_two_rules_beside_a_use_without_samples() -> None:
    torch.manual_seed(9)
    conv, linear = nn.Conv1d(2, 3, 1).double(), nn.Linear(2, 3).double()
    conv.bias = linear.bias
    x = _input(4, 2)
    separate = conv(x.unsqueeze(2)).squeeze(2) + linear(x)
    with_table = separate + F.relu(linear(_input(2, 2)).mean(0))
    for y in (separate, with_table):
        losses = y.square().sum(1)
        found = Engine(conv, linear, batch_dim=0).compute_gramian(losses)
        expected = reference_gramian(losses, [*conv.parameters(), *linear.parameters()])
        assert_close(found, expected)
    losses = (separate + F.relu(linear(x).mean(0))).square().sum(1)
    with pytest.raises(BatchMixedError, match="reads the whole batch"):
        Engine(conv, linear, batch_dim=0).compute_gramian(losses)
