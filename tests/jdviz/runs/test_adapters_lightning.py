"""The callback for Lightning, on a stand-in that calls the hooks in Lightning's order."""

import copy
import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import jdviz.runs.lightning as lightning
from engines.aggregation import UPGradWeighting
from engines.autogram import Engine
from jdviz.runs import RunStore

X = torch.linspace(-1, 1, 24).reshape(6, 4)


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """What the callback is derived from."""

    class Callback:
        pass

    module = ModuleType("lightning.pytorch")
    module.Callback = Callback
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module)
    yield Callback
    vars(lightning).pop("RecorderCallback", None)


class Tasks(nn.Module):
    """A module as people write it for Lightning, with two tasks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hparams = {"width": 5}
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(5, 1), nn.Linear(5, 1)])
        self.losses = None

    def training_step(self):
        h = self.trunk(X)
        self.losses = {
            "a": self.heads[0](h).square().mean(),
            "b": (self.heads[1](h) - 1).abs().mean(),
        }
        return sum(self.losses.values())


def fit(module, callback, epochs=2, batches=3, first=True, error=None, manual=None):
    """What a trainer does, as far as the callback sees it."""
    trainer = SimpleNamespace(is_global_zero=first, callback_metrics={})
    callback.on_fit_start(trainer, module)
    try:
        for epoch in range(epochs):
            for _ in range(batches):
                if manual is not None:
                    manual()
                    continue
                loss = module.training_step()
                callback.on_before_backward(trainer, module, loss)
                loss.backward()
            trainer.callback_metrics = {"validation": torch.tensor(float(epoch))}
            callback.on_train_epoch_end(trainer, module)
        if error is not None:
            raise error
    except BaseException as caught:
        callback.on_exception(trainer, module, caught)
        return
    callback.on_fit_end(trainer, module)


def recorded(folder, callback):
    store = RunStore(folder / "runs.sqlite")
    run = store.run(callback.recorder.run_id)
    return run, [store.record(run.run_id, step) for step in store.steps(run.run_id).tolist()]


def test_losses_and_gradients_of_a_fit(library, tmp_path):
    callback = lightning.RecorderCallback(
        "tasks", modules=["trunk"], every=2, config={"seed": 0}, folder=tmp_path, tags=["own"]
    )
    assert isinstance(callback, library)
    module = Tasks()
    module.training_step()
    begun = torch.stack(list(module.losses.values()))
    whole = Engine(module.trunk, batch_dim=None).compute_gramian(begun)
    fit(module, callback)
    run, records = recorded(tmp_path, callback)
    assert (run.name, run.status, run.tags) == ("tasks", "finished", ("own",))
    assert run.objectives == ("a", "b")
    assert run.config == {"width": 5, "seed": 0}
    assert [record.gramian is not None for record in records] == [True, False] * 3
    assert list(records[0].shares) == ["0"]
    np.testing.assert_array_equal(records[0].losses, begun.detach())
    np.testing.assert_allclose(records[0].gramian, whole, rtol=1e-6)
    assert [dict(record.scalars) for record in records] == [
        {},
        {},
        {"validation": 0.0},
        {},
        {},
        {"validation": 1.0},
    ]
    # No graph is kept for as long as the module.
    assert not any(loss.requires_grad for loss in module.losses.values())


@pytest.mark.parametrize("kind", [list, torch.stack])
def test_losses_in_a_list_or_a_tensor(kind, tmp_path):
    class Other(Tasks):
        def training_step(self):
            loss = super().training_step()
            self.parts = kind(list(self.losses.values()))
            return loss

    callback = lightning.RecorderCallback("x", attribute="parts", folder=tmp_path)
    module = Other()
    fit(module, callback, epochs=1, batches=1)
    _, (record,) = recorded(tmp_path, callback)
    assert record.losses.shape == (2,)
    assert not any(loss.requires_grad for loss in module.parts)


def test_an_engine_is_watched_instead(tmp_path):
    module = Tasks()
    engine, weighting = Engine(module.trunk, batch_dim=None), UPGradWeighting()
    callback = lightning.RecorderCallback(
        "manual", engine=engine, weighting=weighting, every=2, folder=tmp_path
    )

    def manual():
        loss = module.training_step()
        losses = torch.stack(list(module.losses.values()))
        weights = weighting(engine.compute_gramian(losses))
        # Lightning calls the hook under manual optimization too.
        callback.on_before_backward(None, module, loss)
        losses.backward(weights)

    fit(module, callback, epochs=1, manual=manual)
    _, records = recorded(tmp_path, callback)
    assert len(records) == 3
    assert all(record.weights.shape == (2,) for record in records)
    assert [record.shares is not None for record in records] == [True, False, True]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("no"), "failed", "The script ended with ValueError."),
        (KeyboardInterrupt(), "stopped", ""),
    ],
    ids=repr,
)
def test_a_fit_that_ends_early(error, status, message, tmp_path):
    callback = lightning.RecorderCallback("x", folder=tmp_path)
    fit(Tasks(), callback, error=error)
    run, records = recorded(tmp_path, callback)
    assert (run.status, run.message, len(records)) == (status, message, 6)


def test_of_several_processes_the_first_one_records(tmp_path):
    callback = lightning.RecorderCallback("x", folder=tmp_path)
    fit(Tasks(), callback, first=False)
    assert callback.recorder is None
    assert not list(tmp_path.iterdir())


def test_in_a_group_the_others_take_part_and_write_nothing(tmp_path, monkeypatch):
    for name, answer in (("is_initialized", True), ("get_rank", 1), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda *_, answer=answer: answer)
    callback = lightning.RecorderCallback("x", folder=tmp_path)
    fit(Tasks(), callback, epochs=1, batches=0, first=False)
    assert callback.recorder is not None
    assert callback.recorder.run_id == ""
    assert not list(tmp_path.iterdir())


def test_a_module_without_losses_is_told_so(tmp_path):
    class Forgetful(Tasks):
        def training_step(self):
            loss = super().training_step()
            self.losses = None
            return loss

    callback = lightning.RecorderCallback("x", folder=tmp_path)
    trainer = SimpleNamespace(is_global_zero=True)
    module = Forgetful()
    callback.on_fit_start(trainer, module)
    with pytest.raises(AttributeError, match=r"^got no 'losses' in Forgetful, expected the losses"):
        callback.on_before_backward(trainer, module, module.training_step())
    callback.on_fit_end(trainer, module)


def test_it_can_be_copied_and_pickled_before_a_fit():
    callback = lightning.RecorderCallback("x")
    assert lightning.RecorderCallback is type(callback)
    for other in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert type(other) is type(callback)
        assert other.recorder is None


def test_without_lightning_the_import_says_what_to_install(monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"^got neither lightning nor pytorch_lightning in this"):
        lightning.__getattr__("RecorderCallback")
    with pytest.raises(AttributeError, match=r"'jdviz\.runs\.lightning' has no attribute 'Other'"):
        lightning.__getattr__("Other")
