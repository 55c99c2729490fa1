"""An engine whose every call is compared with autograd."""

from typing import Any

import pytest
from torch import Tensor, nn

from engines.autogram import Engine, reading
from tests.support.reference import reference_gramian
from tests.support.steps import assert_same_gradients, spread
from tests.support.tolerances import assert_close


class Watched:
    """The engine, and how often it read a graph from scratch."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, batch_dim: int | None, *modules: nn.Module
    ) -> None:
        self.modules, self.batch_dim = modules, batch_dim
        self.engine = Engine(*modules, batch_dim=batch_dim)
        self.read = 0
        inner = reading.Reader._read

        def counted(*arguments: Any) -> object:
            self.read += 1
            return inner(*arguments)

        monkeypatch.setattr(reading.Reader, "_read", counted)

    @property
    def parameters(self) -> list[nn.Parameter]:
        found = [p for m in self.modules for p in m.parameters() if p.requires_grad]
        return list({id(p): p for p in found}.values())

    def exact(self, losses: Tensor, *, fused_only: bool = False) -> None:
        """Compare both forms, the Gramian alone first."""
        expected = reference_gramian(losses, self.parameters)
        if not fused_only:
            assert_close(self.engine.compute_gramian(losses), expected)
        for parameter in self.parameters:
            parameter.grad = None
        losses.backward(spread(expected), retain_graph=True)
        plain = [p.grad for p in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        step = self.engine.backward(losses, lambda _: spread(expected), retain_graph=True)
        assert_close(step.gramian, expected)
        assert_same_gradients([p.grad for p in self.parameters], plain)
