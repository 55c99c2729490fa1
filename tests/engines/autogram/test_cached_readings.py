"""Reference tests of readings that are kept: what changes unseen between calls of one engine."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engines.autogram import Engine, reading
from engines.errors import BatchMixedError
from tests.support.reference import reference_gramian
from tests.support.steps import both_modes, draw, spread
from tests.support.tolerances import assert_close
from tests.support.watched import Watched


def test_equal_graphs_are_read_once(
    pair: tuple[nn.Linear, nn.Linear], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, 0, first, second)
    for _ in range(4):
        watched.exact(second(first(draw(6, 4)).tanh()).square().sum(1))
    assert watched.read == 2  # alone and fused
    watched.exact(second(first(draw(7, 4)).tanh()).square().sum(1))
    assert watched.read == 4


@both_modes
@pytest.mark.parametrize("how", ["checkpoint", "saved tensors hooks"])
def test_saved_tensors_go_behind_hooks(
    how: str,
    batch_dim: int | None,
    pair: tuple[nn.Linear, nn.Linear],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)
    for step in range(4):
        x = draw(6, 4)
        if step != 2:
            h = first(x).tanh()
        elif how == "checkpoint":
            h = checkpoint(lambda x: first(x).tanh(), x, use_reentrant=False)
        else:
            with torch.autograd.graph.saved_tensors_hooks(lambda t: (t,), lambda kept: kept[0]):
                h = first(x).tanh()
        watched.exact(second(h).square().sum(1))


@both_modes
def test_parameters_are_frozen_replaced_and_cast(
    batch_dim: int | None, pair: tuple[nn.Linear, nn.Linear], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)

    def call(samples: int = 6) -> None:
        watched.exact(second(first(draw(samples, 4)).tanh()).square().sum(1))

    call()
    first.weight.requires_grad_(False)
    call()
    call(3)
    first.weight.requires_grad_(True)
    first.weight = nn.Parameter(draw(5, 4))
    call()
    first.bias, second.bias = second.bias, first.bias
    first.bias, second.bias = second.bias, first.bias
    call()
    second.bias = None
    call()
    first.weight.data = draw(4, 5).T
    call()
    second.weight = nn.Parameter(second.weight.detach().clone().requires_grad_(False), False)
    call()


@both_modes
def test_two_models_of_one_structure(
    batch_dim: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).double() for _ in range(3)]
    watched = Watched(monkeypatch, batch_dim, models[0], models[1])
    for order in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (0, 2), (0, 0)):
        h = models[order[0]][0](draw(6, 4)).tanh()
        watched.exact(models[order[1]][1](h).square().sum(1))
    # One layer for both.
    h = models[0][0](draw(6, 4)).tanh()
    watched.exact(models[0][0](h).square().sum(1))


def test_a_constant_matrix_whose_zeros_change(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    watched = Watched(monkeypatch, 0, layer)
    for mix in (torch.eye(6), 2 * torch.eye(6), torch.eye(6).flip(0), torch.eye(6)):
        losses = (mix.double() @ layer(draw(6, 4)) @ draw(3, 3)).square().sum(1)
        watched.exact(losses)
    blocks = torch.block_diag(*(torch.ones(1, 2) for _ in range(6))).double()
    for _ in range(2):
        watched.exact((blocks @ layer(draw(12, 4))).square().sum(1))
    rows = blocks.roll(1, 1)
    rows[5, 11] = rows[5, 0] = 0
    watched.exact((rows @ layer(draw(12, 4))).square().sum(1))


def _written(h: Tensor, start: int) -> Tensor:
    target = torch.zeros(9, 5, dtype=h.dtype)
    target[start : start + 6] = h
    return target[:6]


EYE = torch.eye(6, dtype=torch.float64)
# Of a layer's results [6, 6, 5], or [6, 5] for the first sample's, and what changes between calls.
VARIANTS: dict[str, tuple[list[object], Callable[[Tensor, Any], Tensor]]] = {
    "columns of a slice": ([0, 1, 2, 0], lambda h, n: h[0][:, n : n + 2]),
    "one column": ([0, 1, -1, 0], lambda h, n: h[0][:, n : n + 1 or None]),
    "rows of a slice": ([0, 1, 2, 0], lambda h, n: h.flatten(0, 1)[n : n + 6]),
    "every second row": ([0, 1, 0], lambda h, n: h.flatten(0, 1)[n : n + 12 : 2]),
    "rows in turn": ([0, 1, 5, 0], lambda h, n: h[0].roll(n, 0)),
    "a reversed dimension": ([0, 1, 0], lambda h, dim: h.flip(dim).flatten(1)),
    "a sum over one of two": ([1, 0, 1], lambda h, dim: h.tanh().sum(dim)),
    "a mean over one of two": ([1, 0, 1], lambda h, dim: h.tanh().mean(dim)),
    "exchanged dimensions": ([(0, 1), (1, 2), (0, 1)], lambda h, d: h.transpose(*d).flatten(1)),
    "a constant matrix": ([EYE, EYE.flip(0), EYE], lambda h, mix: mix @ h[0]),
    "a constant matrix on the right": ([EYE, EYE.flip(0), EYE], lambda h, mix: (h[0].T @ mix).T),
    "rows in another order": ([[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]], lambda h, n: h[0][n]),
    "a part that is written": ([0, 1, 2, 0], lambda h, n: _written(h[0], n)),
    "rows that are filled up": ([0, 1, 2], lambda h, n: F.pad(h[0][:4], (0, 0, n, 2 - n))),
    "the slope of an activation": ([0.1, 0.9, 0.1], lambda h, n: F.leaky_relu(h[0], n)),
    "a threshold": ([-1.0, 1.0, -1.0], lambda h, n: h[0].clamp(min=n)),
}


@both_modes
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_moves_samples_or_values(
    variant: str, batch_dim: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 5).double()
    watched = Watched(monkeypatch, batch_dim, layer)
    values, losses = VARIANTS[variant]
    for value in values:
        watched.exact(losses(layer(draw(6, 6, 4)), value).square().sum(1))


def test_rows_that_one_call_keeps_apart_and_the_next_mixes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    watched = Watched(monkeypatch, 0, layer)
    order = torch.arange(6)
    for _ in range(2):
        watched.exact(layer(draw(6, 4))[order].square().sum(1))
    watched.exact(layer(draw(6, 4))[order.flip(0)].square().sum(1))
    with pytest.raises(BatchMixedError):
        watched.engine.compute_gramian(
            layer(draw(6, 4))[torch.tensor([0, 0, 1, 2, 3, 4])].square().sum(1)
        )


@both_modes
def test_masks_and_modes(batch_dim: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 3)
    ).double()
    watched = Watched(monkeypatch, batch_dim, model)
    model.eval()
    watched.exact(model(draw(6, 4)).square().sum(1))
    model[2].train()
    for _ in range(3):
        watched.exact(model(draw(6, 4)).square().sum(1))
    model[1].train()
    if batch_dim == 0:
        with pytest.raises(BatchMixedError):
            watched.engine.compute_gramian(model(draw(6, 4)).square().sum(1))
    else:
        watched.exact(model(draw(6, 4)).square().sum(1))
    model.eval()
    watched.exact(model(draw(6, 4)).square().sum(1))


@both_modes
def test_settings_of_an_operation(
    batch_dim: int | None, pair: tuple[nn.Linear, nn.Linear], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = pair
    watched = Watched(monkeypatch, batch_dim, first)
    x = draw(6, 4)
    for alpha in (1, 2, 1.0, 0.5, -1):
        y = torch.add(x @ first.weight.T, first.bias, alpha=alpha)
        watched.exact(y.square().sum(1))
        watched.exact(torch.addmm(first.bias, x, first.weight.T, alpha=alpha).square().sum(1))
        watched.exact(torch.addmm(first.bias, x, first.weight.T, beta=alpha).square().sum(1))


@both_modes
def test_the_other_factor_of_a_product(
    batch_dim: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module = nn.Module()
    module.scale = nn.Parameter(draw(4))
    watched = Watched(monkeypatch, batch_dim, module)
    for factor in (draw(6, 4), draw(6, 4) + 1j * draw(6, 4), draw(6, 4), draw(1, 4)):
        watched.exact((module.scale * factor).expand(6, 4).abs().square().sum(1))


@both_modes
def test_a_sparse_input(
    batch_dim: int | None, pair: tuple[nn.Linear, nn.Linear], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = pair
    watched = Watched(monkeypatch, batch_dim, first)
    for sparse in (False, True, False):
        x = F.relu(draw(6, 4))
        y = torch.mm(x.to_sparse() if sparse else x, first.weight.T)
        watched.exact((y + first.bias).square().sum(1))


@both_modes
def test_a_table_with_and_without_padding(
    batch_dim: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(7, 4).double()
    watched = Watched(monkeypatch, batch_dim, table)
    indices = torch.randint(7, (5, 3))
    for padding in (None, 2, 3, None):
        table.padding_idx = padding
        watched.exact(table(indices).tanh().sum((1, 2)))
        watched.exact(table(indices.int()).tanh().sum((1, 2)))
    table.scale_grad_by_freq = True
    watched.exact(table(indices).tanh().sum((1, 2)))


def test_one_tensor_read_by_sample_and_by_the_whole_batch() -> None:
    # Whether two uses read the same tensor is not in the structure.
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    engine = Engine(first, second, batch_dim=0)

    def losses(x: Tensor, table: Tensor) -> Tensor:
        return (first(x) @ second(table).T).square().sum(1)

    for _ in range(2):
        found = losses(draw(6, 4), draw(6, 4))
        expected = reference_gramian(found, [*first.parameters(), *second.parameters()])
        assert_close(engine.compute_gramian(found), expected)
    x = draw(6, 4)
    with pytest.raises(BatchMixedError, match="reads the whole batch"):
        engine.compute_gramian(losses(x, x))


def test_a_shape_that_comes_back_after_many_others(
    pair: tuple[nn.Linear, nn.Linear], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, 0, first, second)
    monkeypatch.setattr(reading, "_MOST_KEPT", 4)
    for samples in (2, 3, 4, 5, 6, 7, 2, 3):
        watched.exact(second(first(draw(samples, 4)).tanh()).square().sum(1))
    assert len(watched.engine._reader._kept) <= 4


@both_modes
def test_a_profiler_looks_on(
    batch_dim: int | None, pair: tuple[nn.Linear, nn.Linear], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)
    watched.exact(second(first(draw(6, 4)).tanh()).square().sum(1))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        watched.exact(second(first(draw(6, 4)).tanh()).square().sum(1))
    with pytest.warns(UserWarning, match="Anomaly Detection"):
        anomalies = torch.autograd.detect_anomaly(check_nan=False)
    with anomalies:
        watched.exact(second(first(draw(6, 4)).tanh()).square().sum(1))


class Marker:
    """Something that lives as long as a node."""


def test_nothing_of_a_graph_outlives_the_call() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    engine = Engine(model, batch_dim=0)
    h = model[1](model[0](draw(6, 4)))
    losses = model[2](h).square().sum(1)
    engine.compute_gramian(losses)
    step = engine.backward(losses, spread)
    # What the graph alone holds: the result that the last layer saved.
    kept = [weakref.ref(tensor) for tensor in (h, losses)]
    freed: list[int] = []
    weakref.finalize(losses.grad_fn.metadata.setdefault("marker", Marker()), freed.append, 1)
    del h, losses, step
    gc.collect()
    assert [ref() for ref in kept] == [None] * 2
    assert freed == [1]
