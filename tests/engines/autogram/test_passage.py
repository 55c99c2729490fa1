"""Structure tests: what the table of operations claims about samples is true, and complete."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.autogram import Engine, passage
from engines.autogram.graph import read_graph
from engines.autogram.objectives import Objectives
from engines.autogram.passage import PASSAGES
from engines.autogram.places import Place
from engines.autogram.probing import Proofs
from engines.autogram.separation import Separation, separate
from engines.errors import BatchMixedError
from jdviz.problems import PROBLEMS
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close

Make = Callable[[Tensor], Tensor]

B, T, C = 4, 3, 6
_POSITIVE = torch.rand(B, T, C, dtype=torch.float64) + 0.5
_MASK = torch.arange(B * T * C).reshape(B, T, C) % 3 == 0
_CLASSES = torch.tensor([0, 2, 1, 1])
_LABELS = torch.arange(B * C).reshape(B, C) % T


def _image(h: Tensor) -> Tensor:
    return h.unflatten(2, (2, 3))


def _volume(h: Tensor) -> Tensor:
    return h.unflatten(2, (1, 2, 3))


def _pow(h: Tensor) -> Tensor:
    return h.square() + 0.5


def _rnn(h: Tensor) -> Tensor:
    torch.manual_seed(1)
    found: Tensor = nn.LSTM(C, 2)(h.transpose(0, 1))[0]
    return found.transpose(0, 1)


# Every line maps h [b, t, c], made by a linear layer, to losses [b] (or what `_summed` makes so).
SEPARATE: dict[str, Make] = {
    "Abs0": torch.abs,
    "Acos0": lambda h: (h.tanh() / 2).acos(),
    "Acosh0": lambda h: (_pow(h) + 1).acosh(),
    "Addcdiv0": lambda h: torch.addcdiv(h, h, _POSITIVE),
    "Addcmul0": lambda h: torch.addcmul(h, h, h.tanh()),
    "Asin0": lambda h: (h.tanh() / 2).asin(),
    "Asinh0": torch.asinh,
    "Atan0": torch.atan,
    "Atan20": lambda h: torch.atan2(h, _POSITIVE),
    "Atanh0": lambda h: (h.tanh() / 2).atanh(),
    "Celu0": F.celu,
    "Cosh0": torch.cosh,
    "Erfc0": torch.erfc,
    "Exp20": torch.exp2,
    "Hypot0": lambda h: torch.hypot(h, _POSITIVE),
    "Lerp0": lambda h: torch.lerp(h, h.tanh(), 0.3),
    "Lerp1": lambda h: torch.lerp(h, h.tanh(), h.sigmoid()),
    "Sinh0": torch.sinh,
    "Tan0": torch.tan,
    "MkldnnRnnLayer0": lambda h: _rnn(h.float()).double(),
    "Add0": lambda h: h + _POSITIVE,
    "Clamp0": lambda h: torch.clamp(h, -_POSITIVE, _POSITIVE),
    "Clamp1": lambda h: h.clamp(-1, 1),
    "ClampMax0": lambda h: h.clamp_max(0.1),
    "ClampMin0": lambda h: h.clamp_min(0.1),
    "Clone0": torch.clone,
    "Cos0": torch.cos,
    "Div0": lambda h: h / _POSITIVE,
    "Elu0": F.elu,
    "Elu1": lambda h: F.elu(h * 1, inplace=True),
    "Erf0": torch.erf,
    "Exp0": torch.exp,
    "Expand0": lambda h: h.unsqueeze(2).expand(B, T, 2, C),
    "Expm10": torch.expm1,
    "Gelu0": F.gelu,
    "Hardsigmoid0": F.hardsigmoid,
    "Hardswish0": F.hardswish,
    "Hardtanh0": F.hardtanh,
    "LeakyRelu0": F.leaky_relu,
    "LeakyRelu1": lambda h: F.leaky_relu(h * 1, inplace=True),
    "Log0": lambda h: _pow(h).log(),
    "Log100": lambda h: _pow(h).log10(),
    "Log1P0": lambda h: _pow(h).log1p(),
    "Log20": lambda h: _pow(h).log2(),
    "LogSigmoid0": F.logsigmoid,
    "MaskedFill0": lambda h: h.masked_fill(_MASK, 0.0),
    "MaskedFill1": lambda h: h.masked_fill(_MASK, torch.ones((), dtype=h.dtype)),
    "Maximum0": lambda h: torch.maximum(h, _POSITIVE),
    "Minimum0": lambda h: torch.minimum(h, _POSITIVE),
    "Mish0": F.mish,
    "Mul0": lambda h: h * h.tanh(),
    "NativeDropout0": lambda h: torch.native_dropout(h, 0.3, True)[0],
    "Mul1": lambda h: torch.ops.aten.mul.Scalar(h, 2.0),
    "Neg0": torch.neg,
    "Pow0": lambda h: h**3,
    "Pow1": lambda h: torch.pow(_pow(h), _POSITIVE),
    "PreluKernel0": lambda h: F.prelu(h, torch.ones(1, dtype=h.dtype)),
    "Reciprocal0": lambda h: _pow(h).reciprocal(),
    "Relu0": lambda h: F.relu_(h * 1),
    "Rsqrt0": lambda h: _pow(h).rsqrt(),
    "Rsub1": lambda h: 1 - h,
    "Sigmoid0": torch.sigmoid,
    "Silu0": F.silu,
    "Sin0": torch.sin,
    "Softplus0": F.softplus,
    "Sqrt0": lambda h: _pow(h).sqrt(),
    "Sub0": lambda h: h - h.detach() * 2,
    "Tanh0": torch.tanh,
    "Threshold0": lambda h: F.threshold(h, 0.1, 0.0),
    "ToCopy0": lambda h: h.float(),
    "Where0": lambda h: torch.where(_MASK, h, 2 * h),
    "BinaryCrossEntropy0": lambda h: F.binary_cross_entropy(
        h.sigmoid(), _MASK.to(h), reduction="none"
    ),
    "BinaryCrossEntropyWithLogits0": lambda h: F.binary_cross_entropy_with_logits(
        h, _MASK.to(h), reduction="none"
    ),
    "HuberLoss0": lambda h: F.huber_loss(h, _POSITIVE, reduction="none"),
    "MseLoss0": lambda h: F.mse_loss(h, _POSITIVE, reduction="none"),
    "SmoothL1Loss0": lambda h: F.smooth_l1_loss(h, _POSITIVE, reduction="none"),
    "NllLoss0": lambda h: F.nll_loss(h[:, 0], _CLASSES, reduction="none"),
    "NllLoss2D0": lambda h: F.nll_loss(h.unsqueeze(3), _LABELS.unsqueeze(2), reduction="none"),
    "Mm0": lambda h: h @ _POSITIVE[0].T,
    "Bmm0": lambda h: h @ h.transpose(1, 2),
    "Addmm0": lambda h: torch.addmm(_POSITIVE[0, 0, :T], h[:, 0], _POSITIVE[0].T),
    "Baddbmm0": lambda h: torch.baddbmm(h @ h.mT, h, h.mT),
    "Mv0": lambda h: h[:, 0].contiguous().mv(_POSITIVE[0, 0]),
    "Convolution0": lambda h: F.conv1d(h, _POSITIVE[:2]),
    "NativeGroupNorm0": lambda h: F.group_norm(h, 3),
    "ScaledDotProductFlashAttentionForCpu0": lambda h: F.scaled_dot_product_attention(
        *[h.unsqueeze(1)] * 3
    ),
    "AdaptiveAvgPool2D0": lambda h: F.adaptive_avg_pool2d(_image(h), (2, 2)),
    "AdaptiveMaxPool2D0": lambda h: F.adaptive_max_pool2d(_image(h), (2, 2)),
    "AvgPool2D0": lambda h: F.avg_pool2d(_image(h), 2),
    "MaxPool2DWithIndices0": lambda h: F.max_pool2d(_image(h), 2),
    "ReflectionPad2D0": lambda h: F.pad(_image(h), (1, 1, 1, 1), mode="reflect"),
    "ReplicationPad2D0": lambda h: F.pad(_image(h), (1, 1, 1, 1), mode="replicate"),
    "AdaptiveAvgPool3D0": lambda h: F.adaptive_avg_pool3d(_volume(h), (1, 2, 2)),
    "AdaptiveMaxPool3D0": lambda h: F.adaptive_max_pool3d(_volume(h), (1, 2, 2)),
    "AvgPool3D0": lambda h: F.avg_pool3d(_volume(h), (1, 2, 2)),
    "MaxPool3DWithIndices0": lambda h: F.max_pool3d(_volume(h), (1, 2, 2)),
    "ConstantPadNd0": lambda h: F.pad(h, (1, -1)),
    "NativeLayerNorm0": lambda h: F.layer_norm(h, (T, C)),
    "NativeBatchNorm0": lambda h: F.batch_norm(
        h, torch.zeros(T, dtype=h.dtype), torch.ones(T, dtype=h.dtype)
    ),
    "LogSoftmax0": lambda h: h.log_softmax(-1),
    "SafeSoftmax0": lambda h: torch.ops.aten._safe_softmax(h, 1),
    "Softmax0": lambda h: h.softmax(1),
    "Slice0": lambda h: h[:, :, 1:-1],
    "Gather0": lambda h: h.gather(-1, torch.zeros(B, T, 2, dtype=torch.long)),
    "Cat0": lambda h: torch.cat([h, h.tanh()], -1),
    "Stack0": lambda h: torch.stack([h, h.tanh()], 1),
    "Amax0": lambda h: h.amax((1, -1)),
    "Amin0": lambda h: h.amin(-1, keepdim=True),
    "LinalgVectorNorm0": lambda h: torch.linalg.vector_norm(h, dim=(1, 2)),
    "Logsumexp0": lambda h: h.logsumexp(-1),
    "Max0": lambda h: h.max(-1).values,
    "Mean1": lambda h: h.mean((-1, 1)),
    "Min0": lambda h: h.min(1, keepdim=True).values,
    "Sum1": lambda h: h.transpose(0, 1).sum(0),
    "Select0": lambda h: h.select(-1, 2),
    "ReshapeAlias0": lambda h: h @ h.mT,
    "Squeeze0": lambda h: h[:, :1, :2].squeeze(),
    "Squeeze1": lambda h: h[:, :1].squeeze(1),
    "Squeeze2": lambda h: h[:, :1, :1].squeeze((1, 2)),
    "UnsafeView0": lambda h: h.transpose(1, 2).reshape(B * C, T).unflatten(0, (B, C)),
    "Unsqueeze0": lambda h: h.unsqueeze(-1),
    "View0": lambda h: (h.reshape(B * T, C) * 2).view(B, T, C),
    "Transpose0": lambda h: h.transpose(0, -1).tanh().transpose(-1, 0),
    "Permute0": lambda h: h.permute(-1, 0, 1).tanh().permute(1, 2, 0),
    "T0": lambda h: h[:, 0].t().tanh().t(),
    "Split0": lambda h: h.split(2, -1)[1] * h.split(2, -1)[0],
    "SplitWithSizes0": lambda h: h.split([4, 2], -1)[1],
    "UnsafeSplit0": lambda h: torch.unsafe_split(h, 2, -1)[1],
    "Unbind0": lambda h: h.unbind(1)[1] * h.unbind(1)[0],
    "Trilinear0": lambda h: F.bilinear(h, h, _POSITIVE[:, :1].expand(B, C, C)),
}

# The same operations where they mix samples, or might.
MIXING: dict[str, Make] = {
    "Add0": lambda h: h + h[:1],
    "Mul0": lambda h: h * h.sum(0),
    "Expand0": lambda h: h[:1].expand(B, T, C),
    "Where0": lambda h: torch.where(_MASK, h, h[1:2]),
    "MaskedFill1": lambda h: h.masked_fill(_MASK, h[0, 0, 0]),
    "MseLoss0": lambda h: F.mse_loss(h, _POSITIVE).expand(B),
    "NllLoss0": lambda h: F.nll_loss(h[:, 0], _CLASSES).expand(B),
    "Mm0": lambda h: _POSITIVE[0, :, :B] @ h[:, 0],
    "Mm0, right": lambda h: h[:, 0] @ h[:, 1].T,
    "Addmm0": lambda h: torch.addmm(h[0, 0], h[:, 0], _POSITIVE[0, 0].outer(_POSITIVE[0, 0])),
    "Bmm0": lambda h: _POSITIVE[:3, :, :B] @ h.transpose(0, 1),
    "Mv0": lambda h: _POSITIVE[0, 0, :B].outer(_POSITIVE[0, 0, :B]).mv(h[:, 0, 0]),
    "Convolution0": lambda h: F.conv1d(h[:, 0].unsqueeze(0), _POSITIVE[:, :1, :1].expand(B, B, 3))[
        0
    ],
    "Convolution0, weight": lambda h: F.conv1d(_POSITIVE, h),
    "NativeGroupNorm0": lambda h: F.group_norm(h.transpose(0, 1), 2).transpose(0, 1),
    "AvgPool2D0": lambda h: F.avg_pool2d(h.permute(1, 0, 2), (3, 1), 1, (1, 0)).permute(1, 0, 2),
    "ConstantPadNd0": lambda h: F.pad(h, (0, 0, 0, 0, 1, -1)),
    "NativeLayerNorm0": lambda h: F.layer_norm(h.transpose(0, 2), (T, B)).transpose(0, 2),
    "NativeBatchNorm0": lambda h: F.batch_norm(h, None, None, training=True),
    "Softmax0": lambda h: h.softmax(-3),
    "LogSoftmax0": lambda h: h.log_softmax(0),
    "Slice0": lambda h: torch.cat([h[1:], h[:1]]),
    "Gather0": lambda h: h.gather(0, torch.arange(B).flip(0).view(B, 1, 1).expand(B, T, C)),
    "Cat0": lambda h: torch.cat([h, h.tanh()])[2:6],
    "Stack0": lambda h: torch.stack([h[0], h[1], h[2], h[0]]),
    "Amax0": lambda h: h.amax(0)[0, :B],
    "Mean1": lambda h: h - h.mean(0),
    "Max0": lambda h: h.max(0, keepdim=True).values.expand(B, T, C),
    "Sum1": lambda h: h.sum((0, 1))[:B],
    "Sum0": lambda h: h.sum().expand(B),
    "Select0": lambda h: h.select(0, 1).expand(B, T, C),
    "View0": lambda h: h.transpose(0, 1).reshape(B, T, C),
    "Transpose0": lambda h: h[:, :, :B].transpose(0, 2),
    "Permute0": lambda h: h[:, :, :B].permute(2, 1, 0),
    "T0": lambda h: h[:, 0, :B].t(),
    "Index0": lambda h: h[torch.tensor([1, 0, 2, 3])],
    "Sort0": lambda h: h.sort(0).values,
}


class _Silent(Proofs):
    """Nobody may ask by numbers."""

    def find(self, *arguments: object) -> None:
        raise AssertionError(f"{arguments[0]} was asked by numbers")


def _losses(make: Make) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer, losses behind the operation, and the layer's output."""
    torch.manual_seed(0)
    layer = nn.Linear(5, C).double()
    h = layer(torch.randn(B, T, 5, dtype=torch.float64))
    losses = make(h)
    return layer, losses if losses.ndim == 1 else losses.flatten(1).square().sum(1), h


