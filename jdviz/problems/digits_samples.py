"""What the problems with one objective per image share."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from jdviz.problems.base import Batch, Data, Problem
from jdviz.problems.digits import N_CLASSES, N_IMAGES, chosen_images, image_names, load_images

DIAL = (
    "Gives images a wrong digit, so that images that look alike pull apart: none at 0, nine in ten "
    "at 1, where the image says nothing about its digit any more."
)


class DigitsSamples(Problem):
    """Classification of the digits where the loss of every image is an objective of its own.

    Source: instance-wise risk minimization, arXiv 2406.16232, Section 5.
    """

    def load(self, seed: int, conflict: float = 0.0) -> Data:
        """Loads the images; a share of 9/10 · conflict, fixed for the seed, gets a wrong digit.

        The wrong digit is one of the other nine, each as likely. Late in 200 steps of the medium
        perceptron with Mean, the share of pairs in conflict rose from 0.66 at 0 to 0.87 at 1, among
        images of one digit from 0.00 to 0.86.
        """
        wrong, generator = chosen_images(seed, conflict, most=1 - 1 / N_CLASSES)
        data = load_images()
        if not len(wrong):
            return data
        # Drawn for all images: a larger share must not change what a smaller one chose.
        shifts = torch.randint(1, N_CLASSES, (N_IMAGES,), generator=generator)[: len(wrong)]
        digits = data.targets.clone()
        digits[wrong] = (digits[wrong] + shifts) % N_CLASSES
        return Data(data.inputs, digits)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the cross entropy of each image, shape [m]."""
        images, digits = batch.tensors
        return F.cross_entropy(model(images), digits, reduction="none")

    def objective_names(self, m: int) -> tuple[str, ...]:
        """Names the m images of a batch by their place in it."""
        if m < 1:
            raise ValueError(f"got {m} objectives, expected at least one image; give m >= 1")
        return tuple(f"image {place}" for place in range(1, m + 1))

    def sample_names(self, sample_ids: NDArray[np.int64]) -> tuple[str, ...]:
        """Names images by their row in the data and the digit they show."""
        return image_names(sample_ids)

    def sample_groups(self, sample_ids: NDArray[np.int64]) -> tuple[str, ...]:
        """Groups images by the digit they show."""
        digits = load_images().targets
        return tuple(str(int(digits[row])) for row in sample_ids.tolist())
