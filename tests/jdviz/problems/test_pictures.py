"""Samples as pictures."""

import numpy as np
from sklearn.datasets import load_digits

from jdviz.problems import PROBLEMS
from jdviz.problems.pictures import picture


def test_a_digit_has_its_grey_values_from_background_to_ink():
    original = load_digits().images[17]
    pixels = picture(PROBLEMS["digits_mlp"], 17)
    assert pixels is not None
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.round(255 * original / 16))


def test_a_scaled_picture_repeats_every_pixel():
    small = picture(PROBLEMS["digits_cnn"], 3)
    large = picture(PROBLEMS["digits_cnn"], 3, scale=4)
    assert small is not None
    assert large is not None
    assert np.array_equal(large, np.kron(small, np.ones((4, 4), dtype=np.uint8)))


def test_there_is_no_picture_of_a_task_or_of_a_row_that_is_not_there():
    assert picture(PROBLEMS["conflict_regression"], 0) is None
    assert picture(PROBLEMS["digits_mlp"], 1797) is None
    assert picture(PROBLEMS["digits_mlp"], -1) is None
