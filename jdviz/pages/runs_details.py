"""One run: what is known of it, what a person adds to it, and the files that it can become."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from jdviz.figures.words import count, mebibytes
from jdviz.pages.controls import Choice, escaped
from jdviz.pages.registry import PAGES
from jdviz.pages.runs_table import usual_exchange, what
from jdviz.runs import Run, RunStore, StoreError
from jdviz.runs.describing import shown
from jdviz.runs.outputs import csv_bytes, parquet_bytes, series_columns
from jdviz.runs.transfer import export_bytes
from jdviz.server import is_shared, may_control, store

_SAID = "runs:said"
_SOURCES = {
    "app": "a worker of this app",
    "recorder": "a Recorder in a script",
    "import": "an imported file",
}


def draw_details(runs: Sequence[Run], names: Sequence[str]) -> None:
    """Draw one of the chosen runs.

    Args:
        runs: The chosen runs, at least one.
        names: What each is called.
    """
    titles = dict(zip((run.run_id for run in runs), names, strict=True))
    choice = Choice("r_one", "Run", tuple(titles), runs[0].run_id)
    if st.session_state.get(choice.key, choice.default) not in choice.options:
        del st.session_state[choice.key]
    run_id = choice.draw(titles.__getitem__) if len(runs) > 1 else runs[0].run_id
    run = next(run for run in runs if run.run_id == run_id)
    left, right = st.columns([1.2, 1], gap="medium")
    with left:
        _draw_known(run)
        _draw_links(run)
        draw_exports(run)
    with right:
        if may_control(run):
            _draw_edit(run)
        else:
            st.caption(
                "Published by another session: it can be looked at and exported, not changed."
            )
            if run.notes:
                st.markdown(escaped(run.notes))


def _draw_known(run: Run) -> None:
    st.markdown(f"**{escaped(run.name or what(run))}**")
    st.caption(
        f"{count(run.steps, 'step')}, {run.status}, {mebibytes(run.size_bytes)}, recorded by "
        f"{_SOURCES[run.source]}. {escaped(run.message)}"
    )
    if run.ranks > 1:
        st.caption(_exchange_sentence(run))
    thinned = store().thinning_sentence(run.run_id)
    if thinned:
        st.caption(escaped(thinned))
    known = {"identifier": run.run_id, **run.config}
    if run.objectives:
        known["objectives"] = ", ".join(run.objectives)
    st.dataframe(
        {"setting": list(known), "value": [shown(value) for value in known.values()]},
        hide_index=True,
        height=min(300, 38 + 35 * len(known)),
        alt="The settings of the run",
    )


def _exchange_sentence(run: Run) -> str:
    """How many processes trained a run, and what they sent to each other."""
    sent_bytes, steps = usual_exchange(run)
    exchanged = "; what they exchanged was not recorded"
    if steps:
        exchanged = (
            f", which together sent {mebibytes(sent_bytes)} in a step with a Gramian: the median "
            f"of {count(steps, 'step')}"
        )
    return f"Trained by {count(run.ranks, 'rank')} of torch.distributed{exchanged}."


def _draw_links(run: Run) -> None:
    watch, lens = st.columns(2)
    watch.page_link(
        PAGES["train"].path,
        label="Watch on the Train page",
        query_params={"t_run": run.run_id},
        width="stretch",
    )
    lens.page_link(
        PAGES["lens"].path,
        label="Open in the Lens",
        query_params={"l_run": run.run_id},
        width="stretch",
    )


def draw_exports(run: Run) -> None:
    """Draw the buttons that give a run as a file; each is made when it is asked for.

    Args:
        run: The run.
    """
    kept, run_id = store(), run.run_id
    made: tuple[tuple[str, str, str, Callable[[], bytes]], ...] = (
        ("Whole run", "jdviz", "application/octet-stream", lambda: export_bytes(kept, run_id)),
        ("Series, CSV", "csv", "text/csv", lambda: csv_bytes(_columns(kept, run_id))),
        (
            "Series, Parquet",
            "parquet",
            "application/vnd.apache.parquet",
            lambda: parquet_bytes(_columns(kept, run_id)),
        ),
    )
    for column, (label, suffix, mime, make) in zip(st.columns(len(made)), made, strict=True):
        column.download_button(
            label,
            make,
            file_name=f"{run_id}.{suffix}",
            mime=mime,
            key=f"runs:export:{suffix}:{run_id}",
            on_click="ignore",
            width="stretch",
        )


def _columns(kept: RunStore, run_id: str) -> Any:
    return series_columns(kept, run_id)


def _draw_edit(run: Run) -> None:
    key = f"runs:edit:{run.run_id}"
    fields = {name: f"{key}:{name}" for name in ("name", "tags", "notes", "published")}
    with st.form(key):
        st.text_input("Name", run.name, max_chars=120, key=fields["name"])
        st.text_input(
            "Tags",
            ", ".join(run.tags),
            max_chars=400,
            key=fields["tags"],
            help="Words to filter by, with commas between them. A run with a tag is never offered "
            "for deletion when the store is large.",
        )
        st.text_area("Notes", run.notes, max_chars=10_000, height=110, key=fields["notes"])
        if is_shared():
            st.checkbox(
                "Published",
                run.published,
                key=fields["published"],
                help="Everyone who reaches this server sees the run; only you can change it.",
            )
        st.form_submit_button(
            "Save",
            disabled=store().read_only,
            on_click=_save,
            args=(run, fields),
            key=f"{key}:save",
        )


def _save(run: Run, fields: dict[str, str]) -> None:
    """Called before the page is drawn again, so that all of it shows what was saved."""
    given = st.session_state
    try:
        # The form may be older than a change of who may do what.
        if not may_control(run):
            return
        store().annotate(
            run.run_id,
            name=str(given[fields["name"]]).strip(),
            tags=[word.strip() for word in str(given[fields["tags"]]).split(",")],
            notes=str(given[fields["notes"]]),
            published=bool(given[fields["published"]]) if is_shared() else None,
        )
    except StoreError as error:
        say("error", str(error))


def say(kind: str, sentence: str) -> None:
    """Keep a sentence for the next time the page is drawn.

    Args:
        kind: "error" or "success".
        sentence: What there is to say; text without Markdown.
    """
    st.session_state[_SAID] = (kind, sentence)


def draw_said() -> None:
    """Draw what the last action had to say."""
    kind, sentence = st.session_state.pop(_SAID, ("", ""))
    if kind == "error":
        st.error(escaped(sentence))
    if sentence:
        # Also seen by a visitor who is at the end of the page, where the buttons are.
        st.toast(escaped(sentence))
