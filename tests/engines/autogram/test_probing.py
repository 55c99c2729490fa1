"""Reference tests of operations that are asked by numbers, and of what looks like samples."""

import cProfile
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.autogram import Engine
from engines.errors import BatchMixedError
from tests.support.reference import reference_gramian, reference_jacobian
from tests.support.tolerances import assert_close

B = 4


def _data(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def _exact(losses: Tensor, *modules: nn.Module, batch_dim: int | None = 0) -> None:
    parameters = [p for module in modules for p in module.parameters()]
    found = Engine(*modules, batch_dim=batch_dim).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, parameters))


BROADCASTING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logaddexp": torch.logaddexp,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "hypot": torch.hypot,
    "atan2": torch.atan2,
    "copysign": torch.copysign,
    "ldexp": torch.ldexp,
    "xlogy": lambda x, p: torch.special.xlogy(x, p.exp()),
    "lerp": lambda x, p: torch.lerp(x, x.tanh(), p),
    "addcmul": lambda x, p: torch.addcmul(x, x, p),
    "addcdiv": lambda x, p: torch.addcdiv(p, x, p.exp()),
    "float_power": lambda x, p: torch.float_power(x.abs() + 1, p),
}


@pytest.mark.parametrize("operation", BROADCASTING)
@pytest.mark.parametrize("shape", [(B,), (1, B), (B + 2,), (1, B + 2), ()], ids=str)
def test_an_operand_that_is_broadcast(operation: str, shape: tuple[int, ...]) -> None:
    # A vector with as many entries as there are samples is one entry per feature all the same.
    torch.manual_seed(0)
    width = shape[-1] if shape else B
    stem, make = nn.Linear(3, width).double(), nn.Linear(2, 1).double()
    operand = make(_data(*(shape or (1,)), 2)).squeeze(-1).reshape(shape)
    for h in (stem(_data(B, 3)), _data(B, width)):
        losses = BROADCASTING[operation](h, operand).square().sum(1)
        _exact(losses, make, *([stem] if h.requires_grad else []))


def test_coordinates_decide_what_goes_where_anew_at_every_call() -> None:
    torch.manual_seed(1)
    layer = nn.Linear(3, 2).double()
    image, weights = _data(2, 3), torch.tensor([1.0, 2.0], dtype=torch.float64)
    engine = Engine(layer, batch_dim=0)
    for rows in ((-0.9, 0.9), (0.9, -0.9), (0.9, 0.8)):
        grid = torch.tensor([[[[0.5, rows[0]], [0.5, rows[1]]]]], dtype=torch.float64)
        sampled = F.grid_sample(
            layer(image)[None, None], grid, mode="nearest", align_corners=True
        ).view(-1)
        losses = sampled.square() * weights
        if rows[1] == 0.8:
            with pytest.raises(BatchMixedError, match="GridSampler2D works across the batch"):
                engine.compute_gramian(losses)
        else:
            expected = reference_gramian(losses, layer.parameters())
            assert_close(engine.compute_gramian(losses), expected)


def test_an_empty_result_hides_no_other_result() -> None:
    torch.manual_seed(2)
    layer = nn.Linear(3, 3).double()
    h = layer(_data(B, 3))
    empty, whole = torch.split(h, [0, B])
    with pytest.raises(BatchMixedError):
        Engine(layer, batch_dim=0).compute_gramian(h.square().sum(1) + whole.mean() + empty.sum())
    _exact(whole.square().sum(1) + empty.sum(), layer)


