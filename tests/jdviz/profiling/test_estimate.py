"""The predicted memory against the measured one."""

from collections.abc import Iterator
from typing import cast

import pytest
import torch

from jdviz.problems import PROBLEMS
from jdviz.profiling import STEP_METHODS, MeasureSpec, StepMethod, step_bytes
from jdviz.profiling.child import measure_here
from jdviz.profiling.estimate import step_sizes


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("method", STEP_METHODS)
@pytest.mark.parametrize(("size", "batch_size"), [("small", 64), ("medium", 64), ("large", 8)])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_prediction_is_within_a_factor_of_two(
    problem: str, size: str, batch_size: int, method: StepMethod
) -> None:
    spec = MeasureSpec(problem, size, batch_size, method, "Mean", seed=0, repeats=1)
    measured = measure_here(spec).peak_bytes
    assert measured / 2 <= step_bytes(problem, size, batch_size, method) <= 2 * measured


@pytest.mark.parametrize("problem", PROBLEMS)
def test_autojac_is_never_predicted_below_its_jacobian(problem: str) -> None:
    for size in PROBLEMS[problem].sizes:
        for batch_size in (1, 7, PROBLEMS[problem].max_batch):
            sizes = step_sizes(problem, size, batch_size)
            jacobian_bytes = 4 * sizes.objectives * sizes.parameters
            assert step_bytes(problem, size, batch_size, "autojac") >= jacobian_bytes


def test_saved_bytes_in_closed_form() -> None:
    # 64-32-10 on 8 images saves two blocks of float32: the hidden layer, whose ReLU and second
    # linear layer share it, and the log-probabilities; then the loss's total weight, one number.
    sizes = step_sizes("digits_mlp", "small", 8)
    assert sizes.saved_bytes == 4 * (8 * 32 + 8 * 10 + 1)
    assert sizes.largest_bytes == 4 * 8 * 32
    assert sizes.parameters == 64 * 32 + 32 + 32 * 10 + 10
    assert sizes.objectives == 8


def test_what_cannot_be_predicted_is_refused() -> None:
    with pytest.raises(ValueError, match="got method 'sgd', expected one of autograd"):
        step_bytes("digits_mlp", "small", 8, cast("StepMethod", "sgd"))
    with pytest.raises(ValueError, match="choose at most 256"):
        step_bytes("digits_mlp", "small", 5000, "autograd")
