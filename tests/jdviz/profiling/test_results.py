"""Results go through JSON and come back the same; anything else is refused."""

import json
import pickle
from dataclasses import asdict, replace
from typing import Any

import pytest

from jdviz.profiling import Comparison, Failure, Inspection, Measurement, MeasurementError, Times
from jdviz.profiling.results import Use
from jdviz.profiling.spec import MeasureSpec
from tests.support.measured import FAILURE, MEASUREMENT, SPEC, TIMES

USE = Use("0.weight", "AddmmBackward0", "linear", "rows", 10, 20, 0.5, "weight of a known one")
INSPECTION = Inspection(
    problem="digits_mlp",
    size="small",
    batch_size=8,
    title="Digits",
    summary="A perceptron.",
    batch_dim=None,
    default_batch=32,
    resizable=True,
    sizes={"small": "64–32–10"},
    objectives=8,
    parameters=12,
    uses=[USE, replace(USE, parameter="0.bias")],
    refusal="",
    unused=["1.weight"],
    machine={"torch": "2.13"},
)
COMPARISON = Comparison([MEASUREMENT], TIMES, [FAILURE])


@pytest.mark.parametrize(
    "record",
    [SPEC, MEASUREMENT, TIMES, FAILURE, INSPECTION, COMPARISON, Comparison([], None)],
    ids=lambda record: type(record).__name__,
)
def test_every_record_survives_json(record: Any) -> None:
    assert type(record).from_dict(json.loads(json.dumps(asdict(record)))) == record


@pytest.mark.parametrize("kind", [Measurement, Times, Failure, Comparison, Inspection])
@pytest.mark.parametrize("given", [{"colour": "blue"}, {}, [], None])
def test_a_record_of_the_wrong_form_is_refused(kind: Any, given: Any) -> None:
    with pytest.raises(MeasurementError, match=f"^The {kind.__name__.lower()} has the entries"):
        kind.from_dict(given)


def test_a_record_with_one_entry_too_many_is_refused() -> None:
    with pytest.raises(MeasurementError, match="it must have"):
        Measurement.from_dict({**MEASUREMENT.to_dict(), "colour": "blue"})


def test_a_specification_has_all_entries_but_those_with_a_default() -> None:
    whole = SPEC.to_dict()
    short = {name: value for name, value in whole.items() if name not in ("seed", "threads")}
    assert MeasureSpec.from_dict(short) == replace(SPEC, seed=0, threads=1)
    with pytest.raises(MeasurementError, match="must have"):
        MeasureSpec.from_dict({**whole, "repeats": 5})
    with pytest.raises(MeasurementError, match="must have"):
        MeasureSpec.from_dict({"problem": "digits_mlp"})


def test_measurements_are_found_by_their_method() -> None:
    assert COMPARISON.of("fused") == MEASUREMENT
    assert COMPARISON.of("sgd") is None


def test_an_error_keeps_its_kind_between_processes() -> None:
    error = pickle.loads(pickle.dumps(MeasurementError("Too large.", "memory")))
    assert (str(error), error.kind) == ("Too large.", "memory")
    assert MeasurementError("No.").kind == "refused"
