"""Reference tests: the factors of an LSTM in one node against autograd, sample by sample.

The node exists in float32 and bfloat16 only: the float64 reference is the same layer cast.
"""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from engines.autogram.rules.lstm import NODE, lstm_declines, lstm_factors
from tests.support.tolerances import assert_close

Gradients = list[Tensor | None]
RESULTS = {"output": (0,), "hy": (1,), "cy": (2,), "hy and cy": (1, 2), "all": (0, 1, 2)}


def recurrent_nodes(output: Tensor) -> list[Node]:
    """The layers' nodes below a tensor, the last layer's first."""
    root = output.grad_fn
    assert root is not None
    pending, found = [root], []
    for node in pending:
        if node.name() == NODE:
            found.append(node)
        pending.extend(c for c, _ in node.next_functions if c is not None and c not in pending)
    return found


def received(losses: Tensor, node: Node) -> Gradients:
    """The gradients of a node's results in one backward pass of a sum of losses."""
    kept: list[tuple[Tensor | None, ...]] = []
    handle = node.register_prehook(lambda gradients: kept.append(tuple(gradients)))
    losses.sum().backward(retain_graph=True)
    handle.remove()
    assert len(kept) == 1
    return list(kept[0])


def random_losses(model: nn.LSTM, x: Tensor, hx: Tensor, cx: Tensor, what: str) -> Tensor:
    """A loss per sample and seed, of some of the results, the same in any dtype; shape [b]."""
    output, (hy, cy) = model(x, (hx.to(x), cx.to(x)))
    if model.batch_first:
        output = output.transpose(0, 1)
    total = x.new_zeros(output.shape[1])
    for index in RESULTS[what]:
        result = (output, hy, cy)[index]
        weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(index))
        total = total + (result.sin() * weights.to(x)).sum((0, 2))
    return total


def weight_gradients(node: Node, gradients: Gradients) -> list[Tensor]:
    """Per-sample gradients of the node's weights from its factors, shapes [b, …], biases once."""
    delta, inputs, hidden = lstm_factors(node, gradients)
    products = [torch.einsum("tbo,tbi->boi", delta, x) for x in (inputs, hidden)]
    return [*products, delta.sum(0)]


def parameters_of(model: nn.LSTM, node: Node) -> list[nn.Parameter | None]:
    """The parameters in the slots of a node's four weights."""
    leaves = [child for child, _ in node.next_functions[1:5]]
    return [None if leaf is None else cast(Any, leaf).variable for leaf in leaves]


def assert_factors_right(
    model: nn.LSTM, x: Tensor, what: str, dtype: torch.dtype = torch.float32
) -> None:
    samples = x.shape[0 if model.batch_first else 1]
    directions = 2 if model.bidirectional else 1
    state = model.num_layers * directions, samples, model.hidden_size
    hx, cx = torch.randn(state).to(x), torch.randn(state).to(x)
    losses = random_losses(model, x, hx, cx, what)
    exact = nn.LSTM(
        model.input_size,
        model.hidden_size,
        model.num_layers,
        bias=model.bias,
        batch_first=model.batch_first,
        bidirectional=model.bidirectional,
    ).double()
    exact.load_state_dict(model.state_dict())
    references = random_losses(exact, x.double(), hx, cx, what)
    by_name = dict(exact.named_parameters())
    names = {parameter: name for name, parameter in model.named_parameters()}
    nodes = recurrent_nodes(losses)
    assert nodes
    seen = set()
    for node in nodes:
        assert lstm_declines(node) is None
        found = weight_gradients(node, received(losses, node))
        parameters = parameters_of(model, node)
        assert [p is None for p in parameters] == [False, False, not model.bias, not model.bias]
        for parameter, gradients in zip(parameters, [*found, found[-1]], strict=True):
            if parameter is None:
                continue
            twin = by_name[names[parameter]]
            rows = [torch.autograd.grad(r, twin, retain_graph=True)[0] for r in references]
            assert_close(gradients, torch.stack(rows), dtype)
            seen.add(parameter)
    # With the last cell or hidden state alone every parameter is still reached.
    assert seen == set(model.parameters())


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("what", list(RESULTS))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_per_sample_gradients(layers: int, bidirectional: bool, bias: bool, what: str) -> None:
    model = nn.LSTM(3, 5, layers, bias=bias, bidirectional=bidirectional)
    assert_factors_right(model, torch.randn(6, 4, 3), what)


