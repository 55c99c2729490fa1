"""The networks on which speed and memory are measured, at the sizes people train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """A model with random data and one loss per sample.

    Attributes:
        key: Name on the command line.
        title: What it is, in words.
        samples: Batch size unless another is asked for.
        make: Builds the model, of a width where there are several.
        inputs: Draws the inputs of a number of samples.
        widths: Widths of the hidden layers that can be chosen; empty where there is one model.
        default_width: The one to start with.
    """

    key: str
    title: str
    samples: int
    make: Callable[..., nn.Module]
    inputs: Callable[[int], Tensor]
    widths: tuple[int, ...] = ()
    default_width: int | None = None

    def build(
        self, samples: int | None = None, seed: int = 0, width: int | None = None
    ) -> tuple[nn.Module, Tensor, Tensor]:
        """Builds the model and draws a batch, without a trace in the global random state.

        Args:
            samples: Batch size, the workload's own if None.
            seed: Of parameters and data.
            width: One of `widths`; the workload's own if None.

        Returns:
            The model in training mode, its inputs, and a class for every sample, shape [m].
        """
        m = samples or self.samples
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            chosen = width or self.default_width
            model = self.make() if chosen is None else self.make(chosen)
            return model, self.inputs(m), torch.randint(_CLASSES, (m,))

    def losses(self, model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        """Runs the model.

        Args:
            model: From `build`.
            inputs: From `build`.
            classes: From `build`.

        Returns:
            One cross-entropy per sample, shape [m].
        """
        return F.cross_entropy(model(inputs), classes, reduction="none")


def perceptron(width: int = 256) -> nn.Module:
    """Three hidden layers of one width on 64 inputs."""
    return nn.Sequential(
        nn.Linear(64, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, _CLASSES),
    )


def convolutional() -> nn.Module:
    """A plain, a grouped and a depthwise convolution on images of 32×32, and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, groups=32),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, groups=64),
        nn.MaxPool2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 128),
        nn.ReLU(),
        nn.Linear(128, _CLASSES),
    )


class Transformer(nn.Module):
    """Four encoder layers on tokens, their mean, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 256)
        layers = [
            nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(4)
        ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(256, _CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the classes, shape [m, 10], of tokens, shape [m, t]."""
        return self.head(self.layers(self.embedding(tokens)).mean(1))


class _Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm2d(outputs, affine=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.InstanceNorm2d(outputs, affine=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.InstanceNorm2d(outputs, affine=True),
            )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def residual() -> nn.Module:
    """ResNet-18 with instance normalisation that has a scale and a shift."""
    blocks: list[nn.Module] = []
    inputs = 64
    for stage, outputs in enumerate((64, 128, 256, 512)):
        blocks += [
            _Residual(inputs, outputs, 1 if stage == 0 else 2),
            _Residual(outputs, outputs, 1),
        ]
        inputs = outputs
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.InstanceNorm2d(64, affine=True),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, _CLASSES),
    )


def alexnet() -> nn.Module:
    """AlexNet without dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(9216, 4096),
        nn.ReLU(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, _CLASSES),
    )


def _images(size: int) -> Callable[[int], Tensor]:
    return lambda m: torch.randn(m, 3, size, size)


WORKLOADS: Mapping[str, Workload] = MappingProxyType(
    {
        workload.key: workload
        for workload in (
            Workload(
                "mlp",
                "perceptron 64-256-256-256-10",
                64,
                perceptron,
                lambda m: torch.randn(m, 64),
                widths=(64, 128, 256, 512, 1024, 2048),
                default_width=256,
            ),
            Workload(
                "cifar_cnn",
                "plain, grouped and depthwise convolutions on 32×32",
                64,
                convolutional,
                _images(32),
            ),
            Workload(
                "transformer",
                "four encoder layers of width 256 on 32 tokens",
                16,
                Transformer,
                lambda m: torch.randint(1000, (m, 32)),
            ),
            Workload(
                "resnet18_in", "ResNet-18 with InstanceNorm on 128×128", 8, residual, _images(128)
            ),
            Workload("alexnet", "AlexNet on 224×224", 8, alexnet, _images(224)),
        )
    }
)
