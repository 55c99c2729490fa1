"""The settings of a run, in the rail of the Train page."""

from dataclasses import dataclass, replace
from functools import cache

import streamlit as st

from engines.aggregation import METHODS
from jdviz.pages.controls import Choice, Number, Setting
from jdviz.problems import PROBLEMS, Problem
from jdviz.training import (
    RunConfig,
    engines_for,
    suggested_learning_rate,
    trainable_methods,
)
from jdviz.training.config import ENGINES, MAX_SEED, OPTIMIZERS

_FIRST = next(iter(PROBLEMS.values()))
_ENGINE_TITLES = {
    "autogram": "autogram: Gramian, layer by layer",
    "autojac": "autojac: full Jacobian",
}
_OPTIMIZER_TITLES = {"sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam"}
_PACES = {
    "slow": ("2 steps a second", 2.0),
    "calm": ("20 steps a second", 20.0),
    "full": ("as fast as it goes", 0.0),
}

PROBLEM = Choice("t_problem", "Problem", tuple(PROBLEMS), _FIRST.key)
AGGREGATOR = Choice("t_aggregator", "Aggregator", trainable_methods(), "UPGrad")
ENGINE = Choice("t_engine", "Engine", ENGINES, "autogram")
SIZE = Choice("t_size", "Model size", tuple(_FIRST.sizes), _FIRST.default_size)
OPTIMIZER = Choice("t_optimizer", "Optimizer", OPTIMIZERS, "sgd")
PACE = Choice("t_pace", "Pace", tuple(_PACES), "calm")
BATCH = Number("t_batch", "Batch size", 2, 2, 2, 1)
RATE = Number("t_rate", "Learning rate", 0.0001, 10.0, 0.1, 0.01, 4)
STEPS = Number("t_steps", "Steps", 1, 5_000, 300, 50)
SEED = Number("t_seed", "Seed", 0, MAX_SEED, 0, 1)
CONFLICT = Number("t_conflict", "Conflict between tasks", 0.0, 1.0, 0.5, 0.1, 2)


@dataclass(frozen=True)
class RunSettings:
    """The settings whose range or default depends on the problem."""

    problem: Problem
    aggregator: str

    @property
    def batch(self) -> Number:
        """The batch size, up to what the problem takes."""
        return replace(BATCH, high=self.problem.max_batch, default=self.problem.default_batch)

    @property
    def rate(self) -> Number:
        """The learning rate, beginning with what suits the problem and the aggregator."""
        return replace(RATE, default=_suggested_rate(self.problem, self.aggregator))

    def all(self) -> tuple[Setting, ...]:
        """Every setting of the page."""
        choices = (PROBLEM, AGGREGATOR, ENGINE, SIZE, OPTIMIZER, PACE)
        return (*choices, self.batch, self.rate, STEPS, SEED, CONFLICT)


def current_settings() -> RunSettings:
    """The settings as they depend on the problem chosen at present."""
    return RunSettings(PROBLEMS[PROBLEM.current()], AGGREGATOR.current())


@cache
def _suggested_rate(problem: Problem, aggregator: str) -> float:
    rate = suggested_learning_rate(problem.key, aggregator, problem.default_batch)
    return max(RATE.low, round(rate, RATE.digits))


def _suggest_for_problem() -> None:
    """Another problem was chosen: begin with its own batch size, rate and model size."""
    problem = PROBLEMS[st.session_state[PROBLEM.key]]
    st.session_state[BATCH.key] = problem.default_batch
    st.session_state[SIZE.key] = problem.default_size
    st.session_state[RATE.key] = _suggested_rate(problem, AGGREGATOR.current())


def _suggest_for_aggregator() -> None:
    """Another aggregator was chosen: its direction may be many times as long."""
    aggregator = st.session_state[AGGREGATOR.key]
    st.session_state[RATE.key] = _suggested_rate(PROBLEMS[PROBLEM.current()], aggregator)


def _draw_engine(aggregator: str) -> str:
    """Draw the engines that can run the aggregator; the choice among both is kept meanwhile."""
    permitted = engines_for(aggregator)
    if permitted == ENGINES:
        return ENGINE.draw(
            _ENGINE_TITLES.__getitem__,
            help_text="Both give the same update; they differ in memory.",
        )
    (engine,) = permitted
    st.selectbox(ENGINE.label, [_ENGINE_TITLES[engine]], disabled=True, key="train:only-engine")
    st.caption(f"{aggregator} works on the Jacobian itself, which only {engine} builds.")
    return engine


def draw_settings(settings: RunSettings) -> tuple[RunConfig, float]:
    """Draw the controls, the three that matter first.

    Args:
        settings: The page's settings.

    Returns:
        The configuration that they make, and the pace in steps per second, 0 without limit.
    """
    problem = settings.problem
    PROBLEM.draw(
        lambda key: PROBLEMS[key].title,
        on_change=_suggest_for_problem,
        help_text=problem.summary,
    )
    aggregator = AGGREGATOR.draw(
        on_change=_suggest_for_aggregator, help_text=METHODS[settings.aggregator].summary
    )
    engine = _draw_engine(aggregator)
    conflict = CONFLICT.default
    if problem.key == "conflict_regression":
        conflict = CONFLICT.draw(help_text="0: the tasks agree. 1: they oppose each other.")
    with st.expander("Model, optimizer and run"):
        size = SIZE.draw(lambda name: f"{name} ({'–'.join(map(str, problem.sizes[name]))})")
        batch_size = int(
            settings.batch.draw(help_text=f"2 to {problem.max_batch:,} samples in a step.")
        )
        optimizer = OPTIMIZER.draw(_OPTIMIZER_TITLES.__getitem__)
        rate = settings.rate.draw()
        steps = int(STEPS.draw())
        seed = int(SEED.draw(help_text="Same seed, same run, to the last bit on one machine."))
        pace = PACE.draw(lambda key: _PACES[key][0])
    config = RunConfig.from_dict(
        {
            "problem": problem.key,
            "size": size,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "learning_rate": rate,
            "engine": engine,
            "aggregator": aggregator,
            "seed": seed,
            "steps": steps,
            "conflict": conflict,
        }
    )
    return config, _PACES[pace][1]