@pytest.mark.parametrize("positions", [1, 2, 7, 20])
@pytest.mark.parametrize("samples", [1, 2, 9])
def test_sizes(positions: int, samples: int) -> None:
    model = nn.LSTM(4, 3, 2, bidirectional=True)
    assert_factors_right(model, torch.randn(positions, samples, 4), "all")


def test_batch_first_leaves_the_node_time_first() -> None:
    assert_factors_right(nn.LSTM(4, 3, 2, batch_first=True), torch.randn(5, 7, 4), "all")


def test_saturated_gates() -> None:
    model = nn.LSTM(4, 3)
    assert_factors_right(model, 30 * torch.randn(5, 7, 4), "all")


def test_evaluation_mode() -> None:
    assert_factors_right(nn.LSTM(4, 3).eval(), torch.randn(5, 7, 4), "all")


def test_bfloat16() -> None:
    model, x = nn.LSTM(4, 3).bfloat16(), torch.randn(5, 7, 4).bfloat16()
    assert_factors_right(model, x, "output", torch.bfloat16)


def test_autocast_casts_the_weights_on_their_way() -> None:
    model, x = nn.LSTM(4, 3), torch.randn(5, 7, 4)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = model(x)
    (node,) = recurrent_nodes(output)
    assert [child.name() for child, _ in node.next_functions[1:5] if child is not None] == [
        "ToCopyBackward0"
    ] * 4
    found = weight_gradients(node, received(output.float().sin(), node))
    assert all(gradients.dtype == torch.float32 for gradients in found)
    grads = [p.grad for p in model.parameters()]
    for gradients, grad in zip(found, grads, strict=False):
        assert grad is not None
        assert_close(gradients.sum(0), grad, torch.bfloat16)


def test_states_that_are_expanded_parameters() -> None:
    model = nn.LSTM(4, 3)
    start = nn.Parameter(torch.randn(1, 1, 3))
    output, _ = model(torch.randn(5, 7, 4), (start.expand(1, 7, 3), start.expand(1, 7, 3)))
    (node,) = recurrent_nodes(output)
    found = weight_gradients(node, received(output.sin(), node))
    for gradients, parameter in zip(found, model.parameters(), strict=False):
        assert parameter.grad is not None
        assert_close(gradients.sum(0), parameter.grad, torch.float32)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("absent", [(), (0,), (1, 2)])
def test_several_losses_at_once(absent: tuple[int, ...], reverse: bool) -> None:
    model = nn.LSTM(4, 3, bidirectional=True)
    output, _ = model(torch.randn(5, 7, 4))
    node = recurrent_nodes(output)[int(reverse)]
    gradients: Gradients = [torch.randn(6, 5, 7, 3), torch.randn(6, 7, 3), torch.randn(6, 7, 3)]
    for index in absent:
        gradients[index] = None
    delta, inputs, hidden = lstm_factors(node, gradients)
    assert delta.shape == (6, 5, 7, 12)
    assert inputs.shape == (5, 7, 4)
    assert hidden.shape == (5, 7, 3)
    for loss, block in enumerate(delta):
        one, *others = lstm_factors(node, [None if g is None else g[loss] for g in gradients])
        assert_close(block, one, torch.float32)
        assert torch.equal(others[0], inputs)
        assert torch.equal(others[1], hidden)


