"""Every figure of runs that are watched and compared, with its caption by name."""

import numpy as np

from jdviz import figures
from tests.jdviz.figures.case import Case


def shares(m: int, seed: int = 0, modules: int = 3) -> dict[str, np.ndarray]:
    """A Gramian split over modules: one Jacobian for each."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(modules, m, 4))
    return {f"layers.{place}": part @ part.T for place, part in enumerate(rows)}


def series(k: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 2.0, size=k)


def watched_cases(m: int, k: int, seed: int, labels: list[str]) -> dict[str, Case]:
    """Figures of m objectives over k steps."""
    parts, steps = shares(m, seed), np.arange(k)
    gramian = sum(parts.values(), np.zeros((m, m)))
    last = min(1, m - 1)
    rates, least = series(k, 1) / 2, series(k, 2) - 1.1
    apart = np.where(steps % 4 == 0, 0.0, 1e-7 * series(k, 3)), 1e-8 * series(k, 4)
    rounding = np.full(k, 1e-6)
    weights = np.random.default_rng(6).uniform(size=(k, m))
    lines = [
        figures.Line(name, steps, series(k, place), steps / 10)
        for place, name in enumerate(["run 1", "run 2"])
    ]
    groups = [
        figures.SeedGroup("UPGrad", [(steps, series(k, place)) for place in range(3)]),
        figures.SeedGroup("Mean", [(steps, series(k, place)) for place in range(3, 7)]),
    ]
    ends = {"UPGrad": series(m, 1), "MGDA": series(m, 2)}
    futures = {
        name: np.random.default_rng(place).uniform(size=(k, m))
        for place, name in enumerate(["UPGrad", "Mean"])
    }
    inner, change = series(m, 7) - 1.0, series(m, 8) - 1.0
    cases = {
        "overlay": Case(
            lambda t: figures.overlay(lines, t, quantity="mean loss", unit="MiB", smoothing=0.6),
            lambda: figures.overlay_caption(lines, quantity="mean loss", baseline="run 1"),
        ),
        "seeds": Case(
            lambda t: figures.seed_bands(groups, t, quantity="mean loss"),
            lambda: figures.seed_caption(groups, quantity="mean loss"),
        ),
        "deltas": Case(
            lambda t: figures.delta_bars(ends, np.ones(m), labels, t),
            lambda: figures.delta_caption(ends, np.ones(m), labels),
        ),
        "conflict": Case(
            lambda t: figures.conflict_history(steps, rates, least, t),
            lambda: figures.conflict_caption(steps, rates, least),
        ),
        "weights history": Case(
            lambda t: figures.weights_history(steps, weights, labels, t),
            lambda: figures.weights_history_caption(steps, weights, labels),
        ),
        "engines": Case(
            lambda t: figures.engine_difference(steps, *apart, rounding, t),
            lambda: figures.engine_difference_caption(steps, *apart, rounding),
        ),
        "spectrum": Case(
            lambda t: figures.spectrum_bars(gramian, t), lambda: figures.spectrum_caption(gramian)
        ),
        "layers": Case(
            lambda t: figures.layer_conflict(parts, t),
            lambda: figures.layer_conflict_caption(parts),
        ),
        "leading plane": Case(
            lambda t: figures.leading_plane_figure(gramian, labels, t),
            lambda: figures.leading_plane_caption(gramian, labels),
        ),
        "chosen pair": Case(
            lambda t: figures.cosine_heatmap(gramian, labels, t, selected=(0, last) if m else None),
            lambda: figures.cosine_caption(gramian, labels),
        ),
        "loss bars": Case(
            lambda t: figures.loss_bars(ends["UPGrad"], labels, t),
            lambda: figures.loss_bars_caption(ends["UPGrad"], labels),
        ),
        "change": Case(
            lambda t: figures.update_change_bars(inner, 0.1, labels, t, change=change),
            lambda: figures.update_change_caption(inner, 0.1, labels, change=change),
        ),
        "futures": Case(
            lambda t: figures.futures_figure(futures, 40, t),
            lambda: figures.futures_caption(futures, 40),
        ),
        "futures by objective": Case(
            lambda t: figures.futures_bars(futures, labels, t),
            lambda: figures.futures_bars_caption(futures, labels),
        ),
    }
    if m:
        # There is no pair of no objectives.
        cases["pair by layer"] = Case(
            lambda t: figures.pair_layers(parts, 0, last, labels, t),
            lambda: figures.pair_layers_caption(parts, 0, last, labels),
        )
    return cases
