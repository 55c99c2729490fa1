import numpy as np
import pytest

from jdviz.figures import mirrored_caption, mirrored_timelines
from tests.jdviz.figures.lab import measurement, measurements

FUSED, TWO_PASS, AUTOJAC, SGD = measurements()


def test_phases_of_both_halves_lie_under_each_other() -> None:
    figure = mirrored_timelines(AUTOJAC, FUSED, "light", SGD)
    upper, lower, above, below, peak, other_peak = figure.data
    # Every phase takes a quarter of either step, so all four are equally wide.
    np.testing.assert_allclose(upper.x, [0, 0.125, 0.375, 0.5, 1])
    np.testing.assert_allclose(lower.x, upper.x)
    np.testing.assert_allclose(upper.y, [0, 24, 48, 1, 1])
    np.testing.assert_allclose(lower.y, [0, -3, -6, -1, -1])
    # The plain step has two phases, which lie under those of their name.
    np.testing.assert_allclose(above.x, [0, 0.125, 0.875, 1, 1])
    np.testing.assert_allclose(below.y, -above.y)
    assert (above.fill, above.line.dash, below.showlegend) == ("none", "dot", False)
    assert (peak.x, peak.y) == ((0.375,), (48.0,))
    assert (other_peak.x, other_peak.y) == ((0.375,), (-6.0,))
    assert peak.text == ("<b>peak 48.0 MiB</b><br>conv2<br>aten::mm",)
    assert [trace.name for trace in (upper, lower, above)] == [
        "autojac, upward",
        "autogram, fused, downward",
        "plain SGD, both sides",
    ]


def test_both_halves_have_one_scale_with_positive_labels() -> None:
    axis = mirrored_timelines(AUTOJAC, FUSED, "light").layout.yaxis
    # The lower half gets a fifth of the height although it needs a ninth.
    assert axis.tickvals == (-10.0, 0.0, 10.0, 20.0, 30.0, 40.0)
    assert axis.ticktext == ("10", "0", "10", "20", "30", "40")
    assert axis.range[0] < -10.8
    assert axis.range[1] > 48.0


def test_bands_name_the_phases_of_each_half() -> None:
    layout = mirrored_timelines(AUTOJAC, FUSED, "dark").layout
    assert [note.text for note in layout.annotations] == [
        "forward 2.00 ms",
        "Jacobian 2.00 ms",
        "weights 2.00 ms",
        "backward 2.00 ms",
        "forward 1.00 ms",
        "Gramian 1.00 ms",
        "weights 1.00 ms",
        "backward 1.00 ms",
    ]
    edges = {(shape.y0, shape.y1) for shape in layout.shapes}
    assert edges == {(0, layout.yaxis.range[1]), (0, layout.yaxis.range[0])}


def test_a_short_phase_keeps_room_for_its_name() -> None:
    short = measurement("fused", 6)
    forward, gramian, weights, backward = short.phases
    phases = [forward, gramian, weights._replace(end_ms=2.001), backward._replace(start_ms=2.001)]
    short.phases[:] = phases
    shapes = mirrored_timelines(short, FUSED, "light").layout.shapes
    shares = [shape.x1 - shape.x0 for shape in shapes[:4]]
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) > 0.11


def test_milliseconds_on_one_axis() -> None:
    figure = mirrored_timelines(AUTOJAC, FUSED, "light", SGD, aligned=False)
    np.testing.assert_allclose(figure.data[0].x, [0, 1, 3, 4, 8])
    np.testing.assert_allclose(figure.data[1].x, [0, 0.5, 1.5, 2, 4])
    assert figure.layout.xaxis.range == (0, 8.0)


def test_an_unknown_phase_has_no_place_among_the_others() -> None:
    odd = measurement("fused", 6, phases=("forward", "something"))
    with pytest.raises(ValueError, match="got a phase 'something', expected one of forward"):
        mirrored_timelines(odd, AUTOJAC, "light")
    assert len(mirrored_timelines(odd, AUTOJAC, "light", aligned=False).data) == 4


def test_caption_says_why_one_needs_less() -> None:
    assert mirrored_caption(AUTOJAC, FUSED) == (
        "Fused autogram needs 0.125× the memory of autojac (6.00 MiB against 48.0 MiB), because it "
        "holds 40.0 MiB less of the Jacobian; its peak is in the Gramian phase (conv2 · aten::mm), "
        "autojac's peak is in the Jacobian phase (conv2 · aten::mm)."
    )


def test_caption_says_where_autogram_loses() -> None:
    autojac = measurement("autojac", 5, split={"jacobian": 4})
    assert mirrored_caption(autojac, measurement("fused", 8)).startswith(
        "Fused autogram needs 1.60× the memory of autojac (8.00 MiB against 5.00 MiB), because it "
        "holds 7.00 MiB more workspace while 4 objectives make a Jacobian of only 4 rows "
        "(4.00 MiB); "
    )
    assert mirrored_caption(SGD, TWO_PASS).startswith(
        "Two-pass autogram needs 2.00× the memory of plain SGD (8.00 MiB against 4.00 MiB), "
        "because it holds 2.00 MiB more workspace; "
    )