@pytest.mark.parametrize("losses", [(), (1,), (3,)])
def test_nothing_of_the_callers_is_changed(losses: tuple[int, ...]) -> None:
    output, (hy, cy) = nn.LSTM(4, 3)(torch.randn(5, 7, 4))
    (node,) = recurrent_nodes(output)
    results = (output, hy[0], cy[0])
    gradients: Gradients = [torch.randn(*losses, *result.shape) for result in results]
    saved = ("input", "hx_", "cx_", "result0", "weight0", "weight1", "weight2", "weight3")
    tensors = [getattr(node, f"_saved_{name}") for name in saved]
    tensors += [gradient for gradient in gradients if gradient is not None]
    copies = [tensor.clone() for tensor in tensors]
    first, second = lstm_factors(node, gradients), lstm_factors(node, gradients)
    assert all(torch.equal(t, c) for t, c in zip(tensors, copies, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("reverse", [False, True])
def test_gates_that_are_shut_pass_nothing_on(reverse: bool) -> None:
    # A forget and an output gate far below zero: a position's gradient stays where it arose.
    model = nn.LSTM(2, 1, bidirectional=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_()
            if name.startswith("bias_ih"):
                parameter.copy_(torch.tensor([0.0, -200.0, 1.0, 0.0]))
    output, _ = model(torch.randn(4, 3, 2))
    node = recurrent_nodes(output)[int(reverse)]
    gradient = torch.zeros(4, 3, 1)
    gradient[2, 1] = 1.0
    delta, _, _ = lstm_factors(node, [gradient, None, None])
    reached = delta.ne(0).nonzero()
    # i and o are 1/2, g is tanh 1, c = tanh(1)/2: h depends on all gates but f, whose slope is 0.
    assert reached.tolist() == [[2, 1, 0], [2, 1, 2], [2, 1, 3]]
    g = torch.tensor(1.0, dtype=torch.float64).tanh()
    seen = (g / 2).tanh()
    slope = (1 - seen**2) / 2
    expected = torch.stack([slope * g / 4, slope * (1 - g**2) / 2, seen / 4])
    assert_close(delta[2, 1, [0, 2, 3]], expected, torch.float32)


def test_results_with_misfit_gradients_are_refused() -> None:
    output, _ = nn.LSTM(4, 3)(torch.randn(5, 7, 4))
    (node,) = recurrent_nodes(output)
    full, last = torch.randn(5, 7, 3), torch.randn(7, 3)
    for gradients in (
        [None, None, None],
        [full[:, :1], None, None],
        [full.expand(2, 5, 7, 3), last, None],
        [full.expand(1, 2, 5, 7, 3), None, None],
        [last, None, None],
    ):
        with pytest.raises(ValueError, match=r"got gradients of shapes .* expected .*; pass"):
            lstm_factors(node, gradients)


def test_nothing_left_after_a_backward_pass() -> None:
    output, _ = nn.LSTM(4, 3)(torch.randn(5, 7, 4))
    (node,) = recurrent_nodes(output)
    output.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        lstm_factors(node, [torch.ones(5, 7, 3), None, None])


def test_declines_what_is_behind_hooks() -> None:
    model, x = nn.LSTM(4, 3), torch.randn(5, 7, 4)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        output, _ = model(x)
    reason = lstm_declines(recurrent_nodes(output)[0])
    assert reason is not None
    assert "behind hooks" in reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": lambda: "AddmmBackward0"}, "not a recurrent layer"),
        ({"_saved_mode": 3}, "another kind than LSTM"),
        ({"_saved_batch_sizes": (2, 1)}, "packs sequences"),
        ({"_saved_weight1": torch.zeros(12, 2)}, "projects"),
        ({"_raw_saved_cx_": None}, "not at all"),
        ({"_raw_saved_weight3": None}, "not at all"),
        ({"_saved_has_biases": False, "_raw_saved_weight3": None}, None),
        ({"_saved_batch_first": True}, None),
        ({}, None),
    ],
)
def test_reads_every_attribute(changes: dict[str, Any], words: str | None) -> None:
    output, _ = nn.LSTM(4, 3)(torch.randn(5, 7, 4))
    (node,) = recurrent_nodes(output)
    copied = {a: getattr(node, a) for a in dir(node) if a.startswith(("_saved", "_raw"))}
    # Torch makes no such nodes today; a later version may.
    fake = cast(Node, SimpleNamespace(**({"name": node.name} | copied | changes)))
    reason = lstm_declines(fake)
    assert (reason is None) == (words is None)
    assert words is None or words in str(reason)


@pytest.mark.parametrize("make", [nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell])
def test_other_layers_are_many_nodes(make: type[nn.Module]) -> None:
    x = torch.randn(5, 4) if make in (nn.LSTMCell, nn.GRUCell) else torch.randn(2, 5, 4)
    results = make(4, 3)(x)
    output = results if isinstance(results, Tensor) else results[0]
    assert recurrent_nodes(output) == []
