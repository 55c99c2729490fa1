import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from jdviz.conflict import conflict_rate, cosines
from jdviz.runs import RunStore
from jdviz.runs.blobs import pack, pack_named
from jdviz.runs.thinning import MAX_CHECKPOINTS, evenly_spaced
from tests.support.records import assert_same_record, make_record, split

M = 8
GRAMIAN_BYTES = len(pack(make_record(0, m=M).gramian))
SHARES_BYTES = len(pack_named(split(make_record(0, m=M).gramian)))


def with_shares(step, m=M):
    record = make_record(step, m=m)
    return replace(record, shares=split(record.gramian))


def kept_of(count: int, stride: int) -> list[int]:
    """The places of every stride-th of `count`, and the last."""
    return sorted({*range(0, count, stride), count - 1})


def test_a_large_gramian_is_kept_for_256_objectives_and_measured_whole(store):
    record = replace(with_shares(0, m=300), gramian=make_record(0, m=300).gramian)
    run_id = store.create_run({})
    store.append(run_id, [record, make_record(1, m=256)])
    ids = np.linspace(0, 299, 256).round().astype(int)
    block = np.ix_(ids, ids)
    got = store.record(run_id, 0)
    np.testing.assert_array_equal(got.kept_ids, ids)
    np.testing.assert_array_equal(got.gramian, record.gramian[block])
    np.testing.assert_array_equal(got.shares["layers.1"], record.shares["layers.1"][block])
    np.testing.assert_array_equal(got.losses, record.losses)
    np.testing.assert_array_equal(got.weights, record.weights)
    assert_same_record(store.record(run_id, 1), make_record(1, m=256))
    series = store.series(run_id)
    pairs = np.triu_indices(300, k=1)
    assert series.conflict_rate[0] == conflict_rate(record.gramian)
    assert series.least_cosine[0] == cosines(record.gramian)[pairs].min()
    assert store.thinning_sentence(run_id) == (
        "Of Gramians with up to 300 objectives, those of 256 evenly spaced ones are kept. The "
        "conflict rate and the smallest cosine are of the whole Gramian of every step."
    )


@pytest.mark.parametrize("m", [257, 300, 511, 512, 4096])
def test_the_kept_objectives_are_different_and_reach_both_ends(m):
    ids = evenly_spaced(m)
    assert len(np.unique(ids)) == len(ids) == 256
    assert (ids[0], ids[-1]) == (0, m - 1)
    assert np.ptp(np.diff(ids)) <= 1


def test_gramians_within_the_budget_all_stay(tmp_path):
    store = RunStore(tmp_path / "runs.sqlite", budget_bytes=10 * GRAMIAN_BYTES)
    run_id = store.create_run({})
    store.append(run_id, [make_record(step, m=M) for step in range(10)])
    np.testing.assert_array_equal(store.gramian_steps(run_id), range(10))
    assert store.thinning_sentence(run_id) == ""


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_beyond_the_budget_every_second_gramian_stays_then_every_fourth(tmp_path, batch):
    store = RunStore(tmp_path / "runs.sqlite", budget_bytes=10 * GRAMIAN_BYTES)
    run_id = store.create_run({})
    # Steps with gaps: it is their order that counts.
    records = [make_record(3 + 10 * place, m=M) for place in range(33)]
    for start in range(0, len(records), batch):
        store.append(run_id, records[start : start + batch])
    places = kept_of(33, 4)
    steps = [3 + 10 * place for place in places]
    np.testing.assert_array_equal(store.gramian_steps(run_id), steps)
    for place in places:
        assert_same_record(store.record(run_id, 3 + 10 * place), records[place])
    dropped = store.record(run_id, 13)
    assert dropped.gramian is None
    np.testing.assert_array_equal(dropped.weights, records[1].weights)
    series = store.series(run_id)
    expected = [conflict_rate(record.gramian) for record in records]
    np.testing.assert_array_equal(series.conflict_rate, expected)
    np.testing.assert_array_equal(series.steps[series.has_gramian], steps)
    mib = f"{10 * GRAMIAN_BYTES / 2**20:.3g}"
    assert store.thinning_sentence(run_id) == (
        f"To stay within {mib} MiB, one in 4 Gramians is kept, and the first and the newest "
        "always. The conflict rate and the smallest cosine are of the whole Gramian of every step."
    )
    assert sizes_are_true(store, run_id)


