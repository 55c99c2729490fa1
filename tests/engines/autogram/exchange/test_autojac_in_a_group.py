"""autojac sees the objectives of one process, and says so where there are several."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from engines.aggregation import Mean
from engines.autojac import backward, jac, jac_to_grad, mtl_backward
from engines.errors import UnsupportedGroupError
from tests.support.ranks import Ranks


def call_backward() -> float:
    model = nn.Linear(3, 2)
    backward(model(torch.ones(4, 3)).square().mean(0), Mean())
    return _norm(model)


def call_mtl_backward() -> float:
    trunk, heads = nn.Linear(3, 4), [nn.Linear(4, 1) for _ in range(2)]
    features = trunk(torch.ones(4, 3)).tanh()
    mtl_backward([head(features).square().mean() for head in heads], features, Mean())
    return _norm(trunk)


def call_jac() -> float:
    inputs = torch.ones(3, requires_grad=True)
    (jacobian,) = jac(inputs.square(), inputs)
    return float(jacobian.norm())


def call_jac_to_grad() -> float:
    model = nn.Linear(3, 2)
    model.weight.jac = torch.ones(4, *model.weight.shape)
    jac_to_grad([model.weight], Mean())
    assert model.weight.grad is not None
    return float(model.weight.grad.norm())


def _norm(model: nn.Linear) -> float:
    assert model.weight.grad is not None
    return float(model.weight.grad.norm())


CALLS: dict[str, Callable[[], float]] = {
    "backward": call_backward,
    "mtl_backward": call_mtl_backward,
    "jac": call_jac,
    "jac_to_grad": call_jac_to_grad,
}


def said(rank: int, world_size: int, name: str) -> str:
    with pytest.raises(UnsupportedGroupError) as caught:
        CALLS[name]()
    return str(caught.value)


def found(rank: int, world_size: int) -> list[float]:
    torch.manual_seed(0)
    return [call() for call in CALLS.values()]


@pytest.mark.parametrize("name", list(CALLS))
def test_refused_in_a_group(two_ranks: Ranks, name: str) -> None:
    for message in two_ranks.run(said, name):
        assert message.startswith(f"got autojac's {name} in a group of 2 ranks, expected")
        assert "use engines.autogram.Engine" in message


def test_a_group_of_one_is_no_group() -> None:
    alone = Ranks(1)
    try:
        assert alone.run(found) == [found(0, 1)]
    finally:
        alone.close()
