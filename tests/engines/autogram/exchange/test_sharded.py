"""Parameters that are split over ranks are refused, and what the reasons say is so."""

import subprocess
import sys
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.parallel import DistributedDataParallel

from engines.autogram.exchange.sharded import refuse_sharded
from engines.autogram.tracked import Tracked
from engines.errors import UnsupportedGroupError
from tests.structure.sources import ROOT
from tests.support.ranks import Ranks
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def losses_of(model: nn.Module, rank: int) -> Tensor:
    torch.manual_seed(rank + 1)
    return model(torch.randn(5, 4).double()).square().sum(1)


def said_of(*modules: nn.Module) -> str:
    """What the refusal says, nothing if there is none."""
    tracked = Tracked(modules)
    try:
        refuse_sharded(tracked.parameters, lambda: tracked.names, modules)
    except UnsupportedGroupError as error:
        return str(error)
    return ""


# The imports of torch's wrappers are in the functions, so that only the ranks pay for them.
def by_fully_shard(world_size: int, *, whole: bool) -> nn.Sequential:
    """Wrapped layer by layer and as a whole; with `whole`, whole from a forward pass on."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (world_size,))
    model = mlp()
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh, reshard_after_forward=not whole)
    return model


def fully_sharded(rank: int, world_size: int) -> list[str]:
    model = by_fully_shard(world_size, whole=False)
    found = [said_of(model)]
    losses_of(model, rank)
    return [*found, said_of(model), said_of(model[2])]


def whole_for_now(rank: int, world_size: int) -> list[str]:
    model = by_fully_shard(world_size, whole=True)
    losses_of(model, rank)
    assert {type(parameter) for parameter in model.parameters()} == {nn.Parameter}
    return [said_of(model), said_of(model[2]), said_of(mlp())]


def without_torchs_list(rank: int, world_size: int) -> list[str]:
    model = by_fully_shard(world_size, whole=True)
    losses_of(model, rank)
    composable = sys.modules["torch.distributed._composable_state"]
    kept = composable.__dict__.pop("_module_state_mapping")
    found = [said_of(nn.Sequential(model))]
    composable.__dict__["_module_state_mapping"] = kept
    return found


def under_the_old_wrapper(rank: int, world_size: int, original: bool) -> list[str]:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = mlp()
    wrapped = FullyShardedDataParallel(
        model, use_orig_params=original, device_id=torch.device("cpu")
    )
    return [said_of(wrapped), said_of(model)]


def of_tensor_parallelism(rank: int, world_size: int) -> list[str]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (world_size,))
    return [said_of(parallelize_module(mlp(), mesh, {"2": ColwiseParallel()}))]


def replicated(rank: int, world_size: int) -> list[str]:
    import_module("torch.distributed.fsdp")
    return [said_of(mlp()), said_of(DistributedDataParallel(mlp()))]


SHARDS = "got 4 parameters that fully_shard (FSDP2) splits over ranks, 0.weight first, expected"


def test_shards_are_refused(two_ranks: Ranks) -> None:
    for before, after, part in two_ranks.run(fully_sharded):
        assert before == after
        assert before.startswith(SHARDS)
        assert "Gramian of the shards would be zero" in before
        assert before.endswith("by hand or with DistributedDataParallel.")
        assert part.startswith(
            "got 2 parameters that fully_shard (FSDP2) splits over ranks, weight"
        )


def test_shards_that_are_whole_for_now_are_refused(two_ranks: Ranks) -> None:
    for model, part, other in two_ranks.run(whole_for_now):
        assert model.startswith(SHARDS)
        assert part.startswith(
            "got 2 parameters that fully_shard (FSDP2) splits over ranks, weight"
        )
        assert other == ""


def test_wrapped_modules_are_found_without_torchs_list(two_ranks: Ranks) -> None:
    for (model,) in two_ranks.run(without_torchs_list):
        assert "4 parameters that fully_shard (FSDP2) splits over ranks, 0.0.weight first" in model


@pytest.mark.parametrize(("original", "first"), [(True, "4 parameters"), (False, "a parameter")])
def test_the_old_wrapper_is_refused(two_ranks: Ranks, original: bool, first: str) -> None:
    for found in two_ranks.run(under_the_old_wrapper, original):
        for one in found:
            assert one.startswith(f"got {first} that FullyShardedDataParallel (FSDP1) splits")


def test_tensor_parallelism_is_refused(two_ranks: Ranks) -> None:
    for (found,) in two_ranks.run(of_tensor_parallelism):
        assert found.startswith("got 2 parameters that DTensor splits over ranks, 2.weight first")


def test_replicated_models_are_not_refused(two_ranks: Ranks) -> None:
    assert two_ranks.run(replicated) == [["", ""]] * 2


def test_nothing_is_imported_to_look() -> None:
    code = """