class _Clipped(torch.autograd.Function):
    """Acts in place; its backward is not linear and looks at the whole batch."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        largest = gradient.abs().max()
        return gradient / (1e-6 + (largest if largest < 0.4 else 1.0))


def test_python_code_inside_a_write_to_a_part() -> None:
    torch.manual_seed(3)
    layer = nn.Linear(8, 8).double()
    h = layer(_data(B, 8)).clone()
    _Clipped.apply(h[:, :4])
    _exact(1e-2 * h.square().sum(1) * torch.arange(1.0, 5.0, dtype=torch.float64), layer)


@pytest.mark.parametrize("where", ["prehook", "hook", "module"])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
def test_hooks_on_a_use_when_there_is_one_sample(where: str, deep: bool) -> None:
    torch.manual_seed(4)
    layer, second = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()
    if where == "module":
        layer.register_backward_hook(
            lambda _, sent, __: tuple(None if g is None else 2 * g for g in sent)
        )
    h = layer(second(_data(B, 3)) if deep else _data(B, 3))
    if where == "prehook":
        h.grad_fn.register_prehook(lambda gradients: (2 * gradients[0],))
    if where == "hook":
        h.grad_fn.register_hook(lambda sent, _: tuple(None if g is None else 2 * g for g in sent))
    modules = (layer, second) if deep else (layer,)
    for batch_dim in (None, 0):
        _exact(h.square().sum(1), *modules, batch_dim=batch_dim)
    _exact(h.square().sum(1)[:1], *modules)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
@pytest.mark.parametrize("kind", ["linear", "two losses", "convolution", "transposed"])
def test_digits_are_kept_where_positions_share_a_large_row(offset: float, kind: str) -> None:
    # The gradients of all positions sum to nearly zero below a normalisation, so what they share
    # cancels; products of rows would keep its square.
    torch.manual_seed(5)
    if kind == "convolution":
        layer, x = nn.Conv2d(64, 64, 3, padding=1, padding_mode="replicate"), _data(B, 64, 4, 4)
    else:
        layer, x = nn.Linear(128, 128), _data(B, 16, 128)
    errors = []
    for dtype in (torch.float64, torch.float32):
        layer.to(dtype)
        entry = (x + offset).to(dtype)
        y = entry @ layer.weight if kind == "transposed" else layer(entry)
        y = F.instance_norm(y) if kind == "convolution" else y - y.mean(1, keepdim=True)
        losses = y.tanh().square().flatten(2).sum(2)
        losses = losses[:, :2] if kind == "two losses" else losses.sum(1)
        if dtype == torch.float64:
            expected = reference_gramian(losses, layer.parameters())
            _exact(losses, layer)
        else:
            plain = reference_gramian(losses, layer.parameters())
            found = Engine(layer, batch_dim=0).compute_gramian(losses)
            errors = [
                float((g.double() - expected).norm() / expected.norm()) for g in (found, plain)
            ]
    # Rounding of the forward pass itself grows with the offset, for plain autograd too.
    assert errors[0] <= 1e-5 + 4 * errors[1]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_inputs_of_a_layer() -> None:
    torch.manual_seed(6)
    layer = nn.Linear(4, 3).double()
    x = _data(B, 4).relu().to_sparse()
    _exact(layer(x).square().sum(1), layer)
    _exact(torch.sparse.mm(x, layer.weight.T).square().sum(1), layer)


def test_gradients_that_are_zero_everywhere() -> None:
    layer = nn.Linear(3, B).double()
    h = 2 * layer(_data(B, 3))
    _exact(h.round().sum(0) + h.floor().sum(1), layer)


def test_a_slice_without_bounds() -> None:
    layer = nn.Linear(3, 2).double()
    _exact(torch.ops.aten.slice.Tensor(layer(_data(B, 3)), 0).square().sum(1), layer)


def test_samples_with_weights_of_their_own() -> None:
    torch.manual_seed(7)
    stem, make = nn.Conv2d(3, 3, 1).double(), nn.Linear(3, 81).double()
    h = stem(_data(B, 3, 5, 5))
    kernels = make(h.mean((2, 3))).view(3 * B, 3, 3, 3)
    y = F.conv2d(h.reshape(1, 3 * B, 5, 5), kernels, groups=B, padding=1)
    _exact(y.view(B, -1).square().sum(1), stem, make)
    style = nn.Linear(3, 6).double()
    scale, shift = (part.reshape(-1) for part in style(h.mean((2, 3))).chunk(2, 1))
    zeros, ones = torch.zeros(3 * B).double(), torch.ones(3 * B).double()
    y = F.batch_norm(h.reshape(1, 3 * B, 5, 5), zeros, ones, scale, shift, True)
    _exact(y.view(B, -1).pow(3).sum(1), stem, style)


def test_samples_with_tables_of_their_own() -> None:
    torch.manual_seed(8)
    layer = nn.Linear(3, 3).double()
    h = layer(_data(B, 5, 3))
    index = torch.randint(5, (B, 5)) + 5 * torch.arange(B)[:, None]
    _exact((h + F.embedding(index, h.flatten(0, 1))).tanh().sum((1, 2)), layer)


def test_blocks_of_a_constant_matrix_for_every_sample() -> None:
    torch.manual_seed(9)
    layer = nn.Linear(3, 3).double()
    h = layer(_data(3 * B, 3))
    blocks = torch.block_diag(*[torch.rand(3, 3, dtype=torch.float64) for _ in range(B)])
    _exact((blocks @ h + h).tanh().view(B, -1).sum(1), layer)
    blocks[0, 5] = 1
    with pytest.raises(BatchMixedError):
        _exact((blocks @ h + h).tanh().view(B, -1).sum(1), layer)


@pytest.mark.parametrize("hooked", [False, True])
def test_batch_norm_over_the_positions_of_one_sample(hooked: bool) -> None:
    torch.manual_seed(10)
    layer, norm = nn.Linear(3, 3).double(), nn.BatchNorm1d(3).double()
    losses = []
    for sample in _data(B, 7, 3):
        y = norm(layer(sample))
        if hooked:
            y.register_hook(lambda gradient: 0.1 + gradient / (gradient.norm() + 1))
        losses.append(y.tanh().pow(3).sum())
    _exact(torch.stack(losses), layer, norm)


AFFINE: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "stack": torch.stack,
    "cat": lambda rows: torch.cat([row[None] for row in rows]),
}


class _Shifted(torch.autograd.Function):
    """Identity whose backward makes something of zeros."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient + 0.5


