import numpy as np
import pytest

from jdviz.figures import Line, SeedGroup, overlay, overlay_caption, seed_bands, seed_caption
from jdviz.figures.theme import PALETTES, method_styles
from jdviz.histories import seeds_band, smooth

STEPS = np.arange(5) * 10


def two() -> list[Line]:
    return [
        Line("a", STEPS, [5.0, 4.0, 3.0, 2.0, 1.0], STEPS / 4),
        Line("b", STEPS[:3], [4.0, np.nan, 2.0], STEPS[:3] / 2),
    ]


def test_smoothed_lines_over_what_was_recorded() -> None:
    figure = overlay(two(), "light", quantity="mean loss", unit="nats", smoothing=0.5)
    pale_a, pale_b, a, b = figure.data
    for pale, clear, line in ((pale_a, a, two()[0]), (pale_b, b, two()[1])):
        np.testing.assert_array_equal(pale.y, np.float32(line.values))
        np.testing.assert_array_equal(clear.y, smooth(line.values, 0.5).astype(np.float32))
        np.testing.assert_array_equal(clear.x, line.steps)
        assert pale.line.width < clear.line.width
        assert not pale.showlegend
        assert pale.legendgroup == clear.legendgroup == clear.name == line.name
    assert a.line.color != b.line.color
    assert a.line.dash != b.line.dash
    assert figure.layout.yaxis.title.text == "mean loss (nats)"
    assert "a, step %{x}: mean loss %{y:.3g} nats" in a.hovertemplate


def test_without_smoothing_the_recorded_line_is_the_only_one() -> None:
    figure = overlay(two(), "dark", quantity="loss", x="time", scale="log")
    assert len(figure.data) == 4
    assert len(figure.data[0].x) == len(figure.data[1].x) == 0
    np.testing.assert_array_equal(figure.data[3].x, [0.0, 5.0, 10.0])
    np.testing.assert_array_equal(figure.data[3].y, np.float32([4.0, np.nan, 2.0]))
    assert figure.layout.xaxis.title.text == "time (s)"
    assert figure.layout.yaxis.type == "log"


@pytest.mark.parametrize(("known", "mode"), [([1], "lines+markers"), ([1, 5, 9], "lines")])
def test_what_is_known_at_few_steps_is_seen(known: list[int], mode: str) -> None:
    values = np.full(10, np.nan)
    values[known] = 3.0
    figure = overlay([Line("a", range(10), values)], "light", quantity="memory", unit="MiB")
    (trace,) = [trace for trace in figure.data if trace.name == "a"]
    assert trace.mode == mode
    assert trace.connectgaps


def test_negative_values_have_a_zero_line_and_no_logarithm() -> None:
    line = Line("a", [0, 1], [-1.0, 2.0])
    assert overlay([line], "light", quantity="cosine").layout.yaxis.zeroline is True
    logarithmic = overlay([line], "light", quantity="cosine", scale="log")
    np.testing.assert_array_equal(np.isnan(logarithmic.data[1].y), [True, False])


def test_eight_runs_are_told_apart_and_the_ninth_is_neutral() -> None:
    lines = [Line(f"run {place}", [0], [1.0]) for place in range(10)]
    clear = overlay(lines, "light", quantity="loss").data[10:]
    assert len({line.line.color for line in clear[:8]}) == 8
    assert {line.line.color for line in clear[8:]} == {PALETTES["light"].muted}


def test_methods_look_as_everywhere() -> None:
    names = ["MGDA", "UPGrad"]
    clear = overlay([Line(n, [0], [1.0]) for n in names], "dark", quantity="loss").data[2:]
    styles = method_styles(names, "dark")
    assert [line.line.color for line in clear] == [styles[name].color for name in names]


def test_pinned_overlay_captions() -> None:
    assert overlay_caption(two(), quantity="loss", unit="nats") == (
        "Loss at the end: a 1.00 nats, b 2.00 nats."
    )
    assert overlay_caption(two(), quantity="loss", baseline="a") == (
        "Loss at the end, in brackets against a: a 1.00, b 2.00 (+100 %)."
    )
    # Of a cosine below zero a percentage would say nothing.
    lines = [Line("a", [0], [-0.5]), Line("b", [0], [0.25]), Line("c", [0], [np.nan])]
    assert overlay_caption(lines, quantity="smallest cosine", baseline="a") == (
        "Smallest cosine at the end, in brackets against a: a −0.500, b 0.250 (+0.750), c has none."
    )
    assert overlay_caption([], quantity="loss") == "There is no value to compare yet."


def test_what_does_not_fit_an_overlay_is_refused() -> None:
    with pytest.raises(ValueError, match="expected time_s to draw it over time"):
        overlay([Line("a", [0], [1.0])], "light", quantity="loss", x="time")
    with pytest.raises(ValueError, match="2 lines with 1 distinct names"):
        overlay([Line("a", [0], [1.0])] * 2, "light", quantity="loss")
    with pytest.raises(ValueError, match=r"values of shape \(1,\) for a"):
        overlay([Line("a", [0, 1], [1.0])], "light", quantity="loss")
    with pytest.raises(ValueError, match="got baseline 'c', expected one of a, b"):
        overlay_caption(two(), quantity="loss", baseline="c")


def seeds(*values: float) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(STEPS, np.full(5, value)) for value in values]


def test_median_and_quartiles_of_each_method() -> None:
    group = SeedGroup("UPGrad", [(STEPS, np.arange(5.0) + place) for place in range(4)])
    low, high, median = seed_bands([group], "light", quantity="loss", unit="nats").data
    band = seeds_band(group.runs)
    for trace, values in ((low, band.low), (high, band.high), (median, band.median)):
        np.testing.assert_array_equal(trace.y, values.astype(np.float32))
        np.testing.assert_array_equal(trace.x, STEPS)
    assert high.fill == "tonexty"
    assert median.name == "UPGrad (4 seeds)"


def test_no_band_under_three_seeds() -> None:
    low, high, median = seed_bands([SeedGroup("a", seeds(1, 2))], "dark", quantity="loss").data
    assert np.isnan(low.y).all()
    assert np.isnan(high.y).all()
    np.testing.assert_array_equal(median.y, np.full(5, 1.5, np.float32))


def test_ranking_needs_three_seeds_of_each() -> None:
    a, b = SeedGroup("a", seeds(3, 3, 5)), SeedGroup("b", seeds(1, 2, 2, 3))
    assert seed_caption([a, b], quantity="loss") == (
        "Median loss at the end, from lowest to highest: b 2.00 (quartiles 1.75 and 2.25, 4 "
        "seeds), a 3.00 (quartiles 3.00 and 4.00, 3 seeds)."
    )
    few = SeedGroup("b", seeds(1, 2))
    assert seed_caption([a, few], quantity="loss", unit="nats") == (
        "Median loss at the end: a 3.00 nats (quartiles 3.00 and 4.00, 3 seeds), b 1.50 nats (2 "
        "seeds); no ranking, because that takes 3 seeds of each."
    )
    assert seed_caption([], quantity="loss").startswith("There is no step")


def test_a_method_with_a_lost_seed_comes_last() -> None:
    lost = SeedGroup("a", [*seeds(0.1, 0.1), (STEPS, np.full(5, np.nan))])
    text = seed_caption([lost, SeedGroup("b", seeds(3, 3, 3))], quantity="loss")
    assert text.endswith("a none, because a seed has no value there (3 seeds).")
    with pytest.raises(ValueError, match="put the seeds of one method into one group"):
        seed_caption([lost, lost], quantity="loss")
