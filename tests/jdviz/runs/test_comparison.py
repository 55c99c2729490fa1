"""What is compared of several runs: series, differences, final losses, Δ%, repeats, words."""

import math

import numpy as np
import pytest

from jdviz.runs import Run, Series
from jdviz.runs.comparison import (
    Result,
    common_end,
    default_baseline,
    deltas,
    difference,
    final,
    mismatch,
    quantities,
    quantity_and_unit,
    row_means,
    values_of,
)
from jdviz.runs.comparison_table import comparison_csv
from jdviz.runs.describing import labels, matches, seed_of, without_seed
from jdviz.runs.repeats import paired, repeats, summary


def run(run_id="a", *, name="", created_s=0.0, tags=(), notes="", objectives=(), **config) -> Run:
    return Run(
        run_id,
        created_s,
        config,
        "finished",
        "",
        created_s,
        4,
        name=name,
        tags=tags,
        notes=notes,
        objectives=objectives,
    )


def result(described: Run, losses, *, steps=None, names=("x", "y"), **columns) -> Result:
    values = np.array(losses, dtype=float)
    k = len(values)
    nothing = np.full(k, np.nan)
    given = {
        "inner": np.full(values.shape, np.nan),
        "weights": np.full(values.shape, np.nan),
        "time_s": np.arange(k) * 0.5,
        "elapsed_s": nothing,
        "direction_norm": nothing,
        "peak_bytes": nothing,
        "conflict_rate": nothing,
        "least_cosine": nothing,
        "has_gramian": np.zeros(k, bool),
        "has_shares": np.zeros(k, bool),
    } | columns
    numbers = np.arange(k) if steps is None else np.array(steps)
    return Result(described, Series(steps=numbers, losses=values, **given), tuple(names))


def method(name: str, seed: int, losses, run_id="", **config) -> Result:
    settings = {"problem": "p", "aggregator": name, "seed": seed, "conflict": 0.5} | config
    return result(run(run_id or f"{name}{seed}", **settings), losses)


def test_row_means_leave_out_what_is_missing():
    np.testing.assert_array_equal(
        row_means(np.array([[1.0, 3.0], [math.nan, 5.0], [math.nan, math.nan]])),
        [2.0, 5.0, math.nan],
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", True),
        ("MEAN", True),
        ("seed=3", True),
        ("seed=4", False),
        ("fast mean finished", True),
        ("fast slow", False),
        ("digits", True),
        ("why not", True),
    ],
)
def test_a_query_means_runs_with_all_of_its_words(query, found):
    described = run(name="Fast one", tags=("thesis",), notes="Why\nnot?", aggregator="Mean", seed=3)
    assert matches(described, query, "Digits CNN") is found


def test_quantities_are_those_that_a_run_has():
    first = result(run(), [[1, 2], [3, 4]], elapsed_s=np.array([0.002, 0.004]))
    second = result(run("b"), [[1, 2]], names=(), scalars={"rounding": np.array([0.25])}, steps=[7])
    assert quantities([first, second]) == (
        "mean loss",
        "loss of x",
        "loss of y",
        "time of a step",
        "recorded: rounding",
    )
    np.testing.assert_array_equal(values_of(first, "loss of y"), [2, 4])
    np.testing.assert_array_equal(values_of(first, "mean loss"), [1.5, 3.5])
    np.testing.assert_allclose(values_of(first, "time of a step"), [2, 4])
    np.testing.assert_array_equal(values_of(second, "recorded: rounding"), [0.25])
    np.testing.assert_array_equal(values_of(second, "loss of y"), [math.nan])
    np.testing.assert_array_equal(values_of(first, "recorded: rounding"), [math.nan] * 2)
    assert quantity_and_unit("time of a step") == ("time of a step", "ms")
    assert quantity_and_unit("recorded: rounding") == ("rounding", "")
    assert quantity_and_unit("loss of y") == ("loss of y", "")


def test_a_difference_is_taken_at_the_same_step_and_never_beyond():
    base = result(run(), [[1, 1], [3, 3]], steps=[0, 2])
    other = result(run("b"), [[5, 5], [5, 5], [5, 5], [5, 5]])
    np.testing.assert_array_equal(difference(other, base, "mean loss"), [4, 3, 2, math.nan])
    np.testing.assert_array_equal(difference(other, base, "smallest cosine"), [math.nan] * 4)