@pytest.mark.parametrize("join", AFFINE)
@pytest.mark.parametrize("kind", ["hook", "function", "unbind", "in place"])
def test_what_makes_something_of_zeros_sees_every_objective(join: str, kind: str) -> None:
    # Plain autograd sends zeros to the tensors of all other samples, and runs what is there.
    torch.manual_seed(11)
    layer = nn.Linear(3, 3).double()
    rows = [layer(x) for x in _data(B, 3)] if kind != "unbind" else layer(_data(B, 3)).unbind()
    losses = []
    for row in rows:
        if kind == "function":
            row = _Shifted.apply(row)
        elif kind == "in place":
            row = row.clone()
            row[1:].copy_(_Shifted.apply(row[1:].clone()))
        else:
            kept = row.detach()
            row.register_hook(partial(torch.add, kept, alpha=0.1))
        losses.append(row.square().sum())
    _exact(AFFINE[join](losses), layer)


def test_under_a_profiler_of_python() -> None:
    torch.manual_seed(12)
    layer = nn.Linear(6, 6).double()
    h = layer(_data(B, 6)).clone()
    h[:, :3].sin_()
    losses = h.square().sum(1)
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        _exact(losses, layer)
        assert sys.getprofile() is profiler
    finally:
        profiler.disable()
    calls = []
    sys.setprofile(lambda *event: calls.append(event[1]))
    try:
        Engine(layer, batch_dim=0).compute_gramian(losses)
    finally:
        sys.setprofile(None)
    assert calls


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_on_the_way() -> None:
    torch.manual_seed(13)
    layer = nn.Linear(3, 3).double()
    for layout in (torch.jagged, torch.strided):
        nested = torch.nested.nested_tensor([_data(n, 3) for n in (2, 4, 1)], layout=layout)
        losses = torch.stack([part.square().sum() for part in layer(nested).unbind()])
        for batch_dim in (None, 0):
            _exact(losses, layer, batch_dim=batch_dim)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks", "ignore:Sparse CSR tensor support")
def test_sparse_tensors_on_the_way() -> None:
    torch.manual_seed(14)
    module, layer = nn.Module(), nn.Linear(3, 3).double()
    module.factor = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
    x = _data(B, 3).relu()
    for batch_dim in (None, 0):
        product = module.factor * x.to_sparse()
        _exact(product.to_dense().tanh().sum(1), module, batch_dim=batch_dim)
        product = torch.sparse.sum(module.factor * x.to_sparse(), 1)
        _exact(product.to_dense().tanh(), module, batch_dim=batch_dim)
    index = torch.tensor([[0, 0, 1, 2, 3, 3], [0, 1, 1, 2, 0, 3]])
    sparse = torch.sparse_coo_tensor(index, layer(_data(6, 3)).sum(1), (B, B))
    _exact(torch.sparse.softmax(sparse, 1).to_dense().square().sum(1), layer)


@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize(("inputs", "outputs"), [(1e8, 1e-23), (1e-22, 1e20), (1e6, 1e-22)])
def test_factors_far_from_one_whose_product_is_in_range(
    positions: int, inputs: float, outputs: float
) -> None:
    torch.manual_seed(15)
    layer = nn.Linear(64, 64, bias=False)
    losses = (layer(torch.randn(B, positions, 64) * inputs) * outputs).sum((1, 2))
    jacobian = reference_jacobian(losses, layer.parameters()).double()
    found = Engine(layer, batch_dim=0).compute_gramian(losses)
    assert_close(found, jacobian @ jacobian.T, torch.float32)


def test_a_bias_beside_factors_far_from_one() -> None:
    torch.manual_seed(16)
    layer = nn.Linear(64, 64)
    for positions in (1, 3):
        losses = (layer(torch.randn(B, positions, 64) * 1e-9) * 1e3).sum((1, 2))
        jacobian = reference_jacobian(losses, layer.parameters()).double()
        found = Engine(layer, batch_dim=0).compute_gramian(losses)
        assert_close(found, jacobian @ jacobian.T, torch.float32)


def test_zero_gradients_meet_another_axis() -> None:
    layer = nn.Linear(3, B).double()
    h = layer(_data(B, 3))
    _exact(h.round().sum(0) + h.square().sum(1), layer)
