import math
from types import SimpleNamespace

import numpy as np

from jdviz.figures import directions_table


def test_directions_are_a_column_for_each_method():
    outcome = SimpleNamespace(
        method="Mean",
        weights=np.array([0.5, 0.5]),
        inner=np.array([1.25, -0.5]),
        hurt=np.array([False, True]),
        norm=0.75,
        angle_to_mean_deg=math.nan,
    )
    table = directions_table([outcome], ["a", "b"])
    assert dict(table["Mean"]) == {
        "hurts": "b",
        "a·A": "+1.25",
        "b·A": "−0.500",
        "weight of a": "0.500",
        "weight of b": "0.500",
        "length of A": "0.750",
        "angle to the mean gradient": "–",
    }


def test_more_methods_are_rows_and_missing_weights_are_dashes():
    outcomes = [
        SimpleNamespace(
            method=name,
            weights=None if name == "c" else np.array([1.0]),
            inner=np.array([1.0]),
            hurt=np.array([False]),
            norm=1.0,
            angle_to_mean_deg=0.0,
        )
        for name in "abcdefg"
    ]
    table = directions_table(outcomes, ["g1"])
    assert list(table.index) == list("abcdefg")
    assert table.loc["c", "weight of g1"] == "–"
    assert table.loc["d", "weight of g1"] == "1.00"
    assert list(directions_table(outcomes[:6], ["g1"]).columns) == list("abcdef")
