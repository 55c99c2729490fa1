"""What the server owns for all visitors: the run store, the workers, the visitors' sessions.

The server process draws and starts workers. It never trains and never profiles.
"""

import atexit
import gc
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from jdviz.arguments import Arguments, is_loopback, parse
from jdviz.problems import ProblemError, choose, own_paths
from jdviz.profiling.lab import Lab
from jdviz.runs import FINAL_STATUSES, Run, RunStore, StoreError, data_folder
from jdviz.training.limits import RunLimits, default_workers
from jdviz.training.pool import WorkerPool

# A dropped connection often comes back, a reload too; a closed tab does not. As long as Streamlit
# keeps the session (server.disconnectedSessionTTL), so that one does not outlive the other.
DEPARTURE_GRACE_S = 5.0
# Far longer than any step of the problems here; a worker writes at least once a step.
SILENT_S = 60.0
# Streamlit keeps a session that ended for disconnectedSessionTTL, and the pool for as long again.
RETURN_S = 2.5 * DEPARTURE_GRACE_S
MOST_RUNS = 500


_chosen = Arguments()


def take_arguments(script: str) -> list[str]:
    """Take what the app was started with: `streamlit run app.py -- --problem module:factory`.

    Only whoever starts the server chooses what it imports, here or in `JDVIZ_PROBLEMS`, and what a
    run may take; nothing that a visitor sends is read.

    Args:
        script: The app's entry. A test that runs it was started with arguments of its own.

    Returns:
        What could not be taken, a sentence each; the rest was.
    """
    global _chosen
    wrong: list[str] = []
    if Path(sys.argv[0]).resolve() == Path(script).resolve():
        _chosen, wrong = parse(sys.argv[1:])
    for path in (*own_paths(), *_chosen.problems):
        try:
            choose([path])
        except ProblemError as error:
            wrong.append(str(error))
    return wrong


def limits() -> RunLimits:
    """What a run may take, as whoever started the server chose."""
    return _chosen.limits


def store_limit_bytes() -> int:
    """The size from which on old runs are offered for deletion."""
    return _chosen.store_limit_bytes


def is_shared() -> bool:
    """Whether visitors are kept apart.

    On the machine's own address the server is for one person, who may have several tabs. Reached
    from elsewhere, it keeps visitors apart even where nobody asked for it.
    """
    return _chosen.shared or not is_loopback(st.get_option("server.address"))


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
    workers = WorkerPool(store(), default_workers(), limits=limits())
    atexit.register(workers.close)
    return workers


def owner_of(run: Run) -> str:
    """The visitor whose run it is; after a reload that is the one who came back."""
    state = pool().state(run.run_id)
    return run.owner if state is None else state.owner


def may_control(run: Run) -> bool:
    """Whether the visitor whose page is being drawn may stop, describe or delete a run.

    Args:
        run: A run of the store.

    Raises:
        StoreError: If the store cannot be used.
    """
    return not is_shared() or owner_of(run) == visitor().name


def may_see(run: Run) -> bool:
    """Whether the visitor whose page is being drawn may look at a run.

    Args:
        run: A run of the store.

    Raises:
        StoreError: If the store cannot be used.
    """
    return run.published or may_control(run)


def find_run(run_id: str) -> Run | None:
    """A run that this visitor may see; one whose writer went silent is marked as interrupted first.

    Args:
        run_id: Its identifier.

    Returns:
        The run; None if there is none, or none that this visitor may see.

    Raises:
        StoreError: If the store cannot be used.
    """
    found = store().run(run_id)
    unknown_here = found is not None and pool().state(run_id) is None
    if found is not None and unknown_here and found.status not in FINAL_STATUSES:
        _interrupt_silent()
        found = store().run(run_id)
    if found is None:
        return None
    if not (is_shared() and found.published):
        # A reload is a new visitor to Streamlit; the run of the one who has just left goes on, and
        # is the new one's. Who knows the identifier of a run that is not published was its owner.
        pool().adopt(run_id, visitor().name)
    return found if may_see(found) else None


def may_return(run_id: str) -> bool:
    """Whether a run that is not shown may turn out to be this visitor's within seconds.

    A reload opens a new session at once, while the former one is only known to have ended after
    some seconds.

    Args:
        run_id: What the address names.

    Raises:
        StoreError: If the store cannot be used.
    """
    state = pool().state(run_id)
    if state is None or not is_shared():
        return False
    began_s = st.session_state.setdefault(f"return:{run_id}", time.monotonic())
    return time.monotonic() - began_s < RETURN_S


def visible_runs(limit: int = MOST_RUNS) -> list[Run]:
    """The runs that this visitor may see, newest first.

    Args:
        limit: How many of the store's newest runs are looked at.

    Raises:
        StoreError: If the store cannot be read.
    """
    _interrupt_silent()
    return [run for run in store().runs(limit) if may_see(run)]


def _interrupt_silent() -> None:
    # A store that can only be read still shows its runs.
    with suppress(StoreError):
        store().interrupt_silent(silent_s=SILENT_S)


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
