import pytest

from jdviz.figures import fit_bars, fit_caption
from jdviz.figures.fits import fit_words
from tests.jdviz.figures.lab import fit, fits


def test_predicted_is_open_and_verified_is_filled() -> None:
    figure = fit_bars(fits(), "light")
    marks = {
        (trace.y[0], trace.marker.symbol): trace.x[0]
        for trace in figure.data
        if trace.mode == "markers" and trace.x[0] is not None
    }
    assert marks == {
        ("autogram, fused", "circle-open"): 950,
        ("autogram, fused", "circle"): 1000,
        ("autojac", "square-open"): 110,
        ("autojac", "square"): 100,
        ("plain SGD", "diamond-open"): 2000,
    }
    assert figure.layout.xaxis.title.text == "largest batch within 1 GiB (samples)"
    assert figure.layout.xaxis.type == "log"
    words, failed = figure.data[-2:]
    assert [text.strip() for text in words.text] == [
        "1,000 · predicted −5.00 %",
        "100 · predicted +10.0 %",
        "2,000 predicted",
    ]
    assert failed.text == (" torchjd is not installed",)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"verified_batch": 5}, "5 verified, no prediction"),
        ({"predicted_batch": 0, "verified_batch": 7}, "7 · predicted −100 %"),
        ({"predicted_batch": 3, "verified_batch": 0}, "no batch fits"),
        ({"predicted_batch": 0}, "no batch fits"),
        ({}, "no prediction"),
        ({"predicted_batch": 3, "note": "autojac: timed out at batch 3."}, "timed out at batch 3"),
    ],
)
def test_words(values: dict, words: str) -> None:
    assert fit_words(fit("autojac", **values)) == words


def test_nothing_fits() -> None:
    figure = fit_bars([fit("autojac", predicted_batch=0, verified_batch=0)], "light")
    assert figure.data[-1].text == (" no batch fits",)
    assert fit_caption([fit("autojac", predicted_batch=0)]) == (
        "autojac takes no batch within 1 GiB; nothing is verified yet."
    )


def test_caption() -> None:
    assert fit_caption(fits()) == (
        "Within 1 GiB fused autogram takes a batch of 1,000, 0.500× the batch of plain SGD (2,000) "
        "and 10.0× the batch of autojac (100); the predictions are off by at most 10.0 % (autojac)."
    )


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="got no fit"):
        fit_bars([], "light")
    with pytest.raises(ValueError, match="got method 'unknown'"):
        fit_caption([fit("unknown")])
