"""Tests of Jacobians that are returned or left in `.jac`: reference, pinned and refusals."""

import pytest
import torch
from torch import Tensor, nn

from engines.autojac import backward, jac
from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close

CHUNKS = [None, 1, 2, 100]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _flat(jacobians: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([j.flatten(1) for j in jacobians], 1)


def _left(model: nn.Module) -> tuple[Tensor, ...]:
    return tuple(p.jac for p in model.parameters())


@pytest.mark.parametrize("chunk", CHUNKS)
def test_reference(model: nn.Module, x: Tensor, chunk: int | None) -> None:
    y = model(x)
    outputs = [y[0, 0], y.square()[:2], y.sum(0)]
    parameters = list(model.parameters())
    expected = torch.cat([reference_jacobian(output, parameters) for output in outputs])
    found = jac(outputs, parameters, parallel_chunk_size=chunk, retain_graph=True)
    assert [j.shape[1:] for j in found] == [p.shape for p in parameters]
    assert_close(_flat(found), expected)
    backward(outputs, parallel_chunk_size=chunk)
    assert_close(_flat(_left(model)), expected)
    assert all(p.grad is None for p in parameters)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_chain_rule(model: nn.Module, x: Tensor, chunk: int | None) -> None:
    hidden = model[:2](x)
    other = hidden.sum(1)
    losses = [*(model[2](hidden).square().sum(0) + other.sum())]
    bottom = list(model[0].parameters())
    expected = reference_jacobian(torch.stack(losses), bottom)
    outer = jac(losses, hidden, retain_graph=True, parallel_chunk_size=chunk)
    found = jac(hidden, bottom, jac_outputs=outer, retain_graph=True, parallel_chunk_size=chunk)
    assert_close(_flat(found), expected)
    backward(hidden, jac_tensors=outer[0], parallel_chunk_size=chunk)
    assert_close(_flat(_left(model[0])), expected)


@pytest.mark.parametrize("retain", [True, False])
@pytest.mark.parametrize("m", range(6))
def test_no_size_of_chunk_changes_the_rows(model: nn.Module, m: int, retain: bool) -> None:
    x = torch.randn(m, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(m))
    parameters = list(model.parameters())
    expected = jac(model(x).square().sum(1), parameters, parallel_chunk_size=1)
    for chunk in range(1, m + 2):
        losses = model(x).square().sum(1)
        found = jac(losses, parameters, parallel_chunk_size=chunk, retain_graph=retain)
        assert found[0].shape == (m, 5, 4)
        assert_close(_flat(found), _flat(expected))


def test_cotangents_of_several_outputs(model: nn.Module, x: Tensor) -> None:
    y, z = model(x).sum(0), model(x).square().sum()
    parameters = list(model.parameters())
    full = torch.cat([reference_jacobian(t, parameters) for t in (y, z)])
    factors = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = jac([y, z], parameters, jac_outputs=[factors[:, :3], factors[:, 3]])
    assert_close(_flat(found), factors @ full)


def test_pinned() -> None:
    # f = (a + 2b, a·b) at a = 3, b = 5: rows (1, 2) and (5, 3); the factors (1, 1) add them up.
    a = torch.tensor(3.0, requires_grad=True)
    b = torch.tensor(5.0, requires_grad=True)
    f = [a + 2 * b, a * b]
    assert [j.tolist() for j in jac(f, [a, b], retain_graph=True)] == [[1, 5], [2, 3]]
    backward(f, jac_tensors=[torch.ones(1), torch.ones(1)])
    assert (a.jac.tolist(), b.jac.tolist()) == ([6], [5])


def test_accumulates(model: nn.Module, x: Tensor) -> None:
    losses = model(x).square().sum(0)
    backward(losses, retain_graph=True)
    first = [j.clone() for j in _left(model)]
    backward(losses)
    assert all(torch.equal(p, 2 * q) for p, q in zip(_left(model), first, strict=True))


def test_default_inputs_are_the_trained_leaves(model: nn.Module, x: Tensor) -> None:
    model[0].bias.requires_grad_(False)
    unused = torch.ones(3, requires_grad=True)
    backward(model(x).sum(0))
    assert not hasattr(model[0].bias, "jac")
    assert not hasattr(unused, "jac")
    assert model[0].weight.jac.shape == (3, 5, 4)


def test_frozen_inputs_are_skipped_and_unused_ones_get_zeros(model: nn.Module, x: Tensor) -> None:
    model[0].bias.requires_grad_(False)
    unused = torch.ones(3, requires_grad=True)
    backward(model(x).sum(0), inputs=[*model.parameters(), unused], retain_graph=True)
    assert not hasattr(model[0].bias, "jac")
    assert torch.equal(unused.jac, torch.zeros(3, 3))


def test_unused_input_of_jac(model: nn.Module, x: Tensor) -> None:
    unused = torch.ones(2, 2, requires_grad=True)
    assert torch.equal(jac(model(x).sum(0), unused)[0], torch.zeros(3, 2, 2))


def test_inputs_of_jac_in_any_form(model: nn.Module, x: Tensor) -> None:
    hidden = model[:2](x)
    y = model[2](hidden).sum(0)
    weight = model[0].weight
    assert jac(y, [], retain_graph=True) == ()
    (single,) = jac(y, weight, retain_graph=True)
    first, features, again = jac(y, [weight, hidden, weight], retain_graph=True)
    assert torch.equal(first, single)
    assert torch.equal(again, single)
    assert_close(features.flatten(1), reference_jacobian(y, [hidden]))
    # An output may be an input: its Jacobian is the identity.
    assert torch.equal(jac(y, y)[0], torch.eye(3, dtype=torch.float64))


def test_an_input_above_another(model: nn.Module, x: Tensor) -> None:
    hidden = model[0](x)
    later = model[1](hidden)
    y = model[2](later).square().sum(0)
    expected = reference_jacobian(y, [later, hidden])
    assert_close(_flat(jac(y, [later, hidden])), expected)


def test_empty_sizes() -> None:
    p = torch.ones(3, requires_grad=True)
    none = torch.ones(0, 2, requires_grad=True)
    outputs = torch.zeros(0) * p.sum()
    assert jac(outputs, p)[0].shape == (0, 3)
    backward(outputs)
    assert p.jac.shape == (0, 3)
    (found,) = jac([none.sum(), none.square().sum()], none)
    assert found.shape == (2, 0, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3, dtype=dtype)
    losses = layer(torch.randn(5, 4, dtype=dtype)).square().sum(1)
    expected = reference_jacobian(losses, layer.parameters())
    found = jac(losses, list(layer.parameters()))
    assert {j.dtype for j in found} == {dtype}
    assert_close(_flat(found), expected, dtype)


def test_each_jacobian_has_its_input_dtype() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(2, 2).double()
    y = second(first(torch.randn(4, 3)).double()).sum(0)
    found = jac(y, [first.weight, second.weight], jac_outputs=torch.eye(2))
    assert [j.dtype for j in found] == [torch.float32, torch.float64]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_complex_input_and_output(chunk: int | None) -> None:
    torch.manual_seed(3)
    z = torch.randn(3, dtype=torch.complex128, requires_grad=True)
    losses = [z.abs().sum(), (z * z).imag.sum(), z.real.prod()]
    expected = torch.stack([torch.autograd.grad(y, z, retain_graph=True)[0] for y in losses])
    (found,) = jac(losses, z, retain_graph=True, parallel_chunk_size=chunk)
    assert_close(torch.view_as_real(found), torch.view_as_real(expected))
    # Through a complex feature: the cotangents are complex.
    w = z * (1 + 2j)
    tops = [w.abs().sum(), w.imag.square().sum()]
    direct = jac(tops, z, retain_graph=True)[0]
    outer = jac(tops, w, retain_graph=True)
    (chained,) = jac(w, z, jac_outputs=outer, parallel_chunk_size=chunk)
    assert_close(torch.view_as_real(chained), torch.view_as_real(direct))


def test_nothing_is_written_by_jac(model: nn.Module, x: Tensor) -> None:
    hidden = model[:2](x)
    hidden.retain_grad()
    found = jac(model[2](hidden).sum(0), [hidden, *model.parameters()], parallel_chunk_size=1)
    assert hidden.grad is None
    assert all(p.grad is None and not hasattr(p, "jac") for p in model.parameters())
    assert not any(j.requires_grad for j in found)


def test_refusals(model: nn.Module, x: Tensor) -> None:
    y = model(x).sum(0)
    z = model(x).sum(1)
    weight, eye = model[0].weight, torch.eye(3)
    for call, error, says in [
        (lambda: jac([], weight), ValueError, "no output"),
        (lambda: jac([y, y], weight), ValueError, "twice"),
        (lambda: jac(y.detach(), weight), ValueError, "without a graph"),
        (lambda: jac(y, x), ValueError, "input 0, which requires no grad"),
        (lambda: jac(y, [weight, "w"]), TypeError, "input at position 1"),
        (lambda: jac(y, None), TypeError, "NoneType as input"),
        (lambda: jac(3.0, weight), TypeError, "float as output"),
        (lambda: jac(y, weight, parallel_chunk_size=0), ValueError, "at least 1"),
        (lambda: jac(y * 1j, weight), TypeError, "complex output"),
        (lambda: jac(y, weight, jac_outputs=torch.ones(2, 4)), ValueError, r"\(m, 3\)"),
        (lambda: jac(y, weight, jac_outputs=torch.ones(3)), ValueError, r"\(m, 3\)"),
        (lambda: jac(y, weight, jac_outputs=[eye, eye]), ValueError, "2 jac_outputs for 1"),
        (lambda: jac(y, weight, jac_outputs=["a"]), TypeError, "str as the jac_outputs"),
        (lambda: jac(y, weight, jac_outputs=eye * 1j), TypeError, "complex jac_outputs"),
        (
            lambda: jac([y, z], weight, jac_outputs=[torch.ones(2, 3), torch.ones(3, 6)]),
            ValueError,
            "3 rows",
        ),
        (lambda: backward(y, jac_tensors=torch.ones(2, 4)), ValueError, "jac_tensors"),
        (lambda: backward(y, inputs=[x]), ValueError, "requires no grad"),
        (lambda: backward([y, z.sum()], jac_tensors=eye), ValueError, "1 jac_tensors for 2"),
    ]:
        with pytest.raises(error, match=says):
            call()
    assert all(not hasattr(p, "jac") for p in model.parameters())


def test_rows_that_do_not_fit_what_is_there(model: nn.Module, x: Tensor) -> None:
    backward(model(x).sum(0))
    before = [j.clone() for j in _left(model)]
    y = model(x)
    # One row would be added to each of three by broadcasting.
    for other in (y.sum(), y.sum(1)):
        with pytest.raises(ValueError, match="with 3 rows on input 0"):
            backward(other)
    assert all(torch.equal(p, q) for p, q in zip(_left(model), before, strict=True))
    y.sum().backward()  # the graph was not touched either
    model[0].weight.jac = "mine"
    with pytest.raises(TypeError, match=r"str in \.jac"):
        backward(model(x).sum(0))
    model[0].weight.jac = torch.ones(3, 2)
    with pytest.raises(ValueError, match="on a tensor of shape"):
        backward(model(x).sum(0))
