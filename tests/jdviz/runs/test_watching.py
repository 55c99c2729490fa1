"""What passes through an engine is recorded, and what a look at a training without one sees."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from engines.aggregation import UPGradWeighting
from engines.autogram import Engine
from engines.errors import BatchMixedError, UnsupportedGraphError
from jdviz.runs import RunStore
from jdviz.runs.recorder import Recorder, RecorderWarning

X = torch.linspace(-1, 1, 24).reshape(6, 4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.fixture
def recorder(tmp_path):
    made = Recorder("x", folder=tmp_path)
    yield made
    made.close()


def losses_of(model):
    return model(X).square().sum(1)


def recorded(recorder, tmp_path):
    recorder.close()
    store = RunStore(tmp_path / "runs.sqlite")
    steps = store.steps(recorder.run_id).tolist()
    return [store.record(recorder.run_id, step) for step in steps]


def test_fused_steps_are_recorded(model, recorder, tmp_path):
    engine, steps = Engine(model, batch_dim=0), []
    recorder.watch(engine, layers_every=2)
    for _ in range(4):
        losses = losses_of(model)
        steps.append((losses.detach(), engine.backward(losses, UPGradWeighting())))
        recorder.log(scalars={"lr": 0.1})
    records = recorded(recorder, tmp_path)
    assert [record.step for record in records] == [0, 1, 2, 3]
    for record, (losses, step) in zip(records, steps, strict=True):
        np.testing.assert_array_equal(record.losses, losses)
        np.testing.assert_array_equal(record.gramian, step.gramian)
        np.testing.assert_array_equal(record.weights, step.weights)
        assert dict(record.scalars) == {"lr": 0.1}
    assert [record.shares is not None for record in records] == [True, False, True, False]
    assert list(records[0].shares) == ["0", "2"]
    np.testing.assert_allclose(sum(records[0].shares.values()), records[0].gramian, rtol=1e-6)


def test_two_passes_are_one_step_with_the_weights_of_the_weighting(model, recorder, tmp_path):
    engine, weighting, seen = Engine(model, batch_dim=0), UPGradWeighting(), []
    recorder.watch(engine, weighting, layers_every=None)
    for fused in (False, True, False):
        losses = losses_of(model)
        if fused:
            seen.append(engine.backward(losses, weighting).weights)
        else:
            seen.append(weighting(engine.compute_gramian(losses)))
            # A second use of the weighting is none of this step.
            weighting(torch.eye(6))
            losses.backward(seen[-1])
    records = recorded(recorder, tmp_path)
    assert [record.step for record in records] == [0, 1, 2]
    for record, weights in zip(records, seen, strict=True):
        np.testing.assert_array_equal(record.weights, weights)
        np.testing.assert_allclose(record.inner, record.gramian @ record.weights)
        assert record.shares is None


def test_a_gramian_that_is_only_looked_at_has_no_weights(model, recorder, tmp_path):
    engine, weighting = Engine(model, batch_dim=0), UPGradWeighting()
    recorder.watch(engine, weighting)
    engine.compute_gramian(losses_of(model))
    recorder.log([1.0] * 6)
    # These belong to a step that is over.
    weighting(torch.eye(6))
    weights = weighting(engine.compute_gramian(losses_of(model)))
    records = recorded(recorder, tmp_path)
    assert [record.weights is None for record in records] == [True, True, False]
    np.testing.assert_array_equal(records[2].weights, weights)


def test_losses_of_several_dimensions(model, recorder, tmp_path):
    engine = Engine(model, batch_dim=0)
    recorder.watch(engine)
    losses = model(X).square()
    step = engine.backward(losses, lambda gramian: torch.ones(6, 3), retain_graph=True)
    (record,) = recorded(recorder, tmp_path)
    J = torch.stack(
        [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(one, model.parameters(), retain_graph=True)
                ]
            )
            for one in losses.flatten()
        ]
    )
    np.testing.assert_allclose(record.gramian, J @ J.T, rtol=1e-4, atol=1e-5)
    assert step.gramian.shape == (6, 3, 3, 6)
    assert record.losses.shape == record.weights.shape == (18,)


def test_one_engine_at_a_time_until_it_is_removed(model, recorder, tmp_path):
    engine, other = Engine(model, batch_dim=0), Engine(model, batch_dim=None)
    watch = recorder.watch(engine)
    with pytest.raises(ValueError, match=r"^got a second engine, expected one at a time"):
        recorder.watch(other)
    engine.compute_gramian(losses_of(model))
    watch.remove()
    watch.remove()
    engine.compute_gramian(losses_of(model))
    recorder.watch(other)
    other.compute_gramian(losses_of(model))
    assert len(recorded(recorder, tmp_path)) == 2
    # The end of the recorder is the end of the watch.
    other.compute_gramian(losses_of(model))
    with pytest.raises(ValueError, match=r"^got an engine after close\(\), expected none"):
        recorder.watch(engine)


@pytest.mark.parametrize(
    ("engine", "weighting", "every", "kind", "message"),
    [
        (None, None, 10, TypeError, r"^got NoneType, expected an Engine; where there is none, see"),
        ("engine", len, 10, TypeError, r"^got builtin_function_or_method as weighting, expected"),
        ("engine", None, 0, ValueError, r"^got layers_every=0, expected an integer of 1 or more"),
    ],
)
def test_what_cannot_be_watched(engine, weighting, every, kind, message, model, recorder):
    watched = Engine(model, batch_dim=0) if engine else None
    with pytest.raises(kind, match=message):
        recorder.watch(watched, weighting, layers_every=every)


def test_copies_of_what_is_watched_are_not(model, recorder, tmp_path):
    engine, weighting = Engine(model, batch_dim=0), UPGradWeighting()
    recorder.watch(engine, weighting)
    engines = (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine)))
    weightings = (copy.deepcopy(weighting), pickle.loads(pickle.dumps(weighting)))
    for one in engines:
        one.compute_gramian(one._modules[0](X).square().sum(1))
    gramian = engine.compute_gramian(losses_of(model))
    for one in weightings:
        one(2 * gramian)
    (record,) = recorded(recorder, tmp_path)
    assert record.weights is None
    assert not weighting._forward_hooks


def test_a_watch_keeps_no_graph_alive(model, recorder):
    engine = Engine(model, batch_dim=0)
    recorder.watch(engine, UPGradWeighting())
    gc.collect()
    gc.disable()
    try:
        h = model[0](X)
        alive = weakref.ref(h)
        losses = model[2](h.tanh()).square().sum(1)
        engine.backward(losses, UPGradWeighting())
        del h, losses
        assert alive() is None
    finally:
        gc.enable()


def tasks(model):
    y = model(X)
    return {"a": y[:, 0].square().mean(), "b": (y[:, 1] - 1).square().mean()}


FORMS = {
    "by name": lambda losses: losses,
    "in a list": lambda losses: list(losses.values()),
    "in one tensor": lambda losses: torch.stack(list(losses.values())),
}


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_a_plain_training_are_looked_at(form, model, recorder, tmp_path):
    first, plain = copy.deepcopy(model), copy.deepcopy(model)
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (plain, model)]
    expected = []
    for step in range(5):
        for one, optimizer in zip((plain, model), optimizers, strict=True):
            losses = tasks(one)
            if one is model:
                assert recorder.watch_gradients(FORMS[form](losses), model, every=2) == step
                expected.append([one.item() for one in losses.values()])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    records = recorded(recorder, tmp_path)
    # The training is the same to the bit.
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.grad, other.grad)
    assert [record.gramian is not None for record in records] == [True, False, True, False, True]
    assert [record.shares is not None for record in records] == [True, False, True, False, True]
    for record, losses in zip(records, expected, strict=True):
        np.testing.assert_array_equal(record.losses, losses)
        assert record.weights is record.inner is None
    begun = torch.stack(list(tasks(first).values()))
    whole = Engine(first, batch_dim=None).compute_gramian(begun)
    np.testing.assert_allclose(records[0].gramian, whole, rtol=1e-6)
    run = RunStore(tmp_path / "runs.sqlite").run(recorder.run_id)
    assert run.objectives == (("a", "b") if form == "by name" else ())


def test_a_look_writes_no_gradient_and_leaves_the_graph(model, recorder):
    model[0].weight.grad = torch.ones_like(model[0].weight)
    losses = losses_of(model)
    recorder.watch_gradients(losses, model, batch_dim=0)
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[0].bias.grad is None
    assert all(parameter._backward_hooks is None for parameter in model.parameters())
    losses.mean().backward()
    assert model[0].bias.grad is not None


def test_a_look_at_a_part_without_layers(model, recorder, tmp_path):
    losses = losses_of(model)
    recorder.watch_gradients(losses, [model[0]], batch_dim=0, layers=False)
    recorder.watch_gradients(losses_of(model), [model[0], model[2]], batch_dim=0)
    part, both = recorded(recorder, tmp_path)
    expected = Engine(model[0], batch_dim=0).compute_gramian(losses)
    np.testing.assert_allclose(part.gramian, expected, rtol=1e-6)
    assert part.shares is None
    assert list(both.shares) == ["Linear[0]", "Linear[1]"]


def test_a_mistake_shows_at_the_first_look(model, recorder):
    with pytest.raises(ValueError, match=r"^got every=0, expected an integer of 1 or more"):
        recorder.watch_gradients(losses_of(model), model, every=0)
    with pytest.raises(TypeError, match=r"^got losses that cannot be stacked \("):
        recorder.watch_gradients([1.0, 2.0], model)
    with pytest.raises(UnsupportedGraphError):
        recorder.watch_gradients(losses_of(model).detach(), model)
    losses = losses_of(model)
    with pytest.raises(BatchMixedError):
        recorder.watch_gradients(losses - losses.mean(), model, batch_dim=0)


def test_a_later_look_that_fails_is_one_warning(model, recorder, tmp_path):
    recorder.watch_gradients(losses_of(model), model, every=1)
    message = r"^The gradients could not be looked at \(UnsupportedGraphError: got an output"
    with pytest.warns(RecorderWarning, match=message):
        recorder.watch_gradients(losses_of(model).detach(), model, every=1)
    # From here on a warning would be an error.
    for _ in range(2):
        recorder.watch_gradients(losses_of(model).detach(), model, every=1)
    records = recorded(recorder, tmp_path)
    assert [record.gramian is not None for record in records] == [True, False, False, False]
    assert all(len(record.losses) == 6 for record in records)


def test_a_look_without_memory_does_not_end_the_training(model, recorder, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Engine, "compute_gramian", fail)
    with pytest.warns(RecorderWarning, match=r"\(OutOfMemoryError: CUDA out of memory\.\); losses"):
        recorder.watch_gradients(losses_of(model), model)
    (record,) = recorded(recorder, tmp_path)
    assert record.gramian is None
    assert len(record.losses) == 6
