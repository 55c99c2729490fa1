"""One update of a run, part by part, with its actual numbers put into the formulas."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jdviz.figures import (
    loss_bars,
    loss_bars_caption,
    update_change_bars,
    update_change_caption,
)
from jdviz.figures.words import number
from jdviz.pages.controls import Choice, Switch
from jdviz.pages.frame import Panel, draw_panels, theme
from jdviz.pages.lecture import locked
from jdviz.pages.run_code import bars_code, update_code
from jdviz.pages.run_view import RunView, ShownStep, arrange, kind_of, place_names
from jdviz.pages.train_view import gramian_panel, weights_panel
from jdviz.training import StepRecord

Array = NDArray[np.float64]

#: Up to so many objectives are written into the formulas, and into the table.
IN_FORMULAS, IN_TABLE = 3, 8
#: Of more objectives, how many of the largest are in the table.
LARGEST = 5
AT_KEY = "t_at"
OPEN = Switch("t_through", "Step through one update")
#: The middle one is what the engine of the run builds.
_PARTS = ("Forward", "Jacobian", "Gramian", "Weights", "Update")
PART = Choice("t_part", "Part", _PARTS, _PARTS[0])
STEP_SETTINGS = (OPEN, PART)
_PINNED, _TYPED = "train:pinned", "train:step"
_MOST_DIGITS = 7


def draw_step_through(view: RunView) -> None:
    """Draw one update of a run where the visitor has asked for it.

    While the run goes on it stays the step that was the newest when it was opened; paused or
    ended, the newest until another is chosen.

    Args:
        view: The run.
    """
    if not OPEN.draw():
        return
    steps = view.store.steps(view.run.run_id)
    if steps.size == 0:
        st.caption("There is no step to go through yet.")
        return
    place = _place(view, steps)
    record = view.store.record(view.run.run_id, int(steps[place]))
    if record is None:
        return
    unbuilt = "Gramian" if view.setting("engine") == "autojac" else "Jacobian"
    parts = tuple(part for part in _PARTS if part != unbuilt)
    left, right = st.columns([1.1, 1], gap="medium", vertical_alignment="bottom")
    with left:
        st.markdown(f"Shown is **step {record.step:,}**; the newest is step {int(steps[-1]):,}.")
        part = replace(PART, options=parts).draw_buttons()
    with right, st.container(key=AT_KEY):
        _draw_steps(view.run.run_id, steps, place)
    shown = arrange(view, record)
    draw = {"Forward": _draw_forward, "Weights": _draw_weights, "Update": _draw_update}
    draw.get(part, _draw_gramian)(view, record, shown)


def forget_step() -> None:
    """Go back to the newest step, as where another run begins."""
    st.session_state.pop(_PINNED, None)
    st.query_params.pop(AT_KEY, None)


def _place(view: RunView, steps: NDArray[np.int64]) -> int:
    """The place among the recorded steps of the one to show."""
    newest = int(steps[-1])
    run_id, step, follows = st.session_state.get(_PINNED, ("", newest, True))
    if run_id != view.run.run_id:
        named = st.query_params.get(AT_KEY, "")
        follows = not (named.isdecimal() and len(named) <= _MOST_DIGITS)
        step = newest if follows else int(named)
    elif follows and view.status != "running":
        step = newest
    st.session_state[_PINNED] = (view.run.run_id, step, follows)
    return max(0, int(np.searchsorted(steps, step, side="right")) - 1)


def _pin(run_id: str, step: int, *, newest: bool = False) -> None:
    st.session_state[_PINNED] = (run_id, step, newest)
    if newest:
        st.query_params.pop(AT_KEY, None)
    else:
        st.query_params[AT_KEY] = str(step)


def _pin_typed(run_id: str) -> None:
    typed = st.session_state[_TYPED]
    if typed is not None:
        _pin(run_id, int(typed))


def _draw_steps(run_id: str, steps: NDArray[np.int64], place: int) -> None:
    """The way to the steps before and after, and to any other."""
    last = len(steps) - 1
    box, *buttons = st.columns([1.2, 1, 1, 1], vertical_alignment="bottom")
    with box:
        # It never shows the step: a box whose value the server sets while a run goes on sends its
        # own back, as if somebody had typed it.
        st.number_input(
            "Go to step",
            0,
            10**_MOST_DIGITS - 1,
            value=None,
            step=1,
            key=_TYPED,
            disabled=locked(AT_KEY),
            on_change=_pin_typed,
            args=(run_id,),
        )
    ways = (
        ("Previous", place > 0, max(place - 1, 0)),
        ("Next", place < last, min(place + 1, last)),
        ("Newest", place < last, last),
    )
    for column, (name, possible, target) in zip(buttons, ways, strict=True):
        column.button(
            name,
            key=f"train:{name.lower()}",
            disabled=not possible or locked(AT_KEY),
            width="stretch",
            on_click=_pin,
            args=(run_id, int(steps[target])),
            kwargs={"newest": name == "Newest"},
        )


def _draw_forward(view: RunView, record: StepRecord, shown: ShownStep | None) -> None:
    """The losses: what the forward pass gives."""
    step = record if shown is None else shown
    (names, groups), losses = _names(view, record, shown), step.losses
    noun = "sample of the batch" if kind_of(view, record) == "samples" else "task"
    st.markdown(f"The forward pass gives one loss for each {noun}, before the update.")
    if len(losses) <= IN_FORMULAS:
        st.latex(f"f(x) = {_vector(losses)}")
    else:
        st.latex(r"f(x) = (f_1(x), \dots, f_m(x)), \quad m = " + str(len(losses)))
    _draw_part(
        Panel(
            "step-losses",
            "Losses f(x)",
            loss_bars(losses, names, theme(), groups=groups),
            loss_bars_caption(losses, names),
            code=bars_code(view, step, "loss_bars", 'step.losses, NAMES, "light"'),
        ),
        names,
        {"loss": losses},
    )


def _draw_gramian(view: RunView, record: StepRecord, shown: ShownStep | None) -> None:
    """The inner products of the gradients."""
    if shown is None:
        _say_missing("Gramian")
        return
    m, G = len(shown.names), shown.gramian
    if view.setting("engine") == "autojac":
        st.markdown(
            "autojac differentiates every loss: the Jacobian J has a gradient gᵢ in each of its "
            f"{m} rows and a column for each parameter. Kept are its inner products G = J Jᵀ, with "
            "squared lengths on the diagonal."
        )
    else:
        st.markdown(
            "The Gramian holds the inner product of every two gradients, and their squared "
            "lengths on the diagonal; below zero the two objectives are in conflict."
        )
    if m <= IN_FORMULAS:
        st.latex(f"G = J J^\\top = {_matrix(G)}")
    else:
        st.latex(r"G = J J^\top, \quad G_{ij} = g_i \cdot g_j")
    columns = {"gᵢ·gᵢ": np.diagonal(G)}
    if m <= IN_TABLE:
        columns = {f"with {name}": G[:, place] for place, name in enumerate(shown.names)}
    _draw_part(gramian_panel(view, shown, "step-gramian"), shown.names, columns)


def _draw_weights(view: RunView, record: StepRecord, shown: ShownStep | None) -> None:
    """The weights that the method gives the gradients."""
    step = record if shown is None else shown
    (names, _), weights = _names(view, record, shown), step.weights
    panel = weights_panel(view, step, "step-weights")
    if panel is None:
        _say_missing("weights")
        return
    if weights is None:
        st.markdown("This method makes its direction from the Jacobian without weights.")
        st.latex(r"A(J) \ne J^\top w")
        draw_panels(panel)
        return
    st.markdown("The method weighs the gradients; the update direction is their weighted sum.")
    if len(weights) <= IN_FORMULAS:
        terms = [
            f"{number(weight, signed=place > 1)}\\, g_{place}"
            for place, weight in enumerate(weights.tolist(), start=1)
        ]
        st.latex(f"A(J) = J^\\top w = {' '.join(terms)}")
    else:
        st.latex(r"A(J) = J^\top w = \sum_i w_i \, g_i")
    _draw_part(panel, names, {"weight": weights})


def _draw_update(view: RunView, record: StepRecord, shown: ShownStep | None) -> None:
    """The update: how long it is, what it should change and what changed."""
    step = record if shown is None else shown
    (names, groups), inner, norm = _names(view, record, shown), step.inner, record.direction_norm
    if inner is None:
        _say_missing("update direction")
        return
    if len(inner) <= IN_FORMULAS and shown is not None and shown.weights is not None:
        st.latex(
            f"J\\,A(J) = G w = {_matrix(shown.gramian)}{_column(shown.weights)} = {_column(inner)}"
        )
    elif len(inner) <= IN_FORMULAS:
        st.latex(f"J\\,A(J) = {_column(inner)}")
    else:
        st.latex(r"J\,A(J) = (g_1 \cdot A(J), \dots, g_m \cdot A(J))^\top")
    rate = view.run.config.get("learning_rate")
    length = "" if norm is None else f"\\lVert A(J) \\rVert = {number(norm)}"
    if not isinstance(rate, int | float) or not math.isfinite(rate):
        if length:
            st.latex(length)
        st.caption("The run does not say its learning rate, so no change can be predicted.")
        panel = weights_panel(view, step, "step-update")
        if panel is not None:
            draw_panels(panel)
        return
    st.latex(", \\quad ".join(filter(None, [length, f"\\eta = {number(rate)}"])))
    actual = _actual(view, record)
    if actual is not None and shown is not None:
        actual = actual[shown.order]
    columns = {"gᵢ·A(J)": inner, "predicted −η gᵢ·A(J)": -rate * inner}
    if actual is not None:
        columns["actual"] = actual
    st.markdown(_explanation(view, record, actual))
    _draw_part(
        Panel(
            "step-update",
            "Change of the losses by this update",
            update_change_bars(inner, rate, names, theme(), change=actual, groups=groups),
            update_change_caption(inner, rate, names, change=actual),
            code=update_code(view, step, float(rate), following=actual is not None),
        ),
        names,
        columns,
    )


def _explanation(view: RunView, record: StepRecord, actual: Array | None) -> str:
    """How far the prediction can be trusted, and what the actual change holds beside the update."""
    words = ["To first order, x ← x − η A(J) changes loss i by −η gᵢ·A(J)."]
    optimizer = view.setting("optimizer")
    if optimizer in {"momentum", "adam"}:
        name = {"momentum": "Momentum", "adam": "Adam"}[optimizer]
        words.append(f"{name} makes another step of A(J), so this is what plain SGD would change.")
    if actual is not None:
        words.append("The actual change is to the next step, whose batch is another one.")
    elif kind_of(view, record) == "samples":
        words.append("The next batch holds other samples, so there is no actual change to compare.")
    else:
        words.append("The actual change shows where the next step is recorded too.")
    return " ".join(words)


def _actual(view: RunView, record: StepRecord) -> Array | None:
    """Change of every loss to the next step; None for samples, and where there is none yet."""
    if kind_of(view, record) == "samples":
        return None
    following = view.store.record(view.run.run_id, record.step + 1)
    if following is None or len(following.losses) != len(record.losses):
        return None
    change: Array = following.losses - record.losses
    return change


def _names(
    view: RunView, record: StepRecord, shown: ShownStep | None
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Names and groups of the objectives, in the order in which the step is shown."""
    if shown is None:
        return place_names(view, len(record.losses)), None
    return shown.names, shown.groups


