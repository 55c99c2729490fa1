"""Properties that every registered problem must have."""

import dataclasses

import numpy as np
import pytest
import torch

from jdviz.conflict import conflict_rate
from jdviz.problems import PROBLEMS, Problem
from jdviz.problems.base import parameter_count
from jdviz.training import RunConfig, train

EVERY = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
EVERY_SIZE = pytest.mark.parametrize(
    ("problem", "size"),
    [pytest.param(p, size, id=f"{p.key}-{size}") for p in PROBLEMS.values() for size in p.sizes],
)


def test_keys_and_their_order() -> None:
    assert list(PROBLEMS) == [
        "digits_mlp",
        "digits_cnn",
        "digits_two_tasks",
        "conflict_regression",
    ]
    assert all(problem.key == key for key, problem in PROBLEMS.items())


@EVERY
def test_record_is_consistent_with_the_data(problem: Problem) -> None:
    data = problem.load(seed=0)
    assert len(data.inputs) == len(data.targets) == problem.n_samples
    assert data.inputs.dtype == torch.float32
    assert problem.default_size in problem.sizes
    assert 1 <= problem.default_batch <= problem.max_batch <= problem.n_samples
    assert problem.default_learning_rate > 0
    assert (problem.objective_kind == "samples") == (problem.batch_dim is not None)
    assert problem.summary.endswith(".")


@EVERY
def test_every_problem_has_a_dial(problem: Problem) -> None:
    assert problem.dial.endswith(".")
    assert 0 <= problem.default_conflict <= 1
    assert not torch.equal(problem.load(3, 0.5).targets, problem.load(3, 0.0).targets)
    with pytest.raises(ValueError, match=r"got conflict 1\.1, expected 0 to 1"):
        problem.load(3, 1.1)


# Where nothing is learnt yet, images of two digits conflict whatever they are told: the rate is
# that of the second half of a short run.
@pytest.mark.parametrize(
    ("key", "aggregator", "rate", "steps"),
    [
        ("digits_mlp", "Mean", 0.1, 120),
        ("digits_cnn", "UPGrad", 0.1, 80),
        ("digits_two_tasks", "Mean", 0.1, 80),
        ("conflict_regression", "Mean", 0.1, 60),
    ],
)
def test_gradients_conflict_more_often_as_the_dial_goes_up(
    key: str, aggregator: str, rate: float, steps: int
) -> None:
    rates = []
    for conflict in (0.0, 0.5, 1.0):
        config = RunConfig(
            key, "small", 32, "sgd", rate, "autogram", aggregator, 0, steps, conflict
        )
        late = list(train(config))[steps // 2 :]
        rates.append(np.mean([conflict_rate(record.gramian) for record in late]))
    assert rates[0] + 0.05 < rates[1] < rates[2] - 0.02


@EVERY
def test_record_cannot_be_changed(problem: Problem) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.__setattr__("key", "other")


@EVERY_SIZE
def test_losses_are_finite_objectives_with_a_gradient_everywhere(
    problem: Problem, size: str
) -> None:
    model = problem.make_model(size, seed=3)
    batch = problem.batch(problem.load(seed=3, conflict=0.3), 0, 16, seed=3)
    losses = problem.losses(model, batch)
    m = problem.objectives(16)
    assert losses.shape == (m,)
    assert losses.isfinite().all()
    assert len(problem.objective_names(m)) == m
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@EVERY
def test_sizes_grow(problem: Problem) -> None:
    counts = [parameter_count(problem.make_model(size, seed=0)) for size in problem.sizes]
    assert counts == sorted(set(counts))


@EVERY
def test_global_random_state_is_untouched(problem: Problem) -> None:
    before = torch.get_rng_state()
    model = problem.make_model(problem.default_size, seed=5)
    data = problem.load(seed=5, conflict=0.5)
    problem.losses(model, problem.batch(data, 7, 8, seed=5))
    assert torch.equal(torch.get_rng_state(), before)


@EVERY
def test_parameters_depend_on_the_seed_alone(problem: Problem) -> None:
    torch.manual_seed(1)
    first = problem.make_model("small", seed=11)
    torch.manual_seed(2)
    again = problem.make_model("small", seed=11)
    other = problem.make_model("small", seed=12)
    pairs = zip(first.parameters(), again.parameters(), other.parameters(), strict=True)
    for p, q, r in pairs:
        assert torch.equal(p, q)
        assert not torch.equal(p, r)


@EVERY
def test_batches_of_an_epoch_never_repeat_a_sample(problem: Problem) -> None:
    data = problem.load(seed=0)
    # 100 divides no data here: what is left over waits for the next epoch.
    steps = problem.n_samples // 100
    marked = dataclasses.replace(data, targets=torch.arange(problem.n_samples))
    rows = [problem.batch(marked, step, 100, seed=4).tensors[1] for step in range(steps)]
    seen = torch.cat(rows)
    assert len(seen) == 100 * steps == len(seen.unique())
    following = problem.batch(marked, steps, 100, seed=4).tensors[1]
    assert not torch.equal(following, rows[0])


@EVERY
def test_a_batch_is_a_function_of_seed_and_step(problem: Problem) -> None:
    data = problem.load(seed=0)
    late = problem.batch(data, 123, 32, seed=9)
    problem.batch(data, 5, 32, seed=9)
    again = problem.batch(data, 123, 32, seed=9)
    assert all(torch.equal(a, b) for a, b in zip(late.tensors, again.tensors, strict=True))
    other = problem.batch(data, 123, 32, seed=10)
    assert not torch.equal(late.tensors[0], other.tensors[0])


@EVERY
def test_sample_ids_say_which_rows_the_objectives_are(problem: Problem) -> None:
    data = problem.load(seed=0)
    batch = problem.batch(data, 3, 16, seed=0)
    if problem.objective_kind == "tasks":
        assert batch.sample_ids is None
        return
    assert batch.sample_ids is not None
    assert batch.sample_ids.dtype == np.int64
    assert torch.equal(batch.tensors[0], data.inputs[torch.from_numpy(batch.sample_ids)])
    assert len(problem.sample_names(batch.sample_ids)) == 16


@EVERY
def test_wrong_batches_and_sizes_are_refused_in_a_sentence(problem: Problem) -> None:
    with pytest.raises(ValueError, match=r"Batch 0 holds no sample; choose from 1 to"):
        problem.check_batch(0)
    with pytest.raises(ValueError, match=rf"larger than the {problem.n_samples:,} samples"):
        problem.check_batch(problem.n_samples + 1)
    problem.check_batch(problem.max_batch)
    with pytest.raises(ValueError, match="choose one of small, medium, large"):
        problem.make_model("gigantic", seed=0)
    with pytest.raises(ValueError, match="got 0 objectives"):
        problem.objective_names(0)


def test_more_samples_than_an_aggregator_can_take_are_refused() -> None:
    with pytest.raises(ValueError, match=r"would make 257 objectives .* choose at most 256"):
        PROBLEMS["digits_mlp"].check_batch(257)


@EVERY
def test_blank_batch_has_the_shapes_of_a_batch(problem: Problem) -> None:
    blank = problem.blank_batch(16)
    real = problem.batch(problem.load(seed=0), 0, 16, seed=0)
    for one, other in zip(blank.tensors, real.tensors, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
