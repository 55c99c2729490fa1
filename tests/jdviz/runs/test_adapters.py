"""The scalar series go where people look besides, and what fails there is dropped."""

import importlib.util
import sys
import warnings
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from jdviz.runs import RunStore, StoreError
from jdviz.runs.adapters import MLflow, TensorBoard, WeightsAndBiases
from jdviz.runs.recorder import Recorder, RecorderWarning

G = torch.tensor([[4.0, -3.0], [-3.0, 9.0]])
# The cosine of the pair is −3 / (2 · 3); w = (1, 0) gives a direction of length 2.
FIRST = {
    "loss/a": 1.0,
    "loss/b": 2.0,
    "weight/a": 1.0,
    "weight/b": 0.0,
    "conflict/rate": 1.0,
    "conflict/least_cosine": -0.5,
    "jd/direction_norm": 2.0,
    "accuracy": 0.75,
}
SECOND = {"loss/a": 3.0, "loss/b": 4.0}


class Kept:
    """An adapter that keeps what it gets, and fails when it is told to."""

    def __init__(self, fail=""):
        self.steps, self.closed, self._fail = [], 0, fail

    def write(self, step, scalars):
        if self._fail == "write":
            raise OSError("no route")
        self.steps.append((step, dict(scalars)))

    def close(self):
        self.closed += 1
        if self._fail == "close":
            raise OSError("no route")


def log_two_steps(rec):
    rec.log({"a": 1.0, "b": 2.0}, gramian=G, weights=[1.0, 0.0])
    rec.log(scalars={"accuracy": 0.75})
    rec.log([3.0, 4.0])


def test_every_step_comes_once_when_it_is_complete(tmp_path):
    kept = Kept()
    with Recorder("x", folder=tmp_path, adapters=[kept], flush_s=0.001) as rec:
        log_two_steps(rec)
    assert kept.steps == [(0, FIRST), (1, SECOND)]
    assert kept.closed == 1


def test_weights_of_many_objectives_are_no_curves(tmp_path):
    kept = Kept()
    with Recorder("x", folder=tmp_path, adapters=[kept]) as rec:
        for m in (16, 17):
            rec.log(np.ones(m), weights=np.ones(m))
    (_, few), (_, many) = kept.steps
    assert [len(few), len(many)] == [32, 17]
    assert few["weight/15"] == few["loss/15"] == many["loss/16"] == 1.0


def test_steps_are_not_sent_again_when_the_store_fails(tmp_path, monkeypatch):
    failures = iter([StoreError("locked")] * 3)
    original = RunStore.append

    def append(self, run_id, records):
        for failure in failures:
            raise failure
        original(self, run_id, records)

    monkeypatch.setattr(RunStore, "append", append)
    monkeypatch.setattr("jdviz.runs.writer.RETRY_S", 0.001)
    kept = Kept()

    def train():
        with Recorder("x", folder=tmp_path, adapters=[kept], flush_s=0.001) as rec:
            log_two_steps(rec)
        return rec

    with pytest.warns(RecorderWarning, match="^locked"):
        rec = train()
    assert kept.steps == [(0, FIRST), (1, SECOND)]
    assert RunStore(tmp_path / "runs.sqlite").run(rec.run_id).steps == 2


@pytest.mark.parametrize("fail", ["write", "close"])
def test_an_adapter_that_fails_is_dropped_with_one_warning(fail, tmp_path):
    failing, kept = Kept(fail), Kept()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Recorder("x", folder=tmp_path, adapters=[failing, kept]) as rec:
            log_two_steps(rec)
    assert [one.category for one in caught] == [RecorderWarning]
    assert str(caught[0].message) == (
        "Kept failed (OSError: no route) and gets no more numbers of the run 'x'; the run store "
        "still does."
    )
    assert failing.steps == ([] if fail == "write" else kept.steps)
    assert failing.closed == (0 if fail == "write" else 1)
    assert kept.steps == [(0, FIRST), (1, SECOND)]
    run = RunStore(tmp_path / "runs.sqlite").run(rec.run_id)
    assert (run.status, run.steps) == ("finished", 2)


def numbers(scalars, step):
    return [(name, value, step) for name, value in scalars.items()]


class Board:
    """TensorBoard's `SummaryWriter`, as far as it is used."""

    def __init__(self, folder=None):
        self.folder, self.calls, self.ends = folder, [], []

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.calls.append((tag, scalar_value, global_step))

    def flush(self):
        self.ends.append("flush")

    def close(self):
        self.ends.append("close")


