"""The view of one step: memory over time, what the peak is made of, and how long it takes."""

from collections.abc import Callable

import streamlit as st

from jdviz.figures import (
    comparison_sections,
    html_report,
    lab_table,
    memory_caption,
    memory_timelines,
    mirrored_caption,
    mirrored_timelines,
    peak_caption,
    peak_split_bars,
    time_bars,
    time_caption,
)
from jdviz.pages.engines_code import ComparisonCode
from jdviz.pages.engines_controls import MEBIBYTE, Asked
from jdviz.pages.frame import Panel, draw_panels, opened, theme
from jdviz.profiling import Comparison, Measurement, MeasurementError, outputs
from jdviz.profiling.example import example_comparison
from jdviz.profiling.script import as_script
from jdviz.server import lab, pool

#: What is counted, in the words of the page and of the report.
COUNTED = (
    "Memory is the running sum of the allocator's events during one step, without parameters and "
    "batch and with new gradients; times are taken without the profiler, method by method in turn."
)

_ASSUMED = (
    " The machine was too busy to find out how fast it is, so autogram planned by assumed rates; "
    "on a quiet machine it may plan otherwise and need other bytes."
)


def measure(asked: Asked, watch: Callable[[str], None]) -> list[str]:
    """Measures the memory of every method, then their times in turn.

    Args:
        asked: What the controls ask for.
        watch: Told what is going on.

    Returns:
        What there is to say about it beside the figures.
    """
    specs = asked.specs()
    for spec in specs:
        lab().measure(spec, asked.limits, watch)
    try:
        lab().time(specs, asked.limits, watch, quiet=lambda: pool().active() == 0)
    except MeasurementError as error:
        # The memory that was measured stands without times.
        return [str(error)]
    return []


def draw(asked: Asked) -> None:
    """Draws what was measured with these settings; before that, the example, marked as such."""
    found = lab().comparison(asked.specs(), asked.limits)
    code = ComparisonCode(asked)
    if not found.measurements and not found.failures:
        code = ComparisonCode(None)
        found = example_comparison()
        spec = found.measurements[0].spec
        st.caption(
            f"Example, measured earlier on another machine: {spec.problem}, {spec.size}, batch "
            f"{spec.batch_size}, {spec.aggregator}. Press Measure to run it here."
        )
    else:
        st.caption("Measured on this machine since the server started.")
    for failure in found.failures:
        st.error(failure.sentence)
    if found.measurements:
        _draw_memory(found, asked, code)
    if found.measurements or found.failures:
        _draw_bars(found, code)
        _draw_table(found, code)
    if found.measurements:
        _draw_outputs(found)


def _draw_memory(found: Comparison, asked: Asked, code: ComparisonCode) -> None:
    mode = theme()
    upper, lower = found.of(asked.upper), found.of(asked.lower)
    if upper is None or lower is None:
        figure = memory_timelines(found.measurements, mode)
        caption = memory_caption(found.measurements)
        lines = code("memory_timelines", 'found.measurements, "light"')
    else:
        figure = mirrored_timelines(upper, lower, mode, found.of("sgd"))
        caption = mirrored_caption(upper, lower)
        lines = code(
            "mirrored_timelines",
            f'found.of({asked.upper!r}), found.of({asked.lower!r}), "light", found.of("sgd")',
        )
    st.markdown(caption)
    draw_panels(
        Panel("timelines", "Memory during the step", figure, caption, spoken_only=True, code=lines)
    )


def _draw_bars(found: Comparison, code: ComparisonCode) -> None:
    mode = theme()
    panels = [
        Panel(
            "peaks",
            "What the peak is made of",
            peak_split_bars(found.measurements, mode, found.failures),
            peak_caption(found.measurements, found.failures),
            code=code("peak_split_bars", 'found.measurements, "light", found.failures'),
        )
    ]
    if found.times is not None and found.times.durations_ms:
        panels.append(
            Panel(
                "times",
                "Time of a step",
                time_bars(found.times, mode),
                time_caption(found.times),
                code=code("time_bars", 'found.times, "light"', timed=True),
            )
        )
    draw_panels(*panels)


def _draw_table(found: Comparison, code: ComparisonCode) -> None:
    with opened(
        "numbers-step", "Every method as numbers, and its memory on an axis of its own"
    ) as is_open:
        if is_open:
            alt = f"Every method as numbers. {peak_caption(found.measurements, found.failures)}"
            st.dataframe(lab_table(found), width="stretch", alt=alt)
            if found.measurements:
                draw_panels(
                    Panel(
                        "rows",
                        "Memory of every method",
                        memory_timelines(found.measurements, theme()),
                        memory_caption(found.measurements),
                        code=code("memory_timelines", 'found.measurements, "light"'),
                    )
                )
    if found.times is not None and found.times.disturbed:
        st.caption(found.times.disturbed)
    if found.measurements:
        st.caption(_conditions(found.measurements[0]))


def _conditions(one: Measurement) -> str:
    machine = one.machine
    threads = "1 thread" if machine["threads"] == "1" else f"{machine['threads']} threads"
    return (
        f"m = {one.objectives:,} objectives, n = {one.parameters:,} parameters "
        f"({one.parameter_bytes / MEBIBYTE:.3g} MiB), batch {one.batch_bytes / MEBIBYTE:.3g} MiB, "
        f"seed {one.spec.seed}, {threads} of {machine['device']}, torch {machine['torch']}. "
        f"{COUNTED}{_ASSUMED if machine.get('rates') == 'assumed' else ''}"
    )


def _draw_outputs(found: Comparison) -> None:
    """Files of what is on the screen; each is made when it is asked for."""
    st.markdown("**Take it with you**")
    name = f"jdviz-{found.measurements[0].spec.problem.replace(':', '-')}"
    files: tuple[tuple[str, str, str, Callable[[], str]], ...] = (
        ("Report", "html", "text/html", lambda: report(found)),
        ("Table", "csv", "text/csv", lambda: outputs.as_csv(found)),
        ("Curves", "curves.csv", "text/csv", lambda: outputs.timeline_csv(found)),
        ("Data", "json", "application/json", lambda: outputs.as_json(found)),
        ("Trace", "trace.json", "application/json", lambda: outputs.as_trace(found)),
        ("Script", "py", "text/x-python", lambda: as_script(found)),
    )
    notes = {
        "Report": "One HTML file with all figures and numbers, to read without a network.",
        "Table": "One line for each method.",
        "Curves": "The memory over time of every method.",
        "Data": "Everything that was measured.",
        "Trace": "For a trace viewer such as Perfetto: phases, memory, every allocation.",
        "Script": "Python that measures this again and says whether the bytes agree.",
    }
    with st.container(horizontal=True):
        for label, ending, kind, make in files:
            st.download_button(
                f"{label} (.{ending.rpartition('.')[2]})",
                make,
                file_name=f"{name}.{ending}",
                mime=kind,
                help=notes[label],
                on_click="ignore",
                key=f"engines:save-{label}",
            )
    st.caption("Each figure has its own files, picture and numbers, in the fold below it.")


def report(found: Comparison) -> str:
    """The view as one HTML file."""
    spec = found.measurements[0].spec
    return html_report(
        f"One step of {spec.problem}, {spec.size}, batch {spec.batch_size:,}, {spec.aggregator}",
        comparison_sections(found),
        found.measurements[0].machine,
        [COUNTED],
    )
