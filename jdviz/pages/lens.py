"""Lens: one step of a run, pair by pair and layer by layer."""

import streamlit as st

from jdviz.figures import (
    cosine_caption,
    cosine_heatmap,
    gramian_caption,
    gramian_heatmap,
)
from jdviz.pages.controls import check_address, escaped
from jdviz.pages.frame import (
    Panel,
    draw_clickable,
    draw_panels,
    open_page,
    opened,
    plain_errors,
    prose,
    split,
    theme,
)
from jdviz.pages.lecture import locked
from jdviz.pages.lens_code import MatrixCode, StepCode, entries_code
from jdviz.pages.lens_controls import (
    PAIR_KEY,
    RUN_KEY,
    SETTINGS,
    SHOWN_KEY,
    STEP_KEY,
    Looking,
    draw_choice,
    draw_matrix_settings,
    recall_pair,
    remember_pair,
)
from jdviz.pages.lens_layers import FigureCode, draw_below, shape_panels
from jdviz.pages.lens_pair import draw_pair, draw_pair_layers
from jdviz.pages.lens_upload import (
    Uploaded,
    draw_report,
    draw_upload,
    draw_way_to_directions,
    put_away,
    uploaded,
)
from jdviz.pages.lens_whatif import SETTINGS as WHAT_IF
from jdviz.pages.lens_whatif import draw_what_if
from jdviz.pages.registry import PAGES
from jdviz.pages.run_view import RunView, arrange, example_view, view_of
from jdviz.runs.layout import LensStep, chosen_pair, lay_out, lay_out_matrix
from jdviz.server import find_run
from jdviz.training import StepRecord

REDRAW_S = 1.0
_TRY = (
    "**Try this.** Go to the first step and come back a few steps at a time: do the same pairs "
    "stay in conflict? Then order the objectives by agreement. Gradients that point the same way "
    "stand together, whatever their groups are called; choose a pair from two of the blocks and "
    "see which layer carries their conflict."
)
OTHER_NAMES = {
    RUN_KEY: "the run, by its identifier; example for the one that comes with the app",
    STEP_KEY: "the step; without it the newest",
    PAIR_KEY: "the pair, two places in the batch with a hyphen between them, counted from 1",
    # These are checked where their part of the page is open.
    **{setting.key: f"in What if: {setting.label}" for setting in WHAT_IF},
}
HEIGHT = 430


def _draw_matrix(
    step: LensStep, pair: tuple[int, int] | None, matrix: str, code: FigureCode
) -> None:
    """Draw the matrix; a click on a cell chooses its pair."""
    draw, caption, title = (
        (cosine_heatmap, cosine_caption, "Cosines of the gradients")
        if matrix == "cosine"
        else (gramian_heatmap, gramian_caption, "Gramian G = J Jᵀ")
    )
    figure = draw(
        step.gramian, step.names, theme(), groups=step.groups, height=HEIGHT, selected=pair
    )
    words = caption(step.gramian, step.names)
    lines = code(
        draw.__name__,
        f'step.gramian, step.names, "light", groups=step.groups, height={HEIGHT}, selected={pair}',
    )
    draw_clickable(
        Panel("lens-matrix", title, figure, words, spoken_only=True, code=lines),
        step.places,
        _clicked,
    )


def _clicked(pair: tuple[int, int]) -> None:
    """A cell was clicked; the diagonal is no pair."""
    if pair[0] != pair[1] and not locked(PAIR_KEY):
        remember_pair(pair)


def _draw_step(looking: Looking, view: RunView, record: StepRecord, *, live: bool) -> None:
    """Draw one step: what it says, its matrix with the pair beside it, and what is below."""
    shown = arrange(view, record)
    if shown is None:
        return
    step = lay_out(shown, looking.order)
    pair = chosen_pair(step, recall_pair())
    code = StepCode(view, record.step, looking.order)
    st.markdown(_sentence(view, record, step))
    left, right = st.columns([1.35, 1], gap="medium")
    with left:
        _draw_matrix(step, pair, looking.matrix, code)
    with right:
        if pair is not None:
            draw_pair(step, pair, view.problem)
        if not live:
            st.page_link(
                PAGES["directions"].path,
                label=f"Open step {record.step:,} on the Directions page",
                query_params={"d_run": view.run.run_id, "d_step": str(record.step)},
            )
    if pair is not None:
        draw_pair_layers(step, pair, code)
    draw_below(view, record, step, code, live=live)


