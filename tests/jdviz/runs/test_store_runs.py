import re
import sqlite3
import time

import pytest

from jdviz.runs import StoreError
from tests.support.records import assert_same_record, make_record


def test_a_final_status_stays(store):
    run_id = store.create_run({})
    store.set_status(run_id, "diverged", "NaN at step 3.")
    store.set_status(run_id, "running")
    assert (store.run(run_id).status, store.run(run_id).message) == ("diverged", "NaN at step 3.")


def test_what_is_known_of_a_run_comes_back(store):
    run_id = store.create_run(
        {"lr": 0.1},
        name="mine",
        source="recorder",
        owner="visitor",
        published=True,
        group="g",
        objectives=("left", "right"),
    )
    run = store.run(run_id)
    assert (run.name, run.source, run.owner, run.group) == ("mine", "recorder", "visitor", "g")
    assert (run.published, run.objectives, run.tags, run.notes) == (True, ("left", "right"), (), "")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{16}", run_id)
    store.annotate(run_id, tags=[" slow ", "big", "slow", ""], notes="see page 3")
    run = store.run(run_id)
    assert (run.name, run.published) == ("mine", True)
    assert (run.tags, run.notes) == (("slow", "big"), "see page 3")
    store.annotate(run_id, name="ours", published=False, objectives=["a"])
    store.annotate(run_id)
    run = store.run(run_id)
    assert (run.name, run.published, run.objectives) == ("ours", False, ("a",))
    assert run.tags == ("slow", "big")


def test_a_run_is_found_by_its_identifier_or_as_the_newest_of_its_name(store):
    store.create_run({}, run_id="r0", name="a")
    store.create_run({}, run_id="r1", name="a")
    store.create_run({}, run_id="r2", name="r0")
    assert store.find("a").run_id == "r1"
    assert store.find("r0").run_id == "r0"
    assert store.find("nothing") is None
    with pytest.raises(StoreError, match="already holds a run of this identifier"):
        store.create_run({}, run_id="r0")


def test_deleting_a_run_removes_all_of_it_and_shrinks_the_file(store):
    gone, kept = store.create_run({}), store.create_run({}, status="running")
    for run_id in (gone, kept):
        store.append(run_id, [make_record(step, m=64) for step in range(60)])
        store.save_checkpoint(run_id, 0, bytes(10_000))
    before = store.size_bytes()
    with pytest.raises(StoreError, match="is running and cannot be deleted"):
        store.delete([kept])
    store.set_status(gone, "finished")
    with pytest.raises(StoreError, match="nothing was deleted"):
        store.delete([gone, kept])
    assert store.run(gone).steps == 60
    store.delete([gone, "never there"])
    assert store.run(gone) is None
    assert store.latest(gone) is None
    assert store.series(gone).steps.size == store.gramian_steps(gone).size == 0
    assert store.checkpoint(gone, 9) is None
    assert_same_record(store.latest(kept), make_record(59, m=64))
    assert store.size_bytes() < 0.6 * before
    assert store.path.stat().st_size == store.size_bytes()
    with pytest.raises(StoreError, match="no longer holds this run"):
        store.append(gone, [make_record(0)])


def test_deleting_while_others_read_leaves_them_what_they_see(store):
    run_id = store.create_run({}, status="finished")
    store.append(run_id, [make_record(step, m=64) for step in range(20)])
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    count = "SELECT count(*) FROM steps"
    assert reader.execute(count).fetchone() == (20,)
    store.delete([run_id])
    assert reader.execute(count).fetchone() == (20,)
    assert store.runs() == []
    reader.close()


def test_the_oldest_ended_untagged_runs_are_beyond_the_limit(store):
    states = ["finished", "running", "stopped", "failed", "finished"]
    runs = [store.create_run({}, status=status, run_id=f"r{i}") for i, status in enumerate(states)]
    for run_id in runs:
        store.append(run_id, [make_record(step, m=64) for step in range(40)])
    store.annotate("r2", tags=["keep"])
    size, each = store.size_bytes(), store.run("r0").size_bytes
    assert [run.run_id for run in store.beyond(size)] == []
    assert [run.run_id for run in store.beyond(size - 1)] == ["r0"]
    assert [run.run_id for run in store.beyond(size - each - 1)] == ["r0", "r3"]
    assert [run.run_id for run in store.beyond(0)] == ["r0", "r3", "r4"]
    limit = size - each
    store.delete([run.run_id for run in store.beyond(limit)])
    assert store.size_bytes() <= limit


def test_silent_runs_become_interrupted(store):
    silent = store.create_run({}, status="running")
    queued = store.create_run({}, status="queued")
    done = store.create_run({}, status="finished")
    assert store.interrupt_silent(silent_s=60.0) == 0
    assert store.interrupt_silent(silent_s=-1.0) == 1
    assert store.run(silent).status == "interrupted"
    assert store.run(queued).status == "queued"
    assert store.run(done).status == "finished"


def test_newest_run_first(store):
    names = [store.create_run({"n": n}, run_id=f"r{n}") for n in range(3)]
    assert [run.run_id for run in store.runs()] == names[::-1]
    assert [run.run_id for run in store.runs(limit=1)] == ["r2"]


def test_heartbeat_moves(store):
    run_id = store.create_run({})
    before = store.run(run_id).heartbeat_s
    time.sleep(0.01)
    store.beat(run_id)
    assert store.run(run_id).heartbeat_s > before


@pytest.mark.parametrize("sign", ["step", "beat"])
def test_a_writer_that_was_only_silent_goes_on(store, sign):
    silent = store.create_run({}, status="running")
    stopped = store.create_run({}, status="running")
    store.set_status(stopped, "interrupted", "The server was closed during the run.")
    store.interrupt_silent(silent_s=-1.0)
    for run_id in (silent, stopped):
        if sign == "step":
            store.append(run_id, [make_record(0)])
        else:
            store.beat(run_id)
    assert (store.run(silent).status, store.run(silent).message) == ("running", "")
    assert store.run(stopped).status == "interrupted"
