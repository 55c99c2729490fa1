"""Reference tests of the fused step against its two-pass form, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engines.aggregation import UPGradWeighting
from engines.autogram import Engine
from tests.support.architectures import ARCHITECTURES, Architecture
from tests.support.cases import CASES, Case
from tests.support.steps import (
    Scene,
    assert_same_gradients,
    assert_same_step,
    both_modes,
    draw,
    spread,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def _losses(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().flatten(1).sum(1)


def _scene() -> Scene:
    model = _mlp()
    return Scene((model,), _losses(model, draw(6, 4)))


@both_modes
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES)
def test_a_step_of_every_case(case: Case, dtype: torch.dtype, batch_dim: int | None) -> None:
    # The same layer can be another node in another dtype.
    def make() -> Scene:
        model, x = case.build(dtype)
        return Scene((model,), case.losses(model, x))

    assert_same_step(make, batch_dim, dtype=dtype)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.id)
def test_a_step_of_every_architecture(architecture: Architecture) -> None:
    def make() -> Scene:
        model, inputs = architecture.build(torch.float64)
        return Scene((model,), architecture.losses(model, inputs))

    assert_same_step(make)


@pytest.mark.parametrize(
    ("shape", "batch_dim"),
    [((6, 3), 0), ((6, 3), 1), ((6, 3), -1), ((6, 3), None), ((2, 3, 3), 1), ((6, 1), 0)],
)
def test_losses_of_several_dimensions(shape: tuple[int, ...], batch_dim: int | None) -> None:
    def make() -> Scene:
        model = _mlp()
        y = model(draw(6, 4)).square()
        if shape == (2, 3, 3):
            # Samples in the second dimension of three.
            y = torch.stack([model(draw(3, 4)).square(), model(draw(3, 4))])
        elif batch_dim in (1, -1):
            model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6)).double()
            y = model(draw(3, 4)).square().T
        return Scene((model,), y[..., : shape[-1]])

    assert_same_step(make, batch_dim)


def test_a_scalar_loss() -> None:
    def make() -> Scene:
        model = _mlp()
        return Scene((model,), _losses(model, draw(6, 4)).mean())

    assert_same_step(make, None, weights=lambda gramian: 2 * torch.ones_like(gramian))


def test_one_sample_and_one_objective() -> None:
    def make() -> Scene:
        model = _mlp()
        return Scene((model,), _losses(model, draw(1, 4)))

    assert_same_step(make, 0)


def test_no_sample_at_all() -> None:
    model = _mlp()
    step = Engine(model, batch_dim=0).backward(_losses(model, draw(0, 4)), spread)
    assert step.gramian.shape == (0, 0)
    assert step.weights.shape == (0,)
    plain = _mlp()
    _losses(plain, draw(0, 4)).backward(torch.zeros(0, dtype=torch.float64))
    assert_same_gradients(
        [p.grad for p in model.parameters()], [p.grad for p in plain.parameters()]
    )


@pytest.mark.parametrize("how", ["cat", "index_add"])
@both_modes
def test_an_expert_that_sees_no_sample(how: str, batch_dim: int | None) -> None:
    # Autograd gives its parameters zeros, not nothing: an optimizer with momentum moves them.
    def make() -> Scene:
        used, idle = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
        x = draw(6, 4)
        y = used(x)
        if how == "cat":
            y = torch.cat([y, idle(x[:0])])
        else:
            y = y.index_add(0, torch.zeros(0, dtype=torch.long), idle(x[:0]))
        return Scene((used, idle), y.square().sum(1))

    assert_same_step(make, batch_dim)


def test_gradients_are_added_to_what_is_there() -> None:
    torch.manual_seed(0)
    model = _mlp()
    x = draw(6, 4)
    engine = Engine(model, batch_dim=0)
    engine.backward(_losses(model, x), spread)
    once = [p.grad.clone() for p in model.parameters()]
    there = [p.grad for p in model.parameters()]
    engine.backward(_losses(model, x), spread)
    for parameter, first, tensor in zip(model.parameters(), once, there, strict=True):
        # In place, as autograd does: an optimizer or a bucket may hold the tensor.
        assert parameter.grad is tensor
        torch.testing.assert_close(parameter.grad, 2 * first, rtol=1e-14, atol=0)


@both_modes
def test_gradients_do_not_alias(batch_dim: int | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    Engine(model, batch_dim=batch_dim).backward(_losses(model, draw(4, 3)), spread)
    storages = [p.grad.untyped_storage().data_ptr() for p in model.parameters()]
    assert len(set(storages)) == len(storages)
    for parameter in model.parameters():
        assert parameter.grad.is_contiguous()
        assert not parameter.grad.requires_grad


@both_modes
def test_parameters_outside_the_engine(batch_dim: int | None) -> None:
    def make() -> Scene:
        before, inside, after = (nn.Linear(4, 4).double() for _ in range(3))
        unused, frozen = nn.Linear(4, 4).double(), nn.Linear(4, 4).double().requires_grad_(False)
        x = draw(6, 4).requires_grad_()
        h = frozen(torch.tanh(inside(torch.tanh(before(x)))))
        losses = after(h).square().sum(1)
        outside = [p for m in (before, after, unused, frozen) for p in m.parameters()]
        return Scene((inside,), losses, (x, *outside))

    fused = assert_same_step(make, batch_dim)
    assert sum(leaf.grad is None for leaf in fused.everything) == 4


@both_modes
def test_a_parameter_shared_with_a_module_outside(batch_dim: int | None) -> None:
    def make() -> Scene:
        inside, outside = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
        outside.weight = inside.weight
        losses = outside(torch.tanh(inside(draw(6, 4)))).square().sum(1)
        return Scene((inside,), losses, tuple(outside.parameters()))

    assert_same_step(make, batch_dim)


def test_parameters_that_the_losses_do_not_reach_stay_without_gradient() -> None:
    def make() -> Scene:
        model = nn.ModuleDict({"used": _mlp(), "idle": _mlp()})
        return Scene((model,), _losses(model["used"], draw(6, 4)))

    fused = assert_same_step(make)
    assert [leaf.grad is None for leaf in fused.everything] == [False] * 4 + [True] * 4


@both_modes
def test_a_function_that_cuts_the_gradient(batch_dim: int | None) -> None:
    class Cut(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor, y: Tensor) -> Tensor:
            return x + y

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
            return gradient, None

    def make() -> Scene:
        used, cut, head = (nn.Linear(4, 4).double() for _ in range(3))
        x = draw(6, 4)
        return Scene((used, cut, head), head(Cut.apply(used(x), cut(x))).square().sum(1))

    fused = assert_same_step(make, batch_dim)
    assert sum(leaf.grad is None for leaf in fused.everything) == 2


@both_modes
def test_a_function_whose_backward_is_not_linear(batch_dim: int | None) -> None:
    class Clip(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return gradient.clamp(-0.1, 0.1)

    def make() -> Scene:
        first, second = nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
        return Scene((first, second), second(Clip.apply(first(draw(6, 4)))).square().sum(1))

    assert_same_step(make, batch_dim)


@both_modes
@pytest.mark.parametrize("inside", [True, False])
def test_a_checkpoint(batch_dim: int | None, inside: bool) -> None:
    def make() -> Scene:
        first, second, third = (nn.Linear(4, 4).double() for _ in range(3))
        h = checkpoint(lambda x: torch.tanh(second(first(x))), draw(6, 4), use_reentrant=False)
        modules = (first, second, third) if inside else (third,)
        outside = [p for m in (first, second) for p in m.parameters()]
        return Scene(modules, third(h).square().sum(1), tuple(outside))

    assert_same_step(make, batch_dim)


@both_modes
@pytest.mark.parametrize("together", [False, True])
def test_sparse_tables_get_sparse_gradients(batch_dim: int | None, together: bool) -> None:
    def make() -> Scene:
        table = nn.Embedding(7, 4, sparse=True).double()
        indices = torch.randint(7, (5, 3))
        h = table(indices)
        h = h + table(6 - indices) if together else h
        return Scene((table,), h.tanh().square().sum((1, 2)))

    fused = assert_same_step(make, batch_dim)
    assert fused.everything[0].grad.layout == torch.sparse_coo


@both_modes
@pytest.mark.parametrize("padding", [None, 1])
@pytest.mark.parametrize("lookup_last", [False, True])
def test_a_sparse_table_tied_to_its_head(
    batch_dim: int | None, padding: int | None, lookup_last: bool
) -> None:
    # Whichever is nearer to the losses is met first.
    def make() -> Scene:
        table = nn.Embedding(9, 4, sparse=True, padding_idx=padding).double()
        indices = torch.randint(9, (5, 3))
        if lookup_last:
            h = (draw(5, 3, 4) @ table.weight.T).tanh().tanh().sum(2, keepdim=True) + table(indices)
        else:
            h = table(indices).tanh() @ table.weight.T
        return Scene((table,), h.square().sum((1, 2)))

    assert_same_step(make, batch_dim)


def test_one_table_sparse_here_and_dense_there() -> None:
    def make() -> Scene:
        table = nn.Embedding(7, 4).double()
        indices = torch.randint(7, (5, 3))
        sparse = F.embedding(indices, table.weight, sparse=True)
        dense = F.embedding(indices.flip(0), table.weight)
        return Scene((table,), (sparse * dense).tanh().square().sum((1, 2)))

    assert_same_step(make)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@both_modes
def test_a_model_in_half_precision(dtype: torch.dtype, batch_dim: int | None) -> None:
    def make() -> Scene:
        model = _mlp().to(dtype)
        x = draw(6, 4).to(dtype)
        return Scene((model,), model(x).float().square().sum(1))

    fused = assert_same_step(make, batch_dim, dtype=dtype)
    assert {leaf.grad.dtype for leaf in fused.everything} == {dtype}


@both_modes
def test_autocast(batch_dim: int | None) -> None:
    def make() -> Scene:
        model = _mlp().float()
        with torch.autocast("cpu", torch.bfloat16):
            y = model(draw(6, 4).float())
        return Scene((model,), y.float().square().sum(1))

    assert_same_step(make, batch_dim, dtype=torch.bfloat16)
    torch.manual_seed(0)
    scene = make()
    with torch.autocast("cpu", torch.bfloat16):
        step = Engine(*scene.modules, batch_dim=batch_dim).backward(scene.losses, spread)
    assert step.gramian.dtype == torch.float32
    assert {leaf.grad.dtype for leaf in scene.everything} == {torch.float32}


@both_modes
def test_float64_losses_of_a_float32_model(batch_dim: int | None) -> None:
    def make() -> Scene:
        model = _mlp().float()
        return Scene((model,), model(draw(6, 4).float()).double().square().sum(1))

    fused = assert_same_step(make, batch_dim, dtype=torch.float32)
    assert {leaf.grad.dtype for leaf in fused.everything} == {torch.float32}


@both_modes
def test_models_of_several_dtypes(batch_dim: int | None) -> None:
    def make() -> Scene:
        wide, single, half = nn.Linear(4, 4).double(), nn.Linear(4, 4), nn.Linear(4, 3).bfloat16()
        h = single(torch.tanh(wide(draw(6, 4))).float())
        return Scene((wide, half), half(h.bfloat16()).float().square().sum(1), (single.weight,))

    assert_same_step(make, batch_dim, dtype=torch.bfloat16)


@both_modes
def test_complex_parameters(batch_dim: int | None) -> None:
    def make() -> Scene:
        module = nn.Module()
        module.weight = nn.Parameter(torch.randn(4, dtype=torch.complex128))
        layer = nn.Linear(4, 4).double()
        h = layer(draw(6, 4)) + 0j
        return Scene((module, layer), (h * module.weight).sum(1).abs())

    assert_same_step(make, batch_dim)


@both_modes
def test_a_compiled_part_that_allows_a_further_pass(batch_dim: int | None) -> None:
    def make() -> Scene:
        first, second = nn.Linear(4, 4).double(), nn.Linear(4, 3).double()
        part = torch.compile(first, backend="eager")
        return Scene((first, second), second(torch.tanh(part(draw(6, 4)))).square().sum(1))

    assert_same_step(make, batch_dim)


class _Counting(nn.Module):
    """A weighting that says how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, gramian: Tensor) -> Tensor:
        self.calls += 1
        return spread(gramian)


