"""Time of every weighting, and of UPGrad against quadprog row by row, turn by turn in one run."""

import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import quadprog
import torch
from torch import Tensor

from benchmarks.report import Report
from engines.aggregation import METHODS, MethodRecord, UPGradWeighting
from engines.linalg import compute_gramian
from jdviz.problems import PROBLEMS
from jdviz.profiling import MeasurementError
from jdviz.training import RunConfig
from jdviz.training.loop import Trainer

SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
# Beyond this many objectives the exact solution row by row takes a minute.
LARGEST_CHECKED = 256
# The peer's default; what it does to the update is in the table.
REGULARIZATION = 1e-4
# Threads of another library's BLAS keep a core busy for so long after the call before, which no
# training step has: there every call is of the same method.
# Smaller matrices wake none.
PAUSE_S = 0.03
PAUSE_FROM = 32
TRAINED_PROBLEM = "digits_cnn"
TRAINED_STEPS = 20

Call = Callable[[], object]


def measure_aggregation(sizes: Sequence[int], repeats: int, *, peer: bool) -> Report:
    """Time every weighting on the same Gramians.

    Args:
        sizes: Numbers of objectives.
        repeats: Calls that are timed; an eighth of them, but at least one, for what takes more
            than a second.
        peer: Whether to time torchjd's weightings too.

    Returns:
        Medians in ms, one column for each number of objectives.

    Raises:
        MeasurementError: A size or the number of repeats is below 1, or torchjd is not installed.
    """
    if min(sizes, default=0) < 1 or repeats < 1:
        raise MeasurementError(
            f"got sizes {list(sizes)} and {repeats} repeats, expected whole numbers >= 1."
        )
    other = _peer() if peer else None
    table = _Table()
    for m in sizes:
        pause_s = PAUSE_S if m >= PAUSE_FROM else 0.0
        gramians = _gramians(m)
        for name, found in _in_turn(_calls(m, gramians, other), repeats, pause_s).items():
            table.durations.setdefault(name, {})[m] = found
        table.ratio("quadprog row by row ÷ UPGrad", "quadprog row by row", "UPGrad", m)
        for kind in gramians:
            if kind:
                plain, ours = f"quadprog row by row, {kind}", f"UPGrad, {kind}"
                table.ratio(f"{plain} ÷ UPGrad", plain, ours, m)
        table.ratio("torchjd UPGrad ÷ UPGrad", "torchjd UPGrad", "UPGrad", m)
        if m <= LARGEST_CHECKED:
            _check(table, m, gramians)
    return Report(
        title="Median time of one call in ms, or as a multiple; error relative to the longest "
        "gradient. Gradients are Gaussian, 8 entries for each objective, unless named otherwise",
        columns=["weighting", *(f"m = {m}" for m in sizes)],
        rows=table.rows(sizes),
        figures={"durations_ms": table.durations, "ratios": table.ratios, "errors": table.errors},
    )


def _check(table: "_Table", m: int, gramians: Mapping[str, Tensor]) -> None:
    """Note how far UPGrad's update and that of quadprog row by row are from the exact one."""
    for kind, gramian in gramians.items():
        suffix = f", {kind}" if kind else ""
        exact = UPGradWeighting(solver="quadprog")(gramian)
        for name, weights in (
            ("UPGrad", UPGradWeighting()(gramian)),
            ("quadprog row by row", row_by_row(gramian)),
        ):
            errors = table.errors.setdefault(f"{name}{suffix}: error of the update", {})
            errors[m] = _distance(gramian, weights, exact)


class _Table:
    """What was measured, by name and number of objectives."""

    def __init__(self) -> None:
        self.durations: dict[str, dict[int, list[float]]] = {}
        self.ratios: dict[str, dict[int, float]] = {}
        self.errors: dict[str, dict[int, float]] = {}

    def ratio(self, name: str, upper: str, lower: str, m: int) -> None:
        """Note a median of ratios taken in turn, if both were measured."""
        over, under = (self.durations.get(one, {}).get(m, []) for one in (upper, lower))
        pairs = list(zip(over, under, strict=False))
        if pairs:
            self.ratios.setdefault(name, {})[m] = median(a / b for a, b in pairs)

    def rows(self, sizes: Sequence[int]) -> list[list[str]]:
        """The cells as text."""
        forms: tuple[tuple[dict[str, dict[int, Any]], Callable[[Any], str]], ...] = (
            (self.durations, lambda found: f"{median(found):.3g}"),
            (self.ratios, lambda found: f"{found:.3g}×"),
            (self.errors, lambda found: f"{found:.0e}"),
        )
        return [
            [name, *(form(found[m]) if m in found else "–" for m in sizes)]
            for figures, form in forms
            for name, found in figures.items()
        ]


