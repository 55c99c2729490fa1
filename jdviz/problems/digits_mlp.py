"""One objective per image of a handwritten digit, on a multilayer perceptron."""

import torch
from torch import nn

from jdviz.problems.digits import N_IMAGES, SIDE
from jdviz.problems.digits_samples import DIAL, DigitsSamples
from jdviz.problems.models import build_seeded, mlp


class DigitsMlp(DigitsSamples):
    """Linear layers with ReLU between them, from 64 pixels to 10 digits."""

    def make_model(self, size: str, seed: int) -> nn.Module:
        """Builds the perceptron; the widths of the size are those of all its layers."""
        widths = self.check_size(size)
        return build_seeded(lambda: mlp(widths), seed)


DIGITS_MLP = DigitsMlp(
    key="digits_mlp",
    title="Digits MLP, per image",
    summary="A multilayer perceptron learns 1,797 images of handwritten digits, "
    "and the loss of each image in the batch is an objective of its own.",
    objective_kind="samples",
    batch_dim=0,
    sizes={
        "small": (64, 32, 10),
        "medium": (64, 128, 128, 10),
        "large": (64, 256, 256, 256, 10),
    },
    n_samples=N_IMAGES,
    input_shape=(SIDE * SIDE,),
    target_shape=(),
    target_dtype=torch.int64,
    default_size="medium",
    default_batch=64,
    max_batch=256,
    default_learning_rate=0.03,
    dial=DIAL,
)
