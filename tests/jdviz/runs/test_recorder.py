"""What is logged is what the store holds, and mistakes raise at the call."""

import copy
import sys
import warnings

import numpy as np
import pytest
import torch

from jdviz.conflict import direction_norm, improvements
from jdviz.runs import RunStore
from jdviz.runs.recorder import Recorder

G = torch.tensor([[2.0, -1.0], [-1.0, 3.0]])


@pytest.fixture
def recorder(tmp_path):
    made = Recorder("my run", folder=tmp_path)
    yield made
    made.close()


def recorded(recorder, tmp_path):
    """Close a recorder and read its run: the run, and its steps."""
    recorder.close()
    store = RunStore(tmp_path / "runs.sqlite")
    run = store.run(recorder.run_id)
    return run, [store.record(run.run_id, step) for step in store.steps(run.run_id).tolist()]


def test_a_run_in_three_lines(tmp_path):
    with Recorder("my run", config={"lr": 0.1}, folder=tmp_path) as rec:
        for value in (1.0, 2.0):
            rec.log({"depth": value, "edges": torch.tensor(0.5)}, gramian=G, weights=[0.5, 0.25])
    run, (first, second) = recorded(rec, tmp_path)
    assert (run.name, run.status, run.source, run.message) == ("my run", "finished", "recorder", "")
    assert (run.config, run.objectives, run.steps) == ({"lr": 0.1}, ("depth", "edges"), 2)
    assert [first.step, second.step] == [0, 1]
    np.testing.assert_array_equal(second.losses, [2.0, 0.5])
    np.testing.assert_array_equal(second.gramian, G)
    np.testing.assert_array_equal(second.weights, [0.5, 0.25])
    # G w = [2·½ − ¼, −½ + ¾], and wᵀGw = ½·¾ + ¼·¼.
    np.testing.assert_array_equal(second.inner, [0.75, 0.25])
    assert second.direction_norm == pytest.approx(0.4375**0.5)
    assert 0 <= first.time_s <= second.time_s
    assert second.elapsed_s == pytest.approx(second.time_s - first.time_s)


def test_what_is_known_of_a_run_beside_its_steps(tmp_path):
    words = {"objectives": ["a", "b"], "tags": ["mine", "new"], "notes": "why", "published": True}
    rec = Recorder(
        "x", config={"to": tmp_path, "device": torch.device("cpu")}, **words, folder=tmp_path
    )
    run, _ = recorded(rec, tmp_path)
    assert run.config == {"to": str(tmp_path), "device": "cpu"}
    assert (run.objectives, run.tags, run.notes) == (("a", "b"), ("mine", "new"), "why")
    assert run.published
    assert run.run_id == rec.run_id
    assert len(rec.run_id.rsplit("-", 1)[1]) >= 12
    assert rec.hint.count(f"/lens?l_run={rec.run_id}") == 1


def test_everything_that_can_be_logged(recorder, tmp_path):
    recorder.log(
        torch.tensor([1, 2]),
        step=7,
        gramian=G.double(),
        weights=torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        inner=[3, 4],
        direction_norm=torch.tensor(5.0),
        sample_ids=torch.tensor([8, 9]),
        elapsed_s=0.25,
        peak_bytes=2**40,
        scalars={"accuracy": torch.tensor(0.75), "count": 3},
    )
    _, (record,) = recorded(recorder, tmp_path)
    assert (record.step, record.elapsed_s, record.peak_bytes) == (7, 0.25, 2**40)
    np.testing.assert_array_equal(record.weights, [1, 2])
    np.testing.assert_array_equal(record.inner, [3, 4])
    assert record.direction_norm == 5
    assert record.sample_ids.dtype == np.int64
    np.testing.assert_array_equal(record.sample_ids, [8, 9])
    assert dict(record.scalars) == {"accuracy": 0.75, "count": 3}


