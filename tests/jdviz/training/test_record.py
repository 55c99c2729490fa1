"""The record of a step."""

import dataclasses

import numpy as np
import pytest

from jdviz.training import StepRecord


def test_a_record_cannot_be_changed() -> None:
    record = StepRecord(0, 0.1, np.ones(2), None, None, None, None, None, 0.1, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.__setattr__("step", 1)


def test_records_are_equal_only_to_themselves() -> None:
    # Equality of arrays has no single truth value, so `==` must not compare them.
    one, other = (
        StepRecord(0, 0.1, np.ones(2), None, None, None, None, None, 0.1, None) for _ in range(2)
    )
    assert one == one
    assert one != other


def test_fields_are_those_that_the_run_store_writes() -> None:
    assert [field.name for field in dataclasses.fields(StepRecord)] == [
        "step",
        "time_s",
        "losses",
        "gramian",
        "weights",
        "inner",
        "direction_norm",
        "sample_ids",
        "elapsed_s",
        "peak_bytes",
        "shares",
        "scalars",
        "kept_ids",
    ]