def row_by_row(gramian: Tensor) -> Tensor:
    """UPGrad's weights as the field computes them: one call of quadprog for each objective.

    Args:
        gramian: Shape [m, m].

    Returns:
        Weights, shape [m].
    """
    array = gramian.to(torch.float64).numpy()
    m = len(array)
    regular = array / np.trace(array) + REGULARIZATION * np.eye(m)
    zeros, identity = np.zeros(m), np.eye(m)
    total = np.zeros(m)
    for row in identity:
        total += quadprog.solve_qp(regular, zeros, identity, row)[0]
    return torch.from_numpy(total / m)


def _jacobian(m: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(m)
    return torch.randn(m, n, generator=generator, dtype=torch.float64)


def _gramians(m: int) -> dict[str, Tensor]:
    """The Gramians that UPGrad is timed on, by kind; the first has no name."""
    found = {"": compute_gramian(_jacobian(m, 8 * m))}
    problem = PROBLEMS[TRAINED_PROBLEM]
    if 8 <= m <= problem.max_batch:
        config = RunConfig(
            problem=problem.key,
            size=problem.default_size,
            batch_size=m,
            optimizer="sgd",
            learning_rate=problem.default_learning_rate,
            engine="autogram",
            aggregator="Mean",
            seed=0,
            steps=TRAINED_STEPS + 1,
        )
        run = Trainer(config)
        record = [run.advance() for _ in range(config.steps)][-1]
        if record.gramian is not None:
            found[f"{problem.key} at step {TRAINED_STEPS}"] = torch.from_numpy(record.gramian)
    if m >= 8:
        found["half rank"] = compute_gramian(_jacobian(m, m // 2))
    return found


def _calls(m: int, gramians: Mapping[str, Tensor], other: Any) -> dict[str, Call]:
    """What is timed at m objectives."""
    jacobian, gramian = _jacobian(m, 8 * m), gramians[""]
    calls: dict[str, Call] = {}
    for record in METHODS.values():
        if record.make_weighting is None or m < record.least_objectives:
            continue
        given = jacobian if record.statistic == "jacobian" else gramian
        calls[record.name] = _call(record.weighting(m), given)
        theirs = _theirs(other, record, m, given)
        if theirs is not None:
            calls[f"torchjd {record.name}"] = _call(theirs, given)
    calls["quadprog row by row"] = lambda: row_by_row(gramian)
    for kind, special in gramians.items():
        if kind:
            calls[f"UPGrad, {kind}"] = _call(UPGradWeighting(), special)
            calls[f"quadprog row by row, {kind}"] = _call(row_by_row, special)
    return calls


def _call(weighting: Callable[[Tensor], Tensor], given: Tensor) -> Call:
    return lambda: weighting(given)


def _theirs(
    other: Any, record: MethodRecord, m: int, given: Tensor
) -> Callable[[Tensor], Tensor] | None:
    """The weighting of torchjd of that name; None without one, or where it does not run."""
    make = getattr(other, f"{record.name}Weighting", None)
    if make is None or record.name in ("MoDo", "SDMGrad", "CRMOGM"):
        return None
    try:
        made: Callable[[Tensor], Tensor] = make(**record.arguments(m))
        made(given)
    except Exception as error:  # whatever it is: a missing library, a solver that failed
        sys.stderr.write(f"torchjd {record.name} at m = {m} is left out: {error}\n")
        return None
    return made


def _peer() -> Any:
    try:
        return importlib.import_module("torchjd.aggregation")
    except ModuleNotFoundError as error:
        raise MeasurementError(
            "got --peer without torchjd, expected it to be installed; `pip install "
            "'torchjd[full]'` does it."
        ) from error


def _in_turn(calls: dict[str, Call], repeats: int, pause_s: float) -> dict[str, list[float]]:
    """Durations in ms of each call, A B C A B C …, after one call that is not counted."""
    durations: dict[str, list[float]] = {name: [] for name in calls}
    left: dict[str, int] = {}
    for name, call in calls.items():
        warm_ms = _duration_ms(call)
        left[name] = repeats if warm_ms < 1000 else max(1, repeats // 8)
    while any(left.values()):
        for name, call in calls.items():
            if left[name]:
                time.sleep(pause_s)
                durations[name].append(_duration_ms(call))
                left[name] -= 1
    return durations


def _duration_ms(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - begin)


def _distance(gramian: Tensor, one: Tensor, other: Tensor) -> float:
    """|Jᵀ(v - w)| over the length of the longest gradient."""
    difference = one - other
    square = float(difference @ gramian @ difference)
    return float(np.sqrt(max(0.0, square) / float(gramian.diagonal().max())))
