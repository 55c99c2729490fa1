"""Runs come in as files, and go where somebody says so; how much the store holds."""

from collections.abc import Sequence

import streamlit as st

from jdviz.figures.words import count, limit, mebibytes
from jdviz.pages.controls import escaped
from jdviz.pages.frame import plain_errors
from jdviz.pages.runs_details import say
from jdviz.pages.runs_table import add_chosen, choose, chosen_ids, describe
from jdviz.runs import FINAL_STATUSES, Run, StoreError
from jdviz.runs.transfer import import_bytes
from jdviz.server import may_control, store, store_limit_bytes, visitor

MAX_UPLOAD_MB = 256
_UPLOADS = "runs:uploads"
#: More runs than this are not listed one by one before they are deleted.
_LISTED = 12


def draw_store_notices() -> None:
    """Say what the store cannot do, and that it is larger than it should be."""
    kept = store()
    if kept.notice:
        st.warning(escaped(kept.notice))
    allowed = store_limit_bytes()
    old = [] if kept.read_only else [run for run in kept.beyond(allowed) if may_control(run)]
    if not old:
        return
    words, button = st.columns([4, 1], vertical_alignment="center")
    words.warning(
        f"The recorded runs take {mebibytes(kept.size_bytes())}, more than the {limit(allowed)} "
        f"that this server is meant to keep. {count(len(old), 'old run')} without a tag could go."
    )
    if button.button("Look at them", key="runs:tidy", width="stretch"):
        confirm_deletion(old)


def draw_manage(chosen: Sequence[Run]) -> None:
    """Draw import and deletion.

    Args:
        chosen: The runs that are compared.
    """
    left, right = st.columns(2, gap="medium")
    with left:
        _draw_import()
    with right, plain_errors():
        _draw_delete(chosen)


def _draw_import() -> None:
    # Another key after every upload, or it would be imported again each time the page is drawn.
    key = f"runs:upload:{st.session_state.get(_UPLOADS, 0)}"
    st.file_uploader(
        f"Import a recorded run, at most {MAX_UPLOAD_MB} MB",
        type="jdviz",
        key=key,
        max_upload_size=MAX_UPLOAD_MB,
        on_change=_import,
        args=(key,),
        disabled=store().read_only,
        help="A file that “Whole run” gave, here or elsewhere. It is checked before anything is "
        "taken from it.",
    )


def _import(key: str) -> None:
    upload = st.session_state.get(key)
    if upload is None:
        return
    st.session_state[_UPLOADS] = st.session_state.get(_UPLOADS, 0) + 1
    try:
        run_id = import_bytes(
            store(),
            upload.getvalue(),
            owner=visitor().name,
            max_bytes=MAX_UPLOAD_MB * 2**20,
        )
    except StoreError as error:
        say("error", f"{upload.name} was not imported. {error}")
        return
    add_chosen(run_id)
    say("success", f"{upload.name} was imported and is among the chosen runs.")


def _draw_delete(chosen: Sequence[Run]) -> None:
    st.markdown(f"The recorded runs take {mebibytes(store().size_bytes())} on this server.")
    mine = [run for run in chosen if may_control(run)]
    ended = [run for run in mine if run.status in FINAL_STATUSES]
    if st.button(
        f"Delete {count(len(ended), 'chosen run')}",
        disabled=not ended or store().read_only,
        key="runs:delete",
    ):
        confirm_deletion(ended)
    if len(ended) < len(mine):
        st.caption(
            f"{count(len(mine) - len(ended), 'chosen run')} still going; stop a run before you "
            "delete it."
        )
    if len(mine) < len(chosen):
        others = len(chosen) - len(mine)
        stay = "stays" if others == 1 else "stay"
        st.caption(f"{count(others, 'chosen run')} of other sessions {stay}.")


@st.dialog("Delete runs for good")
def confirm_deletion(runs: Sequence[Run]) -> None:
    """Ask before runs are deleted.

    Args:
        runs: The runs, all of which the visitor controls and all of which have ended.
    """
    lines = [
        f"- {describe(run)}: {count(run.steps, 'step')}, {mebibytes(run.size_bytes)}"
        for run in runs[:_LISTED]
    ]
    if len(runs) > _LISTED:
        lines.append(f"- and {len(runs) - _LISTED} more")
    st.markdown("\n".join(lines))
    steps, size = sum(run.steps for run in runs), sum(run.size_bytes for run in runs)
    st.markdown(
        f"Together {count(steps, 'step')} and {mebibytes(size)}. They cannot be brought back; "
        "export what you may need first."
    )
    yes, no = st.columns(2)
    ids = [run.run_id for run in runs]
    deleted = yes.button(
        f"Delete {count(len(runs), 'run')}",
        type="primary",
        key="runs:really",
        on_click=_delete,
        args=(ids,),
        width="stretch",
    )
    if no.button("Keep them", key="runs:keep", width="stretch") or deleted:
        st.rerun()


def _delete(run_ids: Sequence[str]) -> None:
    kept = store()
    try:
        found = [run for run in map(kept.run, run_ids) if run is not None and may_control(run)]
        kept.delete([run.run_id for run in found])
    except StoreError as error:
        say("error", str(error))
        return
    choose([run_id for run_id in chosen_ids() if run_id not in run_ids])
    say("success", f"{count(len(found), 'run')} deleted.")
