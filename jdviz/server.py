"""What the server owns for all visitors: the run store, the workers, the visitors' sessions.

The server process draws and starts workers. It never trains and never profiles.
"""

import argparse
import atexit
import gc
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from jdviz.problems import ProblemError, choose, own_paths
from jdviz.profiling.lab import Lab
from jdviz.runs import FINAL_STATUSES, Run, RunStore, data_folder
from jdviz.training.pool import WorkerPool, default_workers

# A dropped connection often comes back, a reload too; a closed tab does not. As long as Streamlit
# keeps the session (server.disconnectedSessionTTL), so that one does not outlive the other.
DEPARTURE_GRACE_S = 5.0
# Far longer than any step of the problems here; a worker writes at least once a step.
SILENT_S = 60.0


def take_arguments(script: str) -> list[str]:
    """Take what the app was started with: `streamlit run app.py -- --problem module:factory`.

    Only whoever starts the server chooses what it imports, here or in `JDVIZ_PROBLEMS`; nothing
    that a visitor sends is read.

    Args:
        script: The app's entry. A test that runs it was started with arguments of its own.

    Returns:
        What could not be taken, a sentence each; the rest was.
    """
    given = []
    wrong = []
    if Path(sys.argv[0]).resolve() == Path(script).resolve():
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        # Without a value it is an import path without a name, which is said like any other.
        parser.add_argument("--problem", action="append", nargs="?", const="", default=[])
        options, unknown = parser.parse_known_args(sys.argv[1:])
        given = options.problem
        if unknown:
            wrong.append(
                f"The app was started with {' '.join(unknown)}, expected --problem "
                "package.module:factory; write streamlit's own options before the --."
            )
    for path in (*own_paths(), *given):
        try:
            choose([path])
        except ProblemError as error:
            wrong.append(str(error))
    return wrong


@dataclass(frozen=True)
class Visitor:
    """One browser tab, for as long as its session lasts."""

    name: str


@st.cache_resource(show_spinner=False)
def store() -> RunStore:
    """The run store of this server.

    Raises:
        StoreError: If it cannot be opened; the next call tries again.
    """
    return RunStore(data_folder() / "runs.sqlite")


@st.cache_resource(show_spinner=False)
def pool() -> WorkerPool:
    """The worker processes of this server.

    Raises:
        StoreError: If the run store cannot be opened.
        ConfigError: If `JDVIZ_WORKERS` is not valid.
    """
    workers = WorkerPool(store(), default_workers())
    atexit.register(workers.close)
    return workers


def find_run(run_id: str) -> Run | None:
    """A run of the store; one whose worker went silent is marked as interrupted first.

    Args:
        run_id: Its name.

    Raises:
        StoreError: If the store cannot be used.
    """
    found = store().run(run_id)
    unknown_here = found is not None and pool().state(run_id) is None
    if found is not None and unknown_here and found.status not in FINAL_STATUSES:
        store().interrupt_silent(silent_s=SILENT_S)
        return store().run(run_id)
    return found


@st.cache_resource(show_spinner=False)
def lab() -> Lab:
    """What was measured since the server started."""
    return Lab()


@st.cache_resource(show_spinner=False)
def settle_imports(page: str) -> None:
    """Take what a page has imported out of the garbage collector's rounds, once per server.

    Streamlit collects everything at the end of every run, also of each tick of a live figure.
    With torch, pandas and plotly loaded that is hundreds of thousands of objects that never go
    away, and as long as a round takes, a run that starts again can undo a click on a link: it
    asks for its own page once more, in the place where the click's run looks up the wanted one.

    Args:
        page: The page whose script has just been imported.
    """
    gc.collect()
    gc.freeze()


def _leave(visitor: Visitor) -> None:
    pool().depart(visitor.name, DEPARTURE_GRACE_S)


@st.cache_resource(scope="session", on_release=_leave, show_spinner=False)
def _connection(name: str) -> Visitor:
    """Lives as long as the browser's connection; Streamlit releases it when the tab closes."""
    pool().arrive(name)
    return Visitor(name)


def visitor() -> Visitor:
    """The visitor whose page is being drawn.

    Their runs end some seconds after the tab is closed. After a dropped connection the session's
    state is still there, so the same visitor is recognised and the run goes on.

    Raises:
        StoreError: If the run store cannot be opened.
    """
    name = st.session_state.setdefault("visitor", uuid.uuid4().hex)
    return _connection(name)
