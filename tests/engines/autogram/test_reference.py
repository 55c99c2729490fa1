"""Reference tests: the engine against one autograd call per row."""

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from tests.support.cases import CASES, Case, Tied
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close

# Torch warns once that an even kernel with padding="same" copies its input; that is the case.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")


@pytest.mark.parametrize("batch_dim", [0, None])
@pytest.mark.parametrize("case", CASES)
def test_float64(case: Case, batch_dim: int | None) -> None:
    model, x = case.build()
    losses = case.losses(model, x)
    found = Engine(model, batch_dim=batch_dim).compute_gramian(losses)
    assert found.dtype == torch.float64
    assert_close(found, reference_gramian(losses, model.parameters()))


@pytest.mark.parametrize("case", CASES)
def test_float32_against_float64(case: Case) -> None:
    # The same layer can be another node in another dtype, as an LSTM is.
    if any(isinstance(m, nn.TransformerEncoderLayer) for m in [case.make()]):
        pytest.skip("dropout draws other masks in another dtype")
    model, x = case.build(torch.float32)
    found = Engine(model, batch_dim=0).compute_gramian(case.losses(model, x))
    exact = model.double()
    losses = case.losses(exact, x if case.integers else x.double())
    assert found.dtype == torch.float32
    assert_close(found, reference_gramian(losses, exact.parameters()), torch.float32)


@pytest.mark.parametrize("case", CASES)
def test_later_calls_with_other_data(case: Case) -> None:
    engine = None
    for seed in range(3):
        model, x = case.build(seed=seed)
        if engine is None:
            kept, engine = model, Engine(model, batch_dim=0)
        kept.load_state_dict(model.state_dict())
        losses = case.losses(kept, x)
        expected = reference_gramian(losses, kept.parameters())
        assert_close(engine.compute_gramian(losses), expected)


SHAPES = [
    ((), None),
    *[((6,), dim) for dim in (None, 0, -1)],
    *[((6, 3), dim) for dim in (None, 0)],
    *[((3, 6), dim) for dim in (1, -1)],
    *[((6, 3, 2), dim) for dim in (None, 0)],
    *[((3, 6, 2), dim) for dim in (None, 1)],
    *[((3, 2, 6), dim) for dim in (2, -1)],
]


def _outputs(y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Shape the outputs [6, 6] of six samples so that some dimension indexes them."""
    if not shape:
        return y.square().mean()
    if len(shape) == 1:
        return y.square().sum(1)
    dim = shape.index(6)
    rest = [size for size in shape if size != 6]
    count = torch.Size(rest).numel()
    return y[:, :count].square().unflatten(1, rest).movedim(0, dim)


@pytest.mark.parametrize(("shape", "batch_dim"), SHAPES)
@pytest.mark.parametrize("positions", [False, True])
def test_shapes(shape: tuple[int, ...], batch_dim: int | None, positions: bool) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6)).double()
    x = torch.randn(6, *((3,) if positions else ()), 4, dtype=torch.float64)
    y = model(x)
    losses = _outputs(y.sum(1) if positions else y, shape)
    assert losses.shape == shape
    found = Engine(model, batch_dim=batch_dim).compute_gramian(losses)
    assert found.shape == (*shape, *reversed(shape))
    assert_close(found, reference_gramian(losses, model.parameters()))


@pytest.mark.parametrize("transposed", [False, True])
def test_losses_per_sample_through_convolutions_and_ties(transposed: bool) -> None:
    torch.manual_seed(2)
    conv = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = nn.Sequential(conv(2, 4, 3, groups=2), nn.Tanh(), conv(4, 3, 2), nn.Flatten()).double()
    losses = model(torch.randn(4, 2, 4, 4, dtype=torch.float64))[:, :3].square()
    found = Engine(model, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, model.parameters()))


def test_losses_per_sample_of_tied_autoencoder() -> None:
    torch.manual_seed(3)
    model = Tied().double()
    losses = model(torch.randn(4, 3, 6, dtype=torch.float64)).square().sum(1)
    found = Engine(model, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, model.parameters()))


def test_two_tasks_mix_the_batch() -> None:
    torch.manual_seed(4)
    trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
    heads = nn.ModuleList([nn.Linear(5, 2), nn.Linear(5, 3)])
    both = nn.ModuleList([trunk, heads]).double()
    h = trunk(torch.randn(8, 4, dtype=torch.float64))
    losses = torch.stack([head(h).square().mean() for head in heads])
    found = Engine(trunk, heads, batch_dim=None).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, both.parameters()))


def test_many_samples() -> None:
    torch.manual_seed(5)
    model = nn.Linear(3, 2).double()
    x = torch.randn(1300, 3, dtype=torch.float64)
    y = model(x)
    losses = y.square().sum(1)
    d = 2 * y.detach()
    expected = (x @ x.T + 1) * (d @ d.T)
    assert_close(Engine(model, batch_dim=0).compute_gramian(losses), expected)