def sizes_are_true(store, run_id) -> bool:
    """Whether the counters say what the table holds."""
    with closing(sqlite3.connect(store.path)) as connection:
        said = connection.execute("SELECT kind, bytes FROM tallies WHERE run_id=?", (run_id,))
        true = connection.execute(
            "SELECT kind, sum(length(data) + coalesce(length(kept_ids), 0)) FROM payloads "
            "WHERE run_id=? GROUP BY kind",
            (run_id,),
        )
        return sorted(said) == sorted(true)


def test_what_takes_most_is_thinned_and_a_kept_split_keeps_its_gramian(tmp_path):
    budget = 24 * GRAMIAN_BYTES + 4 * SHARES_BYTES
    store = RunStore(tmp_path / "runs.sqlite", budget_bytes=budget)
    run_id = store.create_run({})
    # A split at every fifth step, from the third on, so that neither falls on the other's stride.
    for step in range(60):
        store.append(run_id, [with_shares(step) if step % 5 == 2 else make_record(step, m=M)])
    gramians, shares = store.gramian_steps(run_id), store.share_steps(run_id)
    assert set(shares) <= set(gramians)
    assert {0, 59} <= set(gramians)
    assert {2, 57} <= set(shares)
    used = len(gramians) * GRAMIAN_BYTES + len(shares) * SHARES_BYTES
    assert budget / 3 < used <= budget
    for step in shares:
        assert_same_record(store.record(run_id, int(step)), with_shares(int(step)))
    sentence = store.thinning_sentence(run_id)
    assert "Gramians and one in" in sentence
    assert "splits of the Gramian over modules are kept" in sentence
    assert sizes_are_true(store, run_id)


def test_a_budget_of_nothing_keeps_the_first_and_the_newest(tmp_path):
    store = RunStore(tmp_path / "runs.sqlite", budget_bytes=0)
    run_id = store.create_run({})
    for step in range(20):
        store.append(run_id, [with_shares(step)])
    np.testing.assert_array_equal(store.gramian_steps(run_id), [0, 19])
    np.testing.assert_array_equal(store.share_steps(run_id), [0, 19])


def test_a_step_that_is_replaced_keeps_its_place_in_the_order(tmp_path):
    store = RunStore(tmp_path / "runs.sqlite", budget_bytes=10 * GRAMIAN_BYTES)
    run_id = store.create_run({})
    for step in range(17):
        store.append(run_id, [make_record(step, m=M)])
        store.append(run_id, [replace(make_record(step, m=M), scalars={"late": 1.0})])
    np.testing.assert_array_equal(store.gramian_steps(run_id), range(0, 17, 2))
    assert store.record(run_id, 16).scalars == {"late": 1.0}
    assert sizes_are_true(store, run_id)


def test_checkpoints_are_thinned_by_their_number(store):
    run_id = store.create_run({})
    count = 2 * MAX_CHECKPOINTS + 1
    for place in range(count):
        store.save_checkpoint(run_id, 10 * place, f"state {place}".encode())
    steps = [10 * place for place in kept_of(count, 4)]
    np.testing.assert_array_equal(store.checkpoint_steps(run_id), steps)
    assert store.checkpoint(run_id, 45) == (40, b"state 4")
    assert store.checkpoint(run_id, 40) == (40, b"state 4")
    assert store.checkpoint(run_id, -1) is None
    assert store.thinning_sentence(run_id) == (
        "To keep at most 64, one in 4 checkpoints is kept, and the first and the newest always."
    )
    store.save_checkpoint(run_id, 40, b"again")
    assert store.checkpoint(run_id, 40) == (40, b"again")
    assert sizes_are_true(store, run_id)


def test_nothing_is_said_of_a_run_that_is_not_there(store):
    assert store.thinning_sentence("nobody") == ""
