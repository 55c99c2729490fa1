"""Models as data: every reference test of an engine runs over this list."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """One model, the shape of its input, and how to make losses of its output."""

    make: Callable[[], nn.Module]
    x: tuple[int, ...]
    integers: int = 0  # input of indices below this number, if positive
    batch_first: bool = True

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[nn.Module, Tensor]:
        """Model in training mode and its input."""
        torch.manual_seed(seed)
        model = self.make().to(dtype)
        if self.integers:
            return model, torch.randint(self.integers, self.x)
        return model, torch.randn(self.x, dtype=dtype)

    def losses(self, model: nn.Module, x: Tensor) -> Tensor:
        """One loss per sample, none of them linear in the output, shape [b]."""
        output = model(x)
        output = output[0] if isinstance(output, tuple) else output
        if not self.batch_first:
            output = output.transpose(0, 1)
        weights = torch.linspace(0.5, 1.5, output[0].numel(), dtype=output.dtype)
        return (output.flatten(1).square() * weights).sum(1)


def case(
    make: Callable[[], nn.Module],
    x: tuple[int, ...],
    id: str,
    integers: int = 0,
    batch_first: bool = True,
) -> object:
    """One line of the table."""
    return pytest.param(Case(make, x, integers, batch_first), id=id)


def _without(module: nn.Module, name: str) -> nn.Module:
    getattr(module, name).requires_grad_(False)
    return module


class Tied(nn.Module):
    """Autoencoder with one weight in both orientations."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 4)
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.T, self.bias)


class TiedLayers(nn.Module):
    """Two layers that are one weight in the same orientation, with biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class TiedHead(nn.Module):
    """Language model whose head is its embedding."""

    def __init__(self, padding_idx: int | None = None, twice: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4, padding_idx=padding_idx)
        self.head, self.twice = nn.Linear(4, 9, bias=False), twice
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.embedding(x))
        if self.twice:
            h = h + torch.tanh(self.embedding(8 - x)) @ self.head.weight.T @ self.head.weight
        return self.head(h)


class Pair(nn.Module):
    """A bilinear map of two parts of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(3, 3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[:, 0], x[:, 1])


class Twice(nn.Module):
    """Calls one module twice, once on all positions and once on their mean."""

    def __init__(self, inner: nn.Module, reduce: bool = False) -> None:
        super().__init__()
        self.inner, self.reduce = inner, reduce

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.inner(x))
        return self.inner(h.mean(1) if self.reduce else h)


class FreeParameter(nn.Module):
    """A parameter beside a child, used element by element."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(4))
        self.child = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.child(x * self.scale) + self.scale[:3]


class Affine(nn.Module):
    """Parameters that are broadcast in sums, differences and products."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(3, 1)), nn.Parameter(torch.randn(4))
        self.gain, self.less = nn.Parameter(torch.randn(1)), nn.Parameter(torch.randn(1, 3, 4))
        self.taken, self.only = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.scale * x + self.shift) * self.gain
        return (h - self.taken).tanh() * self.less + torch.add(self.only - x, self.taken, alpha=2)


class ClassToken(nn.Module):
    """A vector put before every sequence, and a table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.positions = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return torch.tanh(tokens + self.positions)


class Repeated(nn.Module):
    """A vector repeated once and twice for every sample, and a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.vector, self.matrix = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        once = self.vector.repeat(len(x)).view(len(x), 4) * x
        twice = self.vector.repeat(2 * len(x)).view(len(x), 8)[:, ::2]
        return torch.tanh(once + twice) * self.matrix.repeat(len(x), 1)


class OwnForEverySample(nn.Module):
    """A parameter with one row for each sample of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x + self.rows) * self.rows


class Frozen(nn.Module):
    """Batch normalisation with stored statistics that are not trivial."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm.eval()
        for statistic, low in ((norm.running_mean, -1.0), (norm.running_var, 0.5)):
            assert statistic is not None
            statistic.uniform_(low, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class FunctionalParent(nn.Module):
    """A parent that uses its child's weight by itself, besides calling the child."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.child(x)) @ self.child.weight + F.linear(x, self.child.weight)


class Positional(nn.Module):
    """Applies a layer to a table that has no samples, with rows a multiple of the batch."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(rows, 4))
        self.embed, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(x + self.embed(self.table)))


class Residual(nn.Module):
    """A branch that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 6), nn.Linear(6, 4)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return h + self.down(torch.tanh(self.up(h)))


class Frames(nn.Module):
    """Folds frames into the batch of a convolution, samples outer or inner."""

    def __init__(self, inner: bool) -> None:
        super().__init__()
        self.conv, self.inner = nn.Conv2d(2, 3, 3), inner

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.inner else x
        y = torch.tanh(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        return y.transpose(0, 1) if self.inner else y


class Siamese(nn.Module):
    """Two forwards of one module on one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) - self.inner(x.flip(-1))