def test_a_final_loss_is_the_mean_of_the_last_tenth():
    history = result(run(), [[step, 2 * step] for step in range(40)])
    at_end = final(history, 39)
    # Points 36 to 39.
    assert at_end.points == 4
    np.testing.assert_array_equal(at_end.losses, [37.5, 75.0])
    assert at_end.mean_loss == 56.25
    early = final(history, 4)
    assert (early.points, early.mean_loss) == (1, 6.0)
    nothing = final(result(run(), np.empty((0, 2))), 10)
    assert nothing.points == 0
    assert math.isnan(nothing.mean_loss)
    assert common_end([history, result(run(), np.empty((0, 2)))]) == -1
    assert common_end([history, result(run(), [[1, 1]], steps=[7])]) == 7


def test_the_baseline_is_a_mean_run_of_the_same_problem_and_seed():
    wanted = method("Mean", 1, [[1, 1]], "same engine", engine="autojac")
    others = [
        method("Mean", 0, [[1, 1]]),
        method("Mean", 1, [[1, 1]], "other engine", engine="autogram"),
        wanted,
        method("Mean", 1, [[1, 1]], "other data", conflict=0.9),
        method("MGDA", 1, [[1, 1]]),
    ]
    upgrad = method("UPGrad", 1, [[1, 1]], engine="autojac")
    assert default_baseline(upgrad, others) is wanted
    assert default_baseline(method("UPGrad", 2, [[1, 1]]), others) is None


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (method("Mean", 0, [[1, 1]]), ""),
        (method("Mean", 0, [[1, 1]], problem="q"), "its problem is p, that of the baseline q"),
        (
            method("Mean", 0, [[1, 1]], conflict=1.0),
            "its conflict is 0.5, that of the baseline 1",
        ),
        (
            result(run(problem="p", conflict=0.5), [[1, 1]], names=()),
            "its objectives are tasks, those of the baseline samples",
        ),
        (
            result(run(problem="p", conflict=0.5), [[1]], names=("x",)),
            "it has 2 objectives, the baseline 1",
        ),
        (
            result(run(problem="p", conflict=0.5), [[1, 1]], names=("x", "z")),
            "its objectives are x, y, those of the baseline x, z",
        ),
    ],
)
def test_why_two_runs_cannot_be_compared(other, reason):
    assert mismatch(method("UPGrad", 0, [[1, 1]]), other) == reason


def test_delta_is_per_task_and_their_mean_at_the_last_common_step():
    base = method("Mean", 0, [[4, 2], [2, 1]])
    better = method("UPGrad", 0, [[4, 2], [1, 2], [0, 0]])
    pairs = [(base, base), (better, base)]
    found, refused = deltas(pairs, ["mean", "upgrad"])
    assert refused == []
    assert [(one.name, one.step, one.tasks) for one in found] == [("upgrad", 1, ("x", "y"))]
    # Half the loss is 50 % better, twice the loss 100 % worse.
    np.testing.assert_array_equal(found[0].per_task, [50, -100])
    assert found[0].mean == -25
    np.testing.assert_array_equal(found[0].relative, [0.5, 2])
    lines = comparison_csv([base, better], ["mean", "upgrad"], [base, base]).splitlines()
    assert lines == [
        "run,identifier,problem,aggregator,engine,seed,step,final mean loss,final loss [x],"
        "final loss [y],baseline,delta % [x],delta % [y],delta % mean",
        "mean,Mean0,p,Mean,,0,1,1.5,2.0,1.0,,,,",
        "upgrad,UPGrad0,p,UPGrad,,0,1,1.5,1.0,2.0,mean,50.0,-100.0,-25.0",
    ]


def test_delta_of_samples_is_of_the_mean_loss_alone_and_of_zero_is_none():
    base = result(run(problem="p"), [[2, 6]], names=())
    other = result(run("b", problem="p"), [[1, 1, 1]], names=())
    (delta,), refused = deltas([(other, base)], ["b"])
    assert (delta.tasks, delta.per_task.tolist(), refused) == (("mean loss",), [75.0], [])
    zero = method("Mean", 0, [[0, 2]])
    (delta,), _ = deltas([(method("UPGrad", 0, [[1, 1]]), zero)], ["u"])
    np.testing.assert_array_equal(delta.per_task, [math.nan, 50])
    assert math.isnan(delta.mean)


