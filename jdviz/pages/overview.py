"""The overview: the idea in ten lines, and the way to the other pages."""

import streamlit as st

from jdviz.pages.frame import open_page, plain_errors, prose
from jdviz.pages.lecture import hidden
from jdviz.pages.registry import PAGES
from jdviz.pages.train_view import draw_example_cosines, draw_example_sentence

#: More links beside each other have no room for their words.
IN_ROW = 4
_TEXT = r"""
1. A model with parameters $x \in \mathbb{R}^n$ has $m$ losses $f_1(x), \dots, f_m(x)$: tasks, or
   one loss for each sample of a batch.
2. Each has a gradient $g_i$. The **Jacobian** $J \in \mathbb{R}^{m \times n}$ holds them as rows.
3. Plain training follows the mean $\frac{1}{m} \sum_i g_i$ and may raise some of the losses.
4. Two gradients are in **conflict** when $g_i \cdot g_j < 0$: going along one worsens the other.
5. **Jacobian descent** steps along $x \leftarrow x - \eta \, \mathcal{A}(J)$, where the
   **aggregator** $\mathcal{A}$ sees all gradients at once.
6. Most aggregators are weighted sums $\mathcal{A}(J) = J^\top w$, and their weights depend on
   inner products alone.
7. Those are the **Gramian** $G = J J^\top \in \mathbb{R}^{m \times m}$; the picture shows its
   cosines.
8. $J \mathcal{A}(J) = G w$ says how fast each loss falls. UPGrad makes no entry negative.
9. The engine **autojac** builds $J$: $m \times n$ numbers.
10. The engine **autogram** adds up $G$ layer by layer and never builds $J$.
"""

open_page("overview")
with plain_errors():
    draw_example_sentence()
    figure, words = st.columns([1, 1.15], gap="large")
    with figure:
        draw_example_cosines()
    with words:
        prose(_TEXT)
prose(
    "**Try this.** Point at an orange cell of the picture: it says which two images are in "
    "conflict, and how strongly. Then look at the same step in the Lens, layer by layer."
)
if not hidden("cards"):
    pages = list(PAGES.values())[1:]
    for first in range(0, len(pages), IN_ROW):
        for column, page in zip(st.columns(IN_ROW), pages[first : first + IN_ROW], strict=False):
            with column, st.container(border=True, height="stretch"):
                st.page_link(page.path, label=f"**{page.name}**")
                st.markdown(page.question)
                st.caption(page.invitation)
