"""The code of a run: a short script that trains the same, to be read, copied and changed."""

import re
from dataclasses import dataclass
from string import Template
from typing import Any

from engines.aggregation import METHODS
from jdviz.problems import find_problem, is_own
from jdviz.problems.sampling import AGGREGATOR, seeded_generator
from jdviz.training.config import RunConfig
from jdviz.training.loop import MOMENTUM, SHARES_EVERY

_SCRIPT = Template('''\
"""Trains with $method_name, as jdviz did. Run it where jdviz is installed or on PYTHONPATH."""

import torch

$imports
from jdviz import Recorder
from jdviz.problems import $finding

CONFIG = {
$config
}

torch.set_num_threads(1)  # another number of threads adds up in another order
$problem
data = problem.load($seed, conflict=$conflict)
model = problem.make_model($size, $seed)
optimizer = torch.optim.$optimizer
$generator$made

with Recorder(
    $name, config=CONFIG, objectives=problem.task_names
) as rec:$watched
    for step in range($steps):
        batch = problem.batch(data, step, $batch_size, $seed)
        optimizer.zero_grad()
        losses = problem.losses(model, batch)
        $differentiated
        optimizer.step()$logged
print(rec.hint)
''')


@dataclass(frozen=True)
class _Way:
    """The lines in which the ways to an update differ; `METHOD` stands for what makes it."""

    imports: str
    made: str
    differentiated: str
    logged: str
    watched: str = ""


_GRAMIAN_FIRST = _Way(
    imports="from engines.aggregation import METHODS\nfrom engines.autogram import Engine",
    made="weighting = METHOD\nengine = Engine(model, batch_dim=problem.batch_dim)",
    watched=f"\n    rec.watch(engine, layers_every={SHARES_EVERY})",
    differentiated="engine.backward(losses, weighting)",
    logged="\n        rec.log(sample_ids=batch.sample_ids)",
)
_JACOBIAN_FIRST = _Way(
    imports="from engines import autojac\n"
    "from engines.aggregation import METHODS, GramianWeightedAggregator",
    made="""\
weighting = METHOD
aggregator = GramianWeightedAggregator(weighting)
seen = {}
weighting.register_forward_hook(
    lambda _, inputs, weights: seen.update(gramian=inputs[0], weights=weights)
)""",
    differentiated="autojac.backward(losses, aggregator, inputs=model.parameters())",
    logged="\n        rec.log(losses, sample_ids=batch.sample_ids, **seen)",
)
_OF_JACOBIAN = _Way(
    imports="from engines import autojac\n"
    "from engines.aggregation import METHODS\n"
    "from engines.linalg import compute_gramian",
    made="""\
aggregator = METHOD
seen = {}
aggregator.register_forward_hook(
    lambda _, inputs, direction: seen.update(
        gramian=compute_gramian(inputs[0]),
        inner=inputs[0] @ direction,
        direction_norm=direction.norm(),
    )
)""",
    differentiated=_JACOBIAN_FIRST.differentiated,
    logged=_JACOBIAN_FIRST.logged,
)
_OPTIMIZERS = {
    "sgd": "SGD(model.parameters(), lr={rate!r})",
    "momentum": f"SGD(model.parameters(), lr={{rate!r}}, momentum={MOMENTUM!r})",
    "adam": "Adam(model.parameters(), lr={rate!r})",
}


def script(config: RunConfig) -> str:
    """Writes a script that trains what a configuration says, with public names alone.

    Of a run with both engines it makes the update, which is autogram's, and leaves out the
    comparison.

    Args:
        config: A valid configuration.

    Returns:
        The text. Run with the same versions on the same machine, it records the same losses as the
        run to the last bit, until the run diverges.
    """
    way = _GRAMIAN_FIRST
    if METHODS[config.aggregator].statistic != "gramian":
        way = _OF_JACOBIAN
    elif config.engine == "autojac":
        way = _JACOBIAN_FIRST
    problem = find_problem(config.problem)
    # An engine that is watched logs by itself; only the samples are left to tell, if there are any.
    says_nothing = way.watched and problem.objective_kind == "tasks"
    name = _literal(config.problem)
    own = f"choose([{name}])\nproblem = find_problem({name}).sized({config.batch_size})"
    return _SCRIPT.substitute(
        method_name=config.aggregator,
        imports=way.imports,
        finding="choose, find_problem" if is_own(config.problem) else "PROBLEMS",
        config="\n".join(f'    "{key}": {_literal(one)},' for key, one in config.to_dict().items()),
        problem=own if is_own(config.problem) else f"problem = PROBLEMS[{name}]",
        seed=config.seed,
        conflict=repr(config.conflict),
        size=_literal(config.size),
        optimizer=_OPTIMIZERS[config.optimizer].format(rate=config.learning_rate),
        generator=_generator(config),
        made=way.made.replace("METHOD", _method(config, aggregator=way is _OF_JACOBIAN), 1),
        name=_literal(f"{config.aggregator} on {config.problem}"),
        watched=way.watched,
        steps=config.steps,
        batch_size=config.batch_size,
        differentiated=way.differentiated,
        logged="" if says_nothing else way.logged,
    )


def _method(config: RunConfig, *, aggregator: bool) -> str:
    """The expression that makes the method of a run."""
    m = find_problem(config.problem).objectives(config.batch_size)
    drawn = ", generator=generator" if METHODS[config.aggregator].random else ""
    kind = "aggregator" if aggregator else "weighting"
    return f'METHODS["{config.aggregator}"].{kind}({m}{drawn})'


def _generator(config: RunConfig) -> str:
    """The line that makes the random numbers of a run's method; empty where it draws none."""
    if not METHODS[config.aggregator].random:
        return ""
    seed = seeded_generator(AGGREGATOR, config.seed).initial_seed()
    return f"generator = torch.Generator().manual_seed({seed})\n"


def _literal(value: Any) -> str:
    """A value as Python reads it; text in plain double quotes where nothing has to be escaped."""
    if isinstance(value, str) and re.fullmatch(r"[\w .:/-]*", value, re.ASCII):
        return f'"{value}"'
    return ascii(value)
