"""What is known about the aggregation methods, one folded card each."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from engines.aggregation import METHODS, PROPERTIES, MethodRecord
from jdviz.pages.controls import escaped
from jdviz.pages.frame import opened


def draw_cards(methods: Sequence[str]) -> None:
    """Draw a card for each method, in two columns where there is room.

    Args:
        methods: Keys of `engines.aggregation.METHODS`.
    """
    for first in range(0, len(methods), 2):
        for name, column in zip(methods[first : first + 2], st.columns(2), strict=False):
            with column, opened(f"card-{name}", name) as is_open:
                if is_open:
                    _draw_card(METHODS[name])


def _draw_card(record: MethodRecord) -> None:
    st.markdown(_with_code(record.summary))
    st.code(record.formula, language=None, wrap_lines=True)
    answers = {
        _in_words(name): ("yes" if record.properties[name] else "no", _with_code(meaning))
        for name, meaning in PROPERTIES.items()
    }
    table = pd.DataFrame.from_dict(answers, orient="index", columns=["", "yes means"])
    st.table(table)
    if record.remarks:
        st.markdown(_with_code(record.remarks))
    st.caption(escaped(record.paper))


def _in_words(name: str) -> str:
    """The name of a property as a person writes it."""
    return name.replace("non_", "non-").replace("_", " ")


def _with_code(text: str) -> str:
    """Text as Markdown in which only what stands between backticks has an effect."""
    parts = text.split("`")
    return "`".join(part if place % 2 else escaped(part) for place, part in enumerate(parts))
