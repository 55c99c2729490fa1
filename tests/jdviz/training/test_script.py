"""The code of a run trains what the run trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jdviz.problems import PROBLEMS
from jdviz.runs import RunStore
from jdviz.training import RunConfig, engines_for, train, trainable_methods
from jdviz.training.script import script

BASE = RunConfig(
    problem="digits_mlp",
    size="small",
    batch_size=8,
    optimizer="sgd",
    learning_rate=0.05,
    engine="autogram",
    aggregator="UPGrad",
    seed=3,
    steps=7,
    conflict=0.25,
)
CASES = [
    BASE,
    replace(BASE, engine="both", aggregator="PCGrad", optimizer="momentum"),
    replace(BASE, engine="autojac", aggregator="GradDrop", problem="digits_cnn"),
    replace(BASE, engine="autojac", optimizer="adam", problem="digits_two_tasks"),
    replace(BASE, problem="conflict_regression", aggregator="NashMTL"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JDVIZ_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "config", CASES, ids=lambda one: f"{one.engine}-{one.aggregator}-{one.optimizer}"
)
def test_the_script_gives_the_same_run_to_the_last_bit(
    config: RunConfig, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    try:
        exec(compile(script(config), "script.py", "exec"), {"__name__": "__main__"})
        expected = list(train(config))
    finally:
        torch.set_num_threads(before)
    store = RunStore(folder / "runs.sqlite")
    (run,) = store.runs()
    assert (run.status, run.steps, run.source) == ("finished", config.steps, "recorder")
    assert RunConfig.from_dict(run.config) == config
    assert run.run_id in capsys.readouterr().out
    for one in expected:
        record = store.record(run.run_id, one.step)
        assert record is not None
        np.testing.assert_array_equal(record.losses, one.losses)
        # Which of two engines adds up, and in which dtype, is another matter than what it adds up.
        scale = np.abs(one.gramian).max()
        np.testing.assert_allclose(record.gramian, one.gramian, atol=1e-6 * scale)
        np.testing.assert_allclose(record.direction_norm, one.direction_norm, rtol=1e-5)
        if one.sample_ids is not None:
            np.testing.assert_array_equal(record.sample_ids, one.sample_ids)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("aggregator", trainable_methods())
def test_every_script_is_short_and_uses_public_names(problem: str, aggregator: str) -> None:
    for engine in engines_for(aggregator):
        text = script(replace(BASE, problem=problem, aggregator=aggregator, engine=engine))
        compile(text, "script.py", "exec")
        lines = text.splitlines()
        assert len(lines) <= 55
        assert max(map(len, lines)) <= 100
        imported = [line for line in lines if line.startswith(("import ", "from "))]
        rooms = {line.split()[1] for line in imported}
        public = {"engines", "engines.aggregation", "engines.autogram", "engines.linalg"}
        assert rooms <= {"torch", "jdviz", "jdviz.problems", *public}


def test_the_name_of_a_problem_cannot_become_code(monkeypatch: pytest.MonkeyPatch) -> None:
    name = 'package"); import os  # é:factory'
    own = replace(BASE, problem=name, size="own")
    monkeypatch.setattr("jdviz.training.script.find_problem", lambda _: PROBLEMS["digits_mlp"])
    text = script(own)
    assert f"choose([{name!a}])\nproblem = find_problem({name!a}).sized(8)\n" in text
    assert text.isascii()
    assert "from jdviz.problems import choose, find_problem\n" in text
