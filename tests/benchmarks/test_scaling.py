"""The model of cost, on cases worked out by hand."""

from math import prod

import pytest

from benchmarks.scaling import (
    LAYERS,
    LINKS,
    RANKS,
    Layer,
    Machine,
    Way,
    encoder,
    gpu,
    markdown,
    perceptron,
    predict,
    ways,
)
from jdviz.problems.workloads import WORKLOADS
from tests.structure.sources import ROOT

# One multiply-add, one byte and one sent byte a second each, and no latency.
UNIT = Machine(1.0, 1.0, 1.0, 0.0, overlaps=False)
FREE = float("inf")


@pytest.mark.parametrize("name", list(LAYERS))
def test_structure_the_layers_are_those_of_the_workload(name):
    model, *_ = WORKLOADS[name].build()
    weights = sum(
        prod(parameter.shape)
        for path, parameter in model.named_parameters()
        if parameter.dim() > 1 and "embedding" not in path
    )
    assert sum(layer.entries for layer in LAYERS[name]) == weights


def test_pinned_what_each_way_takes_at_four_ranks():
    # o × i = 5 × 3 at 2 positions, 4 samples on each of 4 ranks: n = 15, M = 16.
    gradients, factors, ring = ways(Layer(3, 5, 2), 4, 4)
    # 4 rows, of which three quarters go elsewhere; built, and a quarter of all columns multiplied.
    assert gradients == Way("gradients", 45.0, 4 * 2 * 15 + 16 * 16 * 15 / 4, 2 * 60 + 2 * 60)
    # 8 positions: all 3 inputs to three ranks, of 5 outputs three quarters.
    assert factors.sent_entries == 8 * (3 * 3 + 5 * 3 / 4)
    assert factors.multiply_adds == gradients.multiply_adds
    assert factors.moved_entries == 2 * 60 + 2 * (16 * 2 * (3 + 5 / 4))
    # All 8 features to the next rank, and three quarters of them to the one after it.
    assert ring.sent_entries == 8 * 8 * 1.75
    assert ring.multiply_adds == 16 * 4 * 4 * 8 / 2


@pytest.mark.parametrize(("ranks", "hops"), [(2, 0.75), (3, 1.0), (4, 1.75), (5, 2.0)])
def test_pinned_how_far_factors_travel_round_a_ring(ranks, hops):
    *_, ring = ways(Layer(1, 1), 1, ranks)
    assert ring.sent_entries == 2 * hops


def test_pinned_one_rank_sends_nothing_and_waits_for_nobody():
    found = predict([Layer(3, 5, 2)], 4, 1, UNIT)
    # 8 positions: three products of 15, and the weight four times, 8 features four times, in bytes.
    assert found.plain_s == 3 * 8 * 15 + 4 * (4 * 15 + 4 * 8 * 8)
    assert found.ddp_s == found.plain_s
    # By factors alone: M·b·t²·8/2 multiply-adds, and three times M·b·t²/2 entries.
    assert found.fused_s == found.plain_s + 4 * 4 * 4 * 8 / 2 + 4 * 3 * 4 * 4 * 4 / 2
    assert (found.sent_bytes, found.ddp_bytes) == (0.0, 0.0)
    assert all(way.sent_entries == 0 for way in ways(Layer(3, 5, 2), 4, 1))


def test_pinned_two_ranks_send_factors_gramian_and_gradients():
    # A link so slow that nothing else counts: factors are b·t·2·(3/4) = 12 entries, rows 8 · 15/2.
    slow = Machine(FREE, FREE, 1.0, 0.0, overlaps=False)
    found = predict([Layer(1, 1, 2)], 4, 2, slow, (0.0, 0.0))
    # n = 1, so rows are fewer: 4 · 1/2 entries. The Gramian of 8 has 36, a gradient one.
    assert found.travels == {"gradients": 1}
    assert found.ddp_s == 4 * 1.0
    assert found.fused_s == 4 * (2 + 36 + 1)
    assert found.ddp_bytes == 2 * 4
    assert found.sent_bytes == 2 * 4 * (2 + 36 + 1) + 5300


def test_pinned_only_what_the_others_add_is_predicted_to_a_rank_that_was_measured():
    machine, layers = Machine(1.0, FREE, FREE, 0.0), [Layer(1, 1)]
    # One sample on each rank, n = 1, no time to send: 1 multiply-add by ring alone, 2 by two ranks.
    assert predict(layers, 1, 1, machine).fused_s == 3 + 1
    assert predict(layers, 1, 2, machine).fused_s == 3 + 2
    found = predict(layers, 1, 2, machine, (10.0, 17.0))
    assert (found.plain_s, found.ddp_s, found.fused_s) == (10.0, 10.0, 17.0 + 1)


def test_pinned_what_overlaps_is_as_long_as_the_longer():
    apart, beside = (Machine(1.0, FREE, 4.0, 0.0, overlaps=one) for one in (False, True))
    layers = [Layer(2, 2)]
    # One sample on each of two ranks, n = 4: backward takes 2/3 of 12, the sum of 4 entries 4.
    assert predict(layers, 1, 2, apart).ddp_s == pytest.approx(12 + 4)
    assert predict(layers, 1, 2, beside).ddp_s == pytest.approx(12)
    assert predict(layers, 1, 2, beside).fused_s < predict(layers, 1, 2, apart).fused_s


@pytest.mark.parametrize("link", list(LINKS))
@pytest.mark.parametrize("layers", [perceptron(256), encoder(512, 64)])
def test_property_more_objectives_never_cost_less(link, layers):
    for ranks in RANKS:
        found = [predict(layers, samples, ranks, gpu(link)) for samples in (1, 4, 16, 64)]
        extra = [one.fused_s - one.plain_s for one in found]
        assert extra == sorted(extra)
        assert all(one.fused_s >= one.ddp_s >= one.plain_s for one in found)


def test_the_table_of_the_document_is_this_one():
    assert markdown() in (ROOT / "docs" / "distributed.md").read_text("utf-8")
