"""Runs a model wrapped by DistributedDataParallel, in a process of its own.

`python -m tests.engines.edges.data_parallel float64 FILE` saves pairs of found and expected. The
process ends without taking the group down: torch 2.13 can deadlock there, when a thread of gloo
waits for the interpreter to free a Python object while the interpreter waits for the thread.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from engines.autogram import Engine
from tests.engines.edges.autogram import data, gradient_of, losses_of, mlp
from tests.engines.edges.record import Pairs
from tests.support.reference import reference_gramian, reference_jacobian

ROOT = Path(__file__).resolve().parents[3]


def pairs_in_a_child(dtype: torch.dtype) -> Pairs:
    """Run this module as a program and read what it saved."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.pt"
        name = str(dtype).removeprefix("torch.")
        command = [sys.executable, "-m", __spec__.name, name, str(file)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
        loaded: list[tuple[Tensor, Tensor]] = torch.load(file)
    return loaded


def _pairs(dtype: torch.dtype) -> Pairs:
    """Gramians of wrapped models, and the gradients of the weighted losses."""
    torch.manual_seed(0)
    weights = torch.rand(6, dtype=dtype)
    for unused, static in ((False, False), (True, False), (False, True)):
        model = mlp(dtype)
        wrapped = DistributedDataParallel(model, find_unused_parameters=unused, static_graph=static)
        for _ in range(2):
            x = data(dtype)
            losses, plain = losses_of(wrapped, x), losses_of(model, x)
            expected = reference_gramian(plain, model.parameters())
            yield Engine(wrapped, batch_dim=0).compute_gramian(losses), expected
            losses.backward(weights)
            exact = weights @ reference_jacobian(plain, model.parameters())
            yield gradient_of(model.parameters()), exact
            wrapped.zero_grad()
            # In one pass: the reducer hears of every parameter all the same.
            Engine(wrapped, batch_dim=0).backward(losses_of(wrapped, x), lambda _: weights)
            yield gradient_of(model.parameters()), exact
            wrapped.zero_grad()


if __name__ == "__main__":
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    found = [(one.detach(), other.detach()) for one, other in _pairs(getattr(torch, sys.argv[1]))]
    torch.save(found, sys.argv[2])
    os._exit(0)
