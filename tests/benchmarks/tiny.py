"""Workloads that run in milliseconds, for the commands that take one by its place."""

import torch
from torch import nn

from jdviz.problems.workloads import Workload


def _images() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 10))


class _Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, tokens):
        return self.head(self.embedding(tokens).mean(1))


def _mixing() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(100), nn.Linear(100, 10))


TINY = Workload("tiny", "a convolution", 3, _images, lambda m: torch.randn(m, 4, 5, 5))
TOKENS = Workload("tokens", "an embedding", 3, _Tokens, lambda m: torch.randint(7, (m, 4)))
MIXING = Workload("mixing", "a batch norm", 3, _mixing, lambda m: torch.randn(m, 4, 5, 5))
NONE = 1


def made():
    return TINY


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 1, 16, dropout=0.0, batch_first=True)


class _Raising(nn.Linear):
    def forward(self, input):
        raise RuntimeError("no such step")


def wrong() -> nn.Module:
    """A factory that returns one thing instead of three."""
    return nn.Linear(2, 2)


def raising():
    """A factory of a model that cannot be run."""
    return _Raising(2, 2), (torch.ones(3, 2),), lambda output: output.sum(1)


def whole():
    """A factory that comes with one batch."""
    torch.manual_seed(0)
    return nn.Linear(4, 2), (torch.randn(3, 4),), lambda output: output.square().sum(1)
