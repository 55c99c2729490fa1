"""Controls whose values live in the address, and the check of an address someone typed.

A bound widget drops a value that it cannot take without a word, so the address is read first.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Choice:
    """A setting with a few named values.

    Attributes:
        key: Its name in the address and in the session.
        label: Its name on the page.
        options: Its values.
        default: The value to begin with.
    """

    key: str
    label: str
    options: tuple[str, ...]
    default: str

    def current(self) -> str:
        """The value before the control is drawn: of the session, the address, or the default."""
        value = st.session_state.get(self.key, st.query_params.get(self.key, self.default))
        return value if value in self.options else self.default

    def problem_with(self, text: str) -> str | None:
        """Why a value from the address cannot be taken, or None if it can."""
        return _not_among(self.label, text, self.options)

    def draw(
        self,
        titles: Callable[[str], str] = str,
        *,
        on_change: Callable[[], None] | None = None,
        help_text: str | None = None,
    ) -> str:
        """Show the control.

        Args:
            titles: What each value is called on the page.
            on_change: Called before the page is drawn again with another value.
            help_text: A sentence behind the question mark.

        Returns:
            The chosen value.
        """
        # Not bound to the address: Streamlit would write the title there, and expect it.
        st.session_state.setdefault(self.key, self.current())
        drawn = st.selectbox(
            self.label,
            self.options,
            format_func=titles,
            key=self.key,
            persist_state="session",
            on_change=on_change,
            help=help_text,
        )
        chosen = drawn if drawn in self.options else self.default
        if chosen != self.default:
            st.query_params[self.key] = chosen
        elif self.key in st.query_params:
            del st.query_params[self.key]
        return chosen


@dataclass(frozen=True)
class Number:
    """A setting that is a number.

    Attributes:
        key: Its name in the address and in the session.
        label: Its name on the page.
        low: The least value.
        high: The greatest value.
        default: The value to begin with.
        step: What one press on the arrows adds.
        digits: Decimals shown; 0 for a whole number, None for as many as the number has.
    """

    key: str
    label: str
    low: float
    high: float
    default: float
    step: float
    digits: int | None = 0

    @property
    def shown_default(self) -> str:
        """The default as words give it."""
        form = "g" if self.digits is None else f",.{self.digits}f"
        return f"{self.default:{form}}"

    def problem_with(self, text: str) -> str | None:
        """Why a value from the address cannot be taken, or None if it can."""
        try:
            value = float(text)
        except ValueError:
            return f"{self.label} “{quoted(text)}” is not a number"
        if not self.low <= value <= self.high:
            return f"{self.label} {quoted(text)} is outside {self.low:,g} to {self.high:,g}"
        if self.digits == 0 and not value.is_integer():
            return f"{self.label} {quoted(text)} is not a whole number"
        return None

    def draw(self, *, help_text: str | None = None) -> float:
        """Show the control.

        Args:
            help_text: A sentence behind the question mark.

        Returns:
            The value, within its range.
        """
        kind = int if self.digits == 0 else float
        form = "%.6g" if self.digits is None else f"%.{self.digits}f" if self.digits else "%d"
        value = st.number_input(
            self.label,
            min_value=kind(self.low),
            max_value=kind(self.high),
            value=kind(self.default),
            step=kind(self.step),
            format=form,
            key=self.key,
            bind="query-params",
            help=help_text,
        )
        # The browser keeps to the range, but a client need not.
        return min(max(kind(value), kind(self.low)), kind(self.high))


@dataclass(frozen=True)
class Several:
    """A setting that is any number of named values.

    Attributes:
        key: Its name in the address and in the session.
        label: Its name on the page.
        options: Its values.
        default: The values to begin with.
    """

    key: str
    label: str
    options: tuple[str, ...]
    default: tuple[str, ...]

    def problem_with(self, text: str) -> str | None:
        """Why one value from the address cannot be taken, or None if it can."""
        return _not_among(self.label, text, self.options)

    def draw(self, *, help_text: str | None = None) -> list[str]:
        """Show the control.

        Args:
            help_text: A sentence behind the question mark.

        Returns:
            The chosen values in the order of `options`.
        """
        chosen = st.multiselect(
            self.label,
            self.options,
            wrap=True,
            filter_mode="contains",
            default=self.default,
            key=self.key,
            bind="query-params",
            help=help_text,
        )
        return [option for option in self.options if option in chosen]


Setting = Choice | Number | Several


def check_address(page: str, settings: Sequence[Setting]) -> None:
    """Say which values of the address cannot be taken, before the widgets silently drop them.

    Call it before any of the settings is drawn. The address is checked once, when the visitor
    arrives on the page; what it found stays there until `forget_address` is called.

    Args:
        page: The page's key.
        settings: The page's settings.
    """
    # One element whether there are notices or not: what follows keeps its place on the page.
    place = st.container()
    flag = f"{page}:address"
    if flag not in st.session_state:
        st.session_state[flag] = [
            f"{problem}; using {_shown(setting)} instead."
            for setting in settings
            for text in st.query_params.get_all(setting.key)
            if text and (problem := setting.problem_with(text))
        ]
    for sentence in st.session_state[flag]:
        place.warning(f"The address was not followed: {sentence}")


def forget_address(page: str) -> None:
    """Take the notices about the address away, once the visitor has acted."""
    st.session_state[f"{page}:address"] = []


def quoted(text: str) -> str:
    """Text that a visitor's address holds, short and without effect as Markdown.

    Args:
        text: Anything.

    Returns:
        At most 60 of its characters, to be put into a sentence.
    """
    return escaped(text if len(text) <= 60 else f"{text[:59]}…").strip()


def escaped(text: str) -> str:
    """Text without effect as Markdown.

    Args:
        text: Anything.

    Returns:
        The same on one line, with every character that Markdown would read escaped.
    """
    return re.sub(r"([\\`*_{}\[\]()#!|<>$~:&])", r"\\\1", re.sub(r"\s+", " ", text))


def _not_among(label: str, text: str, options: Sequence[str]) -> str | None:
    if text in options:
        return None
    return f"{label} “{quoted(text)}” is not one of {', '.join(options)}"


def _shown(setting: Setting) -> str:
    if isinstance(setting, Choice):
        return setting.default
    if isinstance(setting, Several):
        return ", ".join(setting.default)
    return setting.shown_default
