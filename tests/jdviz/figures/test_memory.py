import numpy as np
import pytest

from jdviz.figures import (
    engines_caption,
    memory_caption,
    memory_timelines,
    peak_bars,
    time_bars,
)
from jdviz.figures.theme import engine_style
from tests.jdviz.figures.samples import Measurement, Spec, measurements


def test_timelines_share_their_scales() -> None:
    figure = memory_timelines(measurements(), "light")
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    flags = [trace for trace in figure.data if trace.mode != "lines"]
    for line, flag, measured in zip(lines, flags, measurements(), strict=True):
        # The last value is held to the end of the last phase.
        np.testing.assert_allclose(line.x[:-1], measured.times_ms)
        assert line.x[-1] == measured.phases[-1][2]
        np.testing.assert_allclose(line.y[:-1] * 2**20, measured.live_bytes)
        assert line.line.shape == "hv"
        assert line.line.dash == engine_style(measured.spec.method, "light").dash
        assert flag.x == (measured.peak_ms,)
        assert flag.y == (measured.peak_bytes / 2**20,)
    assert figure.layout.yaxis2.matches == figure.layout.yaxis3.matches == "y"
    assert figure.layout.xaxis2.matches == figure.layout.xaxis3.matches == "x"
    assert figure.layout.xaxis.range == (0, 8.0)
    assert figure.layout.yaxis.range[1] > 48
    assert len(figure.layout.shapes) == 6


def test_bars() -> None:
    parameters, *engines = peak_bars(measurements(), "light").data
    assert list(parameters.x) == [1.0, 1.0, 1.0]
    assert [bar.x[0] for bar in engines] == [6.0, 48.0, 4.0]
    assert [bar.text[0] for bar in engines] == ["1.50× · 6.00 MiB", "12.0× · 48.0 MiB", "4.00 MiB"]
    times = time_bars(measurements(), "light")
    assert [bar.x[0] for bar in times.data] == [4.0, 8.0, 2.0]
    # Quartiles of 3, 4, 5 are 3.5 and 4.5.
    assert times.data[0].error_x.array[0] == times.data[0].error_x.arrayminus[0] == 0.5
    assert [a.text for a in times.layout.annotations] == [
        "2.00× · 4.00 ms",
        "4.00× · 8.00 ms",
        "2.00 ms",
    ]


def test_pinned_captions() -> None:
    assert engines_caption(measurements()[:2]) == (
        "autogram needs 0.125× the memory of autojac (6.00 MiB against 48.0 MiB) and "
        "0.500× the time (4.00 ms against 8.00 ms)."
    )
    assert engines_caption(measurements()[:1]) == "autogram needs 6.00 MiB and 4.00 ms for a step."
    assert memory_caption(measurements()[:1]) == (
        "autogram has its peak of 6.00 MiB in the backward phase (aten::mm, 2.00 ms)."
    )


def test_the_same_engine_twice_has_two_bars() -> None:
    figure = peak_bars([measurements()[0]] * 2, "light")
    assert [bar.y[0] for bar in figure.data[1:]] == ["autogram (1)", "autogram (2)"]


@pytest.mark.parametrize("draw", [memory_timelines, peak_bars, time_bars])
def test_what_cannot_be_compared_is_refused(draw) -> None:
    with pytest.raises(ValueError, match="got no measurement"):
        draw([], "light")
    with pytest.raises(ValueError, match="got engine"):
        draw([Measurement(Spec("unknown"), 1, [1.0])], "light")


@pytest.mark.parametrize("durations", [[], [1.0, float("nan")]])
def test_no_duration_is_refused(durations: list[float]) -> None:
    with pytest.raises(ValueError, match="no usable duration"):
        time_bars([Measurement(Spec("autograd"), 1, durations)], "light")
