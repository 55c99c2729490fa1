"""What whoever starts the server lets a run take."""

import os
from dataclasses import replace

import pytest

from jdviz.training import ConfigError, RunLimits
from jdviz.training.limits import default_workers
from tests.jdviz.training.test_config import GOOD


def test_without_limits_everything_may_start() -> None:
    limits = RunLimits()
    limits.check(replace(GOOD, steps=1_000_000, batch_size=1797))
    assert limits.time_is_up == ""


def test_what_is_beyond_a_limit_is_refused_and_says_whose_it_is() -> None:
    limits = RunLimits(max_steps=2000, max_batch=64)
    limits.check(replace(GOOD, steps=2000, batch_size=64))
    with pytest.raises(
        ConfigError,
        match=r"^This run has 2,001 steps, and the limit is 2,000, set by whoever started this "
        r"server; choose at most 2,000\.$",
    ):
        limits.check(replace(GOOD, steps=2001))
    with pytest.raises(ConfigError, match="has 65 samples in a batch, and the limit is 64, set by"):
        limits.check(replace(GOOD, batch_size=65))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0.5 s"), (60.0, "1 minute"), (90.0, "1.5 minutes"), (600.0, "10 minutes")],
)
def test_the_time_that_was_up_is_named(seconds: float, words: str) -> None:
    assert RunLimits(max_seconds=seconds).time_is_up == (
        f"The run was stopped after {words} of training, the limit set by whoever started this "
        "server; the steps recorded until then are kept."
    )


def test_number_of_workers_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JDVIZ_WORKERS", raising=False)
    assert default_workers() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("JDVIZ_WORKERS", "3")
    assert default_workers() == 3
    for wrong in ("0", "-1", "many", "1.5", "²"):
        monkeypatch.setenv("JDVIZ_WORKERS", wrong)
        with pytest.raises(ConfigError, match="whole number of at least 1"):
            default_workers()
