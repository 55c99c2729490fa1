"""A tab without a browser does to the server what one in a browser does."""

import pytest

from benchmarks import protocol
from benchmarks.protocol import open_tab
from benchmarks.serving import Server
from jdviz.profiling import MeasurementError
from jdviz.runs import RunStore


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("data")) as started:
        yield started


def test_a_run_is_started_stopped_and_found_again(server):
    with open_tab(server.url, "train", "t_problem=conflict_regression&t_steps=5000") as tab:
        tab.press("start")
        # Said by a part of the page that the tab has to ask for, again and again.
        tab.wait_for(r"Step ([3-9]|\d\d+) of 5,000")
        tab.press("stop")
        tab.wait_for("stopped")
    (run,) = RunStore(server.data / "runs.sqlite").runs()
    assert (run.status, run.config["problem"]) == ("stopped", "conflict_regression")
    assert f"t_run={run.run_id}" in tab.query
    with open_tab(server.url, "train", tab.query) as tab:
        tab.wait_for("stopped")
    assert len(RunStore(server.data / "runs.sqlite").runs()) == 1


def test_what_does_not_come_is_said(server, monkeypatch):
    monkeypatch.setattr(protocol, "WAIT_S", 1.0)
    with open_tab(server.url, "runs") as tab:
        with pytest.raises(MeasurementError, match="got no button “start” within 1 s"):
            tab.press("start")
        with pytest.raises(MeasurementError, match="got no “never said” within 1 s"):
            tab.wait_for("never said")
