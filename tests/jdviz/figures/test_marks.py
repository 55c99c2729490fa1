"""A step marked on a figure over the steps of a run."""

import numpy as np
import pytest

from jdviz.figures import loss_history
from jdviz.figures.marks import mark_step
from jdviz.figures.theme import PALETTES


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_line_at_the_step_says_its_number(theme):
    figure = loss_history(np.arange(5), np.ones((5, 2)), ["a", "b"], theme=theme, kind="tasks")
    traces = len(figure.data)
    marked = mark_step(figure, 1234, theme)
    assert marked is figure
    assert len(figure.data) == traces
    line = figure.layout.shapes[-1]
    assert (line.x0, line.x1) == (1234, 1234)
    assert line.line.color == PALETTES[theme].text
    note = figure.layout.annotations[-1]
    assert (note.text, note.x, note.font.color) == ("step 1,234", 1234, PALETTES[theme].muted)


def test_its_words_stay_within_the_figure():
    for step, side in ((0, "left"), (1, "left"), (3, "right"), (4, "right")):
        figure = loss_history(
            np.arange(5), np.ones((5, 2)), ["a", "b"], theme="light", kind="tasks"
        )
        note = mark_step(figure, step, "light").layout.annotations[-1]
        assert (note.xanchor, note.y, note.yanchor) == (side, 0, "bottom")
