"""The configuration of a run: everything that decides what the run computes."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Optimizer = Literal["sgd", "momentum", "adam"]
EngineName = Literal["autogram", "autojac", "both"]

OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
ENGINES: tuple[str, ...] = get_args(EngineName)
MAX_SEED = 2**31 - 1
MAX_STEPS = 1_000_000


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one sentence for a person."""


@dataclass(frozen=True)
class RunConfig:
    """What a run computes: two runs of equal configurations give the same numbers.

    Attributes:
        problem: Key of `jdviz.problems.PROBLEMS`, or an import path that whoever started the
            program chose.
        size: Name of one of the problem's model sizes.
        batch_size: Samples per step; also the number of objectives m where each sample is one.
        optimizer: "sgd", "momentum" (SGD with momentum 0.9) or "adam".
        learning_rate: Step length given to the optimizer.
        engine: "autogram" (Gramian first), "autojac" (full Jacobian) or "both" (in lockstep:
            autogram makes the update, and autojac does the same on the same batch to compare).
        aggregator: Key of `engines.aggregation.METHODS`.
        seed: Seeds the parameters, the batches and any random choice of the aggregator.
        steps: Number of steps.
        conflict: Where the problem's dial stands, from 0 to 1; `Problem.dial` says what it does,
            and one of a visitor's own has none.
    """

    problem: str
    size: str
    batch_size: int
    optimizer: Optimizer
    learning_rate: float
    engine: EngineName
    aggregator: str
    seed: int
    steps: int
    conflict: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Builds a configuration from what `to_dict` gave.

        Whole numbers are accepted where a real number is expected, as JSON does not tell them
        apart. The values themselves are checked by `validate`.

        Args:
            values: One entry per field; `conflict` may be missing.

        Returns:
            The configuration.

        Raises:
            ConfigError: An entry is missing, unknown or of the wrong type.
        """
        known = {field.name: field.type for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(
                f"The configuration has the unknown entries {', '.join(unknown)}; "
                f"it may have {', '.join(known)}."
            )
        missing = sorted(set(known) - set(values) - {"conflict"})
        if missing:
            raise ConfigError(f"The configuration lacks {', '.join(missing)}; add them.")
        return cls(**{name: _typed(name, known[name], value) for name, value in values.items()})

    def validate(self) -> None:
        """Checks that the run can start.

        Raises:
            ConfigError: A value is outside what the problem, the optimizer or the engine takes;
                the message names the value, what is possible and what to choose.
        """
        # Imported here so that reading configurations out of a store does not load torch.
        from jdviz.problems import ProblemError, find_problem, problem_names

        _one_of("problem", self.problem, problem_names())
        try:
            problem = find_problem(self.problem)
        except ProblemError as error:
            raise ConfigError(str(error)) from None
        _one_of(f"model size of {problem.title}", self.size, problem.sizes)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("engine", self.engine, ENGINES)
        try:
            problem.check_batch(self.batch_size)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._check_aggregator(problem.objectives(self.batch_size))
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(
                f"Learning rate {self.learning_rate:g} is not a positive number; "
                f"choose one above 0, for example {problem.default_learning_rate:g}."
            )
        _in_range("Seed", self.seed, 0, MAX_SEED)
        _in_range("Number of steps", self.steps, 1, MAX_STEPS)
        if not 0 <= self.conflict <= 1:
            raise ConfigError(
                f"Conflict {self.conflict:g} is outside 0 to 1; choose 0 for the least conflict "
                "between the objectives and 1 for the most."
            )

    def _check_aggregator(self, m: int) -> None:
        """Raises ConfigError unless the aggregator can train m objectives with the engine."""
        from engines.aggregation import METHODS
        from jdviz.training.methods import engines_for, trainable_methods

        trainable = trainable_methods()
        if self.aggregator in METHODS and self.aggregator not in trainable:
            raise ConfigError(
                f"{self.aggregator} wants two independent batches at every step, and a run has "
                f"one; choose one of {', '.join(trainable)}."
            )
        _one_of("aggregator", self.aggregator, trainable)
        if self.engine not in engines_for(self.aggregator):
            raise ConfigError(
                f"{self.aggregator} works on the Jacobian, which autogram does not build; "
                f"choose the engine {' or '.join(engines_for(self.aggregator))}."
            )
        least = METHODS[self.aggregator].least_objectives
        if m < least:
            raise ConfigError(
                f"{self.aggregator} needs at least {least} objectives, and this run has {m}; "
                "choose another aggregator or problem."
            )


def _typed(name: str, kind: Any, value: Any) -> Any:
    """Returns the value in the field's type, or raises ConfigError."""
    # bool is an int to Python; as a batch size it is a mistake.
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is int:
        if whole:
            return value
        raise ConfigError(f"{name} is {value!r}; give a whole number.")
    if kind is float:
        if whole or isinstance(value, float):
            return float(value)
        raise ConfigError(f"{name} is {value!r}; give a number.")
    if isinstance(value, str):
        return value
    raise ConfigError(f"{name} is {value!r}; give a name in quotes.")


def _one_of(what: str, value: str, choices: Any) -> None:
    """Raises ConfigError unless the value is one of the choices."""
    if value not in choices:
        raise ConfigError(f"There is no {what} {value!r}; choose one of {', '.join(choices)}.")


def _in_range(what: str, value: int, low: int, high: int) -> None:
    """Raises ConfigError unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigError(
            f"{what} {value:,} is out of range; choose a whole number from {low:,} to {high:,}."
        )
