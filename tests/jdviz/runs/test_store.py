from dataclasses import replace

import numpy as np

from jdviz.conflict import conflict_rate, cosines
from jdviz.training import StepRecord
from tests.support.records import assert_same_record, make_record, split


def test_records_come_back_bit_for_bit(store):
    run_id = store.create_run({"problem": "digits_mlp"})
    records = [make_record(step) for step in range(4)]
    store.append(run_id, records)
    for record in records:
        assert_same_record(store.record(run_id, record.step), record)
    assert_same_record(store.latest(run_id), records[-1])
    assert store.record(run_id, 9) is None
    run = store.run(run_id)
    assert (run.steps, run.status, run.config) == (4, "queued", {"problem": "digits_mlp"})


def test_a_step_of_a_method_without_weights_is_kept(store):
    run_id = store.create_run({})
    records = [replace(make_record(step), weights=None) for step in range(2)]
    store.append(run_id, records)
    for record in records:
        assert_same_record(store.record(run_id, record.step), record)
    series = store.series(run_id)
    assert np.isnan(series.weights).all()
    np.testing.assert_array_equal(series.losses, [record.losses for record in records])


def test_a_record_without_gramian_and_weights_is_kept(store):
    run_id = store.create_run({})
    bare = StepRecord(0, 0.0, np.array([np.nan, 1.0]), None, None, None, None, None, 0.1, 7)
    store.append(run_id, [bare])
    assert_same_record(store.latest(run_id), bare)
    assert np.isnan(store.series(run_id).weights).all()


def test_everything_of_a_record_is_kept(store):
    run_id = store.create_run({})
    record = make_record(3)
    full = replace(
        record,
        peak_bytes=2**40,
        shares=split(record.gramian),
        scalars={"validation accuracy": 0.1, "count": 3},
    )
    store.append(run_id, [full])
    assert_same_record(store.latest(run_id), full)
    assert_same_record(store.record(run_id, 3), full)
    np.testing.assert_array_equal(store.gramian_steps(run_id), [3])
    np.testing.assert_array_equal(store.share_steps(run_id), [3])


def test_series_is_thinned_and_keeps_the_last_step(store):
    run_id = store.create_run({})
    records = [make_record(step) for step in range(26)]
    store.append(run_id, records)
    series = store.series(run_id, max_points=10)
    # 26 steps in at most 10 points: every third, and the last.
    np.testing.assert_array_equal(series.steps, [*range(0, 25, 3), 25])
    np.testing.assert_array_equal(series.losses[-1], records[25].losses)
    assert store.series(run_id).losses.shape == (26, 3)
    assert store.series(run_id, max_points=None).losses.shape == (26, 3)
    assert store.series("nobody").losses.shape == (0, 0)


def test_a_series_of_steps_with_gaps_is_thinned_by_their_number(store):
    run_id = store.create_run({})
    steps = [*range(5, 205, 10)]
    store.append(run_id, [make_record(step) for step in steps])
    # 20 steps in at most 6 points: every fourth from the first on, and the last.
    np.testing.assert_array_equal(
        store.series(run_id, max_points=6).steps, [5, 45, 85, 125, 165, 195]
    )
    np.testing.assert_array_equal(store.steps(run_id), steps)


def test_a_series_has_every_number_of_its_steps(store):
    run_id = store.create_run({})
    first = replace(make_record(0), scalars={"accuracy": 0.5}, peak_bytes=7)
    bare = replace(make_record(1), gramian=None, weights=None, inner=None, direction_norm=None)
    second = replace(bare, scalars={"b": 2.0})
    third = replace(make_record(2), shares=split(make_record(2).gramian))
    store.append(run_id, [first, second, third])
    series = store.series(run_id)
    none, nones = np.nan, np.full(3, np.nan)
    rates = [conflict_rate(first.gramian), none, conflict_rate(third.gramian)]
    off = ~np.eye(3, dtype=bool)
    least = [cosines(first.gramian)[off].min(), none, cosines(third.gramian)[off].min()]
    for got, expected in (
        (series.weights, [first.weights, nones, third.weights]),
        (series.inner, [first.inner, nones, third.inner]),
        (series.direction_norm, [first.direction_norm, none, third.direction_norm]),
        (series.time_s, [0.0, 0.5, 1.0]),
        (series.elapsed_s, [0.01, 0.01, 0.01]),
        (series.peak_bytes, [7.0, none, none]),
        (series.conflict_rate, rates),
        (series.least_cosine, least),
        (series.has_gramian, [True, False, True]),
        (series.has_shares, [False, False, True]),
        (series.scalars["accuracy"], [0.5, none, none]),
        (series.scalars["b"], [none, 2.0, none]),
    ):
        np.testing.assert_array_equal(got, expected)
    assert list(series.scalars) == ["accuracy", "b"]


