"""The settings of a run, in the rail of the Train page."""

from dataclasses import dataclass, replace
from functools import cache

import streamlit as st

from engines.aggregation import METHODS
from jdviz.figures.words import listed
from jdviz.pages.controls import Choice, Number, Setting, Several, escaped
from jdviz.pages.train_own import draw_failure, draw_invitation, known
from jdviz.problems import PROBLEMS, OwnProblem, Problem, problem_names
from jdviz.server import limits
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
    "both": "both in lockstep, to compare them",
}
_OPTIMIZER_TITLES = {"sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam"}
_PACES = {
    "slow": ("2 steps a second", 2.0),
    "calm": ("20 steps a second", 20.0),
    "full": ("as fast as it goes", 0.0),
}

AGGREGATOR = Choice("t_aggregator", "Aggregator", trainable_methods(), "UPGrad")
ENGINE = Choice("t_engine", "Engine", ENGINES, "autogram")
SIZE = Choice("t_size", "Model size", tuple(_FIRST.sizes), _FIRST.default_size)
OPTIMIZER = Choice("t_optimizer", "Optimizer", OPTIMIZERS, "sgd")
PACE = Choice("t_pace", "Pace", tuple(_PACES), "calm")
BATCH = Number("t_batch", "Batch size", 2, 2, 2, 1)
RATE = Number("t_rate", "Learning rate", 0.0001, 10.0, 0.1, 0.01, 4)
STEPS = Number("t_steps", "Steps", 1, 5_000, 300, 50)
SEED = Number("t_seed", "Seed", 0, MAX_SEED, 0, 1)
CONFLICT = Number("t_conflict", "Conflict", 0.0, 1.0, 0.0, 0.1, 2)
BESIDE = Several("t_beside", "Beside it, from the same seed", trainable_methods(), ())
MOST_BESIDE = 3
# In the session while another problem was chosen and its own values are not suggested yet.
_SUGGEST = "train:suggest"


@dataclass(frozen=True)
class RunSettings:
    """The settings whose range or default depends on the problem.

    Attributes:
        choice: The menu of problems.
        problem: The one chosen; the first of them where that one cannot be loaded.
        aggregator: The method chosen.
        failure: Why the chosen problem cannot be loaded, one sentence; empty where it can.
    """

    choice: Choice
    problem: Problem
    aggregator: str
    failure: str = ""

    @property
    def batch(self) -> Number:
        """The batch size, up to what the problem and the server take."""
        most: float = self.problem.max_batch
        usual: float = self.problem.default_batch
        allowed = limits().max_batch
        if isinstance(self.problem, OwnProblem) and not self.problem.resizable:
            # One beyond the server's limit is refused when its run is to start.
            return replace(BATCH, low=usual, high=most, default=usual)
        low = min(BATCH.low, usual)
        if allowed is not None:
            most = max(min(most, allowed), low)
            usual = min(usual, most)
        return replace(BATCH, low=low, high=most, default=usual)

    @property
    def rate(self) -> Number:
        """The learning rate, beginning with what suits the problem and the aggregator."""
        return replace(RATE, default=_suggested_rate(self.problem, self.aggregator))

    @property
    def steps(self) -> Number:
        """The number of steps, up to what the server takes."""
        most = min(STEPS.high, limits().max_steps or STEPS.high)
        return replace(STEPS, high=most, default=min(STEPS.default, most))

    @property
    def conflict(self) -> Number:
        """How much the objectives are made to conflict, where the problem has a dial for it."""
        return replace(CONFLICT, default=self.problem.default_conflict)

    def all(self) -> tuple[Setting, ...]:
        """Every setting of the page."""
        choices = (self.choice, AGGREGATOR, BESIDE, ENGINE, SIZE, OPTIMIZER, PACE)
        return (*choices, self.batch, self.rate, self.steps, SEED, self.conflict)


def current_settings() -> RunSettings:
    """The settings as they depend on the problem chosen at present."""
    choice = Choice("t_problem", "Problem", problem_names(), _FIRST.key)
    chosen, aggregator = choice.current(), AGGREGATOR.current()
    found = PROBLEMS[chosen] if chosen in PROBLEMS else known(chosen)
    if isinstance(found, str):
        return RunSettings(choice, _FIRST, aggregator, failure=found)
    if st.session_state.pop(_SUGGEST, False):
        _suggest_for(found, aggregator)
    return RunSettings(choice, found, aggregator)


@cache
def _suggested_rate(problem: Problem, aggregator: str) -> float:
    rate = suggested_learning_rate(problem.key, aggregator, problem.default_batch)
    return max(RATE.low, round(rate, RATE.digits))


def _note_problem() -> None:
    """Another problem was chosen; what it is may be known only after its model was built."""
    st.session_state[_SUGGEST] = True


def _suggest_for(problem: Problem, aggregator: str) -> None:
    """Begin with the problem's own batch size, rate and model size."""
    st.session_state[BATCH.key] = problem.default_batch
    st.session_state[RATE.key] = _suggested_rate(problem, aggregator)
    st.session_state[CONFLICT.key] = problem.default_conflict
    if problem.default_size in SIZE.options:
        st.session_state[SIZE.key] = problem.default_size