def test_the_weighting_is_called_once_as_a_module() -> None:
    torch.manual_seed(0)
    weighting, seen = _Counting(), []
    weighting.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    weighting.register_forward_hook(lambda *_: seen.append(_[2]))
    scene = _scene()
    step = Engine(*scene.modules, batch_dim=0).backward(scene.losses, weighting)
    assert weighting.calls == 1
    assert torch.equal(seen[0], step.gramian)
    assert torch.equal(seen[1], step.weights)


def test_what_the_weighting_returns_does_not_carry_a_graph() -> None:
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    scene = _scene()
    step = Engine(*scene.modules, batch_dim=0).backward(scene.losses, lambda g: scale * spread(g))
    assert not step.weights.requires_grad
    assert scale.grad is None


@both_modes
def test_a_parameter_frozen_after_the_forward_pass(batch_dim: int | None) -> None:
    def make() -> Scene:
        scene = _scene()
        scene.modules[0][0].weight.requires_grad_(False)
        return scene

    fused = assert_same_step(make, batch_dim)
    assert [leaf.grad is None for leaf in fused.everything] == [True, False, False, False]


def test_a_weighting_may_write_over_its_gramian() -> None:
    def weighting(gramian: Tensor) -> Tensor:
        weights = spread(gramian)
        gramian.fill_(torch.nan)
        return weights

    torch.manual_seed(0)
    scene = _scene()
    Engine(*scene.modules, batch_dim=0).backward(scene.losses, weighting)
    assert all(leaf.grad.isfinite().all() for leaf in scene.everything)