@pytest.mark.parametrize(
    "losses",
    [
        torch.tensor([1.5, 2.5], requires_grad=True),
        torch.tensor([[1.5, 2.5]]),
        torch.tensor([1.5, 2.5], dtype=torch.float16),
        np.array([1.5, 2.5], dtype=np.float32),
        [1.5, 2.5],
        [torch.tensor(1.5, requires_grad=True), torch.tensor([2.5])],
        [torch.tensor(1.5), 2.5],
        {"a": 1.5, "b": torch.tensor(2.5)},
    ],
    ids=str,
)
def test_losses_as_scripts_have_them(losses, recorder, tmp_path):
    recorder.log(losses)
    _, (record,) = recorded(recorder, tmp_path)
    np.testing.assert_array_equal(record.losses, [1.5, 2.5])


def test_what_is_logged_is_a_copy(recorder, tmp_path):
    losses, gramian = torch.ones(2, dtype=torch.float64), G.double().numpy().copy()
    recorder.log(losses, gramian=gramian)
    losses.zero_()
    gramian[:] = 0
    _, (record,) = recorded(recorder, tmp_path)
    np.testing.assert_array_equal(record.losses, [1, 1])
    np.testing.assert_array_equal(record.gramian, G)


def test_a_generalized_gramian_becomes_a_matrix(recorder, tmp_path):
    J = torch.arange(30.0).reshape(2, 3, 5)
    gramian = torch.einsum("akn,bln->aklb", J, J)  # [2, 3, 3, 2], as the engine gives it
    recorder.log(torch.ones(2, 3), gramian=gramian, weights=torch.ones(2, 3))
    _, (record,) = recorded(recorder, tmp_path)
    flat = J.reshape(6, 5)
    np.testing.assert_array_equal(record.gramian, flat @ flat.T)
    assert record.weights.shape == (6,)


def test_shares_add_up_to_the_gramian(recorder, tmp_path):
    recorder.log([1, 2], gramian={"0": G, "": 2 * G})
    _, (record,) = recorded(recorder, tmp_path)
    np.testing.assert_array_equal(record.gramian, 3 * G)
    assert list(record.shares) == ["0", ""]
    np.testing.assert_array_equal(record.shares[""], 2 * G)


def test_a_step_without_gradients_has_no_update(recorder, tmp_path):
    recorder.log([1, 2], weights=[0.5, 0.5])
    _, (record,) = recorded(recorder, tmp_path)
    assert record.gramian is record.inner is record.direction_norm is record.shares is None


def test_several_calls_describe_one_step(recorder, tmp_path):
    assert recorder.log(scalars={"lr": 0.1}) == 0
    assert recorder.log([1, 2]) == 0
    assert recorder.log(gramian=G) == 0
    assert recorder.log(weights=[1, 0], scalars={"accuracy": 0.5}) == 0
    assert recorder.log(scalars={"lr": 0.2}) == 1
    assert recorder.log([3, 4], step=1) == 1
    assert recorder.log([5, 6], step=np.int64(10)) == 10
    assert recorder.log([7, 8]) == 11
    run, records = recorded(recorder, tmp_path)
    assert [record.step for record in records] == [0, 1, 10, 11]
    assert run.steps == 4
    assert dict(records[0].scalars) == {"lr": 0.1, "accuracy": 0.5}
    np.testing.assert_array_equal(records[0].inner, improvements(G, [1, 0]))
    assert records[0].direction_norm == pytest.approx(direction_norm(G, [1, 0]))
    assert dict(records[1].scalars) == {"lr": 0.2}
    np.testing.assert_array_equal(records[1].losses, [3, 4])


def test_scalars_without_losses_are_kept(recorder, tmp_path):
    recorder.log([1, 2])
    recorder.log(step=5, scalars={"test accuracy": 0.9})
    _, records = recorded(recorder, tmp_path)
    assert records[1].step == 5
    np.testing.assert_array_equal(records[1].losses, [np.nan, np.nan])
    assert dict(records[1].scalars) == {"test accuracy": 0.9}


