"""Reference tests of parameters that are read in parts: apart, overlapping, nested, cut off."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.plans import force
from tests.support.steps import Scene, assert_same_step, both_modes, draw


class Cut(torch.autograd.Function):
    """A sum whose second term gets no gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _hooked(part: Tensor) -> Tensor:
    part.register_hook(lambda gradient: gradient / (1 + gradient.norm()))
    return part


Use = Callable[[Tensor, Tensor, Tensor], Tensor]
# Of a weight [6, 4], a bias [6] and inputs [5, 4].
USES: dict[str, Use] = {
    "two halves": lambda w, b, x: F.linear(x, w[:3], b[:3]) * F.linear(x.tanh(), w[3:], b[3:]),
    "three parts of a split": lambda w, b, x: sum(
        F.linear(x, *pair).tanh() for pair in zip(w.split(2), b.split(2), strict=True)
    ),
    "parts of other sizes": lambda w, b, x: torch.cat(
        [F.linear(x, *pair).tanh() for pair in zip(w.split([1, 5]), b.split([1, 5]), strict=True)],
        1,
    ),
    "a last part that is short": lambda w, b, x: torch.cat(
        [F.linear(x, *pair).tanh() for pair in zip(w.split(4), b.split(4), strict=True)], 1
    ),
    "chunks": lambda w, b, x: torch.stack([F.linear(x, one) for one in w.chunk(3)]).prod(0),
    "one part only": lambda w, b, x: F.linear(x, w[1:4], b[1:4]).tanh(),
    "one part twice": lambda w, b, x: F.linear(x, w[1:4]).tanh() * F.linear(2 * x, w[1:4]),
    "a part and the whole": lambda w, b, x: F.linear(x, w, b).tanh()[:, :3] * F.linear(x, w[3:]),
    "overlapping parts": lambda w, b, x: F.linear(x, w[:4]).tanh() + F.linear(x, w[2:]),
    "a part of a part": lambda w, b, x: F.linear(x, w[1:][:3], b[1:][:3]).tanh(),
    "from the end": lambda w, b, x: F.linear(x, w[-3:-1], b[-3:-1]).tanh(),
    "beyond the end": lambda w, b, x: F.linear(x, w[4:100], b[4:100]).tanh(),
    "nothing of it": lambda w, b, x: (
        F.linear(x, w).tanh() + F.linear(x, w[6:], b[6:]).sum(1, keepdim=True)
    ),
    "every second row": lambda w, b, x: F.linear(x, w[::2], b[::2]).tanh(),
    "columns": lambda w, b, x: F.linear(x[:, :2], w[:, :2]).tanh() + F.linear(x[:, 2:], w[:, 2:]),
    "columns of the transposed": lambda w, b, x: (x @ w.T[:, :3]).tanh() * (x @ w.T[:, 3:]),
    "rows of the transposed": lambda w, b, x: (x[:, :2] @ w.T[:2]).tanh() + x[:, 2:] @ w.T[2:],
    "a transposed part": lambda w, b, x: (x @ w[:3].T).tanh() * (x @ w[3:].mT),
    "both orientations": lambda w, b, x: (
        F.linear(F.linear(x, w[:3]).tanh(), w[:3].T).tanh()
        + F.linear(x, w[3:]).sum(1, keepdim=True)
    ),
    "single rows": lambda w, b, x: (x * w[2]).tanh() + x * w[4] + x @ w[0:1].T,
    "narrowed": lambda w, b, x: F.linear(x, w.narrow(0, 2, 3)).tanh(),
    "scales and shifts": lambda w, b, x: (x * b[:4]).tanh() + b[2:],
    "scales and shifts apart": lambda w, b, x: (x[:, :3] * b[:3]).tanh() + b[3:],
    "a bias beside another weight": lambda w, b, x: (
        F.linear(x, w, b).tanh()[:, :3] + F.linear(x, w[:3].detach(), b[3:])
    ),
    "lookups": lambda w, b, x: (
        F.embedding(torch.tensor([0, 1, 2, 2, 0]), w[:3]).tanh()
        * F.embedding(torch.tensor([2, 1, 0, 2, 1]), w[3:])
    ),
    "lookups and products": lambda w, b, x: (
        F.embedding(torch.tensor([0, 1, 2, 2, 0]), w[:3]).tanh() @ w[:3].T
        + F.linear(x, w[3:]).tanh()
    ),
    "lookups here, products there": lambda w, b, x: (
        F.embedding(torch.tensor([0, 1, 2, 2, 0]), w[:3]).tanh()
        * F.linear(x, w[3:]).sum(1, keepdim=True)
    ),
    "kernels": lambda w, b, x: (
        F.conv1d(x[:, None], w[:3, None], b[:3]).tanh() * F.conv1d(x[:, None], w[3:, None], b[3:])
    ),
    "in another dtype": lambda w, b, x: (
        F.linear(x.float(), w[:3].float()).double()
        + F.linear(x.float(), w.float()[3:], b.float()[3:]).double().tanh()
    ),
    "a part behind a function that cuts": lambda w, b, x: Cut.apply(
        F.linear(x, w[:3], b[:3]).tanh(), F.linear(x, w[3:], b[3:])
    ),
    "a part before a function that cuts": lambda w, b, x: Cut.apply(
        F.linear(x, w[3:], b[3:]).tanh(), F.linear(x, w[:3], b[:3])
    ),
    "a hook on a part": lambda w, b, x: F.linear(x, _hooked(w[:3])).tanh() * F.linear(x, w[3:]),
    "a part without gradient": lambda w, b, x: (
        F.linear(x, w[:3]).tanh() * F.linear(x, w[3:]).detach()
    ),
    "a part that only constants multiply": lambda w, b, x: (
        F.linear(x, w[:3]).tanh() + 0 * F.linear(x, w[3:])
    ),
    "with a zero-dimensional part": lambda w, b, x: F.linear(x, w[:3]).tanh() * b[2],
}


def _scene(use: str) -> Callable[[], Scene]:
    def make() -> Scene:
        module = nn.Module()
        module.weight, module.bias = nn.Parameter(draw(6, 4)), nn.Parameter(draw(6))
        y = USES[use](module.weight, module.bias, draw(5, 4))
        return Scene((module,), y.flatten(1).square().sum(1))

    return make


@both_modes
@pytest.mark.parametrize("use", USES)
def test_parts_of_parameters(use: str, batch_dim: int | None) -> None:
    dtype = torch.float32 if use == "in another dtype" else torch.float64
    assert_same_step(_scene(use), batch_dim, dtype=dtype)


@both_modes
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("use", USES)
def test_parts_under_other_plans(
    use: str, number: int, batch_dim: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is kept differs from part to part of one parameter.
    force(monkeypatch, lambda task, ways: ways[(number * (task + 1)) % len(ways)])
    dtype = torch.float32 if use == "in another dtype" else torch.float64
    assert_same_step(_scene(use), batch_dim, dtype=dtype)


@both_modes
def test_attention_with_projections_in_one_parameter(batch_dim: int | None) -> None:
    def make(cross: bool) -> Scene:
        attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
        with torch.no_grad():
            attention.in_proj_bias.normal_()
        x = draw(4, 3, 8)
        keys = draw(4, 5, 8) if cross else x
        y, _ = attention(x, keys, keys.tanh() if cross else keys)
        return Scene((attention,), y.tanh().flatten(1).square().sum(1))

    for cross in (False, True):
        assert_same_step(lambda cross=cross: make(cross), batch_dim)
