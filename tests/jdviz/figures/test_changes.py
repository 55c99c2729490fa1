import numpy as np
import pytest

from jdviz.figures import (
    futures_bars,
    futures_bars_caption,
    futures_caption,
    futures_figure,
    loss_bars,
    loss_bars_caption,
    update_change_bars,
    update_change_caption,
)
from jdviz.figures.theme import PALETTES, method_styles

NAMES = ["a", "b", "c"]


def test_losses_of_a_step() -> None:
    figure = loss_bars([1.0, 4.0, np.nan], NAMES, "light")
    np.testing.assert_array_equal(figure.data[0].y, np.float32([1.0, 4.0, np.nan]))
    assert figure.layout.shapes[0].y0 == 2.5
    assert loss_bars_caption([1.0, 4.0, 2.5], NAMES) == (
        "B has the largest loss, 4.00, a the smallest, 1.00; their mean over all is 2.50."
    )
    assert loss_bars_caption([2.0], ["a"]) == "The loss of a is 2.00."
    assert loss_bars_caption([np.nan], ["a"]) == "The step has no loss."


def test_prediction_beside_what_happened() -> None:
    figure = update_change_bars([2.0, -1.0, 0.5], 0.1, NAMES, "dark", change=[-0.2, 0.3, 0.01])
    predicted, actual = figure.data
    np.testing.assert_allclose(predicted.y, [-0.2, 0.1, -0.05], rtol=1e-6)
    np.testing.assert_allclose(actual.y, [-0.2, 0.3, 0.01], rtol=1e-6)
    palette = PALETTES["dark"]
    assert list(actual.marker.color) == [palette.positive, palette.negative, palette.negative]
    assert update_change_caption([2.0, -1.0, 0.5], 0.1, NAMES, change=[-0.2, 0.3, 0.01]) == (
        "To first order the update lowers 2 of 3 losses; in fact 1 fell. The prediction is "
        "furthest off for b: +0.100 predicted, +0.300 happened."
    )


def test_prediction_alone() -> None:
    figure = update_change_bars([2.0, -1.0, 0.5], 0.1, NAMES, "light")
    assert len(figure.data[1].x) == 0
    assert figure.data[1].showlegend is False
    assert update_change_caption([2.0, -1.0, 0.5], 0.1, NAMES) == (
        "To first order the update lowers 2 of 3 losses."
    )


FUTURES = {
    "UPGrad": [[2.0, 2.0], [1.0, 1.5], [0.5, 1.0]],
    "Mean": [[2.0, 2.0], [1.0, 2.5], [0.0, 3.0]],
    "MGDA": [[2.0, 2.0], [np.nan, 1.0], [np.nan, 1.0]],
}


def test_mean_loss_of_every_method_after_a_step() -> None:
    figure = futures_figure(FUTURES, 40, "light")
    styles = method_styles(list(FUTURES), "light")
    for trace, name in zip(figure.data, FUTURES, strict=True):
        assert trace.name == name
        assert trace.line.color == styles[name].color
        np.testing.assert_array_equal(trace.x, [0, 1, 2])
    np.testing.assert_allclose(figure.data[1].y, [2.0, 1.75, 1.5])
    np.testing.assert_array_equal(np.isnan(figure.data[2].y), [False, True, True])
    assert figure.layout.xaxis.title.text == "steps after step 40"
    assert futures_caption(FUTURES, 40) == (
        "2 steps after step 40, the mean loss is lowest with UPGrad (0.750) and highest with Mean "
        "(1.50); MGDA diverged. This is one future of each, not a ranking."
    )
    assert futures_caption({"UPGrad": FUTURES["UPGrad"]}, 1) == (
        "2 steps after step 1, the mean loss with UPGrad is 0.750."
    )
    assert futures_caption({}, 1) == "No method has taken a step yet."


def test_change_of_every_objective() -> None:
    upgrad, mean, mgda = futures_bars(FUTURES, ["a", "b"], "dark").data
    np.testing.assert_allclose(upgrad.y, [-1.5, -1.0])
    np.testing.assert_allclose(mean.y, [-2.0, 1.0])
    np.testing.assert_array_equal(np.isnan(mgda.y), [True, False])
    assert futures_bars_caption(FUTURES, ["a", "b"]) == (
        "Losses that rose: b with Mean, none with UPGrad."
    )
    assert futures_bars_caption({}, ["a"]) == "No method has taken a step yet."


@pytest.mark.parametrize(("m", "kind"), [(12, "bar"), (13, "box")])
def test_many_objectives_are_a_distribution(m: int, kind: str) -> None:
    losses = np.random.default_rng(0).uniform(size=(5, m))
    (trace,) = futures_bars({"Mean": losses}, [str(i) for i in range(m)], "light").data
    assert trace.type == kind
    np.testing.assert_allclose(trace.y, losses[-1] - losses[0], rtol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[k \+ 1, m\] with the same m"):
        futures_figure({"a": [[1.0]], "b": [[1.0, 2.0]]}, 0, "light")
    with pytest.raises(ValueError, match="expected 3 columns as the names"):
        futures_bars(FUTURES, NAMES, "light")
    with pytest.raises(ValueError, match="expected one for each"):
        loss_bars([1.0], NAMES, "light")
    with pytest.raises(ValueError, match="step size of nan"):
        update_change_bars([1.0], float("nan"), ["a"], "light")
    with pytest.raises(ValueError, match=r"expected \[m\]"):
        update_change_bars([[1.0]], 0.1, ["a"], "light")
