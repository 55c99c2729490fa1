"""Structure tests: with a reading that is kept, no step looks at numbers before its weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engines.autogram import Engine
from tests.support.cases import CASES, Case
from tests.support.plans import force
from tests.support.readback import NoReadBack, ReadBackError, as_on_an_accelerator
from tests.support.reference import reference_gramian
from tests.support.steps import spread
from tests.support.tolerances import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")

# Read by numbers at every call, as their time steps are parts of one tensor, by sizes that the node
# does not show.
ASKED = {"gru", "rnn"}
remembered = pytest.mark.parametrize("case", [c for c in CASES if c.id not in ASKED])


def _remembers(engine: Engine) -> bool:
    return bool(engine._reader._kept)


def test_which_readings_are_kept() -> None:
    asked = set()
    for parameter in CASES:
        model, x = parameter.values[0].build()
        engine = Engine(model, batch_dim=0)
        engine.compute_gramian(parameter.values[0].losses(model, x))
        if not _remembers(engine):
            asked.add(parameter.id)
    assert asked == ASKED


@pytest.mark.parametrize("batch_dim", [0, None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@remembered
def test_a_gramian_is_made_without_looking(
    case: Case, dtype: torch.dtype, batch_dim: int | None
) -> None:
    model, x = case.build(dtype)
    engine = Engine(model, batch_dim=batch_dim)
    engine.compute_gramian(case.losses(model, x))
    assert _remembers(engine)
    losses = case.losses(model, x)
    found: list[Tensor] = []
    as_on_an_accelerator(lambda _: found.append(engine.compute_gramian(losses)))
    assert_close(found[0], reference_gramian(losses, model.parameters()), dtype)


@remembered
def test_every_plan_without_looking(case: Case) -> None:
    model, x = case.build()
    for number in range(6):
        engine = Engine(model, batch_dim=0)
        with pytest.MonkeyPatch.context() as patched:
            force(patched, lambda _, ways, number=number: ways[number % len(ways)])
            engine.compute_gramian(case.losses(model, x))
        losses = case.losses(model, x)
        found: list[Tensor] = []

        def call(
            _: object, losses: Tensor = losses, engine: Engine = engine, found: list[Tensor] = found
        ) -> None:
            found.append(engine.compute_gramian(losses))

        as_on_an_accelerator(call)
        assert_close(found[0], reference_gramian(losses, model.parameters()))


@remembered
def test_a_step_looks_at_nothing_before_its_weights(case: Case) -> None:
    model, x = case.build()
    engine = Engine(model, batch_dim=0)
    engine.backward(case.losses(model, x), spread)
    model.zero_grad()
    losses = case.losses(model, x)

    def call(mode: NoReadBack) -> None:
        def weighting(gramian: Tensor) -> Tensor:
            # Whether gradients are finite is asked once the weights are known.
            mode.allowed = True
            return spread(gramian)

        engine.backward(losses, weighting)

    as_on_an_accelerator(call)


LOOKS: dict[str, Callable[[Tensor], object]] = {
    "a condition": lambda x: bool(x.sum() > 0),
    "a list": lambda x: x.tolist(),
    "distinct numbers": lambda x: x.unique(),
    "a mask": lambda x: x[x > 0],
    "a number": lambda x: float(x[0]),
}


@pytest.mark.parametrize("look", LOOKS)
def test_the_tool_sees(look: str) -> None:
    with pytest.raises(ReadBackError):
        as_on_an_accelerator(lambda _: LOOKS[look](torch.ones(3)))
