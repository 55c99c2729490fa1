"""What travels is decided alike on every rank, and costs what the formulas say."""

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from engines.autogram.exchange.description import Description, TaskShape, differences
from engines.autogram.exchange.routes import hops, plan_routes
from engines.autogram.rates import Rates
from engines.autogram.rules import Extent

RATES = Rates(multiply_adds_per_s=1e11, bytes_per_s=5e10, call_s=3e-6)
FAST, SLOW = (1e-4, 1e12), (1e-4, 1e3)


def linear(positions: int, inputs: int, outputs: int) -> TaskShape:
    """A linear layer without a bias."""
    return TaskShape(
        name=f"{inputs} to {outputs}",
        members=(0,),
        entries=inputs * outputs,
        weight=(outputs, inputs),
        axes=(0, 1),
        spans=(((False, True),), ((True, False),)),
        crosses=True,
        extents=(Extent(positions, (inputs,), (outputs,), positions),),
        kept=False,
    )


def described(samples: int, *tasks: TaskShape, losses: int = 1, cap: int = 2**30) -> Description:
    """A rank with these layers."""
    return Description(
        call="backward",
        dtype="float32",
        rest=(),
        parameters=("weight",),
        outside=(),
        reached=(0,),
        samples=samples,
        losses=losses if samples else 0,
        tasks=tasks if samples else (),
        order=tuple(range(len(tasks))) if samples else (),
        rounds=(tuple(range(len(tasks))),) if samples else (),
        workspace_bytes=cap,
        general_bytes=2**26,
    )


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("turn", [0, 1])
def test_on_a_ring_each_pair_of_ranks_meets_once(count: int, turn: int) -> None:
    """Blocks of all pairs are contracted, none of them twice, and halves make a whole."""
    workers = [3 * place + 1 for place in range(count)]
    met: dict[frozenset[int], list[tuple[int, bool, bool]]] = {}
    for rank in workers:
        for hop in hops(workers, rank, turn):
            met.setdefault(frozenset((rank, hop.of)), []).append(
                (rank, hop.gets_half, hop.own_half)
            )
            (back,) = [h for h in hops(workers, hop.to, turn) if h.of == rank]
            assert back.gets_half == hop.sends_half
    assert set(met) == {frozenset(pair) for pair in combinations(workers, 2)}
    for found in met.values():
        if len(found) == 1:
            assert found[0][1:] == (False, False)
        else:  # one meets the other's first half, that one with its second half the whole of it
            assert sorted(pair[1:] for pair in found) == [(False, True), (True, False)]


def test_ranks_that_are_farthest_apart_take_turns_in_sending_all() -> None:
    """What is sent over two shipments is the same for both."""
    halves = [[hop.sends_half for turn in (0, 1) for hop in hops((0, 1), r, turn)] for r in (0, 1)]
    assert [sum(one) for one in halves] == [1, 1]


def sent_by(routes_of: str, link: tuple[float, float], *descriptions: Description) -> list[int]:
    """Bytes that every rank sends, where what is chosen is known."""
    routes = plan_routes(0, descriptions, RATES, link, itemsize=4)
    (route,) = routes.routes
    assert route.travels == routes_of
    return list(route.sent_bytes)