@pytest.mark.parametrize("wrong", ["shape", "type", "complex", "callable", "raises"])
def test_wrong_weights_leave_everything_as_it_was(wrong: str) -> None:
    def fails(_: Tensor) -> Tensor:
        raise KeyError("from the weighting")

    given, error, says = {
        "shape": (lambda g: g.sum(0)[:-1], ValueError, "shape"),
        "type": (lambda g: g.sum(0).tolist(), TypeError, "list from the weighting"),
        "complex": (lambda g: spread(g) + 0j, TypeError, "complex"),
        "callable": (torch.ones(6), TypeError, "callable"),
        "raises": (fails, KeyError, "from the weighting"),
    }[wrong]
    scene = _scene()
    with pytest.raises(error, match=says):
        Engine(*scene.modules, batch_dim=0).backward(scene.losses, given)
    assert all(leaf.grad is None for leaf in scene.everything)


def test_a_graph_that_is_retained_serves_again() -> None:
    torch.manual_seed(0)
    scene = _scene()
    engine = Engine(*scene.modules, batch_dim=0)
    engine.backward(scene.losses, spread, retain_graph=True)
    once = [leaf.grad.clone() for leaf in scene.everything]
    engine.backward(scene.losses, spread)
    assert_same_gradients([leaf.grad for leaf in scene.everything], [2 * g for g in once])
    with pytest.raises(ValueError, match=r"freed|second time"):
        engine.backward(scene.losses, spread)
    with pytest.raises(RuntimeError, match="second time"):
        scene.losses.sum().backward()


def test_upgrad_on_a_step() -> None:
    assert_same_step(_scene, weights=UPGradWeighting())