def _say_missing(what: str) -> None:
    st.info(f"The {what} of this step is not kept. Choose another step, or another part.")


def _draw_part(panel: Panel, names: Sequence[str], columns: dict[str, Array]) -> None:
    """A figure, and beside it its numbers: all of few, the largest of many."""
    left, right = st.columns([1.35, 1], gap="medium")
    with left:
        draw_panels(panel)
    with right:
        rows = list(range(len(names)))
        if len(rows) > IN_TABLE:
            values = next(iter(columns.values()))
            rows = np.argsort(-np.abs(values), kind="stable")[:LARGEST].tolist()
            st.markdown(f"The {LARGEST} largest of {len(names)}; all are in the figure's numbers.")
        table = {"objective": [names[row] for row in rows]}
        for title, values in columns.items():
            table[title] = [number(float(values[row])) for row in rows]
        st.dataframe(table, hide_index=True, alt=f"Numbers of this step: {panel.title}")


def _vector(values: Array) -> str:
    inside = r",\; ".join(number(float(value)) for value in values)
    return f"({inside})"


def _column(values: Array) -> str:
    return _matrix(values[:, None])


def _matrix(values: Array) -> str:
    rows = (" & ".join(number(float(value)) for value in row) for row in values)
    inside = r" \\ ".join(rows)
    return rf"\begin{{pmatrix}} {inside} \end{{pmatrix}}"
