"""One objective per image of a handwritten digit, on a convolutional network."""

from collections import OrderedDict

import torch
from torch import nn

from jdviz.problems.digits import N_CLASSES, N_IMAGES, SIDE
from jdviz.problems.digits_samples import DIAL, DigitsSamples
from jdviz.problems.models import Conv2d, Linear, build_seeded


class DigitsCnn(DigitsSamples):
    """Two convolutions with a pooling between them, then two linear layers.

    There is no batch normalisation: it mixes the samples, so that the loss of one image would
    depend on the others and there would be no gradient per image.
    """

    def make_model(self, size: str, seed: int) -> nn.Module:
        """Builds the network; the widths are channels, channels and the hidden linear layer."""
        first, second, hidden = self.check_size(size)
        side = SIDE // 2

        def make() -> nn.Module:
            return nn.Sequential(
                OrderedDict(
                    image=nn.Unflatten(1, (1, SIDE, SIDE)),
                    conv1=Conv2d(1, first, 3, padding=1),
                    relu1=nn.ReLU(),
                    pool=nn.MaxPool2d(2),
                    conv2=Conv2d(first, second, 3, padding=1),
                    relu2=nn.ReLU(),
                    flatten=nn.Flatten(),
                    linear1=Linear(second * side * side, hidden),
                    relu3=nn.ReLU(),
                    linear2=Linear(hidden, N_CLASSES),
                )
            )

        return build_seeded(make, seed)


DIGITS_CNN = DigitsCnn(
    key="digits_cnn",
    title="Digits CNN, per image",
    summary="A convolutional network learns 1,797 images of handwritten digits, "
    "and the loss of each image in the batch is an objective of its own.",
    objective_kind="samples",
    batch_dim=0,
    sizes={"small": (8, 16, 32), "medium": (16, 32, 64), "large": (32, 64, 128)},
    n_samples=N_IMAGES,
    input_shape=(SIDE * SIDE,),
    target_shape=(),
    target_dtype=torch.int64,
    default_size="medium",
    default_batch=64,
    max_batch=256,
    default_learning_rate=0.1,
    dial=DIAL,
)
