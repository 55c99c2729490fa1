"""Controls whose values live in the address, and the check of an address someone typed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from jdviz.pages.address import arrive, begin, escaped, newly_named, quoted, write
from jdviz.pages.lecture import PREFIXES, locked, unknown_names

__all__ = [
    "Choice",
    "Number",
    "Setting",
    "Several",
    "Switch",
    "Words",
    "arrive",
    "check_address",
    "escaped",
    "forget_address",
    "quoted",
]


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
        link = newly_named(self.key)
        if link == []:
            st.session_state.pop(self.key, None)
        elif link is not None and link[-1] in self.options:
            st.session_state[self.key] = link[-1]
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
        """Show the control as a menu.

        Args:
            titles: What each value is called on the page.
            on_change: Called before the page is drawn again with another value.
            help_text: A sentence behind the question mark.

        Returns:
            The chosen value.
        """
        self.begin()
        drawn = st.selectbox(
            self.label,
            self.options,
            format_func=titles,
            key=self.key,
            persist_state="session",
            on_change=on_change,
            help=help_text,
            disabled=locked(self.key),
        )
        return self.taken(drawn)

    def draw_buttons(
        self,
        titles: Callable[[str], str] = str,
        *,
        help_text: str | None = None,
        bare: bool = False,
    ) -> str:
        """Show the control as buttons beside each other.

        Args:
            titles: What each value is called on the page.
            help_text: A sentence behind the question mark.
            bare: Whether the label is only for those who do not see the page.

        Returns:
            The chosen value; the default also where none is chosen, which can be only if it is not
            among the values.
        """
        self.begin()
        drawn = st.segmented_control(
            self.label,
            self.options,
            format_func=titles,
            required=self.default in self.options,
            key=self.key,
            persist_state="session",
            help=help_text,
            label_visibility="collapsed" if bare else "visible",
            disabled=locked(self.key),
        )
        return self.taken(drawn)

    def begin(self) -> None:
        """Give the control its value before it is drawn, where it has none that fits."""
        value = self.current()
        # Not there yet, or of other options than those of a moment ago.
        if st.session_state.get(self.key) not in self.options:
            st.session_state[self.key] = value if value in self.options else None

    def taken(self, drawn: str | None) -> str:
        """What the control says, also put into the address.

        Args:
            drawn: What the browser sent; anything else than a value is the default.
        """
        chosen = drawn if drawn in self.options else self.default
        write(self.key, None if chosen == self.default else chosen)
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
        begin(self.key, self._read, self._fitting(st.session_state.get(self.key)), self.default)
        form = "%.6g" if self.digits is None else f"%.{self.digits}f" if self.digits else "%d"
        value = st.number_input(
            self.label,
            min_value=kind(self.low),
            max_value=kind(self.high),
            value=kind(self.default),
            step=kind(self.step),
            format=form,
            key=self.key,
            persist_state="session",
            help=help_text,
            disabled=locked(self.key),
        )
        # The browser keeps to the range, but a client need not.
        value = min(max(kind(value), kind(self.low)), kind(self.high))
        write(self.key, None if value == kind(self.default) else f"{value:.12g}")
        return value

    def _read(self, texts: Sequence[str]) -> float | None:
        """The value that an address gives, None where it cannot be taken."""
        kind = int if self.digits == 0 else float
        return None if self.problem_with(texts[-1]) is not None else kind(float(texts[-1]))

    def _fitting(self, known: object) -> float | None:
        """A value of the session within the range of today, of the type that the control takes."""
        if not isinstance(known, int | float):
            return None
        kind = int if self.digits == 0 else float
        return min(max(kind(known), kind(self.low)), kind(self.high))


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
        known = st.session_state.get(self.key)
        fits = isinstance(known, list | tuple) and all(one in self.options for one in known)
        begin(self.key, self._read, known if fits else None, list(self.default))
        chosen = st.multiselect(
            self.label,
            self.options,
            wrap=True,
            filter_mode="contains",
            key=self.key,
            persist_state="session",
            help=help_text,
            disabled=locked(self.key),
        )
        # In an address the order is the visitor's; an empty text says that none is chosen.
        same = set(chosen) == set(self.default)
        write(self.key, None if same else [one for one in chosen if one in self.options] or "")
        return [option for option in self.options if option in chosen]

    def _read(self, texts: Sequence[str]) -> list[str] | None:
        """The values that an address gives, without those that are none; None where none is."""
        found = [text for text in dict.fromkeys(texts) if text in self.options]
        return found if found or not any(texts) else None


@dataclass(frozen=True)
class Switch:
    """A setting that is on or off.

    Attributes:
        key: Its name in the address and in the session.
        label: Its name on the page.
        default: Whether it is on to begin with.
    """

    key: str
    label: str
    default: bool = False

    def problem_with(self, text: str) -> str | None:
        """Why a value from the address cannot be taken, or None if it can."""
        return _not_among(self.label, text.lower(), ("true", "false"))

    def draw(self, *, help_text: str | None = None) -> bool:
        """Show the control.

        Args:
            help_text: A sentence behind the question mark.

        Returns:
            Whether it is on.
        """
        known = st.session_state.get(self.key)
        begin(self.key, self._read, known if isinstance(known, bool) else None, self.default)
        on = st.toggle(
            self.label,
            key=self.key,
            persist_state="session",
            help=help_text,
            disabled=locked(self.key),
        )
        write(self.key, None if on == self.default else str(on).lower())
        return on

    def _read(self, texts: Sequence[str]) -> bool | None:
        """What an address says, None where it cannot be taken."""
        known = {"true": True, "false": False}
        return known.get(texts[-1].lower())


@dataclass(frozen=True)
class Words:
    """A setting that is a text.

    Attributes:
        key: Its name in the address and in the session.
        label: Its name on the page.
        most: How many characters it may have.
    """

    key: str
    label: str
    most: int = 200

    def problem_with(self, text: str) -> str | None:
        """Why a text from the address cannot be taken, or None if it can."""
        return None if len(text) <= self.most else f"{self.label} has more than {self.most} signs"

    def draw(self, *, placeholder: str = "", help_text: str | None = None) -> str:
        """Show the control.

        Args:
            placeholder: What stands in it while it is empty.
            help_text: A sentence behind the question mark.

        Returns:
            The text.
        """
        known = st.session_state.get(self.key)
        begin(self.key, self._read, known if isinstance(known, str) else None, "")
        text = st.text_input(
            self.label,
            key=self.key,
            persist_state="session",
            placeholder=placeholder,
            max_chars=self.most,
            help=help_text,
            disabled=locked(self.key),
        )
        write(self.key, text or None)
        return text or ""

    def _read(self, texts: Sequence[str]) -> str | None:
        """What an address says, None where it cannot be taken."""
        return texts[-1] if self.problem_with(texts[-1]) is None else None


Setting = Choice | Number | Several | Switch | Words


def check_address(
    page: str, settings: Sequence[Setting], others: Mapping[str, str] | Sequence[str] = ()
) -> None:
    """Say which values of the address cannot be taken, before the controls replace them.

    Call it before any of the settings is drawn. The address is checked once, when the visitor
    arrives on the page; what it found stays there until `forget_address` is called.

    Args:
        page: The page's key.
        settings: The page's settings.
        others: Further names of its address, whose values the page checks itself; best with what
            each says, for the table of docs/lectures.md.
    """
    # One element whether there are notices or not: what follows keeps its place on the page.
    place = st.container()
    flag = f"{page}:address"
    if flag not in st.session_state:
        st.session_state[flag] = _problems(page, settings, others)
    for sentence in st.session_state[flag]:
        place.warning(f"The address was not followed: {sentence}")


def _problems(page: str, settings: Sequence[Setting], others: Iterable[str]) -> list[str]:
    """What of the address cannot be followed, a sentence each."""
    found = [
        f"{problem}; using {_shown(setting)} instead."
        for setting in settings
        for text in st.query_params.get_all(setting.key)
        if text and (problem := setting.problem_with(text))
    ]
    if page not in PREFIXES:
        return found
    wrong = unknown_names(page, [*(setting.key for setting in settings), *others])
    return found + [
        f"“{quoted(name)}” is no part of this page that could be hidden or locked."
        for name in wrong
    ]


def forget_address(page: str) -> None:
    """Take the notices about the address away, once the visitor has acted."""
    st.session_state[f"{page}:address"] = []


def _not_among(label: str, text: str, options: Sequence[str]) -> str | None:
    if text in options:
        return None
    return f"{label} “{quoted(text)}” is not one of {', '.join(options)}"


def _shown(setting: Setting) -> str:
    if isinstance(setting, Choice):
        return setting.default
    if isinstance(setting, Several):
        return ", ".join(setting.default)
    if isinstance(setting, Switch):
        return str(setting.default).lower()
    if isinstance(setting, Words):
        return "none"
    return setting.shown_default
