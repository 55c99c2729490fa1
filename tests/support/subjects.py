"""Something to measure whose every byte can be worked out by hand."""

import torch
from torch import Tensor, nn

from jdviz.problems.subjects import Built, Subject
from jdviz.profiling import MeasureSpec, StepMethod

#: Samples, inputs and outputs of the linear map.
M, I, O = 16, 4096, 3  # noqa: E741  # the letters that the project's sums are written in


def linear_subject(model: nn.Module | None = None) -> Subject:
    """A linear map without bias; each sample's loss is the sum of its squared outputs.

    Args:
        model: What takes the place of the map, from [m, i] to [m, o].

    Returns:
        The subject, of size "one".
    """

    def make(size: str, batch_size: int, seed: int, device: str) -> Built:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            made = nn.Sequential(nn.Linear(I, O, bias=False)) if model is None else model
            x = torch.randn(batch_size, I)

        def losses() -> Tensor:
            outputs: Tensor = made(x)
            return outputs.square().sum(1)

        return Built(made, losses, (x,))

    return Subject("linear", "Linear", "A map.", {"one": ""}, "one", M, 0, 0, True, make)


def linear_spec(method: StepMethod, aggregator: str = "Mean") -> MeasureSpec:
    """The step of that subject by a method."""
    return MeasureSpec("linear", "one", M, method, aggregator)
