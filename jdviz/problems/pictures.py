"""Samples as pictures, for the problems whose samples are images."""

import numpy as np
from numpy.typing import NDArray

from jdviz.problems.base import Problem
from jdviz.problems.digits import SIDE, load_images
from jdviz.problems.digits_samples import DigitsSamples


def picture(problem: Problem, sample_id: int, *, scale: int = 1) -> NDArray[np.uint8] | None:
    """The image that a sample is.

    Args:
        problem: What is trained.
        sample_id: Row of its data.
        scale: Side in pixels that each grey value becomes.

    Returns:
        Grey values from 0 for background to 255 for ink, shape [8·scale, 8·scale]; None where
        samples are no images, or there is no such row.
    """
    images = load_images().inputs if isinstance(problem, DigitsSamples) else None
    if images is None or not 0 <= sample_id < len(images):
        return None
    # The data were shifted and scaled as a whole, so their ends are those of the grey values.
    low, high = float(images.min()), float(images.max())
    grey = (images[sample_id].numpy().reshape(SIDE, SIDE) - low) / (high - low)
    pixels = np.round(255 * grey).astype(np.uint8)
    return np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)
