"""Edge cases of the Gramian: what models are made of, and in which precision."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.autogram import Engine
from tests.engines.edges.autogram import data, losses_of, mlp, pair
from tests.engines.edges.record import Pairs, exact
from tests.support.cases import FunctionalParent, Tied, TiedHead, TiedLayers, Twice
from tests.support.reference import reference_gramian

HALF = (torch.bfloat16, torch.float16)


@exact("autogram", "One weight in two modules: layers, autoencoder, embedding and head")
def tied_weights(dtype: torch.dtype) -> Pairs:
    for make, x in (
        (TiedLayers, data(dtype, 6, 5)),
        (Tied, data(dtype, 6, 2, 6)),
        (TiedHead, torch.randint(9, (6, 4))),
        (lambda: TiedHead(padding_idx=1), torch.randint(9, (6, 4))),
    ):
        model = make().to(dtype)
        yield pair(losses_of(model, x), model)


@exact("autogram", "A module called twice; a parent that uses its child's weight")
def reused_weights(dtype: torch.dtype) -> Pairs:
    for model in (Twice(nn.Linear(4, 4)), Twice(nn.Conv1d(3, 3, 1)), FunctionalParent()):
        model.to(dtype)
        x = data(dtype, 6, 4) if not isinstance(model, Twice) else data(dtype, 6, 3, 4)
        yield pair(losses_of(model, x), model)


@exact("autogram", "Free parameters beside child modules")
def free_parameters(dtype: torch.dtype) -> Pairs:
    model, scale = nn.Module(), nn.Parameter(torch.randn(4, dtype=dtype))
    model.scale, model.child = scale, nn.Linear(4, 4, dtype=dtype)
    model.shift = nn.Parameter(torch.randn(1, 4, dtype=dtype))
    y = model.child(data(dtype) * scale.exp()) * scale + model.shift
    yield pair(y.square().sum(1), model)


@exact("autogram", "A few parameters frozen; a branch of a module with several outputs frozen")
def frozen_parts(dtype: torch.dtype) -> Pairs:
    trunk, heads = mlp(dtype), nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)]).to(dtype)
    trunk[0].bias.requires_grad_(False)
    heads[1].requires_grad_(False)
    h = trunk(data(dtype))
    yield pair((heads[0](h) * heads[1](h)).square().sum(1), trunk, heads)


@dataclass
class Output:
    """What a model may return."""

    logits: Tensor
    extra: dict[str, list[Tensor]]


class Structured(nn.Module):
    """Keyword and other arguments that are no tensors, nested inputs and outputs, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.register_buffer("offset", torch.randn(5))
        self.calls = 0

    def forward(
        self, inputs: dict[str, list[Tensor]], *, mode: str, scale: Tensor | None = None
    ) -> Output:
        """Nested in, nested out; counts its calls, a side effect."""
        self.calls += 1
        h = self.first(inputs["x"][0]) + self.get_buffer("offset")
        h = torch.tanh(h) if mode == "tanh" else h
        h = h if scale is None else h * scale
        return Output(self.second(h), {"hidden": [h]})


@exact(
    "autogram",
    "Nested inputs and outputs, keywords, strings, None, buffers, side effects in forward",
    note="nothing is run again: the side effect happens once",
)
def structured(dtype: torch.dtype) -> Pairs:
    model = Structured().to(dtype)
    output = model({"x": [data(dtype)]}, mode="tanh", scale=torch.tensor(2.0, dtype=dtype))
    losses = output.logits.square().sum(1) + output.extra["hidden"][0].sum(1)
    yield pair(losses, model)
    assert model.calls == 1


@exact("autogram", "Arguments without a batch dimension: masks, position indices, a scalar")
def unbatched_arguments(dtype: torch.dtype) -> Pairs:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    positions, scale = nn.Embedding(5, 8), nn.Parameter(torch.tensor(0.7))
    model = nn.ModuleList([layer, positions]).to(dtype)
    model.scale = nn.Parameter(scale.detach().to(dtype))
    mask = torch.full((5, 5), float("-inf"), dtype=dtype).triu(1)
    x = data(dtype, 6, 5, 8) * model.scale + positions(torch.arange(5).unsqueeze(0))
    yield pair(layer(x, src_mask=mask).square().sum((1, 2)), model)


