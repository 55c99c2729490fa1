"""Several runs on one axis, and their final losses against a baseline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from jdviz.figures import Line, delta_bars, delta_caption, overlay, overlay_caption
from jdviz.figures.words import capitalised, listed
from jdviz.pages.controls import Choice, Number, Switch, escaped, quoted
from jdviz.pages.frame import Panel, draw_panels, theme
from jdviz.pages.run_code import listed as list_code
from jdviz.pages.run_code import overlay_code, results_code
from jdviz.pages.run_view import RunView, kind_of, place_names, view_of
from jdviz.runs import Run, Series
from jdviz.runs.comparison import (
    BASELINE_METHOD,
    MEAN_LOSS,
    Delta,
    Result,
    default_baseline,
    deltas,
    difference,
    quantities,
    quantity_and_unit,
    values_of,
)
from jdviz.runs.comparison_table import comparison_csv
from jdviz.runs.describing import seed_of
from jdviz.server import store

#: More lines than this cannot be told apart.
MOST_RUNS = 8
#: More runs than this are not read for one figure, also not to find a baseline.
MOST_READ = 32
#: Of the figure, which begins below the table.
HEIGHT = 380
AUTO = "auto"
DIFFERENCE = Switch("r_diff", "Difference to the baseline")
X = Choice("r_x", "Over", ("step", "time"), "step")
SMOOTHING = Number("r_smooth", "Smoothing", 0, 0.99, 0.6, 0.1, 2)


@dataclass(frozen=True)
class Settings:
    """What the rail sets.

    Attributes:
        quantity: The series that is drawn.
        x: What it is drawn over, "step" or "time".
        smoothing: Weight of the past in the smoothed line, from 0.
        baseline: Identifier of the run to compare with; `AUTO` for a Mean run of the same problem
            and seed.
        relative: Whether the difference to the baseline is drawn.
    """

    quantity: str
    x: str
    smoothing: float
    baseline: str
    relative: bool


def load(run: Run) -> Result:
    """A run of the store with its history.

    Args:
        run: The run.

    Raises:
        StoreError: If the store cannot be read.
    """
    series, names = _history(str(store().path), run.run_id, run.steps, run.objectives, run)
    return Result(run, series, names)


def result_of(view: RunView) -> Result:
    """A run with its history, wherever it is stored."""
    series = view.store.series(view.run.run_id)
    record = view.store.latest(view.run.run_id)
    named = record is not None and kind_of(view, record) == "tasks"
    return Result(view.run, series, place_names(view, series.losses.shape[1]) if named else ())


@st.cache_resource(show_spinner=False, max_entries=64)
def _history(
    path: str, run_id: str, steps: int, objectives: tuple[str, ...], _run: Run
) -> tuple[Series, tuple[str, ...]]:
    """Kept by how far the run is: of several that are compared, only those that go on are read."""
    result = result_of(view_of(_run))
    return result.series, result.names


def choices(results: Sequence[Result]) -> tuple[Choice, Choice]:
    """The settings that depend on the runs: the series, and the baseline."""
    series = Choice("r_series", "Series", quantities(results), MEAN_LOSS)
    ids = tuple(result.run.run_id for result in results)
    return series, Choice("r_base", "Baseline", (AUTO, *ids), AUTO)


def draw_settings(
    series: Choice | None, baseline: Choice, names: Sequence[str], *, lines: bool
) -> Settings:
    """Draw the settings of the figures.

    Args:
        series: The series to choose from; None where the figure has no choice.
        baseline: The runs to choose from.
        names: What each run is called, in the order of `baseline`.
        lines: Whether the figure is one line for each run, which has more settings.

    Returns:
        What is set.
    """
    quantity = MEAN_LOSS if series is None else _draw_choice(series, str.capitalize)
    titles = dict(zip(baseline.options, ("Mean, same problem and seed", *names), strict=True))
    base = _draw_choice(baseline, titles.__getitem__)
    if not lines:
        return Settings(quantity, X.default, SMOOTHING.default, base, relative=False)
    relative = DIFFERENCE.draw(help_text="Draw every run less the baseline at the same step.")
    with st.expander("View"):
        x = X.draw(str.capitalize)
        smoothing = SMOOTHING.draw(
            help_text="0 draws the recorded values alone; towards 1 the bold line follows slower. "
            "The recorded values stay behind it, pale."
        )
    return Settings(quantity, x, smoothing, base, relative)


def _draw_choice(choice: Choice, titles: Callable[[str], str]) -> str:
    if st.session_state.get(choice.key, choice.default) not in choice.options:
        # Of other runs than a moment ago.
        del st.session_state[choice.key]
    named = st.query_params.get(choice.key, choice.default)
    if choice.key not in st.session_state and named not in choice.options:
        st.warning(
            f"The chosen runs have no {choice.label.lower()} “{quoted(named)}”; using "
            f"{titles(choice.default)} instead."
        )
    return choice.draw(titles)


def baseline_for(result: Result, results: Sequence[Result], settings: Settings) -> Result | None:
    """The run that a run is compared with, or None if there is none."""
    if settings.baseline == AUTO:
        return default_baseline(result, results)
    return next((one for one in results if one.run.run_id == settings.baseline), None)


def draw_overlay(results: Sequence[Result], names: Sequence[str], settings: Settings) -> None:
    """Draw one series of several runs on one axis."""
    quantity, unit = quantity_and_unit(settings.quantity)
    lines, without, drawn, bases = [], [], [], []
    for result, name in zip(results, names, strict=True):
        values = values_of(result, settings.quantity)
        if settings.relative:
            base = baseline_for(result, results, settings)
            if base is None:
                without.append(name)
                continue
            values = difference(result, base, settings.quantity)
            bases.append(base)
        lines.append(Line(name, result.series.steps, values, result.series.time_s))
        drawn.append(result)
    if without:
        st.info(
            f"Not drawn, without a baseline among the chosen runs: {escaped(listed(without))}. "
            "Choose a run of Mean with the same problem and seed too, or another baseline at the "
            "left."
        )
    if not lines:
        return
    _say_beyond(len(lines))
    lines = lines[:MOST_RUNS]
    named = dict(zip((result.run.run_id for result in results[:MOST_RUNS]), names, strict=False))
    if settings.relative:
        quantity = f"{quantity} less the baseline's"
    draw_panels(
        Panel(
            "overlay",
            capitalised(quantity),
            overlay(
                lines,
                theme(),
                quantity=quantity,
                unit=unit,
                smoothing=settings.smoothing,
                x="time" if settings.x == "time" else "step",
                height=HEIGHT,
            ),
            overlay_caption(
                lines,
                quantity=quantity,
                unit=unit,
                baseline=None if settings.relative else named.get(settings.baseline),
            ),
            code=_overlay_code(drawn, bases, [line.name for line in lines], settings),
        )
    )


def _overlay_code(
    drawn: Sequence[Result], bases: Sequence[Result], names: Sequence[str], settings: Settings
) -> str:
    """The code of the overlay: of the runs that are drawn, and of baselines that are not."""
    shown = list(drawn[: len(names)])
    quantity, unit = quantity_and_unit(settings.quantity)
    if settings.relative:
        quantity = f"{quantity} less the baseline's"
    every = [*shown, *(base for base in dict.fromkeys(bases) if base not in shown)]
    places = [every.index(base) for base in bases[: len(names)]] if settings.relative else None
    call = (
        f"quantity={quantity!r}, unit={unit!r}, smoothing={settings.smoothing!r}, "
        f"x={settings.x!r}, height={HEIGHT}"
    )
    return overlay_code(every, names, call, settings.quantity, places)


def draw_deltas(results: Sequence[Result], names: Sequence[str], settings: Settings) -> None:
    """Draw the final losses of the runs in percent of their baselines'."""
    pairs = [(result, baseline_for(result, results, settings)) for result in results]
    found, refused = deltas(pairs, names)
    reasons = "\n".join(f"- {escaped(sentence)}" for sentence in refused)
    if not found:
        st.info(
            "There is no run to compare with. Choose a run of Mean with the same problem and seed "
            "too, or another baseline at the left."
        )
        st.markdown(reasons)
        return
    _say_beyond(len(found))
    found = found[:MOST_RUNS]
    named = dict(zip((result.run.run_id for result in results), names, strict=True))
    base = BASELINE_METHOD if settings.baseline == AUTO else named[settings.baseline]
    relative = {delta.name: delta.relative for delta in found}
    tasks = found[0].tasks
    ones = [1.0] * len(tasks)
    draw_panels(
        Panel(
            "delta",
            "Final loss against the baseline, Δ%",
            delta_bars(relative, ones, tasks, theme(), baseline_name=base),
            delta_caption(relative, ones, tasks, baseline_name=base),
            code=_delta_code(results, names, pairs, base),
        )
    )
    if not found[0].result.names:
        st.info(
            "Every objective is a sample of the batch, another one at each step: only the mean "
            "loss can be compared."
        )
    _draw_delta_notes(found)
    st.markdown(reasons)


