"""Every method that a run can use: with which engine, at what rate, and what its record holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.aggregation import METHODS
from jdviz.problems import PROBLEMS
from jdviz.training import (
    RunConfig,
    engines_for,
    suggested_learning_rate,
    train,
    trainable_methods,
)
from jdviz.training.loop import Trainer

BASE = RunConfig(
    problem="conflict_regression",
    size="small",
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.05,
    engine="autojac",
    aggregator="UPGrad",
    seed=3,
    steps=3,
    conflict=0.7,
)
OF_JACOBIAN = [name for name in trainable_methods() if METHODS[name].statistic == "jacobian"]


def test_one_batch_is_enough_for_all_but_those_of_two() -> None:
    left_out = set(METHODS) - set(trainable_methods())
    assert left_out == {name for name in METHODS if METHODS[name].statistic == "product"}
    for name in trainable_methods():
        alone = METHODS[name].statistic == "jacobian"
        assert engines_for(name) == (("autojac",) if alone else ("autogram", "autojac", "both"))


@pytest.mark.parametrize("problem", ["conflict_regression", "digits_mlp"])
@pytest.mark.parametrize("aggregator", trainable_methods())
def test_three_steps_of_every_method(aggregator: str, problem: str) -> None:
    engine = engines_for(aggregator)[0]
    rate = suggested_learning_rate(problem, aggregator, 16)
    config = replace(
        BASE, problem=problem, aggregator=aggregator, engine=engine, learning_rate=rate
    )
    m = PROBLEMS[problem].objectives(16)
    records = list(train(config))
    assert len(records) == 3
    for record in records:
        assert record.gramian.shape == (m, m)
        assert record.inner.shape == (m,)
        assert np.isfinite(record.inner).all()
        assert np.isfinite(record.direction_norm)
        assert (record.weights is None) == (METHODS[aggregator].make_weighting is None)
        # No direction is longer along a gradient than it is.
        lengths = np.sqrt(np.diagonal(record.gramian))
        assert (np.abs(record.inner) <= lengths * record.direction_norm * (1 + 1e-5) + 1e-6).all()


@pytest.mark.parametrize("aggregator", OF_JACOBIAN)
def test_what_a_method_of_the_jacobian_records_is_what_it_did(aggregator: str) -> None:
    trainer = Trainer(replace(BASE, aggregator=aggregator))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    batch = trainer.problem.batch(trainer.data, 0, BASE.batch_size, BASE.seed)
    losses = trainer.problem.losses(trainer.model, batch)
    parameters = [*trainer.model.parameters()]
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
    record = trainer.advance()
    after = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    moved = (torch.cat([p.flatten() for p in before]) - after).double()
    direction = (moved / BASE.learning_rate).numpy()
    scale = float(np.abs(record.gramian).max())
    np.testing.assert_allclose(record.gramian, (jacobian @ jacobian.T).numpy(), atol=1e-5 * scale)
    inner = jacobian.numpy() @ direction
    np.testing.assert_allclose(record.inner, inner, rtol=1e-4, atol=1e-4 * scale)
    np.testing.assert_allclose(record.direction_norm, np.linalg.norm(direction), rtol=1e-4)
    if record.weights is not None:
        combined = record.weights @ jacobian.numpy()
        np.testing.assert_allclose(direction, combined, rtol=1e-4, atol=1e-4 * np.sqrt(scale))


@pytest.mark.parametrize("aggregator", ["CRMOGM", "PCD"])
def test_memory_lasts_through_a_run(aggregator: str) -> None:
    *_, last = train(replace(BASE, aggregator=aggregator, steps=4))
    # The last step alone, by a method without a past, has other weights.
    forgetful = METHODS[aggregator].weighting(4)(torch.from_numpy(last.gramian)).numpy()
    assert not np.allclose(forgetful, last.weights, rtol=1e-3)


@pytest.mark.parametrize("aggregator", OF_JACOBIAN)
def test_gradients_that_are_not_finite_end_the_run_with_a_sentence(
    aggregator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = PROBLEMS["digits_mlp"]
    original = type(problem).losses

    def losses(self: object, model: torch.nn.Module, batch: object) -> torch.Tensor:
        values = original(problem, model, batch)
        return (values - values.detach()).abs().sqrt() * 0 + values

    monkeypatch.setattr(type(problem), "losses", losses)
    trainer = Trainer(replace(BASE, problem="digits_mlp", aggregator=aggregator))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    record = trainer.advance()
    assert record.gramian is record.weights is record.inner is record.direction_norm is None
    assert "gradient" in trainer.divergence
    for old, new in zip(before, trainer.model.parameters(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize(
    ("aggregator", "share"),
    [
        ("Mean", 1),
        ("UPGrad", 1),
        ("DualProj", 1),
        ("MGDA", 1),
        ("Sum", 64),
        ("PCGrad", 64),
        ("GradDrop", 64),
        ("TrimmedMean", 1),
        ("ExcessMTL", 1),
    ],
)
def test_methods_that_add_up_get_a_smaller_learning_rate(aggregator: str, share: int) -> None:
    before = torch.get_rng_state()
    rate = suggested_learning_rate("digits_mlp", aggregator, 64)
    default = PROBLEMS["digits_mlp"].default_learning_rate
    assert rate == pytest.approx(default / share, rel=1e-3)
    assert torch.equal(torch.get_rng_state(), before)


# Krum follows one image of a batch, whichever is the most like the others, so a run forgets what
# it learnt. The length of the others' directions is not that of the gradients: it is the smallest
# singular value for Aligned-MTL, 1 for Nash-MTL, and shrinks as gradients grow for FairGrad.
SLOW = dict.fromkeys(("AlignedMTL", "FairGrad", "NashMTL"), 0.99)
NOT_LEARNING = {"Krum"}


@pytest.mark.parametrize("aggregator", sorted(set(trainable_methods()) - NOT_LEARNING))
def test_every_method_learns_at_the_suggested_rate(aggregator: str) -> None:
    rate = suggested_learning_rate("digits_mlp", aggregator, 32)
    config = replace(
        BASE,
        problem="digits_mlp",
        engine=engines_for(aggregator)[0],
        aggregator=aggregator,
        learning_rate=rate,
        batch_size=32,
        steps=60,
        conflict=0.0,
    )
    records = list(train(config))
    share = SLOW.get(aggregator, 0.8)
    assert records[-1].losses.mean() < share * records[0].losses.mean()


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("aggregator", METHODS)
def test_a_rate_is_suggested_for_every_method_and_problem(aggregator: str, problem: str) -> None:
    default = PROBLEMS[problem].default_learning_rate
    rate = suggested_learning_rate(problem, aggregator, 8)
    assert 0 < rate <= 8 * default
