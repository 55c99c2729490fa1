"""The search for the largest batch that fits, on models whose need is a formula."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from jdviz.profiling.estimate import MOST_SAMPLES
from jdviz.profiling.fits import MOST_PROBES, Fit, Probe, verify_fit
from jdviz.profiling.measure import Limits
from jdviz.profiling.results import Measurement
from jdviz.profiling.spec import FailureKind, MeasurementError, MeasureSpec

BUDGET = 2**20
PARAMETER_BYTES = 1000
SAMPLE_BYTES = 8


class Fake:
    """A model whose step needs `need(batch_size)` bytes beside parameters and batch."""

    def __init__(
        self,
        need: Callable[[int], int],
        fails: Callable[[int], FailureKind | None] = lambda _: None,
    ) -> None:
        self.specs: list[MeasureSpec] = []
        self.limits: list[Limits] = []
        self._need = need
        self._fails = fails

    def __call__(self, spec: MeasureSpec, limits: Limits) -> Measurement:
        self.specs.append(spec)
        self.limits.append(limits)
        kind = self._fails(spec.batch_size)
        if kind is not None:
            raise MeasurementError(f"Failed at batch {spec.batch_size}.", kind)
        found = SimpleNamespace(
            parameter_bytes=PARAMETER_BYTES,
            batch_bytes=SAMPLE_BYTES * spec.batch_size,
            peak_bytes=self._need(spec.batch_size),
        )
        return cast("Measurement", found)

    def fit(
        self,
        predicted: int | None,
        *,
        budget: int = BUDGET,
        only_batch: int | None = None,
        on_probe: Callable[[Probe], None] | None = None,
    ) -> Fit:
        return verify_fit(
            "digits_mlp",
            "small",
            "fused",
            budget,
            predicted,
            measure=self,
            only_batch=only_batch,
            on_probe=on_probe,
        )


def linear(largest: int) -> Fake:
    """Fits up to a batch and no further."""
    sample = (BUDGET - PARAMETER_BYTES) // largest - SAMPLE_BYTES
    fixed = BUDGET - PARAMETER_BYTES - (sample + SAMPLE_BYTES) * largest
    return Fake(lambda batch: fixed + sample * batch)


def bounds(fit: Fit) -> tuple[int, int]:
    """What fits and what does not, both found."""
    assert fit.verified_batch is not None
    assert fit.fails_at is not None
    return fit.verified_batch, fit.fails_at


@pytest.mark.parametrize("predicted", [None, 0, 1, 2, 50, 90, 99, 100, 101, 110, 200, 1000])
def test_the_limit_is_found_from_any_prediction(predicted: int | None) -> None:
    fake = linear(100)
    fit = fake.fit(predicted)
    low, high = bounds(fit)
    assert low <= 100 < high
    assert high - low <= max(1, low // 50)
    assert len(fit.probes) == len(fake.specs) <= MOST_PROBES
    assert [probe.batch_size for probe in fit.probes] == [spec.batch_size for spec in fake.specs]
    assert fit.note == ""


@pytest.mark.parametrize("largest", [1, 2, 3, 7, 64, 999])
def test_an_exact_prediction_needs_few_tries(largest: int) -> None:
    fit = linear(largest).fit(largest)
    assert bounds(fit)[0] <= largest
    assert fit.error() == pytest.approx(0, abs=0.021)
    assert len(fit.probes) <= 4


def test_tries_begin_at_the_prediction_and_go_up_by_small_steps() -> None:
    fit = linear(120).fit(100)
    assert [probe.batch_size for probe in fit.probes[:3]] == [100, 110, 137]


def test_tries_go_down_by_small_steps() -> None:
    fit = linear(80).fit(100)
    assert [probe.batch_size for probe in fit.probes[:3]] == [100, 90, 72]


def test_a_measurement_that_is_too_large_keeps_its_number() -> None:
    fit = linear(80).fit(100)
    first = fit.probes[0]
    assert not first.fits
    assert first.total_bytes is not None
    assert first.total_bytes > BUDGET


def test_nothing_fits() -> None:
    fit = Fake(lambda _: BUDGET).fit(1)
    assert (fit.verified_batch, fit.fails_at) == (0, 1)
    assert fit.error() is None
    assert Fake(lambda _: BUDGET).fit(0).error() == 0


def test_everything_fits() -> None:
    fit = verify_fit(
        "digits_mlp", "small", "sgd", 2**40, MOST_SAMPLES, measure=Fake(lambda batch: batch)
    )
    assert (fit.verified_batch, fit.fails_at) == (MOST_SAMPLES, None)
    assert fit.note == "No batch was found that does not fit."


@pytest.mark.parametrize("kind", ["memory", "time"])
def test_limits_that_are_reached_mean_that_a_batch_does_not_fit(kind: FailureKind) -> None:
    fake = Fake(lambda _: 0, lambda batch: kind if batch > 40 else None)
    fit = fake.fit(64)
    assert (fit.verified_batch, fit.fails_at) == (40, 41)
    assert fit.probes[0] == Probe(64, None, False, "Failed at batch 64.")
    assert ("took too long" in fit.note) == (kind == "time")


@pytest.mark.parametrize("kind", ["step", "ended", "refused"])
def test_other_failures_are_passed_on(kind: FailureKind) -> None:
    with pytest.raises(MeasurementError, match="Failed at batch 64") as caught:
        Fake(lambda _: 0, lambda _: kind).fit(64)
    assert caught.value.kind == kind


@pytest.mark.parametrize(("need", "verified", "fails_at"), [(0, 32, None), (BUDGET, 0, 32)])
def test_a_batch_that_cannot_be_changed_is_tried_once(
    need: int, verified: int, fails_at: int | None
) -> None:
    fit = Fake(lambda _: need).fit(0, only_batch=32)
    assert (fit.verified_batch, fit.fails_at) == (verified, fails_at)
    assert len(fit.probes) == 1
    assert fit.note == "Comes with a batch of 32 and takes no other."


def test_a_need_with_steps_is_found_too() -> None:
    def need(batch: int) -> int:
        return 2**16 * (batch // 10) + (2**19 if batch > 70 else 0)

    fit = Fake(need).fit(150)
    low, high = bounds(fit)
    assert need(low) + PARAMETER_BYTES + SAMPLE_BYTES * low <= BUDGET
    assert need(high) + PARAMETER_BYTES + SAMPLE_BYTES * high > BUDGET
    assert high - low == 1


def test_the_search_ends_after_its_last_try() -> None:
    fit = linear(60000).fit(1)
    assert len(fit.probes) == MOST_PROBES
    assert fit.verified_batch is not None
    assert fit.verified_batch <= 60000
    assert fit.note != ""


def test_the_child_may_take_more_than_the_budget() -> None:
    fake = linear(10)
    fake.fit(10)
    assert {limits.memory_bytes for limits in fake.limits} == {2 * BUDGET + 2**29}


def test_every_try_is_told_and_may_end_the_search() -> None:
    told: list[Probe] = []
    fit = linear(10).fit(10, on_probe=told.append)
    assert told == fit.probes

    def stop(_: Probe) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        linear(10).fit(10, on_probe=stop)


def test_a_fit_goes_through_json() -> None:
    fit = linear(80).fit(100)
    assert Fit.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit
    with pytest.raises(MeasurementError, match="it must have budget_bytes"):
        Fit.from_dict({"method": "sgd"})


def test_the_error_is_relative_to_what_was_verified() -> None:
    assert Fit("sgd", 1, 110, 100, 101).error() == pytest.approx(0.1)
    assert Fit("sgd", 1, None, 100, 101).error() is None
