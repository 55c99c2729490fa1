"""Pinned tests: small cases worked out by hand."""

import torch
from torch import nn

from engines.autogram import Engine


def test_linear_by_hand() -> None:
    # y_s = w·x_s + c, loss_s = y_s²/2 with w = (1, 2), c = 1: gradients y_s·(x_s, 1).
    # x = (1, 0), (0, 1), (1, -1): y = 2, 3, 0; x̃_s·x̃_r = [[2, 1, 2], [1, 2, 0], [2, 0, 3]].
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.fill_(1.0)
    y = model(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])).squeeze(1)
    found = Engine(model, batch_dim=0).compute_gramian(y.square() / 2)
    assert found.tolist() == [[8.0, 6.0, 0.0], [6.0, 18.0, 0.0], [0.0, 0.0, 0.0]]


def test_convolution_by_hand() -> None:
    # Kernel (a, b), loss the sum of the two outputs: the gradient is the sum of both windows,
    # (x1 + x2, x2 + x3). Samples (1, 2, 3) and (0, -1, 1): (3, 5) and (-1, 0).
    model = nn.Conv1d(1, 1, 2, bias=False)
    x = torch.tensor([[[1.0, 2.0, 3.0]], [[0.0, -1.0, 1.0]]])
    found = Engine(model, batch_dim=0).compute_gramian(model(x).sum((1, 2)))
    assert found.tolist() == [[34.0, -3.0], [-3.0, 1.0]]


def test_shared_parameter_by_hand() -> None:
    # loss_s = w·x_s + w²: gradients x_s + 2w = 7, 4 for w = 2, x = 3, 0.
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 2.0)
    x = torch.tensor([[3.0], [0.0]])
    losses = weight(x).squeeze(1) + weight.weight.square().squeeze()
    found = Engine(weight, batch_dim=0).compute_gramian(losses)
    assert found.tolist() == [[49.0, 28.0], [28.0, 16.0]]


def test_generalized_order() -> None:
    # The parameter itself: J is the identity on [2, 2], so G[a, b, c, d] is 1 where (a, b) and
    # (d, c) agree.
    weight = nn.Linear(2, 2, bias=False)
    found = Engine(weight, batch_dim=None).compute_gramian(weight.weight)
    eye = torch.eye(2)
    assert torch.equal(found, torch.einsum("ad,bc->abcd", eye, eye))
