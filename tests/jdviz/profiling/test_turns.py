import pytest

import jdviz.profiling.turns
from jdviz.profiling import MeasurementError
from jdviz.profiling.turns import Spread, Taken, Turn, number, ratios, take_turns


@pytest.mark.parametrize("short", [False, True])
def test_turns_alternate_after_one_round_that_does_not_count(short, monkeypatch):
    monkeypatch.setattr(jdviz.profiling.turns, "SHORT_MS", 1e9 if short else 0.0)
    calls = []

    def turn(name):
        return Turn(lambda: calls.append(name), lambda: calls.append(f"before {name}"))

    taken = take_turns({"a": turn("a"), "b": turn("b")}, 2)
    first, second = ["before a", "a"], ["before b", "b"]
    times = 2 if short else 1
    assert calls == [*first, *second, *(first * times + second * times) * 2]
    assert [len(found) for found in taken.durations_ms.values()] == [2, 2]


def test_no_round_is_refused():
    with pytest.raises(MeasurementError, match="got 0 rounds"):
        take_turns({}, 0)


def test_waiting_for_a_core_is_said():
    assert Taken({}, 0.05).disturbance == Taken({}, None).disturbance == ""
    assert "threads waited for one 40% of the time" in Taken({}, 0.4).disturbance


def test_spreads_and_words():
    # Quartiles by linear interpolation: of 1 2 3 4 they are 1.75 and 3.25.
    assert Spread.of([4, 1, 3, 2]) == Spread(2.5, 1.75, 3.25)
    assert Spread.of([2]) == Spread(2, 2, 2)
    assert ratios([2, 9], [1, 3]) == [2, 3]
    assert [number(x) for x in (1.4, 0.05, 123.4, 25100.0, 0, 3e-7, 40.0)] == [
        "1.40",
        "0.0500",
        "123",
        "25100",
        "0",
        "3e-07",
        "40.0",
    ]
