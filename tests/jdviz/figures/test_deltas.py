import numpy as np
import pytest

from jdviz.figures import delta_bars, delta_caption
from jdviz.figures.deltas import MEAN

VALUES = {"UPGrad": [0.5, 3.0], "MGDA": [0.9, 1.0]}
BASELINE = [1.0, 2.0]


def test_a_bar_for_each_task_and_for_their_mean() -> None:
    figure = delta_bars(VALUES, BASELINE, ["a", "b"], "light", baseline_name="SGD")
    upgrad, mgda = figure.data
    assert list(upgrad.x) == ["a", "b", MEAN]
    np.testing.assert_allclose(upgrad.y, [50.0, -50.0, 0.0])
    np.testing.assert_allclose(mgda.y, [10.0, 50.0, 30.0], rtol=1e-6)
    assert upgrad.marker.color != mgda.marker.color
    assert figure.layout.yaxis.title.text == "Δ against SGD (%)"
    assert figure.layout.yaxis.zeroline is True
    accuracies = delta_bars(VALUES, BASELINE, ["a", "b"], "light", lower_is_better=False)
    np.testing.assert_allclose(accuracies.data[0].y, [-50.0, 50.0, 0.0])


@pytest.mark.parametrize("m", [1, 16, 17, 64, 100])
def test_the_mean_is_named_on_the_axis_and_not_crowded(m: int) -> None:
    labels = [str(place) for place in range(m)]
    axis = delta_bars({"a": np.ones(m)}, np.ones(m), labels, "dark").layout.xaxis
    assert axis.ticktext[-1] == MEAN
    assert axis.tickvals[-1] == m
    gaps = np.diff(axis.tickvals)
    assert (gaps >= gaps[0]).all()


def test_pinned_captions() -> None:
    assert delta_caption(VALUES, BASELINE, ["a", "b"]) == (
        "Mean change against Mean, positive is better: UPGrad 0 % (worse on b), MGDA +30.0 % "
        "(worse on none)."
    )
    assert delta_caption({"UPGrad": [1.0]}, [0.0], ["a"], baseline_name="SGD") == (
        "Mean change against SGD, positive is better: UPGrad has no mean, because a task has no "
        "percentage."
    )
    assert delta_caption({}, [1.0], ["a"]) == "There is no run to set against Mean yet."


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"baseline of shape \(2,\), expected \(1,\)"):
        delta_bars({"a": [1.0]}, [1.0, 2.0], ["a"], "light")
    with pytest.raises(ValueError, match="one number for each task"):
        delta_caption({"a": [1.0, 2.0]}, [1.0], ["a"])
