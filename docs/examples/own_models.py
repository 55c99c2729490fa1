"""Models to train and to measure with jdviz, in a file as one of your own would be."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TwoHeads(nn.Module):
    """Two tasks that share their first layers."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.point = nn.Linear(64, 2)
        self.kind = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predicts a point and the logits of a class."""
        features = self.shared(x)
        return self.point(features), self.kind(features)


def two_tasks():
    """Two objectives, one for each task: batch_dim is None."""
    x = torch.randn(128, 10)
    points, kinds = x[:, :2].sin(), x[:, 2:5].argmax(1)

    def losses(outputs: tuple[Tensor, Tensor]) -> Tensor:
        point, kind = outputs
        return torch.stack([F.mse_loss(point, points), F.cross_entropy(kind, kinds)])

    return TwoHeads(), (x,), losses, None


def each_sample(batch_size: int = 32):
    """One objective for each sample, and any number of samples."""
    images = torch.randn(batch_size, 1, 12, 12)
    digits = torch.randint(10, (batch_size,))
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10))
    return model, (images,), lambda logits: F.cross_entropy(logits, digits, reduction="none")


class Scored(nn.Module):
    """A model that is given its targets too, since they change with the step."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 8))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Squared error of each sample, shape [m]."""
        return (self.body(x) - y).square().mean(1)


def fresh_batches(batch_size: int = 16):
    """One objective for each sample, and new samples at every step."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch_size, 8)
        return x, x.roll(1, dims=1).tanh()

    return Scored(), batch, lambda losses: losses