def test_bytes_of_gradients() -> None:
    """k·b·n·(N - 1)/N entries: 5·12·2/3 and so on, by rank, of a weight that three can share."""
    layer = replace(linear(50, 3, 4), axes=(), spans=(), crosses=False, extents=())
    found = sent_by("gradients", FAST, *(described(b, layer) for b in (5, 2, 1)))
    assert found == [4 * b * 12 * 2 // 3 for b in (5, 2, 1)]


def test_bytes_of_factors() -> None:
    """The narrow side goes to all, of the wide one each rank gets a part: b·t·(whole + cut/2)."""
    found = sent_by("factors", SLOW, *(described(b, linear(7, 64, 1024)) for b in (3, 5)))
    assert found == [4 * b * 7 * (64 + 1024 // 2) for b in (3, 5)]


def test_bytes_round_a_ring() -> None:
    """Both sides to half of the ring: at eight ranks to three and, on the average, half of one."""
    layer = linear(1, 64, 64)
    found = sent_by("ring", SLOW, *(described(4, layer) for _ in range(8)))
    whole, half = 4 * 4 * 128, 4 * 2 * 128
    assert sorted(set(found)) == [3 * whole + half, 4 * whole]


def test_one_that_is_cut_unevenly_is_sent_whole_all_the_same() -> None:
    """Three ranks share five rows: what one keeps the others send, to the last entry."""
    layer = replace(linear(1, 50, 5), axes=(0,), spans=(((False, True),),), crosses=False)
    found = sent_by("factors", SLOW, *(described(1, layer) for _ in range(3)))
    kept = [5 * (place + 1) // 3 - 5 * place // 3 for place in range(3)]
    assert kept == [1, 2, 2]
    assert found == [4 * (2 * 50 + 5 - own) for own in kept]


def test_the_plan_is_the_same_on_every_rank() -> None:
    """But for the number of the rank that it is made on."""
    descriptions = [described(b, linear(3, 8, 9), linear(1, 20, 30)) for b in (2, 0, 5)]
    plans = [plan_routes(rank, descriptions, RATES, FAST, 4) for rank in range(3)]
    assert {replace(plan, rank=0) for plan in plans} == {plans[0]}
    assert plans[0].workers == (0, 2)
    assert plans[0].starts == (0, 2, 2)


def test_what_does_not_fit_is_not_chosen() -> None:
    """Where rows of all samples are too large and all factors too, blocks go round the ring."""
    layer = linear(2, 512, 512)
    free = plan_routes(0, [described(16, layer)] * 8, RATES, FAST, 4).routes[0]
    cap = 2 * 4 * 16 * 2 * 1024  # twice the factors of one rank
    tight = plan_routes(0, [described(16, layer, cap=cap)] * 8, RATES, FAST, 4).routes[0]
    assert free.work_bytes <= 2**30
    assert (tight.travels, tight.work_bytes) == ("ring", cap)


def test_images_of_different_sizes_travel_as_gradients() -> None:
    """Rows of different shapes cannot be put together."""
    small, large = linear(1, 4, 5), linear(1, 4, 5)
    large = replace(large, extents=(Extent(1, (4, 9), (5, 9), 9),))
    plan = plan_routes(0, [described(2, small), described(2, large)], RATES, FAST, 4)
    assert plan.routes[0].travels == "gradients"


def test_other_groups_on_one_rank_leave_no_routes() -> None:
    """Every parameter is then treated as one without a rule: exact all the same."""
    plan = plan_routes(
        0, [described(2, linear(1, 4, 5)), described(2, linear(1, 5, 4))], RATES, FAST, 4
    )
    assert (plan.routes, plan.alike, plan.general) == ((), False, (0,))


def test_small_messages_wait_for_others() -> None:
    """Layers of 256 KiB for each rank: four in a shipment of 1 MiB."""
    layer = replace(linear(1, 256, 256), axes=(), spans=(), crosses=False, extents=())
    plan = plan_routes(0, [described(2, *[layer] * 9)] * 2, RATES, FAST, 4)
    each = plan.routes[0].sent_bytes[0]
    assert each == 4 * 2 * 256 * 256 // 2
    together = math.ceil(2**20 / each)
    assert [len(shipment) for shipment in plan.shipments] == [together, together, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"call": "explain"}, "rank 1 calls explain where rank 0 has backward"),
        (
            {"rest": (3,)},
            "rank 1 has losses of shape, beside the samples, (3,) where rank 0 has ()",
        ),
        ({"parameters": ("bias",)}, "rank 1 trains bias where rank 0 has weight"),
        (
            {"parameters": ("weight", "bias")},
            "rank 1 trains bias where rank 0 has nothing more (1)",
        ),
        ({"outside": ("one",)}, "rank 1 reaches outside the engine's modules one where"),
    ],
)
def test_what_differs_is_said(change: dict[str, Any], said: str) -> None:
    """Ranks are named, and the first thing that is not the same."""
    own = described(2)
    (found,) = differences([own, replace(own, **change), own])
    assert found.startswith(said)


def test_samples_may_differ() -> None:
    """That is what ranks are for."""
    layer = linear(3, 2, 2)
    assert differences([described(2, layer), described(0, layer), described(5, layer)]) == []
