"""Reference tests: a batch spread over ranks gives what one process with the whole batch gives."""

import pytest
import torch

from tests.support.ranks import Ranks
from tests.support.spread import (
    MODELS,
    Outcome,
    Setting,
    alone,
    assert_parity,
    by_autograd,
    settings_of,
    take_steps,
)

SIZES: dict[int, list[tuple[int, ...]]] = {
    # Even, uneven, one sample on a rank, an empty rank first and last, all empty.
    2: [(3, 3), (4, 2), (1, 4), (0, 5), (5, 0), (0, 0)],
    4: [(2, 2, 2, 2), (1, 3, 2, 4), (2, 0, 1, 3), (0, 3, 0, 2), (0, 0, 5, 0), (0, 0, 0, 0)],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("model", MODELS)
def test_two_ranks(two_ranks: Ranks, model: str, dtype: torch.dtype) -> None:
    settings = settings_of([model], SIZES[2], [dtype], weighting="upgrad")
    assert_parity(two_ranks.run(take_steps, settings), settings, alone)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("model", MODELS)
def test_four_ranks(four_ranks: Ranks, model: str, dtype: torch.dtype) -> None:
    settings = settings_of([model], SIZES[4], [dtype], weighting="upgrad")
    assert_parity(four_ranks.run(take_steps, settings), settings, alone)


def test_plain_autograd_of_the_whole_batch(two_ranks: Ranks) -> None:
    settings = settings_of(list(MODELS), [(3, 2)], weighting="upgrad")

    def expected(setting: Setting) -> Outcome:
        return by_autograd(setting, parted=False)

    assert_parity(two_ranks.run(take_steps, settings), settings, expected)
