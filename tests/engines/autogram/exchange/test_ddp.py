"""DistributedDataParallel: reduced once, by the wrapper, to the gradient of the whole batch."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from engines.autogram import Engine
from tests.engines.autogram.exchange.wrapped import (
    SIZES,
    Pairs,
    batches,
    check,
    counted,
    expected,
    gradient,
    losses_of,
    made,
    pairs_of,
    uneven,
)
from tests.support.ranks import Ranks


def fused(
    rank: int,
    world_size: int,
    name: str,
    dtype: torch.dtype,
    sizes: tuple[int, ...],
    options: dict[str, Any],
) -> tuple[list[Pairs], list[int], int]:
    """Two steps through the wrapper, the second with its buckets rebuilt."""
    model, plain = made(name, dtype), made(name, torch.float64)
    ddp = DistributedDataParallel(model, **options)
    seen, engine = counted(ddp), Engine(ddp, batch_dim=0)
    found, reductions = [], []
    for seed in (1, 2):
        ddp.zero_grad()
        losses = losses_of(ddp, batches(sizes, seed, dtype)[rank])
        known = expected(plain, losses_of(plain, torch.cat(batches(sizes, seed))))
        seen.clear()
        step = engine.backward(losses, uneven)
        reductions.append(len(seen))
        found.append(pairs_of(step, model, known))
    assert engine.exchange is not None
    return found, reductions, engine.exchange.sent_bytes


@pytest.mark.parametrize(
    ("name", "sizes", "options"),
    [
        ("mlp", (3, 3), {}),
        ("mlp", (1, 4), {}),
        ("mlp", (3, 0), {}),
        ("mlp", (2, 3), {"gradient_as_bucket_view": True}),
        ("tied", (3, 3), {}),
        ("forked", (3, 2), {"find_unused_parameters": True}),
    ],
    ids=["even", "uneven", "one empty", "views of buckets", "tied", "unused"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_reference_one_reduction_gives_the_gradient_of_the_whole_batch(
    two_ranks: Ranks, name: str, sizes: tuple[int, ...], options: dict[str, Any], dtype: torch.dtype
) -> None:
    answers = two_ranks.run(fused, name, dtype, sizes, options)
    check([found for found, _, _ in answers], dtype)
    assert [reductions for _, reductions, _ in answers] == [[1, 1]] * 2
    assert answers[0][2] == answers[1][2]


def test_reference_four_ranks(four_ranks: Ranks) -> None:
    answers = four_ranks.run(fused, "mlp", torch.float64, (2, 0, 3, 1), {})
    check([found for found, _, _ in answers])
    assert [reductions for _, reductions, _ in answers] == [[1, 1]] * 4


def buckets(rank: int, world_size: int) -> tuple[Pairs, int]:
    """A wrapper whose buckets hold about one parameter each."""
    model = made("mlp")
    ddp = DistributedDataParallel(model, bucket_cap_mb=1e-5)
    seen, engine = counted(ddp), Engine(ddp, batch_dim=0)
    engine.backward(losses_of(ddp, batches(SIZES)[rank]), uneven)
    ddp.zero_grad()
    seen.clear()
    step = engine.backward(losses_of(ddp, batches(SIZES)[rank]), uneven)
    plain = made("mlp")
    known = expected(plain, losses_of(plain, torch.cat(batches(SIZES))))
    return pairs_of(step, model, known), len(seen)


def test_reference_every_bucket_is_reduced_once(two_ranks: Ranks) -> None:
    answers = two_ranks.run(buckets)
    check([[pairs] for pairs, _ in answers])
    assert [count for _, count in answers] == [6, 6]


def forks(rank: int, world_size: int) -> tuple[Pairs, int]:
    """Every rank takes another end of the model."""
    model, plain = made("forked"), made("forked")
    ddp = DistributedDataParallel(model, find_unused_parameters=True)
    seen, engine = counted(ddp), Engine(ddp, batch_dim=0)
    parts = batches((2, 3))
    step = engine.backward(losses_of(ddp, parts[rank], rank), uneven)
    losses = torch.cat([losses_of(plain, part, end) for end, part in enumerate(parts)])
    return pairs_of(step, model, expected(plain, losses)), len(seen)


def test_reference_parameters_used_on_one_rank_only(two_ranks: Ranks) -> None:
    answers = two_ranks.run(forks)
    check([[pairs] for pairs, _ in answers])
    assert [count for _, count in answers] == [1, 1]


def in_two_passes(rank: int, world_size: int) -> tuple[Pairs, list[int]]:
    """The Gramian first, then an ordinary backward pass with the rank's own weights."""
    model, plain = made("mlp"), made("mlp")
    ddp = DistributedDataParallel(model)
    seen, engine = counted(ddp), Engine(ddp, batch_dim=0)
    losses = losses_of(ddp, batches((2, 3))[rank])
    gramian = engine.compute_gramian(losses)
    untouched = [parameter.grad is None for parameter in model.parameters()]
    counts = [untouched.count(False), len(seen)]
    weights = uneven(gramian)
    (world_size * weights.split((2, 3))[rank] * losses).sum().backward()
    known = expected(plain, losses_of(plain, torch.cat(batches((2, 3)))))
    found = (gramian, weights, gradient(model.parameters()))
    names = ("Gramian", "weights", "gradient")
    return dict(zip(names, zip(found, known, strict=True), strict=True)), [*counts, len(seen)]