class BiasShared(nn.Module):
    """One bias in a convolution and in a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(2, 3, 2), nn.Linear(4, 3)
        self.conv.bias = self.out.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.conv(x)))


class StridedPair(nn.Module):
    """One kernel in two convolutions, the second strided or transposed."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.weight, self.transposed = nn.Parameter(torch.randn(4, 4, 3) / 3), transposed

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(F.conv1d(x, self.weight, padding=1))
        if self.transposed:
            return F.conv_transpose1d(h, self.weight)
        return F.conv1d(h, self.weight, stride=2)


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.Flatten(),
        nn.Linear(6 * 2 * 2, 3),
    )


class Transposed(nn.Module):
    """One weight in every spelling of its transpose, and as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4) / 2)

    def forward(self, x: Tensor) -> Tensor:
        for weight in (
            self.weight.T,
            self.weight.transpose(-1, 0),
            self.weight.permute(-1, 0),
            self.weight.permute(0, 1),
            self.weight.mT,
            self.weight.transpose(1, 1),
            self.weight.t().T,
        ):
            x = torch.tanh(x @ weight)
        return x


LINEAR = [
    case(Transposed, x=(6, 4), id="transposes"),
    case(Transposed, x=(3, 2, 4), id="transposes, two positions"),
    case(lambda: nn.Linear(4, 5), x=(6, 4), id="linear"),
    case(lambda: nn.Linear(4, 5), x=(3, 2, 4), id="linear two positions"),
    case(lambda: nn.Linear(30, 40), x=(4, 2, 30), id="linear input-output form"),
    case(lambda: nn.Linear(3, 2), x=(4, 9, 3), id="linear per-sample form"),
    case(lambda: nn.Linear(4, 5, bias=False), x=(6, 4), id="linear without bias"),
    case(lambda: nn.Linear(4, 5, bias=False), x=(3, 2, 4), id="linear 3d without bias"),
    case(lambda: _without(nn.Linear(4, 5), "weight"), x=(3, 2, 4), id="frozen weight"),
    case(lambda: _without(nn.Linear(4, 5), "bias"), x=(3, 2, 4), id="frozen bias"),
    case(_mlp, x=(7, 6), id="mlp"),
    case(_mlp, x=(8, 6), id="mlp, batch as wide as a layer"),
    case(_mlp, x=(1, 6), id="mlp, batch of one"),
]

CONVOLUTIONS = [
    case(lambda: nn.Conv2d(2, 3, 3), x=(4, 2, 5, 6), id="conv2d"),
    case(lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), x=(3, 4, 5, 5), id="grouped"),
    case(lambda: nn.Conv2d(4, 4, 3, groups=4), x=(3, 4, 5, 5), id="depthwise"),
    case(lambda: nn.Conv2d(4, 8, 3, groups=4), x=(3, 4, 5, 5), id="depthwise, two each"),
    case(lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), x=(4, 2, 6, 7), id="strided"),
    case(lambda: nn.Conv2d(2, 3, (3, 2), dilation=(2, 1)), x=(4, 2, 8, 7), id="dilated"),
    case(lambda: nn.Conv2d(2, 3, 3, padding="same"), x=(4, 2, 5, 5), id="same"),
    case(lambda: nn.Conv2d(2, 3, 2, padding="same"), x=(4, 2, 5, 5), id="same, even kernel"),
    case(
        lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), x=(4, 2, 5, 5), id="reflect"
    ),
    case(
        lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
        x=(4, 2, 5, 5),
        id="circular",
    ),
    case(lambda: nn.Conv2d(6, 5, 1), x=(4, 6, 3, 3), id="pointwise"),
    case(lambda: nn.Conv1d(2, 3, 3), x=(4, 2, 7), id="conv1d"),
    case(lambda: nn.Conv3d(2, 3, 2), x=(3, 2, 4, 4, 3), id="conv3d"),
    case(lambda: nn.ConvTranspose1d(2, 3, 3, stride=2), x=(3, 2, 4), id="transposed 1d"),
    case(
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        x=(3, 4, 4, 4),
        id="transposed, grouped",
    ),
    case(lambda: nn.ConvTranspose3d(2, 2, 2), x=(3, 2, 3, 2, 2), id="transposed 3d"),
    case(lambda: Frames(inner=False), x=(3, 2, 2, 5, 5), id="frames, samples outer"),
    case(lambda: Frames(inner=True), x=(3, 2, 2, 5, 5), id="frames, samples inner"),
    case(lambda: Twice(nn.Conv2d(2, 2, 3, padding=1)), x=(3, 2, 4, 4), id="conv called twice"),
    case(StridedPair, x=(3, 4, 8), id="kernel at two strides"),
    case(lambda: StridedPair(transposed=True), x=(3, 4, 8), id="kernel and its transposed use"),
    case(_cnn, x=(5, 2, 8, 8), id="cnn with group norm"),
]

BROADCAST = [
    case(lambda: nn.LayerNorm(4), x=(5, 4), id="layer norm of one row"),
    case(lambda: nn.LayerNorm((3, 4)), x=(5, 3, 4), id="layer norm"),
    case(lambda: nn.LayerNorm(4, bias=False), x=(5, 3, 4), id="layer norm without bias"),
    case(lambda: Twice(nn.LayerNorm(4)), x=(5, 3, 4), id="layer norm called twice"),
    case(lambda: nn.RMSNorm(4), x=(5, 3, 4), id="rms norm"),
    case(lambda: nn.GroupNorm(2, 4), x=(5, 4), id="group norm without positions"),
    case(lambda: nn.GroupNorm(2, 4), x=(5, 4, 3, 2), id="group norm"),
    case(lambda: _without(nn.GroupNorm(2, 4), "bias"), x=(5, 4, 3), id="group norm, frozen bias"),
    case(lambda: Frozen(nn.BatchNorm1d(4)), x=(5, 4), id="batch norm in eval mode"),
    case(lambda: Frozen(nn.BatchNorm2d(3)), x=(5, 3, 2, 2), id="batch norm 2d in eval mode"),
    case(lambda: nn.InstanceNorm2d(3, affine=True), x=(4, 3, 4, 4), id="instance norm"),
    case(Affine, x=(5, 3, 4), id="affine"),
    case(ClassToken, x=(5, 3, 4), id="class token"),
    case(Repeated, x=(5, 4), id="repeated"),
    case(lambda: Twice(nn.InstanceNorm1d(3, affine=True)), x=(4, 3, 5), id="instance norm twice"),
    case(OwnForEverySample, x=(5, 4), id="own row for every sample"),
]

TABLES = [
    case(lambda: nn.Embedding(7, 4), x=(5, 3), integers=7, id="embedding"),
    case(lambda: nn.Embedding(7, 4), x=(5,), integers=7, id="embedding of one index"),
    case(lambda: nn.Embedding(7, 4), x=(3, 2, 4), integers=7, id="embedding of a grid"),
    case(lambda: nn.Embedding(7, 4, padding_idx=2), x=(5, 6), integers=7, id="padded embedding"),
    case(
        lambda: nn.Embedding(7, 4, scale_grad_by_freq=True),
        x=(5, 3),
        integers=7,
        id="embedding scaled by frequency",
    ),
    case(lambda: nn.Embedding(7, 4, max_norm=1.0), x=(5, 3), integers=7, id="renormalised"),
    case(lambda: nn.Embedding(7, 4, sparse=True), x=(5, 3), integers=7, id="sparse embedding"),
    case(lambda: nn.EmbeddingBag(7, 4), x=(5, 3), integers=7, id="embedding bag"),
    case(TiedHead, x=(4, 3), integers=9, id="tied embedding and head"),
    case(TiedHead, x=(4,), integers=9, id="tied embedding and head, one position"),
    case(lambda: TiedHead(padding_idx=1), x=(4, 6), integers=9, id="tied and padded"),
    case(lambda: TiedHead(twice=True), x=(4, 3), integers=9, id="tied three times"),
]

GENERAL = [
    case(lambda: nn.PReLU(3), x=(4, 3, 2), id="prelu"),
    case(Pair, x=(4, 2, 3), id="bilinear"),
    case(lambda: nn.LSTM(4, 5, batch_first=True), x=(4, 3, 4), id="lstm"),
    case(lambda: nn.LSTM(4, 5), x=(3, 4, 4), batch_first=False, id="lstm, time first"),
    case(lambda: nn.GRU(4, 3, batch_first=True), x=(4, 3, 4), id="gru"),
    case(lambda: nn.RNN(4, 3, batch_first=True), x=(4, 3, 4), id="rnn"),
    case(
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True),
        x=(4, 3, 8),
        id="encoder layer with dropout",
    ),
    case(
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3),
        x=(3, 4, 8),
        batch_first=False,
        id="encoder layer, time first",
    ),
    case(Tied, x=(5, 6), id="tied autoencoder"),
    case(Tied, x=(5, 2, 6), id="tied autoencoder, two positions"),
    case(TiedLayers, x=(4, 5), id="tied layers"),
    case(lambda: Twice(nn.Linear(4, 4)), x=(5, 4), id="called twice"),
    case(lambda: Twice(nn.Linear(4, 4), reduce=True), x=(5, 3, 4), id="called twice, other shape"),
    case(FreeParameter, x=(5, 4), id="free parameter"),
    case(FunctionalParent, x=(5, 4), id="parent uses child's weight"),
    case(lambda: Positional(6), x=(3, 6, 4), id="layer on a table"),
    case(Residual, x=(5, 4), id="zero branch"),
    case(Siamese, x=(5, 4), id="siamese"),
    case(BiasShared, x=(4, 2, 5), id="bias shared across operations"),
]

CASES = [*LINEAR, *CONVOLUTIONS, *BROADCAST, *TABLES, *GENERAL]
