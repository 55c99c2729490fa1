"""One objective per sample, trained by one process or by several that torchrun starts.

    torchrun --standalone --nproc-per-node 2 docs/examples/distributed.py

Each process computes the losses of its own part of every batch; the update is the one that a single
process with the whole batch would have made. A script for one process becomes this one by the lines
that begin with "with several processes".
"""

import argparse
import logging
import os
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from engines.aggregation import UPGradWeighting
from engines.autogram import Engine

SAMPLES, BATCH = 1024, 64


def make_data() -> tuple[Tensor, Tensor]:
    """Samples that every process makes alike; most are easy, one in eight is not."""
    inputs = torch.randn(SAMPLES, 16, generator=torch.Generator().manual_seed(0))
    rare = torch.arange(SAMPLES) % 8 == 0
    return inputs, torch.where(rare, inputs[:, :3].prod(1), inputs[:, :3].sum(1))


def make_model() -> nn.Module:
    """A perceptron that starts alike in every process."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )


def join(timeout_s: float) -> tuple[int, int, torch.device]:
    """Join the processes that torchrun started, if it did.

    Args:
        timeout_s: How long a process waits for the others.

    Returns:
        Number of this process, how many there are, and the device of this one.
    """
    gpu = torch.cuda.is_available()
    if "RANK" not in os.environ:
        return 0, 1, torch.device("cuda" if gpu else "cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if gpu else "gloo",
        store=store_of_this_start(),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(seconds=timeout_s),
    )
    return distributed.get_rank(), distributed.get_world_size(), device


def store_of_this_start() -> distributed.Store:
    """Where processes find each other's addresses.

    Torchrun keeps its store when it starts the processes again, and in torch 2.13 gloo then finds
    the addresses of those that ended; so each start has names of its own. Without restarts,
    `init_process_group(backend)` is enough.
    """
    kept = distributed.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=os.environ["RANK"] == "0"
        and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
    )
    return distributed.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), kept)


def train(options: argparse.Namespace) -> None:
    """Train to the number of steps that was asked for, from the checkpoint if there is one."""
    rank, ranks, device = join(options.timeout)
    inputs, targets = (tensor.to(device) for tensor in make_data())
    model = make_model().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = 0
    if options.checkpoint is not None and options.checkpoint.exists():
        state = torch.load(options.checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        logging.info("rank %d of %d goes on after step %d", rank, ranks, first)
    # With several processes, the model is wrapped,
    replica = DistributedDataParallel(model) if ranks > 1 else model
    # the engine is told of the wrapper (it finds the group by itself),
    engine, weighting = Engine(replica, batch_dim=0), UPGradWeighting()

    for step in range(first, options.steps):
        batch = torch.arange(step * BATCH, (step + 1) * BATCH) % SAMPLES
        # and each takes its own part of the batch.
        own = batch[rank::ranks]
        losses = (replica(inputs[own]).squeeze(1) - targets[own]).square()
        optimizer.zero_grad()
        gramian, weights = engine.backward(losses, weighting)  # of all 64 samples, in both
        optimizer.step()
        if rank == 0 and options.checkpoint is not None:
            save(options.checkpoint, model, optimizer, step + 1)
        if rank == 0 and (step + 1) % 10 == 0:
            logging.info(
                "step %d of %d processes: %d objectives, %.0f %% of pairs in conflict, largest "
                "weight %.2f, mean loss of the own part %.3f",
                step + 1,
                ranks,
                len(weights),
                100 * (gramian < 0).float().mean().item(),
                weights.max().item(),
                losses.mean().item(),
            )
    if ranks > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write a checkpoint such that whoever is killed meanwhile leaves the earlier one."""
    part = path.with_suffix(".part")
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part
    )
    part.replace(path)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--checkpoint", type=Path, default=None, help="written after every step")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for others")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
