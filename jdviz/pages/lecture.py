"""What an address takes off a page or fixes on it, for a lecture or a frame in another page.

`hide=` and `lock=` are lists with commas between the names. A control that is hidden is there all
the same, only not to be seen, so that it keeps the value that the address gives it.
"""

import re
from collections.abc import Iterable

import streamlit as st

HIDE, LOCK = "hide", "lock"
#: In `lock=`, every setting.
ALL = "all"
#: What can be hidden beside the controls, and what each is.
PARTS = {
    "nav": "the way to the other pages",
    "title": "the page's question",
    "rail": "the column of controls",
    "prose": "explanations and things to try",
    "numbers": "the fold below each figure with its numbers, code and files",
    "cards": "the cards of the methods, and those that lead to the other pages",
}
#: How the names of each page's settings begin.
PREFIXES = {
    "tour": "u_",
    "train": "t_",
    "runs": "r_",
    "lens": "l_",
    "directions": "d_",
    "trajectories": "p_",
    "engines": "e_",
}
_MOST = 64
_NAME = re.compile(r"[A-Za-z0-9_]{1,60}")


def take_lecture() -> None:
    """Take both lists from the address, and put them back where a page switch has removed them.

    An empty one, `hide=`, ends it. Call it before anything is drawn.
    """
    for name in (HIDE, LOCK):
        kept = f"lecture:{name}"
        if name in st.query_params:
            st.session_state[kept] = _names(st.query_params.get_all(name))
        elif st.session_state.get(kept):
            st.query_params[name] = ",".join(st.session_state[kept])


def hidden(name: str) -> bool:
    """Whether the address hides a part of the page, or a control.

    Args:
        name: One of `PARTS`, or a name of the address.
    """
    return name in st.session_state.get(f"lecture:{HIDE}", ())


def locked(key: str) -> bool:
    """Whether the address fixes a control, which is then shown and cannot be changed.

    Args:
        key: Its name in the address.
    """
    names = st.session_state.get(f"lecture:{LOCK}", ())
    return key in names or ALL in names


def hiding_style() -> str:
    """The style sheet that takes away what the address hides; empty where that is nothing."""
    names = st.session_state.get(f"lecture:{HIDE}", ())
    # Whatever else stands in an address never reaches the style sheet.
    rules = [f".st-key-{name}" for name in names if _NAME.fullmatch(name) and name not in PARTS]
    if "rail" in names:
        rules.append('[data-testid="stColumn"]:has(.st-key-rail)')
    return f"{', '.join(rules)} {{ display: none; }}" if rules else ""


def unknown_names(page: str, keys: Iterable[str]) -> list[str]:
    """The names of both lists that mean nothing on a page.

    Args:
        page: The page's key.
        keys: The names that its address can have.

    Returns:
        Those that are none of its own, and not of another page, for which they may be meant.
    """
    known = set(keys)
    elsewhere = tuple(prefix for key, prefix in PREFIXES.items() if key != page)
    return [
        name
        for which, parts in ((HIDE, set(PARTS)), (LOCK, {ALL}))
        for name in st.session_state.get(f"lecture:{which}", ())
        if name not in known | parts and not name.startswith(elsewhere)
    ]


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    """The names in the lists of an address, each once."""
    names = (name.strip() for text in texts for name in text.split(","))
    return tuple(dict.fromkeys(filter(None, names)))[:_MOST]
