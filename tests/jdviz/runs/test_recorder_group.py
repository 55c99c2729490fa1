"""Two processes that train together become one run, with the objectives of both."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from engines.aggregation import UPGradWeighting
from engines.autogram import Engine
from engines.errors import GroupError
from jdviz.runs import RunStore
from jdviz.runs.comparison import usual_sent_bytes
from jdviz.runs.grouped import Ranks
from jdviz.runs.recorder import Recorder
from tests.support.ranks import Ranks as Processes

X = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4).sin()
# Of five samples, one process has two and the other three.
OWN = (slice(0, 2), slice(2, 5))


@pytest.fixture(scope="module")
def processes():
    started = Processes(2)
    yield started
    started.close()


def made():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def recorded(folder):
    """The only run of a folder, and its steps."""
    store = RunStore(folder / "runs.sqlite")
    (run,) = store.runs()
    return run, [store.record(run.run_id, step) for step in store.steps(run.run_id).tolist()]


def gather(rank, world_size):
    ranks = Ranks.of(None)
    plain = torch.arange(3.0)[: 3 - rank] + 10 * rank
    table = torch.full((2, 1 + rank), float(rank), requires_grad=True)
    return [
        ranks.gathered(plain, 0),
        ranks.gathered(table, 1),
        ranks.gathered(torch.tensor(float(rank)), None),
        ranks.gathered([torch.tensor(float(rank))] * 2, None),
        ranks.gathered({"a": torch.tensor(1.0 + rank), "b": torch.tensor(3.0)}, None),
        ranks.gathered({f"task {rank}": torch.tensor(1.0 + rank)}, None),
        ranks.gathered([] if rank else plain, 0),
    ]


def test_losses_of_all_ranks_are_put_together(processes):
    expected = [
        [0, 1, 2, 10, 11],
        [[0, 1, 1], [0, 1, 1]],
        [0, 1],
        [0, 0, 1, 1],
        {"a (rank 0)": 1, "b (rank 0)": 3, "a (rank 1)": 2, "b (rank 1)": 3},
        {"task 0": 1, "task 1": 2},
        [0, 1, 2],
    ]
    for found in processes.run(gather):
        for one, other in zip(found, expected, strict=True):
            if isinstance(other, dict):
                assert one == other
            else:
                np.testing.assert_array_equal(one, other)


def train(rank, world_size, folder, fused):
    """Three steps of Jacobian descent; the losses of this rank, and the weights of all."""
    model, weighting, seen = made(), UPGradWeighting(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = Engine(model, batch_dim=0)
    with Recorder("together", folder=folder) as rec:
        rec.watch(engine, weighting, layers_every=2)
        for step in range(3):
            losses = model(X[OWN[rank]]).square().sum(1)
            optimizer.zero_grad()
            if fused:
                weights = engine.backward(losses, weighting).weights
            else:
                weights = weighting(engine.compute_gramian(losses))
            assert rec.log(scalars={"lr": 0.1}) == step
            seen.append((losses.detach(), weights.detach(), engine.exchange.sent_bytes))
            optimizer.step()
    return seen, rec.run_id


@pytest.mark.parametrize("fused", [True, False])
def test_a_watched_engine_is_one_run_with_all_objectives(fused, processes, tmp_path):
    (first, run_id), (second, silent) = processes.run(train, tmp_path, fused)
    run, records = recorded(tmp_path)
    assert (run.run_id, silent) == (run_id, "")
    assert (run.status, run.ranks, run.steps) == ("finished", 2, 3)
    for record, one, other in zip(records, first, second, strict=True):
        np.testing.assert_array_equal(record.losses, torch.cat([one[0], other[0]]))
        np.testing.assert_array_equal(record.weights, one[1])
        np.testing.assert_array_equal(record.weights, other[1])
        assert record.gramian.shape == (5, 5)
        assert dict(record.scalars) == {"exchange/sent_bytes": float(one[2]), "lr": 0.1}
    assert [record.shares is not None for record in records] == [True, False, True]
    losses = made()(X).square().sum(1)
    alone = Engine(model := made(), batch_dim=0).compute_gramian(model(X).square().sum(1))
    np.testing.assert_allclose(records[0].gramian, alone, rtol=1e-12)
    np.testing.assert_allclose(records[0].losses, losses.detach(), rtol=1e-12)
    sent = [one[2] for one in first]
    series = RunStore(tmp_path / "runs.sqlite").series(run.run_id)
    assert usual_sent_bytes(series) == (float(np.median(sent)), 3)
    assert min(sent) > 0


def look(rank, world_size, folder):
    """Four steps of plain training on two tasks, looked at every second."""
    model, seen = made(), []
    with Recorder("tasks", folder=folder) as rec:
        for step in range(4):
            outputs = model(X[OWN[rank]])
            losses = {"a": outputs[:, 0].square().mean(), "b": (outputs[:, 1] - 1).square().mean()}
            assert rec.watch_gradients(losses, model, every=2) == step
            seen.append([loss.item() for loss in losses.values()])
    return seen


def test_gradients_of_a_plain_training_are_looked_at_together(processes, tmp_path):
    first, second = processes.run(look, tmp_path)
    run, records = recorded(tmp_path)
    assert run.objectives == ("a (rank 0)", "b (rank 0)", "a (rank 1)", "b (rank 1)")
    assert [record.gramian is not None for record in records] == [True, False, True, False]
    assert ["exchange/sent_bytes" in record.scalars for record in records] == [True, False] * 2
    for record, one, other in zip(records, first, second, strict=True):
        np.testing.assert_array_equal(record.losses, [*one, *other])
    model = made()
    losses = [
        loss
        for own in OWN
        for outputs in [model(X[own])]
        for loss in (outputs[:, 0].square().mean(), (outputs[:, 1] - 1).square().mean())
    ]
    alone = Engine(model, batch_dim=None).compute_gramian(torch.stack(losses))
    np.testing.assert_allclose(records[0].gramian, alone, rtol=1e-12)
    np.testing.assert_allclose(sum(records[0].shares.values()), alone, rtol=1e-12)


def fail(rank, world_size, folder):
    model = made()
    with Recorder("x", folder=folder) as rec:
        rec.watch_gradients(model(X[OWN[rank]]).square().sum(1), model, batch_dim=0, every=1)
        try:
            rec.watch_gradients(X[:, 0], model, batch_dim=0, every=1)
        except ValueError as error:
            return type(error).__name__
    return "nothing"


def test_a_later_look_that_fails_raises_on_every_rank(processes, tmp_path):
    assert processes.run(fail, tmp_path) == ["UnsupportedGraphError"] * 2


def replicate(rank, world_size, folder):
    """Plain training under DistributedDataParallel, unseen and looked at; parameters of both."""
    found = []
    for recorder in (None, Recorder("x", folder=folder)):
        model = nn.parallel.DistributedDataParallel(made())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            losses = model(X[OWN[rank]]).square().sum(1)
            if recorder is not None:
                recorder.watch_gradients(losses, model, batch_dim=0, every=2)
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
        found.append([one.detach().clone() for one in model.parameters()])
    recorder.close()
    return found


def test_a_replicated_training_is_the_same_to_the_bit(processes, tmp_path):
    for unseen, seen in processes.run(replicate, tmp_path):
        assert all(torch.equal(one, other) for one, other in zip(unseen, seen, strict=True))
    run, records = recorded(tmp_path)
    assert [record.gramian is not None for record in records] == [True, False, True]
    assert [len(record.losses) for record in records] == [5, 5, 5]
    assert run.ranks == 2


def split_up(rank, world_size, folder):
    groups = [dist.new_group([0]), dist.new_group([1])]
    model = made()
    with Recorder(f"of {rank}", folder=folder, process_group=groups[rank]) as rec:
        rec.watch_gradients(model(X[OWN[rank]]).square().sum(1), model, batch_dim=0)
    try:
        Recorder("x", folder=folder, process_group=groups[1 - rank])
    except GroupError as error:
        return str(error)
    return "nothing"


def test_groups_of_one_record_runs_of_their_own(processes, tmp_path):
    said = processes.run(split_up, tmp_path)
    assert [one[:42] for one in said] == ["got a process group without this process, "] * 2
    store = RunStore(tmp_path / "runs.sqlite")
    found = {run.name: run for run in store.runs()}
    assert sorted(found) == ["of 0", "of 1"]
    for rank, own in enumerate(OWN):
        run = found[f"of {rank}"]
        assert run.ranks == 1
        assert store.record(run.run_id, 0).gramian.shape == (len(X[own]),) * 2
