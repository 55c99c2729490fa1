from dataclasses import replace

import pytest

from jdviz.figures import time_bars, time_caption
from jdviz.figures.durations import ratio_spread
from tests.jdviz.figures.lab import times


def test_bars_whiskers_and_rounds() -> None:
    figure = time_bars(times(), "light")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    rounds = figure.data[3:6]
    assert [bar.y[0] for bar in bars] == ["autogram, fused", "autojac", "plain SGD"]
    assert [bar.x[0] for bar in bars] == [4.0, 8.0, 2.0]
    # Quartiles of 3, 4, 5 are 3.5 and 4.5.
    assert bars[0].error_x.array[0] == bars[0].error_x.arrayminus[0] == 0.5
    assert [list(trace.x) for trace in rounds] == [[3, 4, 5], [7, 8, 9], [2, 2, 2]]
    assert figure.layout.yaxis.ticktext == (
        "autogram, fused<br><b>2.00× SGD · 4.00 ms</b>",
        "autogram, two passes",
        "autojac<br><b>4.00× SGD · 8.00 ms</b>",
        "plain SGD<br><b>2.00 ms</b>",
    )
    assert figure.data[-1].text == (" timed out after 120 s",)


def test_a_disturbed_round_is_counted_and_does_not_stretch_the_axis() -> None:
    disturbed = replace(times(), durations_ms={"fused": [3.0, 4.0, 5.0, 400.0]})
    axis = time_bars(disturbed, "light").layout.xaxis
    assert axis.title.text == "time of a step (ms), median and middle half; 1 round off the axis"
    assert axis.range[1] < 200


def test_ratios_are_those_of_the_same_round() -> None:
    # Every round took twice as long, though the medians are 2 and 6.
    paired = replace(times(), durations_ms={"sgd": [1.0, 2.0, 9.0], "fused": [2.0, 6.0, 18.0]})
    assert ratio_spread(paired, "fused", "sgd") == (2.0, 2.0, 2.5)


def test_caption() -> None:
    assert time_caption(times()) == (
        "Fused autogram takes 4.00 ms for a step, 2.00× the time of plain SGD (2.00 ms) and "
        "0.500× the time of autojac (8.00 ms), median of 3 rounds; two-pass autogram: "
        "timed out after 120 s."
    )


def test_no_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="got no duration"):
        time_bars(replace(times(), durations_ms={}), "light")
    for durations in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="expected at least one and all finite"):
            time_caption(replace(times(), durations_ms={"sgd": durations}))
    with pytest.raises(ValueError, match="got two-pass twice"):
        time_bars(replace(times(), durations_ms={"two-pass": [1.0]}), "light")