def _suggest_for_aggregator() -> None:
    """Another aggregator was chosen: its direction may be many times as long."""
    settings = current_settings()
    st.session_state[RATE.key] = _suggested_rate(settings.problem, settings.aggregator)


def _draw_engine(aggregator: str) -> str:
    """Draw the engines that can run the aggregator; the choice among both is kept meanwhile."""
    permitted = engines_for(aggregator)
    if permitted == ENGINES:
        return ENGINE.draw(
            _ENGINE_TITLES.__getitem__,
            help_text="All give the same update; autogram needs less memory. In lockstep both "
            "work on the same batches, and their difference is plotted.",
        )
    (engine,) = permitted
    st.selectbox(ENGINE.label, [_ENGINE_TITLES[engine]], disabled=True, key="train:only-engine")
    st.caption(f"{aggregator} works on the Jacobian itself, which only {engine} builds.")
    return engine


def _draw_size(problem: Problem) -> str:
    """Draw the sizes of the model; one of a visitor's own has the size that its factory gives."""
    if isinstance(problem, OwnProblem):
        return problem.default_size
    return SIZE.draw(lambda name: f"{name} ({'–'.join(map(str, problem.sizes[name]))})")


def _draw_beside(settings: RunSettings) -> list[str]:
    """Draw the methods that are to train beside the chosen one."""
    chosen = BESIDE.draw(
        help_text=f"At most {MOST_BESIDE} other aggregators start with the same parameters and see "
        "the same batches. Each has the learning rate that suits the length of its direction."
    )
    others = [name for name in chosen if name != settings.aggregator]
    if len(others) > MOST_BESIDE:
        st.caption(f"At most {MOST_BESIDE} fit beside it: {listed(others[:MOST_BESIDE])} train.")
    return others[:MOST_BESIDE]


def _draw_batch(batch: Number) -> int:
    """Draw the batch size, where there is a choice."""
    limit = _by(batch, limits().max_batch)
    if batch.low == batch.high:
        st.caption(f"Batch size {batch.shown_default}{limit or ', as the factory makes it'}.")
        return int(batch.low)
    words = f"{batch.low:,} to {batch.high:,} samples in a step{limit}."
    return int(batch.draw(help_text=words))


def _by(number: Number, allowed: int | None) -> str:
    """Who set the upper end of a range, where that was not the problem."""
    return ", a limit set by whoever started this server" if number.high == allowed else ""


def _rate_beside(settings: RunSettings, rate: float, other: str) -> float:
    """The learning rate of another method: its own suggestion, scaled as the chosen one's is."""
    suggested = _suggested_rate(settings.problem, other)
    usual = settings.rate.default
    return suggested if rate == usual else suggested * rate / usual


def draw_settings(settings: RunSettings) -> tuple[list[RunConfig], float]:
    """Draw the controls, the three that matter first.

    Args:
        settings: The page's settings.

    Returns:
        The configurations that they make, the chosen method's first, none where the problem cannot
        be loaded; and the pace in steps per second, 0 without limit.
    """
    problem = settings.problem
    chosen = settings.choice.draw(
        lambda key: PROBLEMS[key].title if key in PROBLEMS else key,
        on_change=_note_problem,
        help_text=escaped(settings.failure or problem.summary),
    )
    if settings.failure:
        draw_failure(chosen, settings.failure)
    aggregator = AGGREGATOR.draw(
        on_change=_suggest_for_aggregator, help_text=METHODS[settings.aggregator].summary
    )
    engine = _draw_engine(aggregator)
    others = _draw_beside(settings)
    conflict = settings.conflict.default
    if problem.dial:
        conflict = settings.conflict.draw(help_text=problem.dial)
    with st.expander("Model, optimizer and run"):
        size = _draw_size(problem)
        batch_size = _draw_batch(settings.batch)
        optimizer = OPTIMIZER.draw(_OPTIMIZER_TITLES.__getitem__)
        rate = settings.rate.draw()
        count = settings.steps
        steps = int(count.draw(help_text=f"1 to {count.high:,}{_by(count, limits().max_steps)}."))
        seed = int(SEED.draw(help_text="Same seed, same run, to the last bit on one machine."))
        pace = PACE.draw(lambda key: _PACES[key][0])
        draw_invitation()
    if settings.failure:
        return [], _PACES[pace][1]
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
    return [config, *(_beside(settings, config, other) for other in others)], _PACES[pace][1]


def _beside(settings: RunSettings, config: RunConfig, other: str) -> RunConfig:
    """The same run with another method."""
    permitted = engines_for(other)
    return RunConfig.from_dict(
        {
            **config.to_dict(),
            "aggregator": other,
            "engine": config.engine if config.engine in permitted else permitted[0],
            "learning_rate": _rate_beside(settings, config.learning_rate, other),
        }
    )
