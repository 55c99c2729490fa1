"""Constant: weights as given."""

import pytest
import torch

from engines.aggregation import METHODS, Constant, ConstantWeighting, Mean

MATRIX = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])


def test_two_gradients() -> None:
    # (-4, 1, 1) + 2 (6, 1, 1) = (8, 3, 3).
    weights = torch.tensor([1.0, 2.0])
    assert torch.equal(Constant(weights)(MATRIX), torch.tensor([8.0, 3.0, 3.0]))
    assert torch.equal(ConstantWeighting(weights)(MATRIX @ MATRIX.T), weights)


def test_weights_of_either_sign_come_in_the_dtype_of_the_statistic() -> None:
    weighting = ConstantWeighting(torch.tensor([-1, 3]))
    assert torch.equal(weighting(torch.eye(2).double()), torch.tensor([-1.0, 3.0]).double())


def test_equal_weights_are_the_mean() -> None:
    assert torch.equal(Constant(torch.full((2,), 0.5))(MATRIX), Mean()(MATRIX))


def test_the_direction_is_differentiable() -> None:
    matrix = MATRIX.clone().requires_grad_()
    Constant(torch.tensor([1.0, 2.0]))(matrix).sum().backward()
    assert matrix.grad is not None
    assert torch.equal(matrix.grad, torch.tensor([[1.0] * 3, [2.0] * 3]))


def test_the_number_of_weights_must_be_m() -> None:
    for method in (Constant, ConstantWeighting):
        with pytest.raises(ValueError, match="weights of 3 entries for 2 objectives"):
            method(torch.ones(3))(torch.eye(2))


@pytest.mark.parametrize("method", [Constant, ConstantWeighting])
def test_the_weights_are_checked_and_settable(method: type[Constant]) -> None:
    instance = method(torch.tensor([1.0, 2.0]))
    for bad, error in (
        ([1.0, 2.0], TypeError),
        (torch.ones(1, 2), ValueError),
        (torch.tensor([1.0, float("nan")]), ValueError),
    ):
        with pytest.raises(error, match="expected"):
            method(bad)
        with pytest.raises(error, match="expected"):
            instance.weights = bad
    instance.weights = torch.tensor([0.0, 1.0])
    assert torch.equal(instance(torch.eye(2)), torch.tensor([0.0, 1.0]))


def test_printed_forms() -> None:
    for method in (Constant, ConstantWeighting):
        assert repr(method(torch.tensor([1.0, 2.0]))) == (
            f"{method.__name__}(weights=tensor([1., 2.]))"
        )
        assert str(method(torch.tensor([1.0, 2.0]))) == f"{method.__name__}([1., 2.])"


def test_example_weights_tell_the_objectives_apart() -> None:
    weights = METHODS["Constant"].arguments(4)["weights"]
    torch.testing.assert_close(weights, torch.tensor([0.1, 0.2, 0.3, 0.4]).double())
    assert METHODS["Constant"].arguments(0)["weights"].shape == (0,)