@exact(
    "autogram",
    "Dropout, also inside TransformerEncoderLayer and attention, and noise",
    note="random numbers are never drawn again",
)
def randomness(dtype: torch.dtype) -> Pairs:
    for batch_first in (True, False):
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=batch_first)
        model = nn.Sequential(layer.to(dtype), nn.Dropout(0.2))
        y = model(data(dtype, 6, 3, 8) if batch_first else data(dtype, 3, 6, 8))
        y = y + torch.randn_like(y) * y
        losses = y.square().sum((1, 2) if batch_first else (0, 2))
        state = torch.get_rng_state()
        yield pair(losses, model)
        assert torch.equal(state, torch.get_rng_state())


@exact("autogram", "In-place activation, in-place writes to a slice")
def in_place(dtype: torch.dtype) -> Pairs:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)).to(dtype)
    y = model(data(dtype))
    y[:, 0] = y[:, 1].tanh() * 2
    yield pair(y.square().sum(1), model)


@exact(
    "autogram",
    "Embedding with padding, sparse, large, tied to a head of 50,000 words",
    note="no block of m × vocabulary × d is built",
)
def embeddings(dtype: torch.dtype) -> Pairs:
    tokens = torch.randint(7, (6, 5))
    for options in ({"padding_idx": 2}, {"sparse": True}, {"scale_grad_by_freq": True}):
        table = nn.Embedding(7, 4, **options).to(dtype)
        yield pair(table(tokens).square().sum((1, 2)), table)
    table = nn.Embedding(50_000, 2).to(dtype)
    tokens = torch.randint(50_000, (3, 4))
    h = torch.tanh(table(tokens))
    losses = h.square().sum((1, 2)) + F.linear(h[:, 0], table.weight).logsumexp(1)
    yield pair(losses, table)


@exact("autogram", "RNN, LSTM, GRU: batch or time first, packed, two layers, both directions")
def recurrent(dtype: torch.dtype) -> Pairs:
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        for options in ({"batch_first": True}, {"num_layers": 2, "bidirectional": True}):
            model = kind(4, 3, **options).to(dtype)
            first = "batch_first" in options
            out = model(data(dtype, 5, 6, 4) if not first else data(dtype, 6, 5, 4))[0]
            yield pair(out.square().sum((1, 2) if first else (0, 2)), model)
    model = nn.GRU(4, 3, batch_first=True).to(dtype)
    lengths = torch.tensor([5, 2, 4, 1, 3, 5])
    packed = nn.utils.rnn.pack_padded_sequence(
        data(dtype, 6, 5, 4), lengths, batch_first=True, enforce_sorted=False
    )
    out = nn.utils.rnn.pad_packed_sequence(model(packed)[0], batch_first=True)[0]
    yield pair(out.square().sum((1, 2)), model)


@exact("autogram", "Parametrised weights, a custom autograd function, a branch on data")
def special_operations(dtype: torch.dtype) -> Pairs:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3, dtype=dtype))
    yield pair(losses_of(normed, data(dtype)), normed)
    model, x = mlp(dtype), data(dtype)
    yield pair(_Doubled.apply(model[1](model[0](x))).square().sum(1), model)
    engine = Engine(model, batch_dim=0)
    for sign in (1, -1):
        h = model[0](sign * x.abs())
        y = model[2](h if h.sum() > 0 else h.flip(1).tanh())
        yield pair(y.square().sum(1), model, engine=engine)


class _Doubled(torch.autograd.Function):
    """Doubles its input and its gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return 2 * gradient


def _half(dtype: torch.dtype, losses_in: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Pairs:
    """Losses in half precision against the same model in float32."""
    for norm in (False, True):
        model = mlp(torch.float32)
        model = nn.Sequential(*model, nn.LayerNorm(3)) if norm else model
        x, weights = data(torch.float32), torch.tensor([1.0, 2.0, -1.0])
        half = copy.deepcopy(model)
        losses = losses_in(half, x, weights)
        found = Engine(half, batch_dim=0).compute_gramian(losses)
        assert found.dtype == torch.float32
        assert torch.equal(found, found.T)
        yield found, reference_gramian((model(x) * weights).sum(1), model.parameters())


@exact(
    "autogram",
    "Autocast, with and without a norm",
    dtypes=HALF,
    note="the Gramian is float32 and symmetric to the bit",
)
def autocast(dtype: torch.dtype) -> Pairs:
    def losses_in(model: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype):
            return (model(x).float() * weights).sum(1)

    return _half(dtype, losses_in)


@exact(
    "autogram",
    "Pure half-precision model, with and without a norm",
    dtypes=HALF,
    note="the Gramian is float32 and symmetric to the bit",
)
def half_precision(dtype: torch.dtype) -> Pairs:
    def losses_in(model: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
        model.to(dtype)
        return (model(x.to(dtype)) * weights.to(dtype)).sum(1)

    return _half(dtype, losses_in)
