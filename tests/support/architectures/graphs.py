"""Networks on graphs: batched adjacency matrices, branches, modules used several times."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.architectures.record import Architecture


class GraphNetwork(nn.Module):
    """Three rounds of messages with one set of weights, two branches, three heads per edge."""

    def __init__(self, inputs: int = 3, dim: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, dim)
        self.message, self.own = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid())
        self.attention = nn.Parameter(torch.randn(2, dim))
        self.head = nn.Linear(2 * dim, 5)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        h = self.embed(nodes)
        degree = adjacency.sum(2, keepdim=True) + 1
        for _ in range(3):
            received = torch.bmm(adjacency, self.message(h)) / degree
            h = h + torch.tanh(self.norm(received + self.own(h)))
        gated = (self.gate(h) * h).sum(1)
        return self.head(torch.cat([gated, self.attend(h, adjacency)], dim=1))

    def attend(self, h: Tensor, adjacency: Tensor) -> Tensor:
        """Pools by attention along edges, whose scores use the same gate as the other branch."""
        left, right = h @ self.attention[0], h @ self.attention[1]
        scores = F.leaky_relu(left[:, :, None] + right[:, None, :], 0.2)
        scores = scores.masked_fill(adjacency == 0, -1e4)
        return torch.bmm(scores.softmax(2), self.gate(h)).amax(1)


def classified(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Cross entropy of each graph, shape [b]."""
    nodes, adjacency, labels = inputs
    return F.cross_entropy(model(nodes, adjacency), labels, reduction="none")


def _graphs() -> tuple[Tensor, ...]:
    upper = (torch.rand(4, 5, 5) < 0.4).float().triu(1)
    adjacency = upper + upper.transpose(1, 2) + torch.eye(5)
    return torch.randn(4, 5, 3), adjacency, torch.randint(5, (4,))


GRAPHS = [Architecture("graph network", GraphNetwork, _graphs, classified)]
