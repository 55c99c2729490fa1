"""A run goes on from a checkpoint to the last bit, and from nothing that is none of it."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from jdviz.problems import PROBLEMS
from jdviz.runs.blobs import pack_named, unpack_named
from jdviz.training import RunConfig, StepRecord, engines_for, trainable_methods
from jdviz.training.checkpoints import (
    CHECKPOINT_EVERY,
    CheckpointError,
    keeps_checkpoints,
    pack,
    restore,
)
from jdviz.training.loop import Trainer

BASE = RunConfig(
    problem="digits_mlp",
    size="small",
    batch_size=8,
    optimizer="adam",
    learning_rate=0.005,
    engine="autogram",
    aggregator="UPGrad",
    seed=3,
    steps=40,
    conflict=0.5,
)
PAIRS = [(method, engine) for method in trainable_methods() for engine in engines_for(method)]
HEAD = struct.Struct("<4sI")


def assert_same(one: StepRecord, other: StepRecord) -> None:
    assert one.step == other.step
    for name in ("losses", "gramian", "weights", "inner", "sample_ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    assert (one.direction_norm, one.scalars) == (other.direction_norm, other.scalars)
    shares, others = one.shares or {}, other.shares or {}
    assert shares.keys() == others.keys()
    for path in shares:
        np.testing.assert_array_equal(shares[path], others[path])


def advanced(config: RunConfig, steps: int) -> Trainer:
    run = Trainer(config)
    for _ in range(steps):
        run.advance()
    return run


def goes_on_alike(config: RunConfig) -> None:
    run = advanced(config, 3)
    checkpoint = pack(run)
    other = Trainer(config)
    restore(other, checkpoint)
    assert (other.step, other.time_s) == (run.step, run.time_s)
    for _ in range(4):
        assert_same(run.advance(), other.advance())


@pytest.mark.parametrize(("aggregator", "engine"), PAIRS)
def test_every_method_goes_on_to_the_last_bit(aggregator: str, engine: str) -> None:
    goes_on_alike(replace(BASE, aggregator=aggregator, engine=engine))


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_every_problem_goes_on_to_the_last_bit(problem: str, optimizer: str) -> None:
    goes_on_alike(replace(BASE, problem=problem, optimizer=optimizer))


def test_a_run_is_replayed_up_to_a_step() -> None:
    run = advanced(replace(BASE, aggregator="GradVac"), CHECKPOINT_EVERY)
    checkpoint = pack(run)
    for _ in range(3):
        run.advance()
    replayed = Trainer.at(run.config, checkpoint, CHECKPOINT_EVERY + 3)
    assert replayed.step == CHECKPOINT_EVERY + 3
    assert_same(run.advance(), replayed.advance())


def test_a_later_checkpoint_and_a_step_never_made_are_refused() -> None:
    checkpoint = pack(advanced(BASE, 3))
    with pytest.raises(CheckpointError, match="of step 3, which is after step 2; choose an earl"):
        Trainer.at(BASE, checkpoint, 2)
    wild = replace(BASE, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(CheckpointError, match="diverged at step 1, before step 9; choose an earl"):
        Trainer.at(wild, pack(Trainer(wild)), 9)


def test_the_past_of_a_method_can_be_left_behind() -> None:
    config = replace(BASE, aggregator="NashMTL", learning_rate=1e-4)
    run = advanced(config, 3)
    other = Trainer(replace(config, aggregator="Mean"))
    restore(other, pack(run), with_method=False)
    np.testing.assert_array_equal(other.advance().losses, run.advance().losses)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": "medium"}, "its model has other parameters"),
        ({"problem": "digits_cnn"}, "its model has other parameters"),
        ({"optimizer": "momentum"}, "its optimizer is another one"),
        ({"optimizer": "sgd"}, "its optimizer is another one"),
        ({"aggregator": "Random"}, "its aggregation method is another one"),
        ({"aggregator": "NashMTL", "batch_size": 9}, "its method remembers other objectives"),
        ({"steps": 2}, "its step is not one of the run"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_refused(change: dict[str, Any], sentence: str) -> None:
    checkpoint = pack(advanced(replace(BASE, aggregator="NashMTL"), 3))
    match = rf"^The checkpoint is not one of this run: {sentence}.*; choose another step\.$"
    with pytest.raises(CheckpointError, match=match):
        restore(Trainer(replace(BASE, **{"aggregator": "NashMTL", **change})), checkpoint)


def test_a_method_without_chance_has_no_random_numbers() -> None:
    checkpoint = pack(advanced(replace(BASE, aggregator="Random"), 2))
    with pytest.raises(CheckpointError, match="its method draws random numbers"):
        restore(Trainer(replace(BASE, aggregator="Mean")), checkpoint)


def altered(checkpoint: bytes, alter: Callable[[dict[str, Any], dict[str, Any]], object]) -> bytes:
    """A checkpoint whose structure and arrays went through a function."""
    _, length = HEAD.unpack_from(checkpoint)
    structure = json.loads(checkpoint[HEAD.size : HEAD.size + length])
    arrays = unpack_named(checkpoint[HEAD.size + length :])
    alter(structure, arrays)
    text = json.dumps(structure).encode()
    return HEAD.pack(b"JDVC", len(text)) + text + pack_named(arrays)


def weight_of(structure: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = structure["of"]["model"]["of"]["0.weight"]
    return found


def method_of(structure: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = structure["of"]["method"]["of"]["_extra_state"]["of"]
    return found


@pytest.mark.parametrize(
    ("alter", "sentence"),
    [
        (lambda s, a: s.update(step=-1), "its step is not one"),
        (lambda s, a: s.update(step=float("inf")), "its step is not one"),
        (lambda s, a: s.update(time_s=float("nan")), "it has no time"),
        (lambda s, a: weight_of(s).update(shape=[64, 32]), r"is float32 of shape \[64, 32\], exp"),
        (lambda s, a: weight_of(s).update(dtype="float64"), r"is float64 of shape .* float32"),
        (lambda s, a: weight_of(s).update(shape=[2**62, 2**62]), "cannot be read"),
        (lambda s, a: weight_of(s).update(shape=["many"]), "cannot be read"),
        (lambda s, a: weight_of(s).update(dtype="object"), "cannot be read"),
        (lambda s, a: weight_of(s).update(array="nowhere"), "cannot be read"),
        (lambda s, a: s["of"].pop("method"), "cannot be read"),
        (lambda s, a: s["of"].update(model="everything"), "cannot be read"),
        (lambda s, a: s["of"].update(model=None), "its model has other parameters"),
        (lambda s, a: s["of"].update(optimizer=3), "its optimizer has other parameters"),
        (lambda s, a: s["of"]["model"]["of"].update({"0.weight": 1}), "0.weight is missing"),
        (lambda s, a: method_of(s).update(_calls={"of": {}}), "remembers something else"),
        (lambda s, a: method_of(s).update(_more=1), "its aggregation method is another one"),
    ],
    ids=[str(number) for number in range(16)],
)
def test_what_a_checkpoint_claims_is_checked(alter: Callable[..., object], sentence: str) -> None:
    config = replace(BASE, aggregator="NashMTL")
    checkpoint = pack(advanced(config, 2))
    restore(Trainer(config), altered(checkpoint, lambda structure, arrays: None))
    with pytest.raises(CheckpointError, match=sentence):
        restore(Trainer(config), altered(checkpoint, alter))


def test_impossible_random_numbers_are_refused() -> None:
    config = replace(BASE, aggregator="Random")

    def alter(structure: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays[structure["of"]["generator"]["array"]][:] = 255

    checkpoint = altered(pack(Trainer(config)), alter)
    with pytest.raises(CheckpointError, match="its random numbers are in no possible state"):
        restore(Trainer(config), checkpoint)


def test_bytes_of_any_other_kind_are_refused() -> None:
    whole = pack(advanced(BASE, 1))
    deep = b"[" * 100_000
    pieces = [whole[:length] for length in (0, 3, 8, 50, len(whole) // 2, len(whole) - 1)]
    nested = HEAD.pack(b"JDVC", len(deep)) + deep + pack_named({})
    for content in (*pieces, whole + b"more", b"PK\x03\x04" + whole, nested):
        with pytest.raises(CheckpointError, match="cannot be read: it is damaged or none"):
            restore(Trainer(BASE), content)


def test_only_runs_of_the_problems_of_the_app_keep_checkpoints() -> None:
    assert all(keeps_checkpoints(replace(BASE, problem=problem)) for problem in PROBLEMS)
    assert not keeps_checkpoints(replace(BASE, problem="package.module:factory"))


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    goes_on_alike(replace(BASE, aggregator="PCGrad"))
    assert torch.equal(torch.get_rng_state(), before)