def _delta_code(
    results: Sequence[Result],
    names: Sequence[str],
    pairs: Sequence[tuple[Result, Result | None]],
    base: str,
) -> str:
    """The code of Δ%: every run with the place of its baseline."""
    places = [None if one is None else list(results).index(one) for _, one in pairs]
    return results_code(
        results,
        "delta_bars",
        {"jdviz.runs.comparison": {"deltas"}},
        f"names = {list_code(names)}\nbases = {places!r}\n"
        "pairs = [\n    (result, None if base is None else results[base])\n"
        "    for result, base in zip(results, bases, strict=True)\n]\n"
        f"found = deltas(pairs, names)[0][:{MOST_RUNS}]\n"
        "tasks = found[0].tasks\n"
        "figure = delta_bars(\n    {one.name: one.relative for one in found},\n"
        '    [1.0] * len(tasks),\n    tasks,\n    "light",\n'
        f"    baseline_name={base!r},\n)\n",
    )


def _say_beyond(runs: int) -> None:
    if runs > MOST_RUNS:
        st.caption(
            f"The first {MOST_RUNS} of {runs} runs are drawn: more cannot be told apart. Seeds "
            "draws all of them, grouped."
        )


def _draw_delta_notes(found: Sequence[Delta]) -> None:
    st.caption(
        "Δ% = 100 · (loss of the baseline − loss) / loss of the baseline: above zero is better. "
        "The final loss is the mean over the last tenth of the points up to the last step that "
        "both runs have reached. One run says nothing about the method: see Seeds."
    )
    other = [delta for delta in found if seed_of(delta.result.run) != seed_of(delta.baseline.run)]
    if other:
        st.warning(
            f"Another seed than its baseline's: {escaped(listed([one.name for one in other]))}. "
            "Part of the difference is the seed's."
        )


def draw_comparison_export(
    results: Sequence[Result], names: Sequence[str], settings: Settings
) -> None:
    """Draw the button that gives the final losses and Δ% of the runs as a file."""
    bases = [baseline_for(result, results, settings) for result in results]
    st.download_button(
        "Final losses and Δ%, CSV",
        lambda: comparison_csv(results, names, bases),
        file_name="jdviz-comparison.csv",
        mime="text/csv",
        key="runs:comparison",
        on_click="ignore",
    )
