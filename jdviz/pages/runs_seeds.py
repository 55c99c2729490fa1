"""Repeats of a configuration with several seeds: medians, spread, and differences seed by seed."""

from collections.abc import Sequence

import streamlit as st

from jdviz.figures import SeedGroup, seed_bands, seed_caption
from jdviz.figures.words import capitalised, count, listed, number
from jdviz.pages.controls import escaped
from jdviz.pages.frame import Panel, draw_panels, theme
from jdviz.pages.run_code import results_code
from jdviz.pages.runs_compare import AUTO, HEIGHT, MOST_RUNS, Settings
from jdviz.runs.comparison import (
    BASELINE_METHOD,
    Result,
    common_end,
    mismatch,
    quantity_and_unit,
    values_of,
)
from jdviz.runs.describing import METHOD
from jdviz.runs.repeats import LEAST_SEEDS, Group, Summary, paired, repeats, summary


def draw_seeds(results: Sequence[Result], settings: Settings) -> None:
    """Draw the runs grouped by their settings without the seed.

    Args:
        results: The runs.
        settings: What the rail sets.
    """
    every = repeats(results)
    first = every[0]
    groups = [group for group in every if not mismatch(group.results[0], first.results[0])]
    others = [group.label for group in every if group not in groups]
    if others:
        st.info(
            f"Not compared with {escaped(first.label)}: {escaped(listed(others))}. Their losses "
            "are of another problem, another conflict or other objectives; filter to see them."
        )
    shown = groups[:MOST_RUNS]
    if len(groups) > len(shown):
        st.caption(
            f"The first {MOST_RUNS} of {len(groups)} configurations are drawn: more cannot be told "
            "apart."
        )
    quantity, unit = quantity_and_unit(settings.quantity)
    bands = [
        SeedGroup(
            group.label,
            [
                (result.series.steps, values_of(result, settings.quantity))
                for result in group.results
            ],
        )
        for group in shown
    ]
    draw_panels(
        Panel(
            "seeds",
            f"{capitalised(quantity)}, median and spread over seeds",
            seed_bands(bands, theme(), quantity=quantity, unit=unit, height=HEIGHT),
            seed_caption(bands, quantity=quantity, unit=unit),
            code=_code(results, settings),
        )
    )
    until = common_end([result for group in shown for result in group.results])
    found = [summary(group, until) for group in shown]
    _draw_table(shown, found, until)
    _draw_words(shown, settings)


def _code(results: Sequence[Result], settings: Settings) -> str:
    quantity, unit = quantity_and_unit(settings.quantity)
    return results_code(
        results,
        "seed_bands",
        {
            "jdviz.figures": {"SeedGroup"},
            "jdviz.runs.comparison": {"mismatch", "values_of"},
            "jdviz.runs.repeats": {"repeats"},
        },
        "groups = repeats(results)\n"
        "first = groups[0].results[0]\n"
        "groups = [one for one in groups if not mismatch(one.results[0], first)]\n"
        "bands = [\n    SeedGroup(\n        group.label,\n        [\n"
        f"            (one.series.steps, values_of(one, {settings.quantity!r}))\n"
        "            for one in group.results\n        ],\n    )\n"
        f"    for group in groups[:{MOST_RUNS}]\n]\n"
        f'figure = seed_bands(\n    bands, "light", quantity={quantity!r}, unit={unit!r}, '
        f"height={HEIGHT}\n)\n",
    )


def _draw_table(groups: Sequence[Group], found: Sequence[Summary], until: int) -> None:
    st.dataframe(
        {
            "configuration": [group.label for group in groups],
            "seeds": [listed(group.seeds, 8) for group in groups],
            f"median of the final mean loss, step {until:,}": [number(one.median) for one in found],
            "lowest": [number(one.low) for one in found],
            "highest": [number(one.high) for one in found],
        },
        hide_index=True,
        alt="Median and spread of the final mean loss for every configuration",
    )


def _draw_words(groups: Sequence[Group], settings: Settings) -> None:
    left_out = sum(group.left_out for group in groups)
    if left_out:
        st.caption(
            f"{count(left_out, 'older run')} of a seed that is there already "
            f"{'is' if left_out == 1 else 'are'} left out: a repeat of a seed is no new evidence."
        )
    base = _baseline(groups, settings)
    if base is None:
        st.caption(
            "For differences seed by seed, choose runs of Mean with the same seeds too, or a "
            "baseline at the left."
        )
        return
    for group in groups:
        if group is not base:
            st.markdown(f"- {paired_sentence(group, base)}")


def paired_sentence(group: Group, base: Group) -> str:
    """What the differences seed by seed between two groups say, as Markdown."""
    found = paired(group, base)
    names = f"**{escaped(group.label)}** less **{escaped(base.label)}**"
    if not found.seeds:
        return f"{names}: no seed that both have and whose losses can be compared."
    over = f"over {count(len(found.seeds), 'seed')}, at step {found.step:,}"
    if len(found.seeds) < LEAST_SEEDS:
        values = [number(value, signed=True) for value in found.differences.tolist()]
        return f"{names}, mean loss {over}: {listed(values)}. Too few seeds to conclude anything."
    return (
        f"{names}, mean loss {over}: median {number(found.median, signed=True)}, from "
        f"{number(found.low, signed=True)} to {number(found.high, signed=True)}; lower in "
        f"{found.lower} of {len(found.seeds)}."
    )


def _baseline(groups: Sequence[Group], settings: Settings) -> Group | None:
    """The group of the chosen baseline, else the first of plain averaging."""
    for group in groups:
        for result in group.results:
            if settings.baseline == AUTO and result.run.config.get(METHOD) == BASELINE_METHOD:
                return group
            if result.run.run_id == settings.baseline:
                return group
    return None
