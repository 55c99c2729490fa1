"""What if: a recorded step taken with other methods, and what the losses are some steps later."""

from dataclasses import dataclass, replace
from itertools import islice

import streamlit as st

from jdviz.figures import futures_bars, futures_bars_caption, futures_caption, futures_figure
from jdviz.pages.controls import (
    Choice,
    Number,
    Setting,
    Several,
    check_address,
    escaped,
    forget_address,
)
from jdviz.pages.frame import Panel, draw_panels, plain_errors, theme
from jdviz.pages.lens_code import futures_code
from jdviz.pages.run_code import listed as list_code
from jdviz.pages.run_view import RunView, place_names
from jdviz.problems import PROBLEMS
from jdviz.server import limits
from jdviz.training import (
    MAX_STEPS_AHEAD,
    ConfigError,
    Futures,
    FuturesError,
    RunConfig,
    StepRecord,
    ask_futures,
    trainable_methods,
)

METHODS_AHEAD = Several(
    "l_ahead", "Aggregators", trainable_methods(), ("UPGrad", "MGDA", "PCGrad", "CAGrad", "Mean")
)
STEPS_AHEAD = Number("l_k", "Steps ahead", 1, MAX_STEPS_AHEAD, 10, 1)
RATE, LENGTH = "rate", "length"
COMPARED_AT = Choice("l_at", "Compared at", (RATE, LENGTH), RATE)
LOSS_AXIS = Choice("l_axis", "Loss axis", ("linear", "log"), "linear")
_TITLES = {RATE: "the same learning rate", LENGTH: "the same first length"}
SETTINGS: tuple[Setting, ...] = (METHODS_AHEAD, STEPS_AHEAD, COMPARED_AT, LOSS_AXIS)

_PAGE = "lens:what-if"
_FOUND = "lens:futures"
MOST_KEPT = 4


@dataclass(frozen=True)
class _Question:
    """What a recorded step can be asked with.

    Attributes:
        config: The configuration of its run.
        checkpoint_step: The step before which the closest checkpoint was taken.
        checkpoint: The checkpoint.
    """

    config: RunConfig
    checkpoint_step: int
    checkpoint: bytes


def draw_what_if(view: RunView, record: StepRecord) -> None:
    """Ask for a step to be taken with several methods, and draw what came out.

    Args:
        view: The run.
        record: One of its steps.

    Raises:
        StoreError: If the run store cannot be read.
    """
    question = _question(view, record)
    if isinstance(question, str):
        st.caption(question)
        return
    check_address(_PAGE, SETTINGS)
    with st.form("what-if"):
        methods = METHODS_AHEAD.draw(
            help_text=f"The run's own, {question.config.aggregator}, is always among them."
        )
        left, right = st.columns(2)
        with left:
            k = int(STEPS_AHEAD.draw())
        with right:
            at = COMPARED_AT.draw(
                _TITLES.__getitem__,
                help_text="With the same first length, each method's directions are multiplied by "
                "one factor, so that only where it goes is compared and not how far.",
            )
        pressed = st.form_submit_button("Take the step with each method", type="primary")
    work = st.empty()
    key = view.run.run_id, record.step
    if pressed:
        forget_address(_PAGE)
        with work.container(), plain_errors():
            found = _ask(question, record.step, methods, k, equal_length=at == LENGTH)
        if found is not None:
            _keep(key, found)
            work.empty()
    kept: dict[tuple[str, int], Futures] = st.session_state.get(_FOUND, {})
    if key in kept:
        _draw(view, question.config, kept[key])
    else:
        st.caption(
            f"Every method begins with the model as it was before step {record.step:,} and takes "
            "the same batches. It takes up to a minute; one question at a time on this server."
        )


