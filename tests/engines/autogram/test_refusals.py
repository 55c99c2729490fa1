"""What the engine refuses, and what it says."""

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from engines.autogram.rules import RULES, Rule, register
from engines.autogram.rules.linear import LinearRule
from engines.errors import BatchMixedError, UnsupportedGraphError


def _losses(model: nn.Module, rows: int = 6) -> Tensor:
    return model(torch.randn(rows, 4)).square().sum(1)


def test_no_module() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Engine(batch_dim=0)


def test_not_a_module() -> None:
    with pytest.raises(TypeError, match="argument 1"):
        Engine(nn.Linear(2, 2), nn.Linear(2, 2).weight, batch_dim=0)


@pytest.mark.parametrize("batch_dim", [0.0, True, "0"])
def test_batch_dim_is_no_integer(batch_dim: object) -> None:
    with pytest.raises(TypeError, match="batch_dim"):
        Engine(nn.Linear(2, 2), batch_dim=batch_dim)


@pytest.mark.parametrize("batch_dim", [1, -2])
def test_batch_dim_out_of_range(batch_dim: int) -> None:
    model = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=r"shape \(6,\)"):
        Engine(model, batch_dim=batch_dim).compute_gramian(_losses(model))


def test_batch_dim_of_a_scalar() -> None:
    model = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="None"):
        Engine(model, batch_dim=0).compute_gramian(_losses(model).sum())


def test_output_is_no_tensor() -> None:
    model = nn.Linear(4, 2)
    with pytest.raises(TypeError, match="list"):
        Engine(model, batch_dim=0).compute_gramian([_losses(model)])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_losses() -> None:
    model = nn.Linear(4, 2)
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], requires_grad=True)
    with pytest.raises(TypeError, match="nested"):
        Engine(model, batch_dim=0).compute_gramian(nested)


def test_detached_losses() -> None:
    model = nn.Linear(4, 2)
    with pytest.raises(UnsupportedGraphError, match="without a graph"):
        Engine(model, batch_dim=0).compute_gramian(_losses(model).detach())


def test_nothing_trainable() -> None:
    model = nn.Linear(4, 2)
    losses = _losses(model)
    with pytest.raises(ValueError, match="trainable"):
        Engine(nn.ReLU(), batch_dim=0).compute_gramian(losses)


@pytest.mark.parametrize(
    "layer", [nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))]
)
def test_freed_graph(layer: nn.Module) -> None:
    losses = _losses(layer)
    losses.sum().backward()
    with pytest.raises(UnsupportedGraphError, match="retain_graph=True") as caught:
        Engine(layer, batch_dim=0).compute_gramian(losses)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_saved_tensor_changed_in_place() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    losses = _losses(model)
    with torch.no_grad():
        model[2].weight.add_(1)
    with pytest.raises(UnsupportedGraphError, match="in place"):
        Engine(model, batch_dim=0).compute_gramian(losses)


def test_batch_norms_are_all_named() -> None:
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.BatchNorm1d(5, affine=False)
    )
    with pytest.raises(BatchMixedError) as caught:
        Engine(model, batch_dim=0).compute_gramian(_losses(model))
    message = str(caught.value)
    assert "2 places" in message
    assert "\n  1        BatchNorm is in training mode  -> GroupNorm, or eval mode" in message
    assert "\n  after 2  BatchNorm is in training mode  -> GroupNorm, or eval mode" in message
    assert "batch_dim=None" in message


def test_what_mixes_below_a_mixing_is_named_too() -> None:
    a, b, c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
    h = a(torch.randn(6, 4))
    h = b(h + h.mean(0)).softmax(0)
    h = c(nn.BatchNorm1d(4)(h))
    model = nn.ModuleList([a, b, c])
    with pytest.raises(BatchMixedError) as caught:
        Engine(model, batch_dim=0).compute_gramian(h.square().sum(1) - h.sum())
    message = str(caught.value)
    assert message.count("\n") == 4
    assert "after 2  Sum over the batch" in message
    assert "after 1  BatchNorm is in training mode" in message
    assert "after 1  Softmax works across the batch" in message
    assert "after 0  Mean over the batch" in message


def test_batch_norm_of_two_modules_is_told_apart() -> None:
    parts = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2)]
    with pytest.raises(BatchMixedError, match=r"Sequential\[1\]\.1"):
        Engine(*parts, batch_dim=0).compute_gramian(_losses(nn.Sequential(*parts)))


def test_second_rule_for_one_operation() -> None:
    before = dict(RULES)
    with pytest.raises(ValueError, match="second rule"):
        register("MmBackward0")(LinearRule)
    assert before == RULES
    assert all(isinstance(rule, Rule) for rule in RULES.values())
