"""Reference tests: every layer of the table with its batch over two ranks, against autograd."""

import pytest

from tests.support.ranks import Ranks
from tests.support.spread import (
    TABLE,
    Outcome,
    Setting,
    assert_parity,
    by_autograd,
    take_steps,
)

# Torch warns once that an even kernel with padding="same" copies its input; that is a case.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")

# Those whose result depends on who is in the batch: masks are drawn, and indices counted, by rank.
BY_RANK = {
    "case: encoder layer with dropout",
    "case: encoder layer, time first",
    "case: embedding scaled by frequency",
}
# A batch of one cannot be spread, and a table with a row for each sample is as long as the batch.
LEFT_OUT = {"case: mlp, batch of one", "case: own row for every sample"}


def _settings(way: str) -> list[Setting]:
    """One step of every case.

    The second rank has the smaller part; of one sample as planned, where torch may make another
    graph than of several, but never where a way is forced, as that wants one plan everywhere.
    """
    found = []
    for name, case in TABLE.items():
        if name not in LEFT_OUT:
            m = case.x[0 if case.batch_first else 1]
            found.append(Setting(name, (m - m // 2, max(m // 2, 2 if way else 1)), way=way))
    return found


def _expected(setting: Setting) -> Outcome:
    return by_autograd(setting, parted=setting.model in BY_RANK)


# Some that can travel in each way, so that none is lost unseen.
ABLE = {
    "": (),
    "factors 0": ("linear", "conv2d", "embedding", "tied embedding and head", "lstm"),
    "factors 1": ("linear", "transposed 1d", "embedding", "tied embedding and head", "lstm"),
    "ring": ("linear", "conv2d", "called twice, other shape", "lstm"),
}


@pytest.mark.parametrize("way", ABLE)
def test_every_case(two_ranks: Ranks, way: str) -> None:
    settings = _settings(way)
    answers = two_ranks.run(take_steps, settings)
    kind = way.partition(" ")[0]
    went = {s.model for s, o in zip(settings, answers[0], strict=True) if kind in o.travels}
    assert {f"case: {id}" for id in ABLE[way]} <= went
    assert_parity(answers, settings, _expected)