def _question(view: RunView, record: StepRecord) -> _Question | str:
    """What is needed to take a step again; one sentence where it cannot be."""
    if view.setting("problem") not in PROBLEMS:
        return (
            "Only a step of a problem that the app comes with can be taken again: of other runs "
            "the store has what was recorded, and not the model."
        )
    try:
        config = RunConfig.from_dict(view.run.config)
        config.validate()
        # Only these steps are taken, however many the run has.
        limits().check(replace(config, steps=MAX_STEPS_AHEAD))
    except ConfigError as error:
        return f"This step cannot be taken again. {escaped(str(error))}"
    found = view.store.checkpoint(view.run.run_id, at_most=record.step)
    if found is None:
        return "This run keeps no checkpoint from which its steps could be taken again."
    return _Question(config, *found)


def _ask(
    question: _Question, step: int, methods: list[str], k: int, *, equal_length: bool
) -> Futures | None:
    """Ask a child process; None where there is no answer, which was said."""
    with st.status("Taking the step with each method", type="compact") as status:
        try:
            return ask_futures(
                question.config,
                question.checkpoint_step,
                question.checkpoint,
                step,
                methods,
                k,
                equal_length=equal_length,
                # Writing to the page also ends the question of a visitor who has left.
                watch=lambda sentence: status.update(label=escaped(sentence)),
            )
        except FuturesError as error:
            status.update(label="There is no answer", state="error")
            sentence = str(error)
    st.error(escaped(sentence))
    return None


def _keep(key: tuple[str, int], found: Futures) -> None:
    """Remember the latest answers of this visitor."""
    kept = {key: found, **{k: v for k, v in st.session_state.get(_FOUND, {}).items() if k != key}}
    st.session_state[_FOUND] = dict(islice(kept.items(), MOST_KEPT))


def _draw(view: RunView, config: RunConfig, found: Futures) -> None:
    names = _names(view, found)
    means = {one.method: one.mean_losses[:, None] for one in found.futures}
    losses = {one.method: one.losses for one in found.futures}
    st.markdown(_conditions(config, found))
    if means:
        with st.columns([1, 3])[0]:
            scale = LOSS_AXIS.draw()
        draw_panels(
            Panel(
                "futures",
                f"Mean loss over {found.evaluated} samples",
                futures_figure(
                    means, found.step, theme(), scale="log" if scale == "log" else "linear"
                ),
                futures_caption(means, found.step),
                code=futures_code(
                    view,
                    found,
                    "futures_figure",
                    "means = {one.method: one.mean_losses[:, None] for one in found.futures}\n",
                    f'means, found.step, "light", scale={scale!r}',
                ),
            ),
            Panel(
                "futures-objectives",
                f"Change of each loss of step {found.step:,}'s batch",
                futures_bars(losses, names, theme()),
                futures_bars_caption(losses, names),
                code=futures_code(
                    view,
                    found,
                    "futures_bars",
                    "losses = {one.method: one.losses for one in found.futures}\n"
                    f"names = {list_code(names)}\n",
                    'losses, names, "light"',
                ),
            ),
        )
    for one in found.futures:
        if one.ending:
            st.caption(f"{one.method} ended early: {escaped(one.ending)}")
    for refusal in found.refused:
        st.info(f"Not shown: {refusal.method}. {escaped(refusal.sentence)}")


def _conditions(config: RunConfig, found: Futures) -> str:
    """Under which conditions the methods were compared."""
    steps = "1 step" if found.steps_ahead == 1 else f"{found.steps_ahead} steps"
    lengths = (
        f"its directions multiplied by the factor that makes the first one as long as "
        f"{config.aggregator}'s"
        if found.equal_length
        else "each direction as long as the method makes it"
    )
    return (
        f"**After {steps} from this one step, {found.step:,}.** Every method takes the same "
        f"batches with {config.optimizer} at learning rate {config.learning_rate:.3g}, {lengths}; "
        f"{config.aggregator} goes on with what it remembers, the others start without a past. "
        "One step of one run says nothing about training with a method from the beginning."
    )


def _names(view: RunView, found: Futures) -> tuple[str, ...]:
    problem = view.problem
    if problem is not None and found.sample_ids is not None:
        return problem.sample_names(found.sample_ids)
    m = found.futures[0].losses.shape[1] if found.futures else 0
    return place_names(view, m)
