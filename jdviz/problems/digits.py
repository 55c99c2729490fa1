"""The images that the digits problems share, and the names of those images."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jdviz.problems.base import Data, check_conflict
from jdviz.problems.sampling import ANSWERS, seeded_generator

N_IMAGES = 1797
SIDE = 8
N_CLASSES = 10


@cache
def load_images() -> Data:
    """Loads scikit-learn's handwritten digits.

    The grey values are shifted and scaled to mean 0 and standard deviation 1 over all images.

    Returns:
        Images, shape [1797, 64], float32, and the digits they show, shape [1797], int64.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
        Learning Repository, 1998; distributed with scikit-learn as `load_digits`.
    """
    # scikit-learn takes about a second to import, and listing the problems must not wait for it.
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    pixels = (pixels - pixels.mean()) / pixels.std()
    return Data(
        torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(digits.astype(np.int64))
    )


def chosen_images(seed: int, conflict: float, most: float) -> tuple[Tensor, torch.Generator]:
    """Chooses the images whose answer the dial makes wrong.

    Args:
        seed: Seed of the choice.
        conflict: Where the dial stands, from 0 to 1.
        most: Share of the images chosen at 1. Where wrong answers are so frequent that the image
            says nothing about the answer, conflict is at its largest; more of them would be
            another rule that can be learnt.

    Returns:
        Rows of the data, and the generator that chose them, at the same place for every position.
        Images chosen at one position are among those of every higher one, in the same order.

    Raises:
        ValueError: The dial is outside 0 to 1.
    """
    check_conflict(conflict)
    generator = seeded_generator(ANSWERS, seed)
    order = torch.randperm(N_IMAGES, generator=generator)
    return order[: round(conflict * most * N_IMAGES)], generator


def image_names(sample_ids: NDArray[np.int64]) -> tuple[str, ...]:
    """Names images by their row in the data and the digit they show.

    Args:
        sample_ids: Rows of the data, shape [m].

    Returns:
        Names such as "image 17 (a 7)".
    """
    digits = load_images().targets
    return tuple(
        f"image {row} ({'an' if digits[row] == 8 else 'a'} {int(digits[row])})"
        for row in sample_ids.tolist()
    )