def test_a_step_that_diverged_is_recorded_without_its_gramian(recorder, tmp_path):
    recorder.log([np.nan, np.inf], gramian={"0": G * np.nan}, weights=[1, np.nan])
    _, (record,) = recorded(recorder, tmp_path)
    np.testing.assert_array_equal(record.losses, [np.nan, np.inf])
    assert record.gramian is record.shares is None
    np.testing.assert_array_equal(record.weights, [1, np.nan])


def test_the_number_of_objectives_may_change(recorder, tmp_path):
    recorder.log(torch.ones(4))
    recorder.log(torch.ones(3))
    _, records = recorded(recorder, tmp_path)
    assert [len(record.losses) for record in records] == [4, 3]


REFUSED = {
    "a Gramian of other objectives": (
        ValueError,
        r"^got losses of 3, gramian of 2 objectives in one step, expected the same number",
        {"losses": [1, 2, 3], "gramian": G},
    ),
    "a Jacobian for a Gramian": (
        ValueError,
        r"^got a Gramian of shape \(2, 5\), expected \[m, m\] or the generalized form",
        {"losses": [1, 2], "gramian": torch.ones(2, 5)},
    ),
    "a square Jacobian": (
        ValueError,
        r"^got a Gramian whose entries \(i, j\) and \(j, i\) differ by up to 1, expected a symm",
        {"losses": [1, 2], "gramian": torch.tensor([[1.0, 2.0], [3.0, 4.0]])},
    ),
    "shares of different shapes": (
        ValueError,
        r"^got shares of 2 different shapes, expected one share of shape \[m, m\] or more;",
        {"gramian": {"a": G, "b": torch.ones(3, 3)}},
    ),
    "weights of others": (
        ValueError,
        r"^got losses of 2, weights of 1 objectives",
        {"losses": [1, 2], "weights": [1]},
    ),
    "text": (TypeError, r"^got losses that cannot be read as numbers", {"losses": ["a"]}),
    "complex losses": (
        TypeError,
        r"^got losses with complex numbers, expected real ones",
        {"losses": torch.ones(2, dtype=torch.complex64)},
    ),
    "fractional rows": (
        TypeError,
        r"^got sample_ids of float64, expected integers",
        {"losses": [1], "sample_ids": [0.5]},
    ),
    "a vector as a scalar": (
        TypeError,
        r"^got Tensor for the scalar 'lr', expected one number",
        {"scalars": {"lr": torch.ones(2)}},
    ),
    "a number as a name": (
        TypeError,
        r"^got 3 as the name of a scalar, expected text",
        {"scalars": {3: 1.0}},
    ),
    "a fraction of a step": (
        TypeError,
        r"^got float as step, expected an integer",
        {"losses": [1], "step": 0.5},
    ),
    "a negative step": (
        ValueError,
        r"^got step -1, expected 0 or more",
        {"losses": [1], "step": -1},
    ),
    "nothing": (ValueError, r"^got nothing to log, expected losses at least", {}),
}


@pytest.mark.parametrize("refused", REFUSED, ids=str)
def test_mistakes_raise_at_the_call_and_leave_nothing(refused, recorder, tmp_path):
    kind, message, given = REFUSED[refused]
    with pytest.raises(kind, match=message):
        recorder.log(**given)
    recorder.log([1, 2])
    _, records = recorded(recorder, tmp_path)
    assert [record.step for record in records] == [0]
    assert records[0].weights is None


def test_steps_go_up_and_nothing_is_said_twice(recorder, tmp_path):
    recorder.log([1, 2], step=3, scalars={"lr": 0.1})
    with pytest.raises(ValueError, match=r"^got step 2 after step 3, expected steps in ascending"):
        recorder.log([1, 2], step=2)
    with pytest.raises(ValueError, match=r"^got losses, lr of step 3 a second time, expected each"):
        recorder.log([9, 9], step=3, scalars={"lr": 0.2})
    with pytest.raises(ValueError, match=r"^got losses of 2, weights of 3 objectives"):
        recorder.log(step=3, weights=[1, 1, 1])
    _, (record,) = recorded(recorder, tmp_path)
    np.testing.assert_array_equal(record.losses, [1, 2])