def test_what_cannot_be_compared_is_named():
    base = method("Mean", 0, [[1, 1]])
    empty = result(run("e", problem="p", conflict=0.5), np.empty((0, 2)))
    three = result(run("t", problem="t"), [[1, 1, 1]], names=("x", "y", "z"))
    four = result(run("f", problem="t"), [[1, 1, 1]], names=("x", "y", "z"))
    pairs = [(method("U", 0, [[1, 1]]), base), (three, base), (empty, base)]
    found, refused = deltas([*pairs, (four, three), (base, None)], ["u", "t", "e", "f", "b"])
    assert [one.name for one in found] == ["u"]
    assert refused == [
        "t is not compared: its problem is t, that of the baseline p.",
        "e is not compared: it has no step yet, or its baseline has none.",
        "f is not shown: its objectives are not those of u, and a mean over both would say "
        "nothing.",
        "b is not compared: there is no baseline for it.",
    ]


def test_runs_are_called_what_sets_them_apart():
    runs = [
        run("a", aggregator="Mean", seed=0, lr=0.1),
        run("b", aggregator="UPGrad", seed=0, lr=0.1),
        run("c", aggregator="UPGrad", seed=1, lr=0.1),
        run("d", aggregator="UPGrad", seed=1, lr=0.1),
        run("e", name="mine", aggregator="UPGrad", seed=1, lr=0.1),
    ]
    assert labels(runs) == [
        "Mean · seed 0",
        "UPGrad · seed 0",
        "UPGrad · seed 1 (1)",
        "UPGrad · seed 1 (2)",
        "mine",
    ]
    assert labels(runs[:1]) == ["Mean"]
    assert labels([run("a"), run("b")]) == ["a", "b"]
    same = [run("a", name="mine", seed=0), run("b", name="mine", seed=1)]
    assert labels(same) == ["mine · seed 0", "mine · seed 1"]


def test_a_name_is_short_and_without_markup():
    named = run("a", name="<b>*my*</b>  " + "long " * 20, a=1)
    one = run("b", aggregator="Mean", problem="p", a=1, b=1, c=1, d=1, seed=1)
    two = run("c", aggregator="Mean", problem="q", a=2, b=2, c=2, d=2, seed=2)
    assert labels([named, one, two]) == [
        "bmy/b " + "long " * 10 + "lon…",
        "p · a 1 · b 1 · seed 1",
        "q · a 2 · b 2 · seed 2",
    ]


def test_repeats_have_equal_settings_but_for_the_seed():
    results = [
        method("UPGrad", 10, [[1, 1]]),
        method("Mean", 0, [[1, 1]]),
        method("UPGrad", 2, [[3, 3]]),
        result(
            run("again", created_s=5, problem="p", aggregator="UPGrad", seed=2, conflict=0.5),
            [[7, 7]],
        ),
    ]
    upgrad, mean = repeats(results)
    assert (upgrad.label, upgrad.seeds, upgrad.left_out) == ("UPGrad", ("2", "10"), 1)
    assert [one.run.run_id for one in upgrad.results] == ["again", "UPGrad10"]
    assert (mean.label, mean.seeds, mean.left_out) == ("Mean", ("0",), 0)
    found = summary(upgrad, 0)
    assert (found.median, found.low, found.high) == (4.0, 1.0, 7.0)
    assert math.isnan(summary(upgrad, -1).median)


def test_scripts_without_settings_are_told_apart_by_name():
    first, second, third = run("a", name="one"), run("b", name="one"), run("c", name="two")
    assert without_seed(first) == without_seed(second) != without_seed(third)
    assert seed_of(first) == ""
    one, two = repeats([result(each, [[1, 1]]) for each in (first, second, third)])
    assert (one.label, one.seeds, two.label) == ("one", ("run 1", "run 2"), "two")


def test_groups_are_compared_seed_by_seed():
    upgrad, mean = repeats(
        [
            *(method("UPGrad", seed, [[9, 9], [seed, seed]]) for seed in (0, 1, 2, 3)),
            *(method("Mean", seed, [[9, 9], [2, 2], [0, 0]]) for seed in (1, 2, 3, 4)),
        ]
    )
    found = paired(upgrad, mean)
    assert (found.seeds, found.step) == (("1", "2", "3"), 1)
    np.testing.assert_array_equal(found.differences, [-1, 0, 1])
    assert (found.median, found.low, found.high, found.lower) == (0.0, -1.0, 1.0, 1)


def test_runs_without_seeds_are_no_pairs():
    one, two = repeats([result(run("a", name="one"), [[1, 1]]), result(run("b"), [[1, 1]])])
    found = paired(one, two)
    assert found.seeds == ()
    assert math.isnan(found.median)
