"""What a configuration accepts, and the sentence with which it refuses the rest."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from jdviz.problems import PROBLEMS
from jdviz.training import ConfigError, RunConfig

GOOD = RunConfig(
    problem="digits_mlp",
    size="small",
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.1,
    engine="autogram",
    aggregator="UPGrad",
    seed=0,
    steps=10,
    conflict=0.0,
)


def test_a_good_configuration_passes_and_survives_json() -> None:
    GOOD.validate()
    assert RunConfig.from_dict(json.loads(json.dumps(GOOD.to_dict()))) == GOOD


@pytest.mark.parametrize("key", PROBLEMS)
def test_the_defaults_of_every_problem_pass(key: str) -> None:
    problem = PROBLEMS[key]
    for size in problem.sizes:
        replace(
            GOOD,
            problem=key,
            size=size,
            batch_size=problem.default_batch,
            learning_rate=problem.default_learning_rate,
        ).validate()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"problem": "mnist"}, "There is no problem 'mnist'; choose one of digits_mlp"),
        ({"size": "huge"}, "no model size .* 'huge'; choose one of small, medium, large"),
        ({"batch_size": 5000}, "Batch 5,000 is larger than the 1,797 .*; choose at most 256"),
        ({"batch_size": 512}, "would make 512 objectives at every step .* at most 256"),
        ({"batch_size": 0}, "Batch 0 holds no sample; choose from 1 to 256"),
        ({"optimizer": "lion"}, "no optimizer 'lion'; choose one of sgd, momentum, adam"),
        ({"engine": "autograd"}, "no engine 'autograd'; choose one of autogram, autojac, both"),
        ({"aggregator": "Best"}, "no aggregator 'Best'; choose one of .*UPGrad"),
        (
            {"aggregator": "GradDrop"},
            "GradDrop works on the Jacobian, which autogram does not build; .* engine autojac",
        ),
        (
            {"aggregator": "GradDrop", "engine": "both"},
            "GradDrop works on the Jacobian, which autogram does not build; .* engine autojac",
        ),
        ({"aggregator": "MoDo"}, "MoDo wants two independent batches .*; choose one of UPGrad, "),
        (
            {"aggregator": "Krum", "problem": "digits_two_tasks"},
            "Krum needs at least 3 objectives, and this run has 2; choose another",
        ),
        ({"learning_rate": 0.0}, "Learning rate 0 is not a positive number"),
        ({"learning_rate": float("nan")}, "Learning rate nan is not a positive number"),
        ({"seed": -1}, "Seed -1 is out of range"),
        ({"steps": 0}, "Number of steps 0 is out of range; choose .* from 1 to 1,000,000"),
        ({"conflict": 1.5}, "Conflict 1.5 is outside 0 to 1"),
        ({"conflict": float("nan")}, "Conflict nan is outside 0 to 1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_value_is_refused_in_one_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        replace(GOOD, **change).validate()
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"speed": 3}, "unknown entries speed"),
        ({"steps": "ten"}, "steps is 'ten'; give a whole number"),
        ({"steps": 2.5}, "steps is 2.5; give a whole number"),
        ({"seed": True}, "seed is True; give a whole number"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; give a number"),
        ({"problem": 3}, "problem is 3; give a name"),
    ],
)
def test_a_dictionary_of_the_wrong_form_is_refused(
    change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        RunConfig.from_dict({**GOOD.to_dict(), **change})


def test_a_missing_entry_is_named_and_conflict_may_be_missing() -> None:
    values = GOOD.to_dict()
    del values["conflict"]
    assert RunConfig.from_dict(values) == GOOD
    del values["seed"]
    with pytest.raises(ConfigError, match="lacks seed"):
        RunConfig.from_dict(values)


def test_a_whole_learning_rate_becomes_a_real_number() -> None:
    config = RunConfig.from_dict({**GOOD.to_dict(), "learning_rate": 1})
    assert isinstance(config.learning_rate, float)


def test_configurations_and_records_do_not_load_torch() -> None:
    code = "import sys, jdviz.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
