"""The parameters of the aggregation methods as controls, derived from the methods' records."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
import torch

from engines.aggregation import METHODS, MethodRecord, Parameter
from jdviz.figures.arrows import subscript
from jdviz.pages.controls import Choice, Number, Setting, escaped

LEFT, OWN = "default", "own"

#: A vector is set entry by entry up to this many objectives; beyond, it has no controls.
MOST_ENTRIES = 8


@dataclass(frozen=True)
class ParameterControl:
    """One parameter of one method, for a number of objectives.

    Attributes:
        prefix: Begins the keys of its settings, as of the others of the page.
        record: The method.
        parameter: The parameter.
        m: Number of objectives.
    """

    prefix: str
    record: MethodRecord
    parameter: Parameter
    m: int

    @property
    def default(self) -> Any:
        """What the method takes if nothing is chosen; None for what may be left out."""
        return self.record.arguments(self.m).get(self.parameter.name, self.parameter.default)

    @property
    def depends_on_m(self) -> bool:
        """Whether another number of objectives asks for another default."""
        name = self.parameter.name
        return self.parameter.kind == "vector" or name in self.record.arguments(self.m)

    def settings(self) -> tuple[Choice | Number, ...]:
        """Its settings: one, or for a vector whether it is left as it is and an entry for each."""
        choice = self._choice()
        entries = self._numbers()
        return (choice, *entries) if choice is not None else entries

    def draw(self) -> dict[str, Any]:
        """Draw it.

        Returns:
            The parameter by name, or nothing where it has its default.
        """
        if self.parameter.kind == "vector":
            return self._draw_vector()
        choice = self._choice()
        if choice is not None:
            value: Any = choice.draw(help_text=self._help())
        else:
            (number,) = self._numbers()
            value = number.draw(help_text=self._help())
        return {} if value == self.default else {self.parameter.name: value}

    def _draw_vector(self) -> dict[str, Any]:
        choice = self._choice()
        titles = {LEFT: self._left(), OWN: "a number for each"}
        if choice is None or choice.draw(titles.__getitem__, help_text=self._help()) == LEFT:
            return {}
        numbers = self._numbers()
        entries = []
        for first in range(0, len(numbers), 2):
            for number, column in zip(numbers[first : first + 2], st.columns(2), strict=False):
                with column:
                    entries.append(number.draw())
        return {self.parameter.name: torch.tensor(entries, dtype=torch.float64)}

    def _choice(self) -> Choice | None:
        """The choice of a word, or whether a vector is left as it is; None for numbers."""
        if self.parameter.kind == "choice":
            options, default = self.parameter.choices, str(self.default)
        elif self.parameter.kind == "vector":
            options, default = (LEFT, OWN), LEFT
        else:
            return None
        return Choice(self._key(), self._label(), tuple(options), default)

    def _numbers(self) -> tuple[Number, ...]:
        """The number, or those of a vector; none for the choice of a word."""
        if self.parameter.kind == "choice":
            return ()
        if self.parameter.kind == "vector":
            return tuple(self._entry(index) for index in range(self.m))
        whole = self.parameter.kind == "integer"
        return (
            Number(
                self._key(),
                self._label(),
                self.parameter.low,
                self.parameter.high,
                self.default,
                1 if whole else _step(float(self.default), self.parameter),
                0 if whole else None,
            ),
        )

    def _entry(self, index: int) -> Number:
        """One number of a vector; equal ones to begin with, or those of the method's example."""
        own = self.default
        value = 1 / self.m if own is None else float(own[index])
        low, high = self.parameter.low, self.parameter.high
        begin = min(max(round(value, 2), low), high)
        label = f"{self._label()}, g{subscript(index + 1)}"
        return Number(f"{self._key()}_{index + 1}", label, low, high, begin, 0.05, 2)

    def _left(self) -> str:
        """What a vector is that is left as it is, in words."""
        if self.default is None:
            return "equal"
        return ", ".join(f"{float(value):.2g}" for value in self.default)

    def _key(self) -> str:
        return f"{self.prefix}_{self.record.name}_{self.parameter.name}"

    def _label(self) -> str:
        return f"{self.record.name} {self.parameter.name.replace('_', ' ').strip()}"

    def _help(self) -> str:
        return f"{escaped(self.parameter.text)} In code: `{self.parameter.name}`."


def parameter_controls(
    prefix: str, methods: Sequence[str], m: int
) -> dict[str, tuple[ParameterControl, ...]]:
    """The controls of the methods that have parameters, without vectors of many entries.

    Args:
        prefix: Begins the keys of the settings.
        methods: Keys of `engines.aggregation.METHODS`.
        m: Number of objectives.

    Returns:
        Method to one control for each of its parameters.
    """
    controls = {
        name: tuple(
            ParameterControl(prefix, METHODS[name], one, m)
            for one in METHODS[name].parameters
            if one.kind != "vector" or m <= MOST_ENTRIES
        )
        for name in methods
    }
    return {name: ones for name, ones in controls.items() if ones}


def parameter_settings(prefix: str, m: int) -> tuple[Setting, ...]:
    """The settings of all methods' parameters, for the check of an address.

    Args:
        prefix: Begins the keys of the settings.
        m: Number of objectives.
    """
    controls = parameter_controls(prefix, tuple(METHODS), m).values()
    return tuple(setting for ones in controls for one in ones for setting in one.settings())


def draw_parameters(prefix: str, methods: Sequence[str], m: int) -> Mapping[str, dict[str, Any]]:
    """Draw the parameters of some methods, folded.

    Args:
        prefix: Begins the keys of the settings.
        methods: Keys of `engines.aggregation.METHODS`.
        m: Number of objectives.

    Returns:
        Method to those of its parameters that differ from their defaults.
    """
    controls = parameter_controls(prefix, methods, m)
    if not controls:
        return {}
    with st.expander("Parameters of the aggregators"):
        drawn = {
            name: {key: value for one in ones for key, value in one.draw().items()}
            for name, ones in controls.items()
        }
    return {name: parameters for name, parameters in drawn.items() if parameters}


def refit_parameters(prefix: str, m: int) -> None:
    """Another number of objectives was chosen: what depends on it begins with its defaults.

    Args:
        prefix: Begins the keys of the settings.
        m: The new number.
    """
    for ones in parameter_controls(prefix, tuple(METHODS), m).values():
        for one in ones:
            for setting in one.settings() if one.depends_on_m else ():
                if setting.key in st.session_state:
                    st.session_state[setting.key] = setting.default


def _step(default: float, parameter: Parameter) -> float:
    """What one press on the arrows adds: a tenth of the default's power of ten."""
    size = abs(default) or (parameter.high - parameter.low) / 10
    return float(10.0 ** (math.floor(math.log10(size)) - 1)) if size > 0 else 0.1