def _separate(
    layer: nn.Module, losses: Tensor, proofs: Proofs
) -> tuple[Separation, set[int], set[str]]:
    """What is known, the nodes that use a parameter, and the names of all nodes."""
    graph = read_graph(losses, list(layer.parameters()))
    users = {use.node for use in graph.uses}
    assert users
    found = separate(graph, losses, Objectives.of(losses, 0), users, proofs)
    return found, users, {node.name() for node in graph.nodes}


def _mixes(losses: Tensor, h: Tensor) -> bool:
    """Whether some loss reaches rows of another sample."""
    for sample, loss in enumerate(losses):
        (gradient,) = torch.autograd.grad(loss, h, retain_graph=True)
        others = gradient.clone()
        others[sample] = 0
        if bool(others.any()):
            return True
    return False


def _node(entry: str) -> str:
    name = entry.partition(",")[0]
    return f"{name[:-1]}Backward{name[-1]}"


@pytest.mark.parametrize("entry", SEPARATE)
def test_separate_samples_are_proved_by_the_table(entry: str) -> None:
    layer, losses, h = _losses(SEPARATE[entry])
    found, users, names = _separate(layer, losses, _Silent())
    assert _node(entry) in names
    assert not found.mixed
    for state in map(found.state, users):
        assert isinstance(state, Place)
        assert state.axis == 0
        assert state.owners.tolist() in ([*range(B)], [s for s in range(B) for _ in range(T)])
    assert not _mixes(losses, h)


