"""Networks on images: residual, attention, depthwise, squeeze-and-excite, encoder-decoder."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.architectures.record import Architecture

Norm = Callable[[int], nn.Module]


def frozen_batch_norm(channels: int) -> nn.Module:
    """Batch norm in eval mode, with running statistics that are not those of a new module."""
    norm = nn.BatchNorm2d(channels)
    statistics = {
        "running_mean": torch.randn(channels) / 3,
        "running_var": torch.rand(channels) + 0.5,
    }
    norm.load_state_dict(statistics, strict=False)
    return norm.eval()


def group_norm(channels: int) -> nn.Module:
    """Group norm with two groups."""
    return nn.GroupNorm(2, channels)


def instance_norm(channels: int) -> nn.Module:
    """Instance norm with a scale and a shift."""
    return nn.InstanceNorm2d(channels, affine=True)


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut, which is a strided 1x1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        h = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(h)) + kept)


class ResNet18(nn.Module):
    """Stem with pooling, four stages of two basic blocks, average pooling, one linear layer."""

    def __init__(self, norm: Norm, width: int = 4, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            norm(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks, inputs = [], width
        for stage in range(4):
            outputs, stride = width + 2 * stage, 1 if stage in (0, 3) else 2
            blocks += [BasicBlock(inputs, outputs, stride, norm)]
            blocks += [BasicBlock(outputs, outputs, 1, norm)]
            inputs = outputs
        self.stages = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.stages(self.stem(x))).flatten(1))


class AttentionBlock(nn.Module):
    """Pre-norm block of nn.MultiheadAttention and a perceptron, both with dropout."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * dim, dim),
            nn.Dropout(dropout),
        )

    def attend(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class FusedAttentionBlock(AttentionBlock):
    """The same block with one projection for queries, keys and values, as timm writes it."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(dim, heads, dropout)
        del self.attention
        self.heads, self.dropout = heads, dropout
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def attend(self, x: Tensor) -> Tensor:
        b, t, dim = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)
        return self.project(y.transpose(1, 2).reshape(b, t, dim))


class ViT(nn.Module):
    """Patches, a class token, learned positions, two pre-norm blocks, a head on the token."""

    def __init__(self, dim: int = 8, patch: int = 4, size: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim) / 10)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            AttentionBlock(dim, 2, dropout), FusedAttentionBlock(dim, 2, dropout)
        )
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(self.dropout(x)))[:, 0])


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, layer norm and perceptron with channels last, layer scale, dropped paths."""

    def __init__(self, dim: int, drop: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand, self.reduce = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(1e-6 * torch.ones(dim))
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        h = self.gamma * self.reduce(F.gelu(self.expand(h)))
        kept = torch.rand(len(x), 1, 1, 1) >= self.drop
        return x + h.permute(0, 3, 1, 2) * kept / (1 - self.drop)


class ConvNeXt(nn.Module):
    """Patch stem, two stages of two blocks with a strided convolution between, pooled head."""

    def __init__(self, dim: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 2, stride=2)
        self.first = nn.Sequential(ConvNeXtBlock(dim, 0.2), ConvNeXtBlock(dim, 0.4))
        self.down = nn.Sequential(nn.GroupNorm(1, dim), nn.Conv2d(dim, 2 * dim, 2, stride=2))
        self.second = nn.Sequential(ConvNeXtBlock(2 * dim, 0.4), ConvNeXtBlock(2 * dim, 0.4))
        self.norm, self.head = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.down(self.first(self.stem(x))))
        return self.head(self.norm(x.mean((2, 3))))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class InvertedResidual(nn.Module):
    """Expands, filters each channel, gates the channels, projects, and adds where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        hidden = 2 * inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            norm(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, hidden, 5, stride, padding=2, groups=hidden, bias=False),
            norm(hidden),
            SqueezeExcite(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            norm(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def mobile_net(norm: Norm) -> nn.Module:
    """Stem, three inverted residuals, a pooled head with dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        InvertedResidual(4, 4, 1, norm),
        InvertedResidual(4, 6, 2, norm),
        InvertedResidual(6, 6, 1, norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(6, 5),
    )


class UNet(nn.Module):
    """Two levels down, two up by transposed convolution, skips concatenated."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.down1, self.down2 = self.pair(3, width), self.pair(width, 2 * width)
        self.bottom = self.pair(2 * width, 3 * width)
        self.up2 = nn.ConvTranspose2d(3 * width, 2 * width, 2, stride=2)
        self.join2 = self.pair(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join1 = self.pair(2 * width, width)
        self.out = nn.Conv2d(width, 3, 1)

    @staticmethod
    def pair(inputs: int, outputs: int) -> nn.Module:
        layers = []
        for channels in (inputs, outputs):
            convolution = nn.Conv2d(channels, outputs, 3, padding=1)
            layers += [convolution, nn.GroupNorm(1, outputs), nn.LeakyReLU(inplace=True)]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        h = self.up2(self.bottom(F.max_pool2d(second, 2)))
        h = self.join2(torch.cat([h, second], dim=1))
        return self.out(self.join1(torch.cat([self.up1(h), first], dim=1)))


def classified(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Cross entropy of each image, shape [b]."""
    images, labels = inputs
    return F.cross_entropy(model(images), labels, reduction="none")


def segmented(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Cross entropy of each image, the mean of its pixels, shape [b]."""
    images, labels = inputs
    return F.cross_entropy(model(images), labels, reduction="none").mean((1, 2))


def _images(size: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(4, 3, size, size), torch.randint(5, (4,)))


def _pixels() -> tuple[Tensor, ...]:
    return torch.randn(3, 3, 16, 16), torch.randint(3, (3, 16, 16))


VISION = [
    Architecture(
        "resnet18, frozen batch norm", lambda: ResNet18(frozen_batch_norm), _images(32), classified
    ),
    Architecture("resnet18, group norm", lambda: ResNet18(group_norm), _images(32), classified),
    Architecture(
        "resnet18, instance norm", lambda: ResNet18(instance_norm), _images(32), classified
    ),
    Architecture("vit", ViT, _images(16), classified, random=True),
    Architecture("vit without dropout", lambda: ViT(dropout=0.0), _images(16), classified),
    Architecture("convnext", ConvNeXt, _images(16), classified, random=True),
    Architecture(
        "mobilenet, squeeze-and-excite",
        lambda: mobile_net(frozen_batch_norm),
        _images(16),
        classified,
        random=True,
    ),
    Architecture("u-net", UNet, _pixels, segmented),
]
