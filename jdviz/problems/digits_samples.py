"""What the problems with one objective per image share."""

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from jdviz.problems.base import Batch, Data, Problem
from jdviz.problems.digits import image_names, load_images


class DigitsSamples(Problem):
    """Classification of the digits where the loss of every image is an objective of its own.

    Source: instance-wise risk minimization, arXiv 2406.16232, Section 5.
    """

    def load(self, seed: int, conflict: float = 0.0) -> Data:
        """Loads the images; neither argument changes them."""
        return load_images()

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
