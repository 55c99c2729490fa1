"""Marks of parts and layers: in order, gone afterwards, and without a trace in the numbers."""

import pytest
import torch
from torch import Tensor, nn

from jdviz.profiling.marks import PhaseMarks, layer_marks


def test_parts_begin_one_after_the_other_and_the_end_has_no_name() -> None:
    marks = PhaseMarks()
    marks.begin("forward")
    marks.switch("backward")
    marks.close()
    names = [name for name, _ in marks.began_ns]
    times = [time_ns for _, time_ns in marks.began_ns]
    assert names == ["forward", "backward", ""]
    assert times == sorted(times)
    marks.begin("forward")
    assert [name for name, _ in marks.began_ns] == ["forward"]
    marks.close()


class Nested(nn.Module):
    """Calls the same layer twice, once below another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.body = nn.Sequential(self.inner, nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.body(x))


def test_every_forward_is_a_span_under_the_first_path_of_its_module() -> None:
    model = Nested()
    with layer_marks(model) as spans:
        model(torch.randn(2, 3))
    assert [path for path, _, _ in spans] == ["inner", "body.1", "body", "inner", "Nested"]
    begins = {path: begin_ns for path, begin_ns, _ in spans[2:]}
    ends = {path: end_ns for path, _, end_ns in spans}
    assert begins["Nested"] <= begins["body"] <= ends["body"] <= begins["inner"] <= ends["Nested"]


def test_nothing_stays_on_the_model() -> None:
    model = Nested()
    with layer_marks(model):
        assert all(module._forward_hooks for module in model.modules())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_forward_that_raises_closes_its_mark() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))
    with layer_marks(model) as spans:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(torch.randn(2, 3))
        assert [path for path, _, _ in spans] == ["0", "1", "Sequential"]
        model[0](torch.randn(2, 3))
    assert [path for path, _, _ in spans] == ["0", "1", "Sequential", "0"]
