"""Data for the figures' tests, and every figure with its caption by name."""

from functools import cache

import numpy as np

from jdviz import figures
from jdviz.conflict import update_plane
from tests.jdviz.figures import lab
from tests.jdviz.figures.case import Case
from tests.jdviz.figures.watched import watched_cases


def names(m: int) -> list[str]:
    return [f"sample {3 * index + 1}" for index in range(m)]


def jacobian(m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(m, max(2, m // 2)))


def losses(k: int, m: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 2.0, size=(k, m))


@cache
def cases(m: int, k: int = 12, seed: int = 0) -> dict[str, Case]:
    """Every figure of m objectives, as at one tick of a run."""
    rows = jacobian(m, seed)
    gramian, labels, weights = rows @ rows.T, names(m), np.full(m, 1 / max(m, 1))
    plane, history, steps = update_plane(gramian, weights), losses(k, m), np.arange(k)
    inner = {"UPGrad": gramian @ weights, "Mean": gramian.mean(axis=1) if m else weights}
    flat = rows[:, :2]
    fan = np.random.default_rng(seed).normal(size=(8, 2))
    directions = {"Mean": flat.mean(axis=0) if m else np.zeros(2), "PCGrad": fan}
    solid = np.random.default_rng(seed).normal(size=(m, 3))
    in_space = {"Mean": solid.sum(axis=0) / max(m, 1), "PCGrad": np.ones((8, 3))}
    measured, comparison = lab.measurements(), lab.comparison()
    fused, _, autojac, plain = measured
    assert comparison.times is not None
    times, failures = comparison.times, comparison.failures
    trained = {
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
        "construction": Case(
            lambda t: figures.construction_figure(flat, 3, t),
            lambda: figures.construction_caption(flat, 3),
        ),
        "space": Case(
            lambda t: figures.space_figure(solid, in_space, t),
            lambda: figures.space_caption(solid, in_space),
        ),
        "hurt": Case(
            lambda t: figures.improvement_bars(inner, labels, t),
            lambda: figures.improvement_caption(inner, labels),
        ),
        "timelines": Case(
            lambda t: figures.memory_timelines(measured, t),
            lambda: figures.memory_caption(measured),
        ),
        "mirrored": Case(
            lambda t: figures.mirrored_timelines(autojac, fused, t, plain),
            lambda: figures.mirrored_caption(autojac, fused),
        ),
        "peaks": Case(
            lambda t: figures.peak_split_bars(measured, t, failures),
            lambda: figures.peak_caption(measured, failures),
        ),
        "times": Case(lambda t: figures.time_bars(times, t), lambda: figures.time_caption(times)),
        "growth": Case(
            lambda t: figures.growth_lines(lab.growth(), t, limit_bytes=64 * lab.MIB),
            lambda: figures.growth_caption(lab.growth()),
        ),
        "crossover": Case(
            lambda t: figures.crossover_map(*lab.crossover(), t),
            lambda: figures.crossover_caption(*lab.crossover()),
        ),
        "fits": Case(
            lambda t: figures.fit_bars(lab.fits(), t), lambda: figures.fit_caption(lab.fits())
        ),
    }
    return trained | watched_cases(m, k, seed, labels)