@pytest.mark.parametrize("entry", SEPARATE)
def test_numbers_say_what_the_table_says(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, losses, _ = _losses(SEPARATE[entry])
    known, users, _ = _separate(layer, losses, _Silent())
    monkeypatch.setitem(passage.PASSAGES, _node(entry), lambda step: None)
    asked, _, _ = _separate(layer, losses, Proofs())
    assert not asked.mixed
    for user in users:
        first, second = known.state(user), asked.state(user)
        assert isinstance(first, Place)
        assert isinstance(second, Place)
        assert first.axis == second.axis
        # A row that the operation does not read is nobody's, by numbers.
        reached = second.owners >= 0
        assert (first.owners == second.owners)[reached].all()


# No row belongs to two samples, though not in the order of the losses.
REORDERED = {"Slice0", "Gather0", "Cat0", "Index0", "ConstantPadNd0", "View0", "Transpose0"}
REORDERED |= {"Permute0", "T0"}
# The batch ends in a tensor that no operation reads by sample. Nothing in the graph tells that
# from a layer on a table of parameters, so it is not refused, and it is exact.
SUMMED = {"Mm0", "Bmm0", "Mv0", "Convolution0, weight", "Expand0", "MseLoss0", "NllLoss0"}
SUMMED |= {"Amax0", "Max0", "Sum1", "Sum0", "Select0"}


@pytest.mark.parametrize("entry", MIXING)
def test_mixed_samples_are_refused_or_exact(entry: str) -> None:
    layer, losses, h = _losses(MIXING[entry])
    found, _, names = _separate(layer, losses, Proofs())
    assert _node(entry) in names
    assert _mixes(losses, h)
    engine = Engine(layer, batch_dim=0)
    if entry in REORDERED | SUMMED:
        assert not found.mixed
        expected = reference_gramian(losses, layer.parameters())
        assert_close(engine.compute_gramian(losses), expected)
    else:
        with pytest.raises(BatchMixedError, match=r"after (weight|bias)"):
            engine.compute_gramian(losses)


def test_every_entry_is_tested() -> None:
    # Tables of parameters receive sums over samples whatever the operation; other devices have
    # batch normalisations of their own; wrapped models are rows of the table of edge cases.
    others = {"EmbeddingBackward0", "EmbeddingBagBackward0"}
    others |= {"CudnnBatchNormBackward0", "MiopenBatchNormBackward0", "_DDPSinkBackward"}
    assert {_node(entry) for entry in SEPARATE} == set(PASSAGES) - others


@pytest.mark.parametrize("key", ["digits_mlp", "digits_cnn"])
def test_problems_of_the_app_are_proved(key: str) -> None:
    problem = PROBLEMS[key]
    model = problem.make_model(problem.default_size, 0)
    losses = problem.losses(model, problem.blank_batch(8))
    found, users, _ = _separate(model, losses, _Silent())
    assert not found.mixed
    assert all(isinstance(found.state(user), Place) for user in users)
    assert all(use.rule != "general" for use in Engine(model, batch_dim=0).explain(losses))
