"""A recorder in every process of a group: the first one writes, the others do all but that."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from engines.autogram import Engine
from engines.errors import GroupError
from jdviz.runs import RunStore
from jdviz.runs.comparison import (
    EXCHANGED,
    Result,
    quantities,
    quantity_and_unit,
    usual_sent_bytes,
    values_of,
)
from jdviz.runs.describing import without_seed
from jdviz.runs.grouped import Ranks
from jdviz.runs.recorder import Recorder
from jdviz.runs.rows import RANKS, SENT_BYTES
from jdviz.runs.transfer import export_run, import_run
from tests.support.records import make_record

X = torch.linspace(-1, 1, 8).reshape(2, 4)


@pytest.fixture
def among(monkeypatch):
    """Have this process be one of a group, as far as it asks."""

    def be(rank, size):
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda group=None: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda group=None: size)

    return be


class Kept:
    """An adapter that keeps what it gets."""

    def __init__(self):
        self.said = []

    def write(self, step, scalars):
        self.said.append(step)

    def close(self):
        self.said.append("closed")
        raise OSError("no route")


def writers():
    return [one for one in threading.enumerate() if one.name == "jdviz-recorder"]


def recorded(tmp_path, recorder):
    store = RunStore(tmp_path / "runs.sqlite")
    run = store.run(recorder.run_id)
    return run, [store.record(run.run_id, step) for step in store.steps(run.run_id).tolist()]


def test_another_rank_than_the_first_writes_nothing(among, tmp_path):
    among(1, 2)
    before, kept = len(writers()), Kept()
    with Recorder("x", folder=tmp_path, adapters=[kept]) as rec:
        assert len(writers()) == before
        # The numbers of the steps are those of rank 0, and so are the mistakes.
        assert [rec.log([1.0, 2.0]), rec.log([1.0, 2.0]), rec.log(step=7, scalars={"a": 1})] == [
            0,
            1,
            7,
        ]
        with pytest.raises(ValueError, match=r"^got step 3 after step 7, expected steps in asc"):
            rec.log([1.0, 2.0], step=3)
        with pytest.raises(ValueError, match=r"^got losses of 2, weights of 3 objectives in one"):
            rec.log([1.0, 2.0], weights=[1.0] * 3)
    with pytest.raises(ValueError, match=r"^got a step after close\(\), expected none"):
        rec.log([1.0])
    assert kept.said == ["closed"]
    assert rec.run_id == ""
    assert rec.hint.startswith("Rank 0 of the group records this run")
    assert not list(tmp_path.iterdir())


def test_the_first_rank_records_how_many_there_are(among, tmp_path):
    among(0, 4)
    with Recorder("x", config={"lr": 0.1}, folder=tmp_path) as rec:
        rec.log([1.0, 2.0])
    run, (record,) = recorded(tmp_path, rec)
    assert run.ranks == 4
    assert run.config == {"lr": 0.1, "distributed ranks": 4}
    np.testing.assert_array_equal(record.losses, [1, 2])


@pytest.mark.parametrize("group", [False, True])
def test_a_process_alone_records_as_ever(group, among, tmp_path):
    if group:
        among(0, 1)
    with Recorder("x", folder=tmp_path) as rec:
        rec.log([1.0])
    run, _ = recorded(tmp_path, rec)
    assert (run.ranks, run.config) == (1, {})


def test_a_process_outside_of_the_group_is_told_so(among, tmp_path):
    among(-1, -1)
    with pytest.raises(GroupError, match=r"^got a process group without this process, expected"):
        Recorder("x", folder=tmp_path)


@pytest.mark.parametrize("call", ["watch", "watch_gradients"])
def test_a_recorder_that_was_made_before_the_group_is_refused(call, among, tmp_path):
    model = nn.Linear(4, 2)
    given = {"watch": (Engine(model, batch_dim=0),), "watch_gradients": (model(X).sum(0), model)}
    with Recorder("x", folder=tmp_path) as rec:
        among(1, 2)
        with pytest.raises(GroupError, match=r"made as rank 0 of 1, expected rank 1 of 2; make it"):
            getattr(rec, call)(*given[call])


def test_names_that_are_given_for_one_rank_hold_for_all(among, tmp_path):
    among(0, 2)
    with Recorder("x", objectives=["a", "b"], folder=tmp_path) as rec:
        rec.log([1.0, 2.0, 3.0, 4.0])
        with pytest.raises(ValueError, match=r"^got 2 losses, expected 4: a \(rank 0\), b \(rank"):
            rec.log([1.0, 2.0])
    run, _ = recorded(tmp_path, rec)
    assert run.objectives == ("a (rank 0)", "b (rank 0)", "a (rank 1)", "b (rank 1)")


def test_names_for_as_many_objectives_as_there_are_stay():
    assert Ranks(2, 0).names(("a", "b"), 2) == ("a", "b")
    assert Ranks(2, 0).names(("a", "b"), 6) == ("a", "b")
    assert Ranks(1, 0).names(("a",), 1) == ("a",)
    assert Ranks(3, 0).names((), 2) == ()


def test_ranks_and_bytes_survive_a_file(store, tmp_path):
    run_id = store.create_run({RANKS: 2}, status="finished")
    store.append(run_id, [replace(make_record(0), scalars={SENT_BYTES: 96.0})])
    export_run(store, run_id, tmp_path / "x.jdviz")
    imported = import_run(store, tmp_path / "x.jdviz")
    assert store.run(imported).ranks == 2
    assert usual_sent_bytes(store.series(imported)) == (96.0, 1)


@pytest.mark.parametrize("value", [1, 0, -2, True, 2.0, "2", None, [2]])
def test_what_is_no_number_of_several_ranks_is_one_process(value, store):
    assert store.run(store.create_run({RANKS: value})).ranks == 1


def test_the_bytes_of_every_step_do_not_hide_numbers_of_some(store):
    run_id = store.create_run({RANKS: 2})
    seen = {23: {"accuracy": 0.5}, 77: {"accuracy": 0.75}}
    store.append(
        run_id,
        [
            replace(
                make_record(step),
                gramian=None,
                scalars={SENT_BYTES: 10.0 + step % 3, **seen.get(step, {})},
            )
            for step in range(100)
        ],
    )
    series = store.series(run_id, max_points=10)
    assert series.steps.tolist() == sorted({*range(0, 100, 10), 23, 77, 99})
    accuracy = series.scalars["accuracy"]
    assert accuracy[np.isfinite(accuracy)].tolist() == [0.5, 0.75]
    assert np.isfinite(series.scalars[SENT_BYTES]).all()


def test_bytes_are_a_series_with_a_unit(store):
    run_id = store.create_run({RANKS: 2})
    sent = [{}, {SENT_BYTES: 2.0**20}, {SENT_BYTES: 3 * 2.0**20}, {SENT_BYTES: 2.0**21, "lr": 1}]
    store.append(run_id, [replace(make_record(i), scalars=one) for i, one in enumerate(sent)])
    result = Result(store.run(run_id), store.series(run_id))
    assert [one for one in quantities([result]) if one in (EXCHANGED, "recorded: lr")] == [
        EXCHANGED,
        "recorded: lr",
    ]
    assert not [one for one in quantities([result]) if SENT_BYTES in one]
    assert quantity_and_unit(EXCHANGED) == ("exchanged between ranks", "MiB")
    np.testing.assert_array_equal(values_of(result, EXCHANGED), [np.nan, 1, 3, 2])
    assert usual_sent_bytes(result.series) == (2.0**21, 3)


def test_a_run_that_exchanged_nothing(store):
    run_id = store.create_run({})
    store.append(run_id, [make_record(0)])
    result = Result(store.run(run_id), store.series(run_id))
    assert EXCHANGED not in quantities([result])
    median, steps = usual_sent_bytes(result.series)
    assert np.isnan(median)
    assert steps == 0


def test_scripts_without_settings_stay_apart_by_their_names(store):
    one, other = (store.run(store.create_run({RANKS: 2}, name=name)) for name in "ab")
    assert without_seed(one) != without_seed(other)
    assert without_seed(one) == without_seed(replace(one, run_id="again"))


def test_losses_of_one_process_are_passed_on_as_they_are():
    losses = {"a": torch.ones(())}
    assert Ranks().gathered(losses, None) is losses
