"""The layers that random models are composed of, as a table."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]

# Far above rounding: a norm over few values cancels gradients down to what is left of it.
EPS = 0.3
PLAIN = torch.contiguous_format


class Map(nn.Module):
    """A function without parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class With(nn.Module):
    """A function of an inner module and the input, for modules that want more than one tensor."""

    def __init__(
        self, inner: nn.Module, function: Callable[[Callable[..., Tensor], Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inner, x)


class Free(nn.Module):
    """Parameters that belong to no layer, and a function of the input and of them."""

    def __init__(self, function: Callable[..., Tensor], *shapes: Shape) -> None:
        super().__init__()
        self.function = function
        self.values = nn.ParameterList([nn.Parameter(torch.randn(s) / 2 + 0.5) for s in shapes])

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.values)


@dataclass(frozen=True)
class Layer:
    """One kind of layer.

    Attributes:
        ndims: Numbers of dimensions, without the batch, of the inputs it takes.
        make: Builds it from the shape of a sample and two small integers, a width and a size.
        fits: Whether it takes samples of a shape, beside the number of dimensions.
    """

    ndims: tuple[int, ...]
    make: Callable[[Shape, int, int], nn.Module]
    fits: Callable[[Shape], bool] = lambda s: True


def _frozen_statistics(channels: int) -> nn.Module:
    norm = nn.BatchNorm1d(channels, eps=EPS)
    norm.load_state_dict({"running_mean": torch.linspace(-1, 1, channels)}, strict=False)
    return With(norm.eval(), lambda f, x: f(x.flatten(2)).view_as(x) if x.ndim > 2 else f(x))


def _heads(dim: int) -> int:
    return 2 if dim % 2 == 0 else 1


def _attention(dim: int, batch_first: bool) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(dim, _heads(dim), batch_first=batch_first)


def _self_attention(s: Shape, n: int) -> nn.Module:
    if n == 1:
        time_first = _attention(s[-1], batch_first=False)

        def attend(f: Callable[..., Tensor], x: Tensor) -> Tensor:
            x = x.transpose(0, 1)
            return f(x, x, x, need_weights=False)[0].transpose(0, 1)

        return With(time_first, attend)
    mask = torch.ones(s[0], s[0], dtype=torch.bool).triu(1) if n == 2 else None
    return With(_attention(s[-1], batch_first=True), lambda f, x: f(x, x, x, attn_mask=mask)[0])


def _cross_attention(s: Shape, n: int) -> nn.Module:
    # Queries apart from keys and values: the projections are read as slices.
    return With(
        _attention(s[-1], batch_first=True),
        lambda f, x: f(x, torch.tanh(x).flip(1), torch.tanh(x).flip(1), need_weights=n == 1)[0],
    )


def _recurrent(kind: Callable[..., nn.Module], s: Shape, w: int, n: int) -> nn.Module:
    if n == 1:
        time_first = kind(s[-1], w)
        return With(time_first, lambda f, x: f(x.transpose(0, 1))[0].transpose(0, 1))
    return With(kind(s[-1], w, batch_first=True, bidirectional=n == 3), lambda f, x: f(x)[0])


def _conv(kind: type[nn.Module], s: Shape, w: int, n: int, **options: int) -> nn.Module:
    return kind(s[0], w, n, padding=n // 2, **options)


def _positions(s: Shape) -> nn.Module:
    places = torch.arange(s[0])[None]
    return With(nn.Embedding(s[0], s[1]), lambda f, x: x + f(places))


def _dropped(n: int) -> nn.Module:
    return nn.Dropout(0.2 * n)


def _groups(s: Shape) -> int:
    return 2 if s[0] % 2 == 0 and math.prod(s) >= 6 else 1


def _group_norm(s: Shape) -> nn.Module:
    # Where memory has channels last, torch 2.13 crashes in a backward pass towards the scale and
    # the shift alone, plain autograd's too; test_architectures.py covers that layout by itself.
    return With(
        nn.GroupNorm(_groups(s), s[0], eps=EPS), lambda f, x: f(x.clone(memory_format=PLAIN))
    )


def _volume(w: int, n: int) -> nn.Module:
    return With(nn.Conv3d(1, w, n, padding=n // 2), lambda f, x: f(x[:, None]).flatten(1, 2))


# Dimensions of a sample: features, or (positions or channels) × features, or channels × h × w.
LAYERS: dict[str, Layer] = {
    "linear": Layer((1, 2, 3), lambda s, w, n: nn.Linear(s[-1], w, bias=n != 3)),
    "tanh": Layer((1, 2, 3), lambda s, w, n: nn.Tanh()),
    "gelu": Layer((1, 2, 3), lambda s, w, n: nn.GELU()),
    "relu": Layer((1, 2, 3), lambda s, w, n: nn.ReLU()),
    "dropout": Layer((1, 2, 3), lambda s, w, n: _dropped(n)),
    "one slope": Layer((1, 2, 3), lambda s, w, n: nn.PReLU()),
    "slopes": Layer((1, 2, 3), lambda s, w, n: nn.PReLU(s[0])),
    "bilinear": Layer(
        (1, 2), lambda s, w, n: With(nn.Bilinear(s[-1], s[-1], w), lambda f, x: f(x, x.tanh()))
    ),
    "scale": Layer((1, 2, 3), lambda s, w, n: Free(torch.mul, (s, s[-1:], ())[n - 1])),
    "shift": Layer((1, 2, 3), lambda s, w, n: Free(torch.add, ((1, *s), s[-1:], (1,))[n - 1])),
    "matrix": Layer((1, 2, 3), lambda s, w, n: Free(torch.matmul, (s[-1], w))),
    "product": Layer((1, 2), lambda s, w, n: Free(lambda x, u, v: x @ (u @ v), (s[-1], 2), (2, w))),
    "slices": Layer((1, 2), lambda s, w, n: Free(lambda x, u: x * u[1:] + u[:-1], (s[-1] + 1,))),
    "einsum": Layer(
        (2,), lambda s, w, n: Free(lambda x, u: torch.einsum("bti,ts->bsi", x, u), (s[0], w))
    ),
    "weight norm": Layer(
        (1, 2), lambda s, w, n: nn.utils.parametrizations.weight_norm(nn.Linear(s[-1], w))
    ),
    "layer norm": Layer(
        (1, 2, 3),
        lambda s, w, n: nn.LayerNorm(s if n == 1 else s[-1:], eps=EPS),
        fits=lambda s: s[-1] > 1,
    ),
    "rms norm": Layer((1, 2), lambda s, w, n: nn.RMSNorm(s[-1:], eps=EPS)),
    "group norm": Layer(
        (1, 2, 3),
        lambda s, w, n: _group_norm(s),
        fits=lambda s: math.prod(s) > 2,
    ),
    "instance norm": Layer(
        (2,),
        lambda s, w, n: nn.InstanceNorm1d(s[0], eps=EPS, affine=True),
        fits=lambda s: s[-1] > 1,
    ),
    "instance norm 2d": Layer(
        (3,),
        lambda s, w, n: nn.InstanceNorm2d(s[0], eps=EPS, affine=True),
        fits=lambda s: math.prod(s[1:]) > 1,
    ),
    "frozen batch norm": Layer((1, 2, 3), lambda s, w, n: _frozen_statistics(s[0])),
    "conv1d": Layer((2,), lambda s, w, n: _conv(nn.Conv1d, s, w, n)),
    "strided conv1d": Layer((2,), lambda s, w, n: _conv(nn.Conv1d, s, w, n, stride=2)),
    "grouped conv1d": Layer(
        (2,), lambda s, w, n: _conv(nn.Conv1d, s, s[0] * (1 + n % 2), n, groups=s[0])
    ),
    "transposed conv1d": Layer((2,), lambda s, w, n: nn.ConvTranspose1d(s[0], w, n, stride=n)),
    "conv2d": Layer((3,), lambda s, w, n: _conv(nn.Conv2d, s, w, n)),
    "strided conv2d": Layer((3,), lambda s, w, n: _conv(nn.Conv2d, s, w, n, stride=2)),
    "dilated conv2d": Layer(
        (3,), lambda s, w, n: nn.Conv2d(s[0], w, n, dilation=2, padding=n, bias=False)
    ),
    "depthwise conv2d": Layer(
        (3,), lambda s, w, n: _conv(nn.Conv2d, s, s[0] * (1 + n % 2), n, groups=s[0])
    ),
    "transposed conv2d": Layer((3,), lambda s, w, n: nn.ConvTranspose2d(s[0], w, n, stride=n)),
    "conv3d": Layer((3,), lambda s, w, n: _volume(w, n)),
    "self attention": Layer((2,), lambda s, w, n: _self_attention(s, n)),
    "cross attention": Layer((2,), lambda s, w, n: _cross_attention(s, n)),
    "encoder layer": Layer(
        (2,),
        lambda s, w, n: nn.TransformerEncoderLayer(
            s[-1], _heads(s[-1]), w, 0.0, batch_first=True, norm_first=n == 1, layer_norm_eps=EPS
        ),
        fits=lambda s: s[-1] > 1,
    ),
    "lstm": Layer((2,), lambda s, w, n: _recurrent(nn.LSTM, s, w, n)),
    "gru": Layer((2,), lambda s, w, n: _recurrent(nn.GRU, s, w, n)),
    "rnn": Layer((2,), lambda s, w, n: _recurrent(nn.RNN, s, w, n)),
    "positions": Layer((2,), lambda s, w, n: _positions(s)),
    "transpose": Layer((2, 3), lambda s, w, n: Map(lambda x: x.transpose(1, -1))),
    "pool": Layer((2, 3), lambda s, w, n: Map(lambda x: x.mean(1) if n == 1 else x.amax(1))),
    "merge": Layer((2, 3), lambda s, w, n: Map(lambda x: x.flatten(1, 2))),
    "split": Layer((1, 2), lambda s, w, n: Map(lambda x: x.unflatten(1, (-1, 1)))),
    "chunk": Layer((2,), lambda s, w, n: Map(lambda x: torch.cat([x[:, 1:], -x[:, :1]], 1))),
}

# What may come first when the input is tokens, which are of shape [b, t].
TABLES: dict[str, Callable[[int, int, int], nn.Module]] = {
    "embedding": lambda words, w, n: nn.Embedding(words, w, padding_idx=0 if n == 1 else None),
    "sparse embedding": lambda words, w, n: nn.Embedding(words, w, sparse=True),
    "scaled embedding": lambda words, w, n: nn.Embedding(words, w, scale_grad_by_freq=True),
    "embedding bag": lambda words, w, n: nn.EmbeddingBag(
        words, w, mode=("mean", "sum", "max")[n - 1]
    ),
}

# Only for objectives that may depend on the whole batch.
MIXING: dict[str, Layer] = {
    "centred": Layer((1, 2, 3), lambda s, w, n: Map(lambda x: x - x.mean(0, keepdim=True))),
    "batch norm": Layer(
        (1, 2),
        lambda s, w, n: nn.BatchNorm1d(s[0], eps=EPS, affine=n != 1),
    ),
    "batch attention": Layer(
        (2,), lambda s, w, n: With(_attention(s[-1], batch_first=False), lambda f, x: f(x, x, x)[0])
    ),
}


def tied(weight: Tensor, x: Tensor) -> Tensor:
    """Uses the weight of another layer, [o, i], in the orientation that fits the input."""
    return F.linear(x, weight) if x.shape[-1] == weight.shape[1] else x @ weight
