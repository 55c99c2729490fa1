"""The controls that are derived from the methods' records: what Streamlit and an address need."""

import pytest

from engines.aggregation import METHODS
from jdviz.pages.controls import Choice, Number
from jdviz.pages.method_controls import parameter_controls, parameter_settings

COUNTS = (2, 3, 4, 5)


@pytest.mark.parametrize("m", COUNTS)
def test_every_default_is_within_its_range(m: int) -> None:
    for setting in parameter_settings("d", m):
        if isinstance(setting, Number):
            assert setting.low <= setting.default <= setting.high, setting.key
            assert setting.step > 0, setting.key
            assert setting.problem_with(str(setting.default)) is None
        else:
            assert isinstance(setting, Choice)
            assert setting.default in setting.options, setting.key


@pytest.mark.parametrize("m", COUNTS)
def test_keys_are_distinct_and_say_method_and_parameter(m: int) -> None:
    keys = [setting.key for setting in parameter_settings("d", m)]
    assert len(set(keys)) == len(keys)
    for name, record in METHODS.items():
        for parameter in record.parameters:
            own = [key for key in keys if key.startswith(f"d_{name}_{parameter.name}")]
            assert len(own) >= (1 + m if parameter.kind == "vector" else 1)


def test_every_parameter_of_every_method_has_a_control() -> None:
    controls = parameter_controls("d", tuple(METHODS), 3)
    assert list(controls) == [name for name in METHODS if METHODS[name].parameters]
    for name, ones in controls.items():
        assert [one.parameter for one in ones] == list(METHODS[name].parameters)
        # What depends on the number of gradients begins afresh with another one.
        for one in ones:
            required = one.parameter.name in METHODS[name].arguments(3)
            assert one.depends_on_m == (required or one.parameter.kind == "vector")