def test_names_of_objectives_stay(recorder, tmp_path):
    recorder.log({"a": 1, "b": 2})
    with pytest.raises(ValueError, match=r"^got losses named b, a, expected a, b, in this order;"):
        recorder.log({"b": 1, "a": 2})
    with pytest.raises(ValueError, match=r"^got 3 losses, expected 2: a, b; give NaN for"):
        recorder.log([1, 2, 3])
    recorder.log([3, 4])
    run, records = recorded(recorder, tmp_path)
    assert run.objectives == ("a", "b")
    assert [record.step for record in records] == [0, 1]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"name": " "}, ValueError, r"^got ' ' as name, expected text"),
        ({"flush_s": 0}, ValueError, r"^got flush_s=0, expected seconds above 0"),
        ({"tags": "mine"}, TypeError, r"^got tags='mine', expected texts in a list"),
        ({"objectives": [1]}, TypeError, r"^got objectives=\[1\], expected texts"),
        ({"config": {(1, 2): 3}}, TypeError, r"^got a config that JSON does not hold"),
    ],
)
def test_wrong_arguments_of_a_recorder(given, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        Recorder(**{"name": "x", "folder": tmp_path, **given})
    assert not (tmp_path / "runs.sqlite").exists()


def test_nothing_is_logged_after_the_end(recorder):
    recorder.close()
    recorder.close()
    with pytest.raises(ValueError, match=r"^got a step after close\(\), expected none; make a new"):
        recorder.log([1])


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ZeroDivisionError("1/0"), "failed", "The script ended with ZeroDivisionError."),
        (KeyboardInterrupt(), "stopped", ""),
        (SystemExit(0), "finished", ""),
        (SystemExit(2), "failed", "The script ended with SystemExit."),
    ],
    ids=repr,
)
def test_an_exception_ends_the_run_and_goes_on(error, status, message, tmp_path):
    rec = Recorder("x", folder=tmp_path)

    def train():
        with rec:
            rec.log([1, 2])
            raise error

    with pytest.raises(type(error)):
        train()
    run, records = recorded(rec, tmp_path)
    assert (run.status, run.message, len(records)) == (status, message, 1)


def test_the_folder_is_the_users_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("JDVIZ_DATA", str(tmp_path / "data"))
    rec = Recorder("x")
    run, _ = recorded(rec, tmp_path / "data")
    assert run.name == "x"


def test_two_recorders_write_two_runs_at_once(tmp_path):
    with Recorder("a", folder=tmp_path) as one, Recorder("b", folder=tmp_path) as other:
        for step in range(20):
            one.log([step])
            other.log([-step])
    store = RunStore(tmp_path / "runs.sqlite")
    for rec, sign in ((one, 1), (other, -1)):
        losses = store.series(rec.run_id, max_points=None).losses[:, 0]
        np.testing.assert_array_equal(losses, sign * np.arange(20))
    assert one.run_id != other.run_id


def test_it_prints_nothing_and_warns_of_nothing(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Recorder("x", folder=tmp_path) as rec:
            rec.log([1, 2], gramian=G, weights=[1, 1])
    assert capfd.readouterr() == ("", "")


def test_its_representation_names_the_run(recorder):
    assert repr(recorder) == f"Recorder(run_id={recorder.run_id!r})"
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(recorder)


def test_the_last_exception_of_a_session_is_not_mistaken_for_the_end(tmp_path, monkeypatch):
    from jdviz.runs import recorder as module

    monkeypatch.setattr(sys, "last_value", ValueError("an hour ago"), raising=False)
    for interactive, status in ((True, "finished"), (False, "failed")):
        if interactive:
            monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
        else:
            monkeypatch.delattr(sys, "ps1", raising=False)
        rec = Recorder("x", folder=tmp_path)
        module._close_all()
        run, _ = recorded(rec, tmp_path)
        assert run.status == status
