"""Reference tests on whole architectures: the engine against one autograd call per loss."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from tests.support.architectures import ARCHITECTURES, Architecture
from tests.support.reference import reference_gramian, reference_jacobian
from tests.support.tolerances import RELATIVE, assert_close

BY_ID = {architecture.id: architecture for architecture in ARCHITECTURES}
ROOT = Path(__file__).resolve().parents[3]
CHANNELS_LAST = """
import torch
from engines.autogram import Engine
from tests.support.architectures.vision import ResNet18, classified, group_norm
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close

torch.manual_seed(0)
model = ResNet18(group_norm).double().to(memory_format=torch.channels_last)
images = torch.randn(4, 3, 32, 32).double().to(memory_format=torch.channels_last)
losses = classified(model, (images, torch.arange(4)))
expected = reference_gramian(losses, model.parameters())
for batch_dim in (0, None):
    assert_close(Engine(model, batch_dim=batch_dim).compute_gramian(losses), expected)
"""
UNDER_AUTOCAST = [
    "resnet18, group norm",
    "vit",
    "vit without dropout",
    "causal language model",
    "causal language model without dropout",
]
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.id)


def exact_gramian(losses: Tensor, model: nn.Module) -> Tensor:
    """Inner products, taken in float64, of the gradients that the losses' own graph gives."""
    jacobian = reference_jacobian(losses, model.parameters()).double()
    return jacobian @ jacobian.T


@every_architecture
def test_reference_in_float64(architecture: Architecture) -> None:
    model, inputs = architecture.build(torch.float64)
    losses = architecture.losses(model, inputs)
    expected = reference_gramian(losses, model.parameters())
    drawn = torch.get_rng_state()
    for batch_dim in (0, None):
        found = Engine(model, batch_dim=batch_dim).compute_gramian(losses)
        assert found.dtype == torch.float64
        assert_close(found, expected)
        assert torch.equal(found, found.T)
    # A mask that was drawn again would be another one.
    assert torch.equal(torch.get_rng_state(), drawn)


@every_architecture
def test_reference_in_float32(architecture: Architecture) -> None:
    # The same layer can be another node in another dtype.
    model, inputs = architecture.build(torch.float32)
    losses = architecture.losses(model, inputs)
    drawn = torch.get_rng_state()
    found = Engine(model, batch_dim=0).compute_gramian(losses)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert found.dtype == torch.float32
    assert_close(found, exact_gramian(losses, model), torch.float32)


@pytest.mark.parametrize(
    "architecture", [a for a in ARCHITECTURES if not a.random], ids=lambda a: a.id
)
def test_reference_in_float32_of_the_float64_model(architecture: Architecture) -> None:
    # Where masks are drawn, each dtype draws others.
    model, inputs = architecture.build(torch.float32)
    found = Engine(model, batch_dim=0).compute_gramian(architecture.losses(model, inputs))
    exact, wide = architecture.build(torch.float64)
    expected = reference_gramian(architecture.losses(exact, wide), exact.parameters())
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize("id", UNDER_AUTOCAST)
def test_reference_under_autocast(id: str) -> None:
    architecture = BY_ID[id]
    model, inputs = architecture.build(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        losses = architecture.losses(model, inputs)
    found = Engine(model, batch_dim=0).compute_gramian(losses)
    assert found.dtype == torch.float32
    assert torch.equal(found, found.T)
    assert_close(found, exact_gramian(losses, model), torch.bfloat16)


def test_reference_with_channels_last() -> None:
    # Torch 2.13 crashes in the backward pass of a group norm with channels last if only the
    # gradients of its scale and shift are asked for. A process of its own takes the risk.
    done = subprocess.run(
        [sys.executable, "-c", CHANNELS_LAST], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@every_architecture
def test_structure_of_an_architecture(architecture: Architecture) -> None:
    model, inputs = architecture.build(torch.float64)
    drawn = torch.get_rng_state()
    losses = architecture.losses(model, inputs)
    assert torch.equal(torch.get_rng_state(), drawn) == (not architecture.random)
    assert losses.shape in ((3,), (4,))
    # A parameter without weight in the Gramian could be forgotten without a test failing.
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    jacobian = reference_jacobian(losses, named.values())
    whole = (jacobian @ jacobian.T).norm()
    columns = jacobian.split([p.numel() for p in named.values()], dim=1)
    shares = {name: (c @ c.T).norm() / whole for name, c in zip(named, columns, strict=True)}
    assert {n: s for n, s in shares.items() if s < 1000 * RELATIVE[torch.float64]} == {}


def test_structure_names_are_unique() -> None:
    assert len(BY_ID) == len(ARCHITECTURES)
