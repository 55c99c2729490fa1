"""What holds for the engine's tests."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Run tiny contractions on one thread: beside a busy process they would wait for a second core.

    Measured beside one other process on two cores: 13 seconds instead of 250 for `test_plans.py`.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pair() -> tuple[nn.Linear, nn.Linear]:
    """Two layers that fit behind each other."""
    torch.manual_seed(0)
    return nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
