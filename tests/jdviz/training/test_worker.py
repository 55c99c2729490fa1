import queue

from jdviz.runs import RunStore, StoreError
from jdviz.training import worker as worker_module
from jdviz.training.worker import Worker
from tests.jdviz.training.test_pool import ENDLESS


def test_a_paused_run_stays_paused_when_a_heartbeat_fails(tmp_path, monkeypatch):
    store = RunStore(tmp_path / "runs.sqlite")
    run_id = store.create_run(ENDLESS.to_dict())
    commands, events, beats = queue.Queue(), [], []

    def refuse(self, run):
        beats.append(run)
        if len(beats) == 2:
            commands.put({"command": "stop"})
        raise StoreError("The run store is locked by another program.")

    monkeypatch.setattr(worker_module, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(RunStore, "beat", refuse)
    job = {"run": run_id, "config": ENDLESS.to_dict(), "store": str(store.path), "paused": True}
    Worker(job, commands, events.append).run()
    assert beats == [run_id, run_id]
    assert [event["status"] for event in events] == ["paused", "stopped"]
