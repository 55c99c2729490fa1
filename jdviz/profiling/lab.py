"""What was measured since the program started, kept for everyone who asks for the same."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from jdviz.profiling.available import available_bytes
from jdviz.profiling.fits import Fit
from jdviz.profiling.measure import Limits, Watch, inspect, measure, measure_times
from jdviz.profiling.results import Comparison, Failure, Inspection, Measurement, Times
from jdviz.profiling.spec import MeasurementError, MeasureSpec
from jdviz.profiling.structure import Structure, forget_structures, structure_of

# A measurement is some hundred kilobytes.
MOST_KEPT = 400

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by key, the latest ones."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value of a key, None where there is none."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keeps a value; the oldest goes where there are too many."""
        with self._lock:
            self._values.pop(key, None)
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forgets a key."""
        with self._lock:
            self._values.pop(key, None)

    def drop_where(self, unwanted: Callable[[K], bool]) -> None:
        """Forgets the keys that a function is true for."""
        with self._lock:
            for key in [key for key in self._values if unwanted(key)]:
                del self._values[key]


@dataclass(frozen=True)
class FitKey:
    """What was asked for when a largest batch was looked for.

    Attributes:
        problem: Name of a subject.
        size: Name of its model size.
        method: Which step.
        budget_bytes: Memory for parameters, batch and step.
    """

    problem: str
    size: str
    method: str
    budget_bytes: int


class Lab:
    """Measurements, times, inspections and fits; safe to be used by several threads."""

    def __init__(self) -> None:
        self._measured: Kept[MeasureSpec, Measurement] = Kept()
        self._failed: Kept[tuple[MeasureSpec, int | None], Failure] = Kept()
        self._times: Kept[MeasureSpec, Times] = Kept()
        self._inspected: Kept[tuple[str, str | None, int | None], Inspection | str] = Kept()
        self._structures: Kept[tuple[str, str], Structure | str] = Kept()
        self.fits: Kept[FitKey, Fit] = Kept()

    def measured(self, spec: MeasureSpec) -> Measurement | None:
        """What was measured of a step, None where nothing was."""
        return self._measured.get(spec)

    def failed(self, spec: MeasureSpec, limits: Limits) -> Failure | None:
        """Why a step could not be measured within limits, None where it was not tried."""
        return self._failed.get((spec, limits.memory_bytes))

    def measure(self, spec: MeasureSpec, limits: Limits, watch: Watch | None) -> None:
        """Measures a step and keeps what comes out, a failure too.

        Args:
            spec: What to measure.
            limits: What the child may take.
            watch: As for `jdviz.profiling.measure`.
        """
        try:
            self._measured.put(spec, measure(spec, within_machine(limits), watch))
            self._failed.drop((spec, limits.memory_bytes))
        except MeasurementError as error:
            self._measured.drop(spec)
            failure = Failure(spec, error.kind, str(error))
            self._failed.put((spec, limits.memory_bytes), failure)

    def time(
        self,
        specs: Sequence[MeasureSpec],
        limits: Limits,
        watch: Watch | None,
        quiet: Callable[[], bool] | None,
    ) -> None:
        """Times steps that were measured, in turn, and keeps what comes out.

        Args:
            specs: They differ in their method only.
            limits: What the child may take.
            watch: As for `jdviz.profiling.measure_times`.
            quiet: As for `jdviz.profiling.measure_times`.

        Raises:
            MeasurementError: There are no times.
        """
        known = [spec for spec in specs if self.measured(spec) is not None]
        if not known:
            return
        key = _shared(known[0])
        self._times.drop(key)
        self._times.put(key, measure_times(known, None, within_machine(limits), watch, quiet))

    def comparison(self, specs: Sequence[MeasureSpec], limits: Limits) -> Comparison:
        """What is known of some steps that differ in their method only.

        Args:
            specs: The steps, at least one.
            limits: Within which failures count.

        Returns:
            Measurements, times and failures.
        """
        measured = [found for spec in specs if (found := self.measured(spec)) is not None]
        failed = [missed for spec in specs if (missed := self.failed(spec, limits)) is not None]
        return Comparison(measured, self._times.get(_shared(specs[0])), failed)

    def inspection(
        self, problem: str, size: str | None = None, batch_size: int | None = None
    ) -> Inspection:
        """What is known of a problem without taking a step; found out once.

        Args:
            problem: Name of a subject.
            size: Its model size, its own default if None.
            batch_size: Samples in the batch, its own default if None.

        Returns:
            The inspection.

        Raises:
            MeasurementError: The problem cannot be built; said again until `forget` is called.
        """
        key = (problem, size, batch_size)
        found = self._inspected.get(key)
        if found is None:
            try:
                found = inspect(problem, size, batch_size)
            except MeasurementError as error:
                found = str(error)
            self._inspected.put(key, found)
        if isinstance(found, str):
            raise MeasurementError(found)
        return found

    def structure(self, problem: str, size: str) -> Structure:
        """What a model's step needs at every batch size; found out once.

        Args:
            problem: Name of a subject.
            size: Name of one of its model sizes.

        Returns:
            The structure.

        Raises:
            MeasurementError: The problem cannot be built; said again until `forget` is called.
        """
        found = self._structures.get((problem, size))
        if found is None:
            try:
                found = structure_of(problem, size)
            except MeasurementError as error:
                found = str(error)
            self._structures.put((problem, size), found)
        if isinstance(found, str):
            raise MeasurementError(found)
        return found

    def forget(self, problem: str) -> None:
        """Lets a problem be read and measured again, after its code has changed."""
        self._measured.drop_where(lambda spec: spec.problem == problem)
        self._failed.drop_where(lambda key: key[0].problem == problem)
        self._times.drop_where(lambda spec: spec.problem == problem)
        self._inspected.drop_where(lambda key: key[0] == problem)
        self._structures.drop_where(lambda key: key[0] == problem)
        self.fits.drop_where(lambda key: key.problem == problem)
        forget_structures()


def within_machine(limits: Limits) -> Limits:
    """No more than the machine has free: a system without memory may end the server instead.

    Args:
        limits: What a child may take.

    Returns:
        The same, or nine tenths of the free memory where that is less.
    """
    if limits.memory_bytes is None:
        return limits
    return replace(limits, memory_bytes=min(limits.memory_bytes, int(0.9 * available_bytes())))


def _shared(spec: MeasureSpec) -> MeasureSpec:
    """What steps that are timed in turn have in common."""
    return replace(spec, method="sgd")