@pytest.mark.parametrize("own", [True, False])
def test_tensorboard(own, tmp_path, monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    made = []
    module.SummaryWriter = lambda folder: made.append(Board(folder)) or made[-1]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    board = Board()
    adapter = TensorBoard(tmp_path / "board" if own else board)
    with Recorder("x", folder=tmp_path, adapters=[adapter]) as rec:
        log_two_steps(rec)
    used = made[0] if own else board
    assert used.calls == numbers(FIRST, 0) + numbers(SECOND, 1)
    assert (used.folder, used.ends) == (
        (str(tmp_path / "board"), ["close"]) if own else (None, ["flush"])
    )


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed"
)
def test_tensorboard_reads_it_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Recorder("x", folder=tmp_path, adapters=[TensorBoard(tmp_path / "board")]) as rec:
        log_two_steps(rec)
    found = EventAccumulator(str(tmp_path / "board"))
    found.Reload()
    assert sorted(found.Tags()["scalars"]) == sorted(FIRST)
    assert [(one.step, one.value) for one in found.Scalars("loss/a")] == [(0, 1.0), (1, 3.0)]


class Tracking(ModuleType):
    """MLflow, as far as it is used: an active run belongs to a thread."""

    def __init__(self, active):
        super().__init__("mlflow")
        self.active, self.metrics, self.ended = active, [], []
        self.entities = SimpleNamespace(Metric=lambda *values: values)

    def MlflowClient(self):
        return self

    def active_run(self):
        return self.active and SimpleNamespace(info=SimpleNamespace(run_id=self.active))

    def start_run(self):
        self.active = "new"
        return self.active_run()

    def end_run(self, status):
        assert status == "RUNNING"
        self.active = None

    def log_batch(self, run_id, metrics):
        self.metrics += [(run_id, key, value, step) for key, value, _, step in metrics]

    def set_terminated(self, run_id):
        self.ended.append(run_id)


@pytest.mark.parametrize(("active", "given"), [("own", None), (None, None), (None, "given")])
def test_mlflow(active, given, tmp_path, monkeypatch):
    tracking = Tracking(active)
    monkeypatch.setitem(sys.modules, "mlflow", tracking)
    adapter = MLflow(given)
    # Another run that the script begins meanwhile gets nothing.
    tracking.active = active or "other"
    with Recorder("x", folder=tmp_path, adapters=[adapter]) as rec:
        rec.log({"a b/c": 1.0, "d#": 2.0}, scalars={"accuracy (%)": 3.0})
    run_id = given or active or "new"
    assert tracking.metrics == [
        (run_id, "loss/a b/c", 1.0, 0),
        (run_id, "loss/d_", 2.0, 0),
        (run_id, "accuracy ___", 3.0, 0),
    ]
    assert tracking.ended == (["new"] if run_id == "new" else [])
    assert tracking.active == (active or "other")


class WandbRun:
    """A run of wandb, as far as it is used."""

    def __init__(self):
        self.metrics, self.logged, self.finished = [], [], 0

    def define_metric(self, name, step_metric=None):
        self.metrics.append((name, step_metric))

    def log(self, data):
        self.logged.append(data)

    def finish(self):
        self.finished += 1


@pytest.mark.parametrize("where", ["given", "current", "none"])
def test_weights_and_biases(where, tmp_path, monkeypatch):
    run = WandbRun()
    module = ModuleType("wandb")
    module.run = run if where == "current" else None
    module.init = lambda: run
    monkeypatch.setitem(sys.modules, "wandb", module)
    adapter = WeightsAndBiases(run if where == "given" else None)
    with Recorder("x", folder=tmp_path, adapters=[adapter]) as rec:
        log_two_steps(rec)
    assert run.logged == [{"jdviz_step": 0, **FIRST}, {"jdviz_step": 1, **SECOND}]
    assert run.metrics[0] == ("jdviz_step", None)
    assert sorted(run.metrics[1:]) == sorted((name, "jdviz_step") for name in FIRST)
    assert run.finished == (where == "none")


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [
        (lambda: TensorBoard("runs"), "torch.utils.tensorboard", "tensorboard"),
        (MLflow, "mlflow", "mlflow"),
        (WeightsAndBiases, "wandb", "wandb"),
    ],
)
def test_what_is_not_installed_is_named(make, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"^got no {package} in this environment .*`pip install"):
        make()
