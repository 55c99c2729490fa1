"""The table of runs: which a filter leaves, and which the visitor has chosen to compare."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import streamlit as st

from jdviz.figures.words import count, mebibytes
from jdviz.pages.controls import escaped, quoted
from jdviz.pages.lecture import locked
from jdviz.problems import PROBLEMS
from jdviz.runs import Run
from jdviz.runs.comparison import row_means, usual_sent_bytes
from jdviz.runs.describing import METHOD, matches, seed_of
from jdviz.server import store

FILTER_KEY = "r_q"
CHOSEN_KEY = "r_runs"
_CHOSEN = "runs:chosen"
_TABLE = "runs:table"
_MISSING = "runs:missing"
#: Four rows, so that the figure below begins on the first screen.
_HEIGHT = 178
#: Chosen for a visitor who has chosen nothing yet: enough to compare, few enough to read.
_FIRST = 4


def filtered(runs: Sequence[Run], query: str) -> list[Run]:
    """The runs that a query means; "what" a run trains counts as it is written in the table."""
    return [run for run in runs if matches(run, query, what(run))]


def what(run: Run) -> str:
    """What a run trains and how, in a few words."""
    problem = run.config.get("problem")
    if problem is None or METHOD not in run.config:
        return "own script"
    known = PROBLEMS.get(str(problem))
    title = str(problem) if known is None else known.title
    return f"{title} · {run.config[METHOD]} · {run.config.get('engine', '')}".removesuffix(" · ")


def chosen_runs(visible: Sequence[Run]) -> list[Run]:
    """The runs to compare, in the order in which they were chosen.

    Args:
        visible: The runs that the visitor may see, newest first.

    Returns:
        Those of the session, else of the address, else the newest that belong together.
    """
    by_id = {run.run_id: run for run in visible}
    wanted = st.session_state.get(_CHOSEN)
    if wanted is None:
        named = st.query_params.get(CHOSEN_KEY)
        wanted = _first(visible) if named is None else list(filter(None, named.split(",")))
        missing = [run_id for run_id in wanted if run_id not in by_id]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            st.session_state[_MISSING] = (
                f"The run store has no run “{quoted(missing[0])}”{more} that you may see. Choose "
                "others in the table."
            )
    found = [by_id[run_id] for run_id in dict.fromkeys(wanted) if run_id in by_id]
    choose([run.run_id for run in found])
    return found


def chosen_ids() -> list[str]:
    """Identifiers of the runs to compare, as last set."""
    return list(st.session_state.get(_CHOSEN, []))


def choose(run_ids: Sequence[str]) -> None:
    """Set the runs to compare, in the session and in the address."""
    st.session_state[_CHOSEN] = list(run_ids)
    if run_ids:
        st.query_params[CHOSEN_KEY] = ",".join(run_ids)
    elif CHOSEN_KEY in st.query_params:
        del st.query_params[CHOSEN_KEY]


def add_chosen(run_id: str) -> None:
    """Add a run to those that are compared."""
    choose([*chosen_ids(), run_id])
    _new_table()


def clear_chosen() -> None:
    """Compare none of the runs."""
    st.session_state.pop(_MISSING, None)
    choose([])
    _new_table()


def draw_missing() -> None:
    """Say that the address names runs that are not here, until the visitor chooses others."""
    if _MISSING in st.session_state:
        st.warning(st.session_state[_MISSING])


def draw_table(shown: Sequence[Run], chosen: Sequence[Run]) -> None:
    """Draw the runs that the filter leaves, the chosen ones marked.

    Args:
        shown: The runs of the table.
        chosen: The runs that are compared, also those that the filter hides.
    """
    ids = [run.run_id for run in shown]
    # The rows that are marked are numbers to the browser: other rows are another table.
    fingerprint = hashlib.sha256(",".join(ids).encode()).hexdigest()[:12]
    key = f"{_TABLE}:{fingerprint}:{st.session_state.get(_TABLE, 0)}"
    marked = {run.run_id for run in chosen}
    given: dict[str, Any] = {
        "data": _columns(shown),
        "height": _HEIGHT,
        "hide_index": True,
        "placeholder": "–",
        "column_config": _formats(),
        "alt": f"{len(shown)} runs, {len(marked)} chosen",
    }
    with st.container(key=CHOSEN_KEY):
        if locked(CHOSEN_KEY):
            st.dataframe(**given)
            return
        st.dataframe(
            **given,
            key=key,
            on_select=lambda: _take(key, ids),
            selection_mode="multi-row",
            selection_default={
                "selection": {"rows": [row for row, run_id in enumerate(ids) if run_id in marked]}
            },
        )


def _formats() -> dict[str, Any]:
    """How the columns of the table are shown."""
    return {
        "what": st.column_config.TextColumn(width=190),
        "mean loss": st.column_config.NumberColumn(format="%.3g", help="Of the last step."),
        "conflict rate": st.column_config.NumberColumn(
            format="%.2f", help="Share of pairs with a cosine below zero, at the last step."
        ),
        "smallest cosine": st.column_config.NumberColumn(
            format="%.2f", help="Of any pair of gradients, at the last step."
        ),
        "ranks": st.column_config.NumberColumn(
            help="Processes of torch.distributed that trained it together."
        ),
        "exchanged": st.column_config.TextColumn(
            help="What all ranks together sent in a step with a Gramian: the median."
        ),
        "tags": st.column_config.TextColumn(width=110),
        "started": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
    }


def chosen_sentence(shown: Sequence[Run], visible: Sequence[Run], chosen: Sequence[Run]) -> str:
    """How many runs there are, are shown and are chosen."""
    among = "" if len(shown) == len(visible) else f", {len(shown)} of them in the table"
    ids = {run.run_id for run in shown}
    hidden = sum(run.run_id not in ids for run in chosen)
    behind = f", {hidden} of them hidden by the filter" if hidden else ""
    return (
        f"{count(len(visible), 'run')}{among}; {len(chosen)} chosen{behind}. "
        "The boxes at the left of the rows choose."
    )


def _take(key: str, ids: Sequence[str]) -> None:
    """Called when the visitor has changed the marks."""
    rows = st.session_state[key].selection.rows
    picked = [ids[row] for row in rows if row < len(ids)]
    kept = [run_id for run_id in chosen_ids() if run_id in picked or run_id not in ids]
    st.session_state.pop(_MISSING, None)
    choose([*kept, *(run_id for run_id in picked if run_id not in kept)])


def _new_table() -> None:
    """Have the marks drawn anew, as something else than a click has changed them."""
    st.session_state[_TABLE] = st.session_state.get(_TABLE, 0) + 1


def _first(visible: Sequence[Run]) -> list[str]:
    """The newest run with those of its group, else with the newest that train the same."""
    recorded = [run for run in visible if run.steps]
    if not recorded:
        return [run.run_id for run in visible[:1]]
    newest = recorded[0]
    if newest.group:
        return [run.run_id for run in recorded if run.group == newest.group][:_FIRST]
    problem = newest.config.get("problem")
    alike = [
        run
        for run in recorded
        if run.config.get("problem") == problem and run.objectives == newest.objectives
    ]
    return [run.run_id for run in alike[:_FIRST]]


def _columns(runs: Sequence[Run]) -> dict[str, list[object]]:
    lasts = [_last(str(store().path), run.run_id, run.steps) for run in runs]
    return {
        "name": [run.name or f"run {run.run_id[-6:]}" for run in runs],
        "what": [what(run) for run in runs],
        "seed": [seed_of(run) for run in runs],
        "steps": [run.steps for run in runs],
        **_exchanges(runs),
        "status": [
            f"{run.status}, imported" if run.source == "import" else run.status for run in runs
        ],
        "mean loss": [last[0] for last in lasts],
        "conflict rate": [last[1] for last in lasts],
        "smallest cosine": [last[2] for last in lasts],
        "started": [datetime.fromtimestamp(run.created_s, UTC).astimezone() for run in runs],
        "tags": [", ".join(run.tags) for run in runs],
        "size": [mebibytes(run.size_bytes) for run in runs],
    }


def _exchanges(runs: Sequence[Run]) -> dict[str, list[object]]:
    """What is known of runs of several processes; no column where there are none."""
    if all(run.ranks == 1 for run in runs):
        return {}
    sent = [usual_exchange(run)[0] for run in runs]
    return {
        "ranks": [run.ranks if run.ranks > 1 else None for run in runs],
        "exchanged": [mebibytes(one) if np.isfinite(one) else None for one in sent],
    }


def usual_exchange(run: Run) -> tuple[float, int]:
    """Median of the bytes that the ranks of a run exchanged in a step, and over how many steps.

    Args:
        run: The run.

    Returns:
        Both; NaN and 0 for a run of one process, and for one that recorded none.
    """
    return _exchange(str(store().path), run.run_id, run.steps) if run.ranks > 1 else (np.nan, 0)


@st.cache_data(show_spinner=False, max_entries=500)
def _exchange(path: str, run_id: str, steps: int) -> tuple[float, int]:
    return usual_sent_bytes(store().series(run_id))


@st.cache_data(show_spinner=False, max_entries=5000)
def _last(path: str, run_id: str, steps: int) -> tuple[float | None, float | None, float | None]:
    """Mean loss, conflict rate and smallest cosine of the last step that has them, of so many."""
    if not steps:
        return None, None, None
    series = store().series(run_id, max_points=1)
    known = [
        values[np.isfinite(values)]
        for values in (row_means(series.losses), series.conflict_rate, series.least_cosine)
    ]
    loss, rate, cosine = (float(values[-1]) if len(values) else None for values in known)
    return loss, rate, cosine


def describe(run: Run) -> str:
    """A run in a sentence of Markdown: its name, or what it trains."""
    return escaped(run.name or what(run))
