"""Structure: names, order and defaults of both generations of calls."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engines import autojac
from engines.aggregation import Mean

REQUIRED = inspect.Parameter.empty
# Release 0.8: every argument by position or by name.
FIRST: dict[str, dict[str, Any]] = {
    "backward": {
        "tensors": REQUIRED,
        "aggregator": None,
        "inputs": None,
        "retain_graph": False,
        "parallel_chunk_size": None,
    },
    "mtl_backward": {
        "losses": REQUIRED,
        "features": REQUIRED,
        "aggregator": None,
        "tasks_params": None,
        "shared_params": None,
        "retain_graph": False,
        "parallel_chunk_size": None,
    },
    "jac": {"outputs": REQUIRED, "inputs": REQUIRED},
    "jac_to_grad": {"tensors": REQUIRED, "aggregator": REQUIRED},
}
# What no release of theirs has.
OURS: dict[str, dict[str, Any]] = {"backward": {"modules": None, "batch_dim": None}}
# Releases 0.9 and later: the rest by name only, the first argument of three of them by position
# only. Names that both generations have are in the table above.
LATER: dict[str, dict[str, Any]] = {
    "backward": {"jac_tensors": None} | OURS["backward"],
    "mtl_backward": {"grad_tensors": None},
    "jac": {"jac_outputs": None, "retain_graph": False, "parallel_chunk_size": None},
    "jac_to_grad": {"retain_jac": False, "optimize_gramian_computation": False},
}


@pytest.mark.parametrize("name", sorted(FIRST))
def test_parameters(name: str) -> None:
    parameters = inspect.signature(getattr(autojac, name)).parameters.values()
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert list(positional.items()) == list(FIRST[name].items())
    assert named == LATER[name]


def test_the_package_exports_what_scripts_call_and_the_size_of_a_chunk() -> None:
    assert sorted(autojac.__all__) == sorted([*FIRST, "default_chunk_rows"])


class _Setup:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.trunk = nn.Linear(3, 4)
        self.heads = [nn.Linear(4, 1), nn.Linear(4, 1)]
        self.features = torch.tanh(self.trunk(torch.randn(5, 3)))
        self.losses = [head(self.features).square().mean() for head in self.heads]
        self.own = [head.parameters() for head in self.heads]

    def gradients(self) -> list[Tensor]:
        """Gradients of the trunk and the heads; of the trunk after aggregation if need be."""
        if hasattr(self.trunk.weight, "jac"):
            autojac.jac_to_grad(self.trunk.parameters(), Mean())
        modules = [self.trunk, *self.heads]
        return [p.grad for module in modules for p in module.parameters()]


MTL_CALLS = {
    "0.8 by position": lambda s: autojac.mtl_backward(s.losses, s.features, Mean()),
    "0.8, all by position": lambda s: autojac.mtl_backward(
        s.losses, s.features, Mean(), s.own, s.trunk.parameters(), False, 1
    ),
    "0.8 by name": lambda s: autojac.mtl_backward(
        losses=s.losses,
        features=s.features,
        aggregator=Mean(),
        tasks_params=s.own,
        shared_params=s.trunk.parameters(),
        retain_graph=False,
        parallel_chunk_size=2,
    ),
    "later": lambda s: autojac.mtl_backward(s.losses, s.features),
    "later, features by name": lambda s: autojac.mtl_backward(
        s.losses, features=[s.features], tasks_params=s.own
    ),
    "later, with factors": lambda s: autojac.mtl_backward(
        s.losses, s.features, grad_tensors=[torch.ones(()), torch.ones(())], retain_graph=True
    ),
}


@pytest.mark.parametrize("call", MTL_CALLS)
def test_both_generations_of_mtl_backward_agree(call: str) -> None:
    expected, found = _Setup(), _Setup()
    MTL_CALLS["0.8 by position"](expected)
    MTL_CALLS[call](found)
    for one, other in zip(expected.gradients(), found.gradients(), strict=True):
        torch.testing.assert_close(one, other)


BACKWARD_CALLS = {
    "0.8 by position": lambda s: autojac.backward(s.losses, Mean()),
    "0.8, all by position": lambda s: autojac.backward(
        s.losses, Mean(), s.trunk.parameters(), False, 1
    ),
    "0.8 by name": lambda s: autojac.backward(
        tensors=s.losses, aggregator=Mean(), inputs=s.trunk.parameters(), parallel_chunk_size=2
    ),
    "later": lambda s: autojac.backward(s.losses, inputs=s.trunk.parameters()),
    "later, with factors": lambda s: autojac.backward(
        s.losses, jac_tensors=[torch.eye(2)[0], torch.eye(2)[1]], retain_graph=True
    ),
}


@pytest.mark.parametrize("call", BACKWARD_CALLS)
def test_both_generations_of_backward_agree(call: str) -> None:
    expected, found = _Setup(), _Setup()
    BACKWARD_CALLS["0.8 by position"](expected)
    BACKWARD_CALLS[call](found)
    for one, other in zip(expected.gradients()[:2], found.gradients()[:2], strict=True):
        torch.testing.assert_close(one, other)