def _sentence(view: RunView, record: StepRecord, step: LensStep) -> str:
    where = f"Step {record.step:,} of {escaped(view.title)}"
    if view.example:
        what = view.title if view.problem is None else view.problem.title
        where = f"Example: step {record.step:,} of a recorded run, {escaped(what)}"
    m, kept = len(record.losses), len(step.names)
    part = f", {kept} of its {m:,} objectives" if kept < m else ""
    return f"{where}{part}. {escaped(cosine_caption(step.gramian, step.names))}"


def _stage(looking: Looking) -> None:
    """The part that follows a run, a second at a time, until it ends."""
    with plain_errors():
        view, live = looking.view, looking.live
        found = find_run(view.run.run_id) if live else None
        if found is not None:
            view = view_of(found)
        record = _record(looking, view)
        if record is None:
            _draw_without_gramian(view)
        else:
            st.session_state[SHOWN_KEY] = record.step
            _draw_step(looking, view, record, live=live)
        if live and (found is None or not view.going):
            st.rerun()


def _record(looking: Looking, view: RunView) -> StepRecord | None:
    steps = view.store.gramian_steps(view.run.run_id)
    if steps.size == 0:
        return None
    wanted = int(steps[-1]) if looking.step is None else looking.step
    # A run that goes on may have thinned the step meanwhile.
    return view.store.nearest(view.run.run_id, wanted)


def _draw_without_gramian(view: RunView) -> None:
    """Say why there is nothing to look at yet, above the example."""
    if view.going and view.run.steps == 0:
        st.info("The run has not recorded a step yet; its first one appears here.")
    else:
        st.info(
            "No step of this run has a Gramian. In a script of your own, `rec.watch(engine)` or "
            "`rec.watch_gradients(losses, model)` records it."
        )
    example = example_view()
    record = example.store.latest(example.run.run_id)
    if record is not None:
        _draw_step(Looking(example, record.step, "cosine", "group"), example, record, live=True)


def _draw_uploaded(matrix: Uploaded) -> None:
    with rail:
        st.markdown("Shown is a matrix of your own.")
        st.button("Back to the runs", key="lens:back", on_click=put_away, width="stretch")
        if matrix.gramian is not None:
            kind, order = draw_matrix_settings()
    with stage:
        draw_report(matrix)
        if matrix.gramian is None:
            _draw_entries(matrix)
            return
        step = lay_out_matrix(matrix.gramian, matrix.names, order)
        pair = chosen_pair(step, recall_pair())
        code = MatrixCode(matrix.file, matrix.kind, order) if matrix.whole else _no_code
        st.markdown(escaped(cosine_caption(step.gramian, step.names)))
        left, right = st.columns([1.35, 1], gap="medium")
        with left:
            _draw_matrix(step, pair, kind, code)
        with right:
            if pair is not None:
                draw_pair(step, pair, None)
            draw_way_to_directions(matrix)
        spectrum, plane, angles = shape_panels(step, code)
        draw_panels(spectrum, plane)
        draw_panels(angles)


def _draw_entries(matrix: Uploaded) -> None:
    """Of a matrix that is no Gramian its entries still mean something, and nothing else."""
    if matrix.entries is None:
        st.markdown("There is no figure of it.")
        return
    st.markdown(
        "Its entries are shown as they are. Cosines, eigenvalues and planes are not: they are "
        "those of gradients only where it is a Gramian."
    )
    left, _ = st.columns([1.35, 1], gap="medium")
    with left:
        draw_panels(
            Panel(
                "lens-entries",
                "Entries of the matrix",
                gramian_heatmap(matrix.entries, matrix.names, theme(), height=HEIGHT),
                f"A matrix of {matrix.shape}.",
                spoken_only=True,
                code=entries_code(matrix.file, matrix.kind, HEIGHT) if matrix.whole else "",
            )
        )


def _no_code(figure: str, call: str) -> str:
    """Of some objectives of a large matrix there is no short script."""
    return ""


def _draw_what_if(looking: Looking) -> None:
    """What other methods would have done, at a step that stays the same meanwhile."""
    view, step = looking.view, looking.step
    record = None if step is None else view.store.record(view.run.run_id, step)
    if record is None:
        return
    with opened("lens:whatif", "What if another method had taken this step?") as is_open:
        if is_open:
            draw_what_if(view, record)


open_page("lens")
with plain_errors():
    check_address("lens", SETTINGS, OTHER_NAMES)
    rail, stage = split()
    notices = stage.container()
    own = uploaded()
    looking: Looking | None = None
    if own is not None:
        _draw_uploaded(own)
    with rail, plain_errors(notices):
        if own is None:
            looking = draw_choice(notices)
        draw_upload()
    if looking is not None:
        with stage:
            st.fragment(_stage, run_every=REDRAW_S if looking.live else None)(looking)
            prose(_TRY)
            with plain_errors():
                _draw_what_if(looking)
