"""The address of a page: what a link says on arrival, and what controls write back."""

import re
from collections.abc import Callable, Sequence

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from jdviz.pages.lecture import PREFIXES

_PAGE, _NAMED = "address:page", "address:named"
_WHOLE, _ASKED = "address:whole", "address:asked"


def arrive(page: str) -> None:
    """Note what the address says when a visitor comes to a page, or goes through its history.

    A choice that was made here before gives way to it. On the way back the address is the whole
    state, so that what it does not name has its usual value.

    Args:
        page: The page's key.
    """
    context = get_script_run_ctx()
    back = context is not None and context.is_history_navigation
    if st.session_state.get(_PAGE) == page and not back:
        return
    st.session_state[_PAGE] = page
    # What a page writes as it opens may reach the browser while it still shows the former page's
    # address, and stays in that one.
    own = PREFIXES.get(page, "")
    elsewhere = tuple(prefix for prefix in PREFIXES.values() if own and prefix != own)
    for key in [key for key in st.query_params if key.startswith(elsewhere)]:
        del st.query_params[key]
    st.session_state[_NAMED] = {key: st.query_params.get_all(key) for key in st.query_params}
    st.session_state[_WHOLE] = own if own and back else None
    st.session_state[_ASKED] = set()
    for key in [key for key in st.session_state if _is_check_of(page, key)]:
        del st.session_state[key]


def _is_check_of(page: str, key: object) -> bool:
    """Whether a key of the session holds what was wrong with an earlier address of a page."""
    return isinstance(key, str) and key.startswith(f"{page}:") and key.endswith(":address")


def newly_named(key: str) -> list[str] | None:
    """What the address said on arrival; None where that was asked for before.

    Args:
        key: A name of the address.

    Returns:
        The texts, none where a whole address does not have the name; None where it says nothing
        on it.
    """
    asked: set[str] = st.session_state.setdefault(_ASKED, set())
    if key in asked:
        return None
    asked.add(key)
    named: dict[str, list[str]] = st.session_state.get(_NAMED, {})
    whole = st.session_state.get(_WHOLE)
    return named.get(key, [] if whole is not None and key.startswith(whole) else None)


def begin(
    key: str, read: Callable[[Sequence[str]], object], known: object, default: object
) -> None:
    """Give a control its value before it is drawn.

    Controls are not bound to the address: Streamlit would write titles there instead of values, and
    what it binds is lost on the browser's way back to a page.

    Args:
        key: The control's name.
        read: The value that the texts of an address mean, None for none.
        known: The value of the session, None where it has none that fits.
        default: The value to begin with.
    """
    link = newly_named(key)
    value = default if link == [] else None if link is None else read(link)
    if value is None:
        value = known
    if value is None and (texts := st.query_params.get_all(key)):
        value = read(texts)
    value = default if value is None else value
    # Set only where it differs: a browser would be told each time.
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def write(key: str, value: str | list[str] | None) -> None:
    """Put a value into the address, or take it out; nothing is sent where it is there already.

    Args:
        key: A name of the address.
        value: One text, or several; None takes the name out.
    """
    there = st.query_params.get_all(key) if key in st.query_params else None
    if value is None:
        if there is not None:
            del st.query_params[key]
    elif there != ([value] if isinstance(value, str) else value):
        st.query_params[key] = value


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
