import numpy as np
import pytest

from jdviz.histories import delta_percent, seeds_band, smooth


def test_smoothing_by_hand() -> None:
    # With weight ½: 2; (2·¼ + 4·½) / ¾ = 10/3; (2·⅛ + 4·¼ + 6·½) / ⅞ = 34/7.
    np.testing.assert_allclose(smooth([2.0, 4.0, 6.0], 0.5), [2.0, 10 / 3, 34 / 7])
    np.testing.assert_array_equal(smooth([2.0, 4.0, 6.0], 0.0), [2.0, 4.0, 6.0])


def test_smoothing_keeps_a_constant_and_skips_gaps() -> None:
    np.testing.assert_allclose(smooth(np.full(50, 3.0), 0.97), np.full(50, 3.0))
    values = [2.0, np.nan, np.inf, 4.0, 6.0]
    result = smooth(values, 0.5)
    np.testing.assert_array_equal(np.isnan(result), [False, True, True, False, False])
    np.testing.assert_allclose(result[[0, 3, 4]], smooth([2.0, 4.0, 6.0], 0.5))


def test_columns_are_smoothed_apart() -> None:
    values = np.random.default_rng(0).normal(size=(9, 3))
    values[4, 1] = np.nan
    together = smooth(values, 0.8)
    for column in range(3):
        np.testing.assert_array_equal(together[:, column], smooth(values[:, column], 0.8))
    assert smooth(np.zeros((0, 2)), 0.8).shape == (0, 2)
    assert smooth([], 0.8).shape == (0,)


def test_band_of_enough_seeds() -> None:
    steps = np.arange(0, 40, 10)
    runs = [(steps, np.full(4, value)) for value in (1.0, 2.0, 3.0, 5.0)]
    band = seeds_band(runs)
    assert (band.seeds, band.enough) == (4, True)
    np.testing.assert_array_equal(band.steps, steps)
    # Quartiles of 1, 2, 3, 5 are 1.75, 2.5 and 3.5.
    np.testing.assert_allclose(band.low, 1.75)
    np.testing.assert_allclose(band.median, 2.5)
    np.testing.assert_allclose(band.high, 3.5)


def test_too_few_seeds_have_a_median_and_no_band() -> None:
    band = seeds_band([([0, 1], [1.0, 2.0]), ([0, 1], [3.0, 4.0])])
    assert not band.enough
    np.testing.assert_array_equal(band.median, [2.0, 3.0])
    assert np.isnan(band.low).all()
    assert np.isnan(band.high).all()
    empty = seeds_band([])
    assert (empty.seeds, empty.steps.size, empty.enough) == (0, 0, False)


def test_only_common_steps_and_no_seed_is_left_out() -> None:
    runs = [
        ([0, 1, 2, 3], [1.0, 1.0, 1.0, 1.0]),
        ([0, 2, 3, 4], [2.0, 2.0, np.inf, 2.0]),
        ([0, 2, 3], [3.0, 3.0, 3.0]),
    ]
    band = seeds_band(runs)
    np.testing.assert_array_equal(band.steps, [0, 2, 3])
    np.testing.assert_array_equal(band.median, [2.0, 2.0, np.nan])


def test_delta_by_hand() -> None:
    # Losses 0.5 and 3 against 1 and 2: better by half, worse by half.
    lower = delta_percent([0.5, 3.0], [1.0, 2.0])
    np.testing.assert_allclose(lower.per_task, [50.0, -50.0])
    assert lower.mean == 0.0
    higher = delta_percent([0.5, 3.0], [1.0, 2.0], lower_is_better=False)
    np.testing.assert_allclose(higher.per_task, [-50.0, 50.0])
    # A negative baseline: -4 is lower than -2, which is better.
    np.testing.assert_allclose(delta_percent([-4.0], [-2.0]).per_task, [100.0])


def test_no_percentage_of_zero() -> None:
    found = delta_percent([1.0, 1.0, np.nan], [0.0, 2.0, 1.0])
    np.testing.assert_array_equal(found.per_task, [np.nan, 50.0, np.nan])
    assert np.isnan(found.mean)
    assert np.isnan(delta_percent([], []).mean)


def test_what_does_not_fit_is_refused() -> None:
    for weight in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="expected 0 or more and below 1"):
            smooth([1.0], weight)
    with pytest.raises(ValueError, match=r"expected \[k\] or \[k, columns\]"):
        smooth(np.zeros((1, 1, 1)), 0.5)
    with pytest.raises(ValueError, match=r"expected \[k\] for both"):
        seeds_band([([0, 1], [1.0])])
    with pytest.raises(ValueError, match="one number for each task in both"):
        delta_percent([1.0], [1.0, 2.0])
