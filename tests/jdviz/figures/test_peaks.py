import numpy as np
import pytest

from jdviz.figures import peak_caption, peak_split_bars
from tests.jdviz.figures.lab import failure, measurement, measurements

ROWS = ("autogram, fused", "autogram, two passes", "autojac", "plain SGD", "torchjd autojac")


def test_parts_add_up_beside_the_parameters() -> None:
    figure = peak_split_bars(measurements(), "light", [failure()])
    parameters, *owners = [trace for trace in figure.data if trace.type == "bar"]
    np.testing.assert_allclose(parameters.x, [-1, -1, -1, -1])
    assert [trace.name for trace in owners] == [
        "activations",
        "Jacobian",
        "Gramian",
        "gradients",
        "workspace",
    ]
    np.testing.assert_allclose(sum(trace.x for trace in owners), [6, 8, 48, 4])
    np.testing.assert_allclose(owners[1].x, [0, 0, 40, 0])
    assert owners[1].hovertext[2] == "autojac: Jacobian 40.0 MiB"
    assert len({trace.marker.pattern.shape for trace in owners}) == 5
    assert figure.layout.yaxis.categoryarray == ROWS
    # What lies left of zero is a size too.
    assert all(float(text) >= 0 for text in figure.layout.xaxis.ticktext)


def test_totals_and_failures_are_words_in_the_rows() -> None:
    totals, failed = peak_split_bars(measurements(), "light", [failure()]).data[6:]
    assert list(totals.text) == [
        " 1.50× SGD · 6.00 MiB",
        " 2.00× SGD · 8.00 MiB",
        " 12.0× SGD · 48.0 MiB",
        " 4.00 MiB",
    ]
    assert failed.y == ("torchjd autojac",)
    assert failed.text == (" out of memory at batch 512, limit 4 GiB",)
    assert failed.hovertext == ("torchjd autojac: out of memory at batch 512, limit 4 GiB.",)
    alone = peak_split_bars(measurements()[:1], "light")
    assert list(alone.data[6].text) == [" 6.00 MiB"]
    assert len(alone.data) == 7


def test_a_method_does_not_fail_and_succeed() -> None:
    with pytest.raises(ValueError, match="got torchjd autojac twice"):
        peak_split_bars([measurement("torchjd autojac", 1)], "light", [failure()])


def test_caption_compares_with_plain_sgd_and_autojac() -> None:
    assert peak_caption(measurements(), [failure()]) == (
        "Fused autogram needs 6.00 MiB, 1.50× the memory of plain SGD (4.00 MiB) and 0.125× the "
        "memory of autojac (48.0 MiB), because it holds 40.0 MiB less of the Jacobian; "
        "torchjd's autojac: out of memory at batch 512, limit 4 GiB."
    )
    assert peak_caption(measurements()[:1]) == "Fused autogram needs 6.00 MiB for a step."
    assert peak_caption([measurements()[2]]) == "autojac needs 48.0 MiB for a step."
    same = peak_caption([measurement("fused", 4), measurement("autojac", 4)])
    assert same == "Fused autogram needs 4.00 MiB, 1.00× the memory of autojac (4.00 MiB)."
