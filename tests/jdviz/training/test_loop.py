"""The training loop: same seed same run, same run with both engines, and how it diverges."""

import itertools
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import jdviz.training
import jdviz.training.updates
from jdviz.problems import PROBLEMS
from jdviz.training import (
    ConfigError,
    DivergedError,
    RunConfig,
    StepRecord,
    engines_for,
    train,
    trainable_methods,
    warm_up,
)
from jdviz.training.loop import SHARES_EVERY, Trainer

BASE = RunConfig(
    problem="digits_mlp",
    size="small",
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.1,
    engine="autogram",
    aggregator="UPGrad",
    seed=3,
    steps=4,
    conflict=0.7,
)
# Float32 gradients of two orders of summation differ by some units of 6e-8 relative to the largest
# entry; aggregators that solve for weights amplify that, and four steps add it up.
TOLERANCE = 1e-3
ARRAYS = ("losses", "gramian", "weights", "inner")
# Every method with every engine that can run it.
PAIRS = [(method, engine) for method in trainable_methods() for engine in engines_for(method)]

PRINT_BITS = """
import sys, hashlib
from jdviz.training import RunConfig, train
digest = hashlib.sha256()
for record in train(RunConfig.from_dict(eval(sys.argv[1]))):
    for array in (record.losses, record.gramian, record.weights, record.inner):
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


def arrays(record: StepRecord) -> list[np.ndarray]:
    return [getattr(record, name) for name in ARRAYS]


@pytest.fixture
def broken_losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the losses of one step of digits_mlp go through a function."""

    def install(step: int, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        problem = PROBLEMS["digits_mlp"]
        original = type(problem).losses
        calls = itertools.count()

        def losses(self: object, model: torch.nn.Module, batch: object) -> torch.Tensor:
            values = original(problem, model, batch)
            return change(values) if next(calls) == step else values

        monkeypatch.setattr(type(problem), "losses", losses)

    return install


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("engine", ["autogram", "autojac"])
def test_records_are_complete_and_consistent(problem: str, engine: str) -> None:
    config = replace(BASE, problem=problem, engine=engine)
    records = list(train(config))
    assert [record.step for record in records] == [0, 1, 2, 3]
    m = PROBLEMS[problem].objectives(config.batch_size)
    for record in records:
        assert record.gramian.shape == (m, m)
        assert all(array.dtype == np.float64 for array in arrays(record))
        np.testing.assert_array_equal(record.inner, record.gramian @ record.weights)
        squared = record.weights @ record.gramian @ record.weights
        assert record.direction_norm == pytest.approx(np.sqrt(max(0.0, squared)))
        assert (record.sample_ids is None) == (PROBLEMS[problem].objective_kind == "tasks")
    # A step holds the gradient of its update at least, with autojac that of every objective.
    parameters = Trainer(config).model.parameters()
    gradients = sum(p.numel() * p.element_size() for p in parameters)
    assert [record.peak_bytes is None for record in records] == [True, False, True, True]
    assert records[1].peak_bytes > (m if engine == "autojac" else 1) * gradients
    assert records[1].peak_bytes == list(train(config))[1].peak_bytes
    times_s = [record.time_s for record in records]
    np.testing.assert_allclose(times_s, np.cumsum([record.elapsed_s for record in records]))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_gramian_and_direction_are_those_of_autograd(problem: str) -> None:
    trainer = Trainer(replace(BASE, problem=problem))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    batch = trainer.problem.batch(trainer.data, 0, BASE.batch_size, BASE.seed)
    losses = trainer.problem.losses(trainer.model, batch)
    parameters = [*trainer.model.parameters()]
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
    record = trainer.advance()
    scale = float(np.abs(record.gramian).max())
    np.testing.assert_allclose(record.gramian, (jacobian @ jacobian.T).numpy(), atol=1e-5 * scale)
    direction = torch.from_numpy(record.weights) @ jacobian
    after = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    moved = torch.cat([p.flatten() for p in before]) - after
    torch.testing.assert_close(moved.double(), BASE.learning_rate * direction, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("aggregator", ["Mean", "UPGrad"])
def test_both_engines_give_the_same_run(problem: str, optimizer: str, aggregator: str) -> None:
    rate = 0.001 if optimizer == "adam" else 0.05
    config = replace(
        BASE, problem=problem, optimizer=optimizer, aggregator=aggregator, learning_rate=rate
    )
    gram, jac = (train(replace(config, engine=engine)) for engine in ("autogram", "autojac"))
    for one, other in zip(gram, jac, strict=True):
        for name in ARRAYS:
            x, y = getattr(one, name), getattr(other, name)
            assert np.abs(x - y).max() <= TOLERANCE * np.abs(x).max(), (one.step, name)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_lockstep_is_the_run_of_autogram_and_measures_autojac(problem: str, optimizer: str) -> None:
    config = replace(BASE, problem=problem, optimizer=optimizer, learning_rate=0.01)
    alone, together = train(config), train(replace(config, engine="both"))
    for one, other in zip(alone, together, strict=True):
        for x, y in zip(arrays(one), arrays(other), strict=True):
            np.testing.assert_array_equal(x, y)
        assert one.scalars == {}
        assert list(other.scalars) == ["gramian difference", "gradient difference", "rounding"]
        # 2 to the power of -23 is the distance of neighbouring float32 numbers at 1.
        assert other.scalars["rounding"] == 2.0**-23
        assert 0 < other.scalars["gramian difference"] <= 1e-5
        assert 0 < other.scalars["gradient difference"] <= 1e-5


def test_differences_are_relative_to_autojac(monkeypatch: pytest.MonkeyPatch) -> None:
    # Twice the Jacobian: its Gramian is four times as large, its weighted gradient twice.
    original = jdviz.training.updates.autojac.jac
    monkeypatch.setattr(
        jdviz.training.updates.autojac,
        "jac",
        lambda *args, **kwargs: [2 * one for one in original(*args, **kwargs)],
    )
    scalars = next(train(replace(BASE, engine="both"))).scalars
    assert scalars["gramian difference"] == pytest.approx(3 / 4, abs=1e-5)
    assert scalars["gradient difference"] == pytest.approx(1 / 2, abs=1e-5)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_engine_splits_the_same_steps_alike(problem: str) -> None:
    config = replace(BASE, problem=problem, steps=SHARES_EVERY + 2, learning_rate=0.01)
    owners = {
        name.rpartition(".")[0]
        for name, _ in PROBLEMS[problem].make_model(BASE.size, BASE.seed).named_parameters()
    }
    runs = [train(replace(config, engine=engine)) for engine in ("autogram", "autojac", "both")]
    for records in zip(*runs, strict=True):
        if records[0].step % SHARES_EVERY:
            assert all(record.shares is None for record in records)
            continue
        scale = np.abs(records[0].gramian).max()
        for record in records:
            assert set(record.shares) == owners
            total = sum(record.shares.values())
            np.testing.assert_allclose(total, record.gramian, rtol=0, atol=1e-6 * scale)
            for path, share in record.shares.items():
                expected = records[1].shares[path]
                np.testing.assert_allclose(share, expected, rtol=0, atol=TOLERANCE * scale)


def test_a_method_of_the_jacobian_splits_its_gramian() -> None:
    record = next(train(replace(BASE, engine="autojac", aggregator="GradDrop")))
    expected = next(train(BASE))
    scale = np.abs(expected.gramian).max()
    assert set(record.shares) == set(expected.shares)
    for path, share in record.shares.items():
        np.testing.assert_allclose(share, expected.shares[path], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(("aggregator", "engine"), PAIRS)
def test_same_seed_same_run_to_the_last_bit(aggregator: str, engine: str) -> None:
    config = replace(BASE, aggregator=aggregator, engine=engine, steps=3)
    torch.manual_seed(1)
    first = list(train(config))
    torch.manual_seed(2)
    for one, other in zip(first, train(config), strict=True):
        assert one.direction_norm == other.direction_norm
        for x, y in zip(arrays(one), arrays(other), strict=True):
            np.testing.assert_array_equal(x, y)


def test_same_seed_same_run_in_a_fresh_process() -> None:
    config = replace(BASE, problem="digits_cnn", aggregator="PCGrad", steps=3)
    threads = {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PRINT_BITS, repr(config.to_dict())]
    digests = {
        subprocess.run(command, check=True, capture_output=True, env=_environment(threads)).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def _environment(extra: dict[str, str]) -> dict[str, str]:
    root = Path(jdviz.training.__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), **extra}


def test_another_seed_gives_another_run() -> None:
    one, other = (next(train(replace(BASE, seed=seed))) for seed in (0, 1))
    assert not np.array_equal(one.losses, other.losses)
    assert not np.array_equal(one.sample_ids, other.sample_ids)


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    warm_up()
    list(train(replace(BASE, aggregator="PCGrad")))
    assert torch.equal(torch.get_rng_state(), before)


def test_waiting_between_steps_does_not_count() -> None:
    records = []
    for record in train(replace(BASE, steps=2)):
        records.append(record)
        time.sleep(0.2)
    assert records[1].time_s == pytest.approx(records[0].elapsed_s + records[1].elapsed_s)


def test_losses_fall() -> None:
    records = list(train(replace(BASE, steps=60, batch_size=32, conflict=0.0)))
    assert records[-1].losses.mean() < 0.7 * records[0].losses.mean()


def test_a_wrong_configuration_is_refused_before_the_first_step() -> None:
    with pytest.raises(ConfigError, match="choose at most 256"):
        next(train(replace(BASE, batch_size=5000)))


@pytest.mark.parametrize("engine", ["autogram", "autojac"])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda values: torch.cat([values[:-1], values[-1:] * torch.inf]), "loss"),
        (lambda values: values * torch.nan, "loss"),
        # The value is 0 but the gradient is 0/0: only differentiation shows it.
        (lambda values: (values - values.detach()).abs().sqrt() * 0 + values, "gradient"),
    ],
    ids=["one infinite loss", "all losses nan", "finite losses with nan gradients"],
)
def test_a_step_that_diverges_is_yielded_and_leaves_the_parameters(
    broken_losses: Callable[..., None], engine: str, change: Callable, what: str
) -> None:
    broken_losses(2, change)
    run = train(replace(BASE, engine=engine))
    assert next(run).gramian is not None
    assert next(run).gramian is not None
    record = next(run)
    assert record.step == 2
    assert record.gramian is record.weights is record.inner is record.direction_norm is None
    with pytest.raises(DivergedError, match=rf"The {what} .* at step 2.*such as 0.01\.$") as caught:
        next(run)
    assert caught.value.step == 2
    with pytest.raises(StopIteration):
        next(run)


def test_parameters_are_untouched_by_the_bad_step(broken_losses: Callable[..., None]) -> None:
    broken_losses(1, lambda values: values * torch.nan)
    trainer = Trainer(BASE)
    trainer.advance()
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    assert trainer.advance().gramian is None
    for old, new in zip(before, trainer.model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_a_learning_rate_far_too_large_diverges_with_a_sentence() -> None:
    config = replace(BASE, problem="conflict_regression", learning_rate=1e6, steps=50)
    with pytest.raises(DivergedError, match="restart with a smaller learning rate, such as 100000"):
        list(train(config))


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DivergedError(7, "The loss became NaN.")))
    assert (error.step, str(error)) == (7, "The loss became NaN.")
