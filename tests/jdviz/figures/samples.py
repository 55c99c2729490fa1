"""Data for the figures' tests, and every figure with its caption by name."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jdviz import figures
from jdviz.conflict import update_plane
from jdviz.figures.theme import Theme


@dataclass(frozen=True)
class Spec:
    method: str


@dataclass(frozen=True)
class Measurement:
    """The attributes that the figures read, with a timeline small enough to check by hand."""

    spec: Spec
    peak_bytes: int
    durations_ms: list[float]
    scale_ms: float = 1.0
    parameter_bytes: int = 2**20
    peak_phase: str = "backward"
    peak_operation: str = "aten::mm"
    times_ms: list[float] = field(init=False)
    live_bytes: list[int] = field(init=False)
    phases: list[tuple[str, float, float]] = field(init=False)
    peak_ms: float = field(init=False)

    def __post_init__(self) -> None:
        times = [0.0, 1.0, 2.0, 3.0]
        fill = object.__setattr__
        fill(self, "times_ms", [self.scale_ms * time for time in times])
        fill(self, "live_bytes", [0, self.peak_bytes // 2, self.peak_bytes, 0])
        fill(
            self,
            "phases",
            [
                ("forward", 0.0, 1.5 * self.scale_ms),
                ("backward", 1.5 * self.scale_ms, 4.0 * self.scale_ms),
            ],
        )
        fill(self, "peak_ms", 2.0 * self.scale_ms)


def measurements() -> list[Measurement]:
    return [
        Measurement(Spec("autogram"), 6 * 2**20, [3.0, 4.0, 5.0]),
        Measurement(Spec("autojac"), 48 * 2**20, [7.0, 8.0, 9.0], scale_ms=2.0),
        Measurement(Spec("autograd"), 4 * 2**20, [2.0, 2.0, 2.0], scale_ms=0.5),
    ]


def names(m: int) -> list[str]:
    return [f"sample {3 * index + 1}" for index in range(m)]


def jacobian(m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(m, max(2, m // 2)))


def losses(k: int, m: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 2.0, size=(k, m))


@dataclass(frozen=True)
class Case:
    """One figure: how it is built in a theme, and its caption."""

    build: Callable[[Theme], figures.Figure]
    caption: Callable[[], str]


def cases(m: int, k: int = 12, seed: int = 0) -> dict[str, Case]:
    """Every figure of m objectives, as at one tick of a run."""
    rows = jacobian(m, seed)
    gramian, labels, weights = rows @ rows.T, names(m), np.full(m, 1 / max(m, 1))
    plane, history, steps = update_plane(gramian, weights), losses(k, m), np.arange(k)
    inner = {"UPGrad": gramian @ weights, "Mean": gramian.mean(axis=1) if m else weights}
    flat = rows[:, :2]
    fan = np.random.default_rng(seed).normal(size=(8, 2))
    directions = {"Mean": flat.mean(axis=0) if m else np.zeros(2), "PCGrad": fan}
    measured = measurements()
    return {
        "loss": Case(
            lambda t: figures.loss_history(steps, history, labels, theme=t),
            lambda: figures.loss_caption(steps, history, labels),
        ),
        "weights": Case(
            lambda t: figures.weight_bars(weights, labels, t),
            lambda: figures.weight_caption(weights, labels),
        ),
        "gramian": Case(
            lambda t: figures.gramian_heatmap(gramian, labels, t),
            lambda: figures.gramian_caption(gramian, labels),
        ),
        "cosine": Case(
            lambda t: figures.cosine_heatmap(gramian, labels, t),
            lambda: figures.cosine_caption(gramian, labels),
        ),
        "angles": Case(
            lambda t: figures.angle_histogram(gramian, t), lambda: figures.angle_caption(gramian)
        ),
        "plane": Case(
            lambda t: figures.update_plane_figure(plane, labels, t),
            lambda: figures.plane_caption(plane),
        ),
        "directions": Case(
            lambda t: figures.directions_figure(flat, directions, t),
            lambda: figures.directions_caption(flat, directions),
        ),
        "hurt": Case(
            lambda t: figures.improvement_bars(inner, labels, t),
            lambda: figures.improvement_caption(inner, labels),
        ),
        "timelines": Case(
            lambda t: figures.memory_timelines(measured, t),
            lambda: figures.memory_caption(measured),
        ),
        "peaks": Case(
            lambda t: figures.peak_bars(measured, t), lambda: figures.engines_caption(measured)
        ),
        "times": Case(
            lambda t: figures.time_bars(measured, t), lambda: figures.engines_caption(measured)
        ),
    }