import sys
from torch import nn
from engines.autogram.exchange.sharded import refuse_sharded
model = nn.Linear(2, 2)
refuse_sharded(list(model.parameters()), list, [model])
assert "torch.distributed.tensor" not in sys.modules
assert "torch.distributed.fsdp" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=100)


# What the refusal and its docstring say about `fully_shard`. When one of these fails, torch has
# changed, and the refusal may no longer be needed.
def reached(rank: int, world_size: int) -> int:
    """How many of the model's parameters the graph reaches."""
    model = by_fully_shard(world_size, whole=False)
    loss = losses_of(model, rank).sum()
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return sum(gradient is not None for gradient in found)


def gramian_of_copies(rank: int, world_size: int) -> tuple[Tensor, Tensor]:
    model, plain = by_fully_shard(world_size, whole=True), mlp()
    losses = losses_of(model, rank)
    copies = list(model.parameters())
    expected = reference_gramian(losses_of(plain, rank), plain.parameters())
    return reference_gramian(losses, copies), expected


def gradients_of_shards(rank: int, world_size: int) -> tuple[int, int]:
    """How many shards have a gradient after one was written to each copy, and after FSDP's own."""
    model = by_fully_shard(world_size, whole=True)
    losses = losses_of(model, rank)
    for copy in model.parameters():
        copy.grad = torch.ones_like(copy)
    model.reshard()
    for part in (model[0], model[2]):
        part.reshard()
    shards = list(model.parameters())
    written = sum(shard.grad is not None for shard in shards)
    losses.sum().backward()
    return written, sum(shard.grad is not None for shard in shards)


def gathered_in_a_pass(rank: int, world_size: int) -> list[int]:
    """How often parameters were gathered in each of two passes towards an inner node."""
    from torch.distributed.tensor.debug import CommDebugMode

    model = by_fully_shard(world_size, whole=False)
    inner: list[Tensor] = []
    model[1].register_forward_hook(lambda module, inputs, output: inner.append(output))
    losses = losses_of(model, rank)
    counts = []
    for _ in range(2):
        with CommDebugMode() as counted:
            edge = get_gradient_edge(inner[0])
            torch.autograd.grad(losses.sum(), edge, retain_graph=True)
        counts.append(counted.get_total_counts())
    return counts


def test_the_graph_does_not_reach_the_shards(two_ranks: Ranks) -> None:
    assert two_ranks.run(reached) == [0, 0]


def test_the_gramian_of_whole_copies_is_exact(two_ranks: Ranks) -> None:
    for found, expected in two_ranks.run(gramian_of_copies):
        assert_close(found, expected)


def test_what_is_written_to_copies_does_not_reach_the_shards(two_ranks: Ranks) -> None:
    assert two_ranks.run(gradients_of_shards) == [(0, 4)] * 2


def test_every_pass_gathers(two_ranks: Ranks) -> None:
    # The first time, what the forward pass used before is fetched ahead.
    assert two_ranks.run(gathered_in_a_pass) == [[2, 1]] * 2
