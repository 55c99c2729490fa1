"""Engines: one training step by three methods, each measured in a process of its own."""

from dataclasses import replace

import streamlit as st

from engines.aggregation import METHODS
from jdviz.figures import (
    ENGINE_STYLES,
    engines_caption,
    engines_table,
    memory_caption,
    memory_timelines,
    peak_bars,
    time_bars,
)
from jdviz.pages.controls import Choice, Number, Setting, check_address, forget_address
from jdviz.pages.frame import Panel, draw_panels, open_page, plain_errors, theme
from jdviz.problems import PROBLEMS
from jdviz.profiling import (
    STEP_METHODS,
    Measurement,
    MeasurementError,
    MeasureSpec,
    check_fits,
    measurable_methods,
    measure,
    measuring,
)
from jdviz.profiling.example import example_measurements
from jdviz.server import pool, recall, remember

MEBIBYTE = 2**20
FAILURES = "engines:failures"
_CNN = PROBLEMS["digits_cnn"]

PROBLEM = Choice("e_problem", "Problem", tuple(PROBLEMS), _CNN.key)
SIZE = Choice("e_size", "Model size", tuple(_CNN.sizes), _CNN.default_size)
AGGREGATOR = Choice("e_aggregator", "Aggregator", measurable_methods(), "UPGrad")
BATCH = Number("e_batch", "Batch size", 2, 2, 2, 1)


def _batch() -> Number:
    """The batch size, up to what the problem chosen at present takes."""
    problem = PROBLEMS[PROBLEM.current()]
    return replace(BATCH, high=problem.max_batch, default=problem.default_batch)


def _settings() -> tuple[Setting, ...]:
    return (PROBLEM, SIZE, AGGREGATOR, _batch())


def _specs() -> dict[str, MeasureSpec]:
    """Draw the controls; what to measure, by method."""
    problem, batch = PROBLEMS[PROBLEM.current()], _batch()
    PROBLEM.draw(lambda key: PROBLEMS[key].title, on_change=_suggest, help_text=problem.summary)
    size = SIZE.draw(lambda name: f"{name} ({'–'.join(map(str, problem.sizes[name]))})")
    batch_size = int(batch.draw(help_text=f"2 to {problem.max_batch:,} samples in the step."))
    aggregator = AGGREGATOR.draw(help_text=METHODS[AGGREGATOR.current()].summary)
    return {
        method: MeasureSpec(
            problem=problem.key,
            size=size,
            batch_size=batch_size,
            method=method,
            aggregator=aggregator,
            seed=0,
        )
        for method in STEP_METHODS
    }


def _suggest() -> None:
    problem = PROBLEMS[st.session_state[PROBLEM.key]]
    st.session_state[BATCH.key] = problem.default_batch
    st.session_state[SIZE.key] = problem.default_size


def _measure_all(specs: dict[str, MeasureSpec]) -> None:
    """Measure one method after the other; what fails says so, the others go on."""
    training = pool().active()
    if training:
        st.info(
            f"Training runs in progress ({training}) share the cores: the memory is exact all the "
            "same, the times may be longer."
        )
    failures = []
    with st.status("Measuring the three methods", expanded=True):
        for spec in specs.values():
            label = ENGINE_STYLES[spec.method].label
            if measuring():
                st.write(f"{label}: waiting for another measurement on this server to end")
            st.write(f"{label}: two warm-up steps, one profiled, {spec.repeats} timed")
            try:
                check_fits(spec.problem, spec.size, spec.batch_size, spec.method)
                remember(measure(spec))
            except MeasurementError as error:
                failures.append(f"{label}: {error}")
    st.session_state[FAILURES] = failures
    # The page is drawn again as a whole, so that nothing of the former one stays in between.
    st.rerun()


def _draw_found(specs: dict[str, MeasureSpec]) -> None:
    """Draw what was measured with these settings; before that, the example, marked as such."""
    for failure in st.session_state.pop(FAILURES, []):
        st.error(failure)
    found = recall(specs.values())
    if not found:
        found = example_measurements()
        example = found[0].spec
        st.caption(
            f"Example: measured earlier on another machine, {PROBLEMS[example.problem].title}, "
            f"{example.size}, batch {example.batch_size}. Press Measure to run it here."
        )
    elif len(found) < len(specs):
        missing = {spec.method for spec in specs.values()} - {one.spec.method for one in found}
        labels = ", ".join(sorted(ENGINE_STYLES[method].label for method in missing))
        st.caption(f"Not measured with these settings: {labels}. Press Measure.")
    else:
        st.caption("Measured on this machine since the server started.")
    order = list(ENGINE_STYLES)
    _draw(sorted(found, key=lambda one: order.index(one.spec.method)))


def _draw(found: list[Measurement]) -> None:
    mode, sentence = theme(), engines_caption(found)
    st.markdown(sentence)
    draw_panels(
        Panel(
            "timelines",
            "Memory during the step",
            memory_timelines(found, mode),
            memory_caption(found),
        )
    )
    draw_panels(
        Panel("peaks", "Peak memory", peak_bars(found, mode), sentence, spoken_only=True),
        Panel("times", "Time of a step", time_bars(found, mode), sentence, spoken_only=True),
    )
    st.table(engines_table(found))
    if any(one.disturbed for one in found):
        st.caption(
            "The timed steps had to wait for a core, so the times are longer than they need be."
        )
    one = found[0]
    st.caption(
        f"m = {one.objectives:,} objectives, n = {one.parameters:,} parameters "
        f"({one.parameter_bytes / MEBIBYTE:.3g} MiB, not counted in the curves), "
        f"{one.threads} thread, torch {one.torch_version}, "
        f"{len(one.durations_ms)} timed steps, seed {one.spec.seed}. "
        "Memory is the running sum of the allocator's events; times are taken without the profiler."
    )


open_page("engines")
with plain_errors():
    check_address("engines", _settings())
    rail, stage = st.columns([1, 3.4], gap="medium")
    with rail:
        specs = _specs()
        pressed = st.button("Measure", type="primary", width="stretch", key="measure")
        st.caption("Takes about 20 seconds; one measurement at a time on this server.")
    with stage.empty().container(), plain_errors():
        if pressed:
            forget_address("engines")
            _measure_all(specs)
        else:
            _draw_found(specs)
st.markdown(
    "**Why autogram needs less.** autojac keeps the whole Jacobian, m × n numbers. autogram adds "
    "each layer's share to the m × m Gramian and drops it. With few objectives the Jacobian is "
    "only a few rows, and little or nothing is gained.\n\n"
    "**Try this.** Choose the large model, measure again, and compare how the three peaks grew. "
    "Then choose the regression, four tasks on a small model, and see which engine needs more."
)