def test_reference_the_gramian_alone_reduces_nothing(two_ranks: Ranks) -> None:
    answers = two_ranks.run(in_two_passes)
    check([[pairs] for pairs, _ in answers])
    assert [counts for _, counts in answers] == [[0, 0, 1]] * 2


def inside(rank: int, world_size: int) -> tuple[Pairs, int]:
    """The engine knows the module in the wrapper, and adds up by itself; the wrapper averages."""
    model, plain = made("mlp"), made("mlp")
    ddp = DistributedDataParallel(model)
    seen, engine = counted(ddp), Engine(ddp.module, batch_dim=0)
    step = engine.backward(losses_of(ddp, batches((4, 1))[rank]), uneven)
    known = expected(plain, losses_of(plain, torch.cat(batches((4, 1)))))
    return pairs_of(step, model, known), len(seen)


def test_reference_an_engine_of_the_module_inside_is_right_too(two_ranks: Ranks) -> None:
    answers = two_ranks.run(inside)
    check([[pairs] for pairs, _ in answers])
    assert [count for _, count in answers] == [1, 1]


def accumulated(rank: int, world_size: int, views: bool) -> tuple[Pairs, list[int]]:
    """Two micro-batches, each with the weights of its own Gramian."""
    model, plain = made("mlp"), made("mlp")
    ddp = DistributedDataParallel(model, gradient_as_bucket_view=views)
    seen, engine = counted(ddp), Engine(ddp, batch_dim=0)
    known, found, counts = [], {}, []
    for number, sizes in enumerate(((2, 3), (3, 1))):
        with nullcontext() if number else ddp.no_sync():
            step = engine.backward(losses_of(ddp, batches(sizes, number)[rank]), uneven)
        counts.append(len(seen))
        known.append(expected(plain, losses_of(plain, torch.cat(batches(sizes, number)))))
        found[f"weights of batch {number}"] = step.weights, known[-1][1]
    found["gradient"] = gradient(model.parameters()), known[0][2] + known[1][2]
    return found, counts


@pytest.mark.parametrize("views", [False, True])
def test_reference_no_sync_accumulates(two_ranks: Ranks, views: bool) -> None:
    answers = two_ranks.run(accumulated, views)
    check([[pairs] for pairs, _ in answers])
    assert [counts for _, counts in answers] == [[0, 1]] * 2
