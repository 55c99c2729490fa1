"""A visitor's own model: every way in which a factory can be wrong, and what a right one gives."""

import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from jdviz.problems import choose, find_problem, own_paths, own_problem, problem_names, registry
from jdviz.problems.own import VARIABLE, OwnModel, ProblemError, is_own, load_own
from jdviz.problems.workloads import Workload
from jdviz.training import ConfigError, RunConfig, train
from tests.structure.sources import ROOT

EXAMPLES = ROOT / "docs" / "examples"
RETURNS = "(model, inputs, loss_fn) or (model, inputs, loss_fn, batch_dim)"
HEAD = """
import sys
import torch
from torch import nn
from jdviz.problems.workloads import WORKLOADS

X = torch.ones(3, 2)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that writes a module into the folder the program was started in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    # Set first, so that whatever a test chooses is undone.
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(registry, "_LOOKED_AT", {})

    def write(body: str, name: str = "visitors_own") -> None:
        (tmp_path / f"{name}.py").write_text(HEAD + textwrap.dedent(body), "utf-8")

    yield write
    for name in set(sys.modules) - known:
        if name.startswith("visitors"):
            del sys.modules[name]


def refusal(path: str, **options: int) -> str:
    with pytest.raises(ProblemError) as caught:
        load_own(path, **options)
    start, _, rest = str(caught.value).partition(" could not be loaded: ")
    assert start == path
    assert "\n" not in rest
    assert ", expected " in rest
    assert "; " in rest
    return rest


@pytest.mark.parametrize("path", ["", ":", "a:", ":b", "a", "a.:b", "a:b:c", "a b:c", "a:b.c"])
def test_a_path_of_another_form(path):
    assert refusal(path) == (
        "it is no import path, expected package.module:factory; write it with one colon."
    )


def test_a_module_that_is_not_there(module):
    module("")
    assert refusal("visitors_absent:f").startswith("there is no module visitors_absent, expected")
    assert refusal("visitors_own.sub:f").startswith("there is no module visitors_own.sub,")


def test_a_module_that_imports_what_is_not_there(module):
    module("import a_library_of_theirs")
    assert refusal("visitors_own:f") == (
        "visitors_own imports a_library_of_theirs, which is not there, expected every module that "
        "it imports; install it."
    )


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ("1 / 0", "importing visitors_own raised ZeroDivisionError: division by zero"),
        ("def (", "importing visitors_own raised SyntaxError: invalid syntax"),
        ("sys.exit(3)", "importing visitors_own ended the program"),
    ],
)
def test_a_module_that_cannot_be_imported(module, body, got):
    module(body)
    assert refusal("visitors_own:f").startswith(got)


LINEAR = "def f(): return nn.Linear(2, 2), (X,), "
WRONG = [
    ("", "visitors_own has no f, expected the name of a factory"),
    ("f = 3", "it is of type int, expected a function"),
    ("def f(x): pass", "its factory cannot be called with nothing (missing a required argument"),
    ("def f(): raise KeyError", "the factory raised KeyError, expected it to return"),
    (
        "def f(): raise ValueError('one\\ntwo')",
        "the factory raised ValueError: one, expected it to return; correct it.",
    ),
    ("def f(): sys.exit()", "the factory ended the program, expected it to return"),
    ("def f(): pass", f"the factory returned None, expected {RETURNS}"),
    ("def f(): return nn.Linear(2, 2)", f"the factory returned a Linear, expected {RETURNS}"),
    ("def f(): return nn.Linear(2, 2), (X,)", f"the factory returned 2 values, expected {RETURNS}"),
    ("def f(): return nn.Linear, (X,), sum", "the model is a type, expected a torch.nn.Module"),
    (
        "def f(): return nn.Linear(2, 2), X, sum",
        "inputs is a Tensor, expected a tuple, or a function from the step number to one; "
        f"return {RETURNS}; write (x,) for one.",
    ),
    ("def f(): return nn.Linear(2, 2), [X], sum", "inputs is a list, expected a tuple, or"),
    (
        "def f(): return nn.Linear(2, 2), lambda step: X, sum",
        "inputs(0) returned a Tensor, expected a tuple",
    ),
    (
        "def f(): return nn.Linear(2, 2), lambda step: 1 / step, sum",
        "inputs(0) raised ZeroDivisionError: division by zero, expected it to return",
    ),
    (f"{LINEAR} None", "loss_fn is None, expected a function from the model's output to losses"),
    (f"{LINEAR} sum, '0'", "batch_dim is a str, expected a whole number or None"),
    (f"{LINEAR} sum, True", "batch_dim is True, expected a whole number or None"),
    ("def f(): return nn.ReLU(), (X,), sum", "the model has no trainable parameter, expected"),
    (
        "def f(): return nn.Linear(2, 2, device='meta'), (X,), sum",
        "the model is on meta, expected one on the CPU",
    ),
    (
        "def f(): return nn.Linear(3, 2), (X,), sum",
        "the model raised RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x2 and 3x2)",
    ),
    (f"{LINEAR} lambda o: o.nothing", "loss_fn raised AttributeError: 'Tensor' object has no"),
    (f"{LINEAR} lambda o: sys.exit()", "loss_fn ended the program, expected it to return"),
    (
        f"{LINEAR} list",
        "loss_fn returned a list, expected a tensor of objectives; return torch.stack(...) of "
        "them.",
    ),
    (f"{LINEAR} lambda o: 1.5", "loss_fn returned 1.5, expected a tensor of objectives"),
    (f"{LINEAR} lambda o: o.argmax(1)", "the objectives are of type int64, expected real"),
    (f"{LINEAR} lambda o: o.sum(1) + 0j", "the objectives are of type complex64, expected real"),
    (f"{LINEAR} lambda o: o.detach().sum(1)", "the objectives depend on no trainable parameter"),
    (f"{LINEAR} lambda o: o[:0].sum(1)", "there are no objectives, expected at least one"),
    (f"{LINEAR} lambda o: o[:0].sum(1), None", "there are no objectives, expected at least one"),
    (
        f"{LINEAR} lambda o: o.mean()",
        "the objectives have shape [] with batch_dim=0, expected one objective for each sample",
    ),
    (f"{LINEAR} lambda o: o, 1", "the objectives have shape [3, 2] with batch_dim=1, expected"),
    (
        f"{LINEAR} lambda o: o.sum(1), 1",
        "batch_dim is 1 and the objectives have shape [3], expected 0 or None",
    ),
]


@pytest.mark.parametrize(("body", "got"), WRONG)
def test_a_factory_that_is_wrong(module, body, got):
    module(body)
    assert refusal("visitors_own:f").startswith(got)


@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('cannot allocate memory')"])
@pytest.mark.parametrize("place", ["def f(): {}", "def f(): return nn.Linear(2, 2), (X,), g"])
def test_a_lack_of_memory_passes(module, error, place):
    module(f"def g(*given): raise {error}\n" + place.format("g()"))
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        load_own("visitors_own:f")
    assert not isinstance(caught.value, ProblemError)


def test_a_batch_that_cannot_be_had(module):
    module("""
        def fixed(): return nn.Linear(2, 2), (X,), lambda o: o.sum(1)
        def ignoring(batch_size=3): return fixed()
    """)
    assert load_own("visitors_own:fixed", batch_size=3).batch_size == 3
    assert refusal("visitors_own:fixed", batch_size=4) == (
        "its batch holds 3 samples, expected the 4 asked for; give the factory an argument "
        "batch_size."
    )
    assert refusal("visitors_own:ignoring", batch_size=4).startswith(
        "batch_size=4 gave 3 objectives, expected one for each sample"
    )


@pytest.mark.parametrize(
    ("returned", "batch_dim", "m"),
    [
        ("lambda o: o.sum(1)", 0, 3),
        ("lambda o: o.sum(1), -1", 0, 3),
        ("lambda o: o.sum(1), None", None, 3),
        ("lambda o: o, None", None, 6),
        ("lambda o: o.mean(), None", None, 1),
        ("lambda o: o.double().sum(1)", 0, 3),
    ],
)
def test_what_a_factory_may_return(module, returned, batch_dim, m):
    module(LINEAR + returned)
    own = load_own("visitors_own:f")
    assert isinstance(own, OwnModel)
    assert (own.path, own.batch_dim, own.objectives) == ("visitors_own:f", batch_dim, m)
    assert (own.batch_size, own.resizable) == (3, False)
    assert own.loss_fn(own.model(*own.at(7))).shape == (m,)
    assert own.at(0) is own.at(1)


@pytest.mark.parametrize("name", ["MLP", "make"])
def test_a_workload_is_taken_as_it_is(module, name):
    module("MLP = WORKLOADS['mlp']\ndef make(): return MLP")
    found = load_own(f"visitors_own:{name}")
    assert isinstance(found, Workload)
    assert found.key == "mlp"


def test_the_global_random_state_is_left_alone_and_not_read(module):
    module("""
        import random
        import numpy
        def f():
            scale = random.random() + numpy.random.rand()
            inputs = lambda step: (torch.randn(3, 2) + random.random(),)
            return nn.Sequential(nn.Linear(2, 2), nn.Dropout()), inputs, lambda o: scale * o.sum(1)
    """)

    def drawn(seed: int) -> list[torch.Tensor]:
        own = load_own("visitors_own:f", seed=seed)
        weight = own.model[0].weight.detach()
        return [weight, own.loss_fn(torch.ones(1, 2)), *own.at(0), *own.at(5)]

    torch.manual_seed(11)
    random.seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = drawn(2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])
    torch.rand(3)
    random.random()
    assert all(map(torch.equal, first, drawn(2)))
    assert not any(map(torch.equal, first, drawn(3)))
    assert not torch.equal(first[2], first[3])


def test_looking_at_the_objectives_leaves_running_statistics_alone(module):
    module("""
        def f():
            model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
            return model, (torch.randn(5, 2),), lambda o: o.square().mean(0), None
    """)
    norm = load_own("visitors_own:f").model[1]
    assert torch.equal(norm.running_mean, torch.zeros(2))
    assert norm.num_batches_tracked == 0


def test_a_file_beside_the_program_takes_no_librarys_place(module, tmp_path):
    for name in ("torch", "quadprog", "statistics", "jdviz"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('the wrong file')", "utf-8")
    module("import quadprog, statistics\n" + LINEAR + "lambda o: o.sum(1)")
    code = "from jdviz.problems.own import load_own; print(load_own('visitors_own:f').objectives)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_paths_are_chosen_once_each_and_inherited(module):
    choose(["a:f", "b.c:g"])
    choose(["b.c:g", "d:h"])
    assert own_paths() == ("a:f", "b.c:g", "d:h")
    assert os.environ[VARIABLE] == "a:f,b.c:g,d:h"
    with pytest.raises(ProblemError, match=r"^x could not be loaded: it is no import path"):
        choose(["e:f", "x"])
    assert own_paths() == ("a:f", "b.c:g", "d:h")
    os.environ[VARIABLE] = " a:f, ,a:f "
    assert own_paths() == ("a:f",)
    assert problem_names()[-1] == "a:f"
    assert is_own("a:f")
    assert not is_own("digits_mlp")


def test_only_a_chosen_path_is_imported(module):
    module("raise SystemError('imported')")
    with pytest.raises(ProblemError, match=r"^There is no problem 'visitors_own:f'; choose one"):
        find_problem("visitors_own:f")
    assert "visitors_own" not in sys.modules
    choose(["visitors_own:f"])
    with pytest.raises(ProblemError, match="raised SystemError: imported"):
        find_problem("visitors_own:f")


def test_a_problem_is_what_its_factory_made(module):
    module("""
        made = 0
        def f(batch_size=3):
            global made
            made += 1
            return nn.Linear(2, 2), (torch.randn(batch_size, 2),), lambda o: o.sum(1)
        def tasks(): return nn.Linear(2, 2), (X,), lambda o: o.mean(0), None
    """)
    choose(["visitors_own:f", "visitors_own:tasks"])
    problem = find_problem("visitors_own:f")
    assert find_problem("visitors_own:f") is problem
    assert sys.modules["visitors_own"].made == 1
    assert (problem.objective_kind, problem.default_batch, problem.max_batch) == ("samples", 3, 256)
    assert problem.objectives(7) == 7
    sized = problem.sized(5)
    model = sized.make_model("own", 4)
    losses = sized.losses(model, sized.batch(sized.load(4), 0, 5, 4))
    assert losses.shape == (5,)
    assert torch.equal(losses, model(load_own("visitors_own:f", 5, 4).at(0)[0]).sum(1))
    tasks = find_problem("visitors_own:tasks")
    assert (tasks.objective_kind, tasks.task_names) == ("tasks", ("objective 1", "objective 2"))
    assert tasks.batch(tasks.load(0), 0, 3, 0).sample_ids is None
    with pytest.raises(ValueError, match="comes with a batch of 3 and takes no other; give its"):
        tasks.check_batch(4)


def config(path: str, batch_size: int, engine: str = "autogram", steps: int = 4) -> RunConfig:
    return RunConfig(path, "own", batch_size, "sgd", 0.1, engine, "UPGrad", 3, steps)


def test_equal_runs_are_equal_also_where_the_model_draws(module):
    module("""
        def f(batch_size=3):
            model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(), nn.Linear(8, 1))
            return model, lambda step: (torch.randn(batch_size, 2),), lambda o: o.square().sum(1)
    """)
    choose(["visitors_own:f"])
    first, again = (list(train(config("visitors_own:f", 6))) for _ in range(2))
    assert [one.losses.tolist() for one in first] == [one.losses.tolist() for one in again]
    assert first[0].sample_ids.tolist() == list(range(6))
    full = list(train(config("visitors_own:f", 6, engine="autojac")))
    for one, other in zip(first, full, strict=True):
        np.testing.assert_allclose(one.gramian, other.gramian, rtol=1e-4, atol=1e-5)


def test_a_step_with_other_objectives_ends_the_run_with_a_sentence(module):
    module("""
        def f():
            inputs = lambda step: (torch.ones(3 if step < 2 else 4, 2),)
            return nn.Linear(2, 2), inputs, lambda o: o.square().sum(1)
    """)
    choose(["visitors_own:f"])
    records = train(config("visitors_own:f", 3))
    assert [next(records).step, next(records).step] == [0, 1]
    with pytest.raises(ProblemError, match=r"step 2 gave objectives of shape \(4,\), expected 3"):
        next(records)


def test_a_configuration_says_why_a_problem_cannot_be_trained(module):
    module("def f(): raise ValueError('no data')")
    choose(["visitors_own:f"])
    with pytest.raises(ConfigError, match=r"^visitors_own:f could not be loaded: the factory rai"):
        config("visitors_own:f", 3).validate()
    with pytest.raises(ConfigError, match=r"^There is no problem 'os:system'; choose one of"):
        config("os:system", 3).validate()


def test_a_model_of_another_problem_is_refused(module):
    problem = own_problem("a:f", batch_dim=0, batch_size=2, objectives=2, resizable=False)
    with pytest.raises(ProblemError, match="got a model or a batch of another problem"):
        problem.losses(nn.Linear(2, 2), problem.batch(problem.load(0), 0, 2, 0))


def test_more_objectives_than_a_run_can_record():
    of_samples = own_problem("a:f", batch_dim=0, batch_size=300, objectives=300, resizable=True)
    assert (of_samples.default_batch, of_samples.max_batch) == (256, 256)
    for batch_dim in (0, None):
        fixed = own_problem(
            "a:f", batch_dim=batch_dim, batch_size=300, objectives=300, resizable=False
        )
        with pytest.raises(ValueError, match="has 300 objectives at every step, expected at most"):
            fixed.check_batch(300)


@pytest.mark.parametrize(
    ("name", "m", "batch_dim", "resizable"),
    [("two_tasks", 2, None, False), ("each_sample", 32, 0, True), ("fresh_batches", 16, 0, True)],
)
def test_the_documented_example_from_a_folder_outside(tmp_path, name, m, batch_dim, resizable):
    (tmp_path / "own_models.py").write_text((EXAMPLES / "own_models.py").read_text("utf-8"))
    code = (
        "from jdviz.problems.own import load_own; from jdviz.training import RunConfig, train\n"
        f"own = load_own('own_models:{name}')\n"
        f"config = RunConfig(own.path, 'own', own.batch_size, 'sgd', 0.1, 'autogram', 'UPGrad', 3, "
        "30)\n"
        "losses = [record.losses.mean() for record in train(config)]\n"
        "print((own.objectives, own.batch_dim, own.resizable), losses[-1] < 0.9 * losses[0])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: f"own_models:{name}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{(m, batch_dim, resizable)} True\n", "")


def test_the_document_shows_the_example():
    example = (EXAMPLES / "own_models.py").read_text("utf-8")
    assert f"```python\n{example}```\n" in (ROOT / "docs" / "own-models.md").read_text("utf-8")
