"""Reference tests of everything that can travel between ranks, whatever a plan would choose."""

import pytest
import torch

from tests.support.ranks import Ranks
from tests.support.spread import (
    MODELS,
    Outcome,
    Setting,
    alone,
    assert_parity,
    settings_of,
    take_steps,
    take_steps_among,
)

WAYS = ["gradients", "factors 0", "factors 1", "ring"]
both_bundles = pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
every_way = pytest.mark.parametrize("way", WAYS)


def assert_travelled(outcomes: list[Outcome], settings: list[Setting]) -> None:
    """What was wanted is what travelled, for all of some models and for a part of the others."""
    for setting, outcome in zip(settings, outcomes, strict=True):
        kind = setting.way.split()[0]
        if setting.model == "tied embedding and head" and kind == "ring":
            kind = "gradients"  # a table and a linear map have no block of two batches
        assert kind in outcome.travels, setting
        if setting.model in ("mlp", "module called twice"):
            assert set(outcome.travels) == {kind}, setting


@both_bundles
@every_way
def test_two_ranks(two_ranks: Ranks, way: str, apart: bool) -> None:
    # Half of an odd number of samples goes round a ring of two or four. Of one sample torch makes
    # another graph of some models, so that nothing but gradients can travel.
    settings = settings_of(list(MODELS), [(3, 5), (5, 2)], ways=[way], apart=apart)
    answers = two_ranks.run(take_steps, settings)
    assert_travelled(answers[1], settings)
    assert_parity(answers, settings, alone)


@both_bundles
@every_way
def test_four_ranks(four_ranks: Ranks, way: str, apart: bool) -> None:
    settings = settings_of(list(MODELS), [(3, 2, 5, 2), (2, 0, 3, 3)], ways=[way], apart=apart)
    answers = four_ranks.run(take_steps, settings)
    assert_travelled(answers[3], settings)
    assert_parity(answers, settings, alone)


@both_bundles
@every_way
def test_three_ranks_of_four(four_ranks: Ranks, way: str, apart: bool) -> None:
    settings = settings_of(list(MODELS), [(3, 5, 2)], ways=[way], apart=apart)
    first, second, idle, third = four_ranks.run(take_steps_among, [0, 1, 3], settings)
    assert idle == []
    answers = [first, second, third]
    assert_parity(answers, settings, alone)


@every_way
def test_float32(two_ranks: Ranks, way: str) -> None:
    # Indices travel among numbers of the same size, which are half as large here.
    settings = settings_of(list(MODELS), [(3, 2)], [torch.float32], [way])
    assert_parity(two_ranks.run(take_steps, settings), settings, alone)


@every_way
def test_one_sample_on_a_rank(four_ranks: Ranks, way: str) -> None:
    sizes = [(1, 1, 1, 1), (1, 2, 1, 3), (0, 1, 4, 0)]
    settings = settings_of(["mlp", "cnn", "module called twice"], sizes, ways=[way])
    assert_parity(four_ranks.run(take_steps, settings), settings, alone)
