"""What is known of a problem without a step: what the engine would do, or why it does not."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from engines.errors import BatchMixedError
from jdviz.problems.own import ProblemError
from jdviz.problems.subjects import SUBJECTS
from jdviz.profiling import inspecting
from jdviz.profiling.inspecting import inspect_here
from tests.support.subjects import I, M, O, linear_subject


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """Puts a model in the place of the linear map."""

    def put(model: nn.Module) -> None:
        monkeypatch.setattr(inspecting, "find_subject", lambda name: linear_subject(model))

    return put


@pytest.mark.parametrize("problem", ["digits_cnn", "digits_two_tasks"])
def test_uses_are_those_that_the_engine_explains(problem: str) -> None:
    subject = SUBJECTS[problem]
    built = subject.build("small", 8)
    plan = Engine(built.model, batch_dim=subject.batch_dim).explain(built.losses())
    found = inspect_here(problem, "small", 8, threads=1)
    assert [(use.operation, use.rule, use.contraction) for use in found.uses] == [
        (use.operation, use.rule, use.contraction) for use in plan
    ]
    for use, expected in zip(found.uses, plan, strict=True):
        assert use.parameter == f"{expected.path}.{expected.parameter}"
        assert use.multiply_adds == expected.flops
        assert use.workspace_bytes == expected.workspace_bytes
        assert use.predicted_ms == 1e3 * expected.seconds
        assert use.reason == expected.reason
    names = {name for name, _ in built.model.named_parameters()}
    assert {use.parameter for use in found.uses} == names
    assert (found.refusal, found.unused) == ("", [])


def test_what_is_not_asked_for_is_as_the_problem_comes() -> None:
    subject = SUBJECTS["digits_mlp"]
    found = inspect_here("digits_mlp", None, None, threads=1)
    assert (found.size, found.batch_size) == (subject.default_size, subject.default_batch)
    assert (found.problem, found.title, found.summary) == (
        "digits_mlp",
        subject.title,
        subject.summary,
    )
    assert found.default_batch == subject.default_batch
    assert found.resizable
    assert found.objectives == subject.objectives(subject.default_batch)
    model = subject.build(subject.default_size, subject.default_batch).model
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())


class TwoLayers(nn.Module):
    """Has a layer that it does not use, and a frozen one that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(I, O, bias=False)
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Linear(O, O).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(self.used(x))


def test_parameters_that_the_objectives_do_not_reach_are_named(
    use: Callable[[nn.Module], None],
) -> None:
    use(TwoLayers())
    found = inspect_here("linear", "one", M, threads=1)
    assert found.unused == ["unused.weight", "unused.bias"]
    assert [one.parameter for one in found.uses] == ["used.weight"]
    assert found.parameters == O * I + 4 + 2


def test_a_parameter_of_the_model_itself_has_a_path_without_a_dot(
    use: Callable[[nn.Module], None],
) -> None:
    use(nn.Linear(I, O))
    found = inspect_here("linear", "one", M, threads=1)
    assert {one.parameter for one in found.uses} == {"weight", "bias"}


def test_a_model_that_mixes_samples_is_refused_in_the_engines_words(
    use: Callable[[nn.Module], None],
) -> None:
    model = nn.Sequential(nn.Linear(I, O), nn.BatchNorm1d(O))
    with pytest.raises(BatchMixedError) as caught:
        Engine(model, batch_dim=0).explain(model(torch.randn(M, I)).square().sum(1))
    use(model)
    found = inspect_here("linear", "one", M, threads=1)
    assert found.refusal == str(caught.value)
    assert "BatchNorm is in training mode" in found.refusal
    assert (found.uses, found.unused) == ([], [])
    assert (found.objectives, found.parameters) == (M, O * I + O + 2 * O)


@pytest.mark.parametrize(
    ("problem", "size", "batch_size", "sentence"),
    [
        ("mnist", None, None, "There is no problem 'mnist'; choose one of "),
        ("digits_mlp", "huge", None, "has no model size 'huge'; choose one of "),
        ("digits_mlp", None, 10**6, "Batch 1,000,000 is out of range; choose from 1 to "),
    ],
)
def test_what_cannot_be_built_is_a_sentence(
    problem: str, size: str | None, batch_size: int | None, sentence: str
) -> None:
    with pytest.raises(ProblemError, match=sentence):
        inspect_here(problem, size, batch_size, threads=1)
