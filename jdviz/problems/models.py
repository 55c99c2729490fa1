"""Small networks with seeded parameters."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

from torch import nn

from jdviz.problems.sampling import PARAMETERS, seeded_generator

Model = TypeVar("Model", bound=nn.Module)


class Linear(nn.Linear):
    """A linear layer whose parameters `build_seeded` draws.

    Torch's own constructor draws them from the process-wide generator, which another thread may
    be using.
    """

    def reset_parameters(self) -> None:
        """Draws nothing."""


class Conv2d(nn.Conv2d):
    """A convolution whose parameters `build_seeded` draws, as in `Linear`."""

    def reset_parameters(self) -> None:
        """Draws nothing."""


def build_seeded(make: Callable[[], Model], seed: int) -> Model:
    """Builds a model whose parameters depend on the seed alone.

    Weights and biases are uniform in ±1/√fan_in, the range that torch's own layers start with.

    Args:
        make: Builds a model of `Linear` and `Conv2d` layers and layers without parameters.
        seed: Seed of the parameters.

    Returns:
        The model on the CPU.

    Raises:
        TypeError: A layer of another kind has parameters.
    """
    model = make()
    generator = seeded_generator(PARAMETERS, seed)
    for path, layer in model.named_modules():
        own = list(layer.parameters(recurse=False))
        if not own:
            continue
        if not isinstance(layer, Linear | Conv2d):
            raise TypeError(
                f"got a layer {path} of type {type(layer).__name__}, expected Linear or Conv2d; "
                "say in build_seeded how its parameters start"
            )
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for parameter in own:
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return model


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Builds linear layers with ReLU between them.

    Args:
        widths: Number of inputs, widths of the hidden layers, number of outputs.

    Returns:
        A network from [m, widths[0]] to [m, widths[-1]], its parameters not yet drawn.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