def test_a_series_pads_steps_with_fewer_objectives(store):
    run_id = store.create_run({})
    store.append(run_id, [make_record(0, m=2), make_record(1, m=4), make_record(2, m=3)])
    series = store.series(run_id)
    np.testing.assert_array_equal(
        np.isnan(series.losses), [[False] * 2 + [True] * 2, [False] * 4, [False] * 3 + [True]]
    )
    np.testing.assert_array_equal(series.losses[2, :3], make_record(2, m=3).losses)
    assert series.weights.shape == series.inner.shape == (3, 4)


def test_a_gramian_without_angles_has_no_measures(store):
    run_id = store.create_run({})
    one = replace(make_record(0, m=1))
    zero = replace(make_record(1), gramian=np.zeros((3, 3)))
    store.append(run_id, [one, zero])
    series = store.series(run_id)
    assert np.isnan(series.conflict_rate).all()
    assert np.isnan(series.least_cosine).all()
    assert series.has_gramian.all()


def test_the_kept_step_that_is_nearest(store):
    run_id = store.create_run({})
    bare = [replace(make_record(step), gramian=None) for step in range(11)]
    with_gramian = [make_record(step) for step in (2, 6)]
    store.append(run_id, bare)
    store.append(run_id, with_gramian)
    store.append(run_id, [replace(make_record(9), gramian=None, shares=split(np.eye(3)))])
    places = {step: store.nearest(run_id, step).step for step in (-3, 2, 4, 5, 6, 99)}
    assert places == {-3: 2, 2: 2, 4: 2, 5: 6, 6: 6, 99: 6}
    assert store.nearest(run_id, 0, what="shares").step == 9
    assert_same_record(store.nearest(run_id, 7), make_record(6))
    assert store.nearest("nobody", 0) is None


def test_a_step_twice_is_the_later_one(store):
    run_id = store.create_run({})
    first = replace(make_record(0), shares=split(make_record(0).gramian))
    store.append(run_id, [first, make_record(1)])
    size = store.run(run_id).size_bytes
    later = replace(make_record(0), losses=np.ones(3), gramian=None, scalars={"accuracy": 1.0})
    store.append(run_id, [make_record(5), later, make_record(1)])
    assert_same_record(store.record(run_id, 0), later)
    assert_same_record(store.record(run_id, 1), make_record(1))
    assert store.run(run_id).steps == 3
    np.testing.assert_array_equal(store.gramian_steps(run_id), [1, 5])
    np.testing.assert_array_equal(store.share_steps(run_id), [])
    store.append(run_id, [first])
    store.append(run_id, [later, first])
    assert_same_record(store.record(run_id, 0), first)
    alone = store.create_run({})
    store.append(alone, [make_record(5)])
    # Replacing does not make a run larger: it is what its steps take, each once.
    assert store.run(run_id).size_bytes == size + store.run(alone).size_bytes


def test_no_steps_are_no_change(store):
    run_id = store.create_run({})
    store.append(run_id, [])
    assert store.run(run_id).steps == 0
    assert store.latest(run_id) is None


def test_steps_that_alone_have_a_gramian_a_memory_or_a_number_stay_in_a_thinned_series(store):
    run_id = store.create_run({})
    records = []
    for step in range(2000):
        record = make_record(step)
        if step % 10:
            record = replace(record, gramian=None)
        scalars = {"accuracy": step / 2000} if step % 250 == 3 else {}
        peak_bytes = 2**20 if step % 100 == 1 else None
        records.append(replace(record, scalars=scalars, peak_bytes=peak_bytes))
    store.append(run_id, records)
    series = store.series(run_id, max_points=300)
    weighed = series.steps[np.isfinite(series.peak_bytes)]
    np.testing.assert_array_equal(weighed, np.arange(1, 2000, 100))
    measured = series.steps[np.isfinite(series.least_cosine)]
    np.testing.assert_array_equal(measured, np.arange(0, 2000, 10))
    named = series.steps[np.isfinite(series.scalars["accuracy"])]
    np.testing.assert_array_equal(named, np.arange(3, 2000, 250))
    assert set(range(0, 2000, 7)) <= set(series.steps.tolist())
    assert len(series.steps) <= 300 + 200 + 20 + 8


def test_a_step_may_be_named_by_the_number_of_a_series(store):
    run_id = store.create_run({})
    store.append(run_id, [make_record(step) for step in range(3)])
    store.save_checkpoint(run_id, 1, b"x")
    number = store.series(run_id).steps[2]
    assert_same_record(store.record(run_id, number), make_record(2))
    assert_same_record(store.nearest(run_id, number), make_record(2))
    assert store.checkpoint(run_id, number) == (1, b"x")
