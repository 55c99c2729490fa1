"""Recorders in processes that are killed, forked, left open, or write at the same time."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jdviz.runs import RunStore
from jdviz.runs.recorder import Recorder

ROOT = Path(__file__).resolve().parents[3]

# Says which step was logged last, an interval after it, so that this step was written for sure.
KILLED = """
import sys, time
import numpy as np
from jdviz.runs.recorder import Recorder

rec = Recorder("killed", folder=sys.argv[1], flush_s=0.1)
step = -1
for pause_s in (0.3, 1.5):
    said, until_s = step, time.monotonic() + pause_s
    while time.monotonic() < until_s:
        step = rec.log(np.full(4, step + 1.0), gramian=np.eye(4), weights=np.ones(4))
        time.sleep(0.001)
print(said, flush=True)
while True:
    step = rec.log(np.full(4, step + 1.0), gramian=np.eye(4), weights=np.ones(4))
    time.sleep(0.001)
"""
LEFT_OPEN = """
import sys
from jdviz.runs.recorder import Recorder

Recorder("left", folder=sys.argv[1], flush_s=60).log([1.0, 2.0])
{end}
"""
FORKED = """
import os, sys
from jdviz.runs.recorder import Recorder

with Recorder("forked", folder=sys.argv[1], flush_s=0.01) as rec:
    rec.log([1.0])
    children = []
    for end in ("_exit", "exit", "close"):
        # In whatever state the writer's lock is.
        child = os.fork()
        if child == 0:
            assert rec.log([9.0]) == -1
            if end == "_exit":
                os._exit(7)
            if end == "close":
                rec.close()
            sys.exit(7)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    rec.log([2.0])
print(codes)
"""
WRITING = """
import sys
from jdviz.runs.recorder import Recorder

sys.stdin.readline()
with Recorder(sys.argv[2], folder=sys.argv[1], flush_s=0.001) as rec:
    for step in range(200):
        rec.log([float(step)])
"""
LIGHT = """
import sys
from jdviz import Recorder
heavy = {"streamlit", "plotly", "pandas", "tensorboard", "mlflow", "wandb", "lightning"}
print(sorted(heavy & set(sys.modules)))
"""


def started(script, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(script, *arguments):
    """Run a script to its end: exit status, output, errors."""
    process = started(script, *arguments)
    output, errors = process.communicate(timeout=100)
    return process.returncode, output, errors


def only_run(folder):
    (run,) = RunStore(folder / "runs.sqlite").runs()
    return run


def test_of_a_killed_process_all_but_the_last_interval_is_there(tmp_path):
    process = started(KILLED, tmp_path)
    try:
        assert process.stdout is not None
        before = int(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    store, run = RunStore(tmp_path / "runs.sqlite"), only_run(tmp_path)
    assert run.status == "running"
    series = store.series(run.run_id, max_points=None)
    assert len(series.steps) > before > 10
    # Without a gap, and each with what was logged of it.
    np.testing.assert_array_equal(series.steps, np.arange(len(series.steps)))
    np.testing.assert_array_equal(series.losses[:, 0], series.steps)
    np.testing.assert_array_equal(store.record(run.run_id, before).gramian, np.eye(4))
    assert store.interrupt_silent(silent_s=0) == 1
    assert only_run(tmp_path).status == "interrupted"
    # The store goes on: the next run is written beside it.
    with Recorder("next", folder=tmp_path) as rec:
        rec.log([1.0])
    assert [found.name for found in store.runs()] == ["next", "killed"]


@pytest.mark.parametrize(
    ("end", "code", "status", "message"),
    [
        ("", 0, "finished", ""),
        ("1 / 0", 1, "failed", "The script ended with ZeroDivisionError."),
    ],
)
def test_a_recorder_that_nobody_closes_ends_with_its_process(end, code, status, message, tmp_path):
    returned, output, errors = finished(LEFT_OPEN.format(end=end), tmp_path)
    assert (returned, output) == (code, "")
    assert "jdviz" not in errors
    run = only_run(tmp_path)
    assert (run.status, run.message, run.steps) == (status, message, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_children_neither_write_nor_wait(tmp_path):
    returned, output, errors = finished(FORKED, tmp_path)
    assert (returned, output, errors) == (0, "[7, 7, 7]\n", "")
    run = only_run(tmp_path)
    assert (run.status, run.steps) == ("finished", 2)
    losses = RunStore(tmp_path / "runs.sqlite").series(run.run_id).losses[:, 0]
    np.testing.assert_array_equal(losses, [1, 2])


def test_two_processes_write_two_runs_at_once(tmp_path):
    processes = [started(WRITING, tmp_path, name, stdin=subprocess.PIPE) for name in "ab"]
    # Both begin when both are there, with an empty folder.
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=100)
        assert (process.returncode, output, errors) == (0, "", "")
    store = RunStore(tmp_path / "runs.sqlite")
    runs = store.runs()
    assert {run.name: (run.status, run.steps) for run in runs} == {
        "a": ("finished", 200),
        "b": ("finished", 200),
    }
    for run in runs:
        losses = store.series(run.run_id, max_points=None).losses[:, 0]
        np.testing.assert_array_equal(losses, np.arange(200))


def test_a_script_gets_no_library_of_the_app():
    assert finished(LIGHT) == (0, "[]\n", "")
