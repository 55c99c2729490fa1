import numpy as np
import pytest

from jdviz.figures import memory_caption, memory_timelines
from jdviz.figures.styles import engine_style
from tests.jdviz.figures.lab import MIB, measurement, measurements


def test_timelines_share_their_scales() -> None:
    # Whatever the order they come in, the rows have that of the styles.
    figure = memory_timelines(measurements()[::-1], "light")
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    flags = [trace for trace in figure.data if trace.mode != "lines"]
    for line, flag, measured in zip(lines, flags, measurements(), strict=True):
        # The last value is held to the end of the last phase.
        np.testing.assert_allclose(line.x[:-1], measured.times_ms)
        assert line.x[-1] == max(measured.phases[-1].end_ms, measured.times_ms[-1])
        np.testing.assert_allclose(line.y[:-1] * MIB, measured.live_bytes)
        assert line.line.shape == "hv"
        assert line.line.dash == engine_style(measured.spec.method, "light").dash
        assert flag.x == (measured.peak_ms,)
        assert flag.y == (measured.peak_bytes / MIB,)
    assert figure.layout.yaxis2.matches == figure.layout.yaxis4.matches == "y"
    assert figure.layout.xaxis2.matches == figure.layout.xaxis4.matches == "x"
    assert figure.layout.xaxis.range == (0, 8.0)
    assert figure.layout.yaxis.range[1] > 48
    assert len(figure.layout.shapes) == 4 + 4 + 4 + 2


def test_every_point_says_what_changed_the_memory() -> None:
    line, flag = memory_timelines([measurements()[2]], "light").data
    assert line.hovertext == (
        "autojac: 0 MiB at 0 ms · forward · no operation of a layer",
        "autojac: 24.0 MiB at 1.00 ms · forward · conv1 · aten::convolution",
        "autojac: 48.0 MiB at 3.00 ms · Jacobian · conv2 · aten::mm",
        "autojac: 1.00 MiB at 4.00 ms · weights · conv1 · aten::convolution",
        "autojac: 1.00 MiB at 4.00 ms · weights · conv1 · aten::convolution",
    )
    assert flag.hovertext == ("autojac: peak 48.0 MiB at 3.00 ms · Jacobian · conv2 · aten::mm",)


def test_caption() -> None:
    assert memory_caption(measurements()[:1]) == (
        "Fused autogram has its peak of 6.00 MiB in the Gramian phase (conv2 · aten::mm, 1.50 ms)."
    )


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="got no measurement"):
        memory_timelines([], "light")
    with pytest.raises(ValueError, match="got method 'unknown'"):
        memory_timelines([measurement("unknown", 1)], "light")
    with pytest.raises(ValueError, match="got fused twice"):
        memory_timelines([measurement("fused", 1), measurement("fused", 2)], "light")
