import importlib.metadata
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import benchmarks.turns
from benchmarks.bounds import closed_form
from benchmarks.cases import Built, Case, find_workload
from benchmarks.steps import OURS, PEERS, SGD, check_peer, chosen, make_step, probe
from benchmarks.turns import Spread, Taken, Turn, geometric_mean, judged, number, ratios, take_turns
from engines import autojac
from engines.autogram import Engine
from jdviz.profiling import MeasurementError

TINY = Case("tests.benchmarks.tiny:TINY")


def built_of(model, inputs):
    return Built(model, lambda: model(inputs).flatten(1).sum(1), len(inputs))


def test_a_case_is_the_same_at_every_build():
    one, other = TINY.build(), TINY.build()
    assert torch.equal(one.losses(), other.losses())
    assert one.samples == 3
    assert Case(TINY.workload, samples=5).build().samples == 5


def test_a_width_changes_the_hidden_layers_of_mlp():
    assert Case("mlp", samples=2, width=32).build().model[2].weight.shape == (32, 32)
    assert Case("mlp", 2, 32).name == "mlp m=2 width=32"


def test_a_workload_is_found_by_name_or_place():
    assert find_workload("mlp").key == "mlp"
    assert find_workload("tests.benchmarks.tiny:made").key == "tiny"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case("resnet"), "expected one of mlp"),
        (Case("tests.benchmarks.tiny:MISSING"), "cannot be imported"),
        (Case("no_such_package:here"), "cannot be imported"),
        (Case(":here"), "cannot be imported"),
        (Case("tests.benchmarks.tiny:NONE"), "got int"),
        (Case("mlp", samples=0), "got 0 as samples"),
        (Case("mlp", width=-1), "got -1 as width"),
        (Case("cifar_cnn", width=8), "expected one for mlp"),
    ],
)
def test_a_case_that_cannot_be_is_refused(case, message):
    with pytest.raises(MeasurementError, match=message):
        case.build()


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MeasurementError, match="without a usable CUDA device"):
        Case("mlp", device="cuda").build()


def test_methods_are_those_asked_for_and_the_peers(monkeypatch):
    assert chosen(["fused"], peer=False) == [SGD, "fused"]
    monkeypatch.setitem(sys.modules, "torchjd", sys)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.18.0")
    assert chosen(OURS, peer=True) == [SGD, *OURS, *PEERS]


def test_a_peer_of_another_version_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", sys)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.8.0")
    with pytest.raises(MeasurementError, match=r"torchjd 0\.8\.0, expected 0\.18\.0"):
        check_peer()


@pytest.mark.parametrize("method", OURS)
def test_every_method_leaves_the_gradients_of_sgd(method):
    built = TINY.build()
    errors, failures = probe({name: make_step(TINY, built, name) for name in (SGD, method)})
    assert failures == {}
    assert errors[SGD] == 0
    assert errors[method] <= 1e-5
    assert all(parameter.grad is None for parameter in built.model.parameters())


def test_the_fused_step_and_the_batched_jacobian_are_called_by_their_names(monkeypatch):
    calls = []

    def fused(self, losses, weighting):
        calls.append("fused")
        losses.backward(weighting(torch.eye(len(losses))))

    def batched(losses, aggregator, *, modules, batch_dim):
        calls.append((len(modules), batch_dim))
        losses.mean().backward()

    monkeypatch.setattr(Engine, "backward", fused, raising=False)
    monkeypatch.setattr(autojac, "backward", batched)
    built = TINY.build()
    errors, _ = probe({m: make_step(TINY, built, m) for m in (SGD, "fused", "autojac")})
    assert calls == ["fused", (1, 0)]
    assert max(errors.values()) <= 1e-6


def test_the_peers_are_called_as_their_release_is(monkeypatch):
    class Theirs:
        Engine = Engine

        @staticmethod
        def Mean():
            return None

        @staticmethod
        def backward(losses):
            losses.mean().backward()

        @staticmethod
        def jac_to_grad(parameters, aggregator):
            assert all(parameter.grad is not None for parameter in parameters)

    for module in ("autogram", "autojac", "aggregation"):
        monkeypatch.setitem(sys.modules, f"torchjd.{module}", Theirs)
    built = TINY.build()
    steps = {method: make_step(TINY, built, method) for method in (SGD, *PEERS)}
    assert steps["torchjd two-pass"].model is not built.model
    assert steps["torchjd autojac"].model is built.model
    errors, failures = probe(steps)
    assert failures == {}
    assert max(errors.values()) <= 1e-6


def test_a_step_that_fails_is_named_and_the_others_stay():
    built = TINY.build()
    plain = make_step(TINY, built, SGD)

    def fails():
        raise RuntimeError("no\nat all")

    broken = type(plain)(built.model, fails)
    errors, failures = probe({SGD: plain, "broken": broken})
    assert failures == {"broken": "RuntimeError: no"}
    assert set(errors) == {SGD}
    with pytest.raises(MeasurementError, match="The plain step failed"):
        probe({SGD: broken})


def test_missing_gradients_count_as_an_error():
    built = TINY.build()
    plain = make_step(TINY, built, SGD)
    errors, _ = probe({SGD: plain, "nothing": type(plain)(built.model, lambda: None)})
    assert errors["nothing"] == pytest.approx(1)


@pytest.mark.parametrize("short", [False, True])
def test_turns_alternate_after_one_round_that_does_not_count(short, monkeypatch):
    monkeypatch.setattr(benchmarks.turns, "SHORT_MS", 1e9 if short else 0.0)
    calls = []

    def turn(name):
        return Turn(lambda: calls.append(name), lambda: calls.append(f"before {name}"))

    taken = take_turns({"a": turn("a"), "b": turn("b")}, 2)
    first, second = ["before a", "a"], ["before b", "b"]
    times = 2 if short else 1
    assert calls == [*first, *second, *(first * times + second * times) * 2]
    assert [len(found) for found in taken.durations_ms.values()] == [2, 2]


def test_no_round_is_refused():
    with pytest.raises(MeasurementError, match="got 0 rounds"):
        take_turns({}, 0)


def test_waiting_for_a_core_is_said():
    assert Taken({}, 0.05).notes("mlp") == Taken({}, None).notes("mlp") == []
    assert "on mlp threads waited for one 40% of the time" in Taken({}, 0.4).notes("mlp")[0]


def test_spreads_means_and_words():
    # Quartiles by linear interpolation: of 1 2 3 4 they are 1.75 and 3.25.
    assert Spread.of([4, 1, 3, 2]) == Spread(2.5, 1.75, 3.25)
    assert Spread.of([2]) == Spread(2, 2, 2)
    assert geometric_mean([1, 4]) == pytest.approx(2)
    assert ratios([2, 9], [1, 3]) == [2, 3]
    assert judged(1.4, 1.4) == "met"
    assert judged(1.41, 1.4) == "not met"
    assert [number(x) for x in (1.4, 0.05, 123.4, 25100.0, 0, 3e-7, 40.0)] == [
        "1.40",
        "0.0500",
        "123",
        "25100",
        "0",
        "3e-07",
        "40.0",
    ]


def test_a_grouped_convolution_is_counted_by_hand():
    # 2 samples of 3×3 positions, each with the 6·2·9 weights: 1944 forward, and again for the
    # weight's gradient; the images need none.
    model = nn.Conv2d(4, 6, 3, groups=2)
    assert closed_form(built_of(model, torch.randn(2, 4, 5, 5))).sgd_multiply_adds == 2 * 1944


def test_a_transposed_convolution_is_counted_by_hand():
    # 2 samples of 5×5 positions, each with the 4·3·9 weights.
    model = nn.ConvTranspose2d(4, 6, 3, groups=2)
    assert closed_form(built_of(model, torch.randn(2, 4, 5, 5))).sgd_multiply_adds == 2 * 5400


def test_attention_is_counted_by_hand():
    from benchmarks.bounds import FORMULAS
    from tests.benchmarks.tiny import attention

    torch.manual_seed(0)
    model, inputs = attention(), torch.randn(2, 4, 8, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        model(inputs).sum().backward()
    # 2·4 rows through 8·(24 + 8 + 16 + 16) weights, three times; 2 products of 2·4·4·8 forward
    # and 4 backward. Two operations for each.
    assert counter.get_total_flops() == 2 * (3 * 8 * 8 * 64 + 6 * 256)


def test_the_bound_takes_the_cheaper_form_of_every_use():
    built = TINY.build()
    uses = Engine(built.model, batch_dim=0).explain(built.losses())
    bound = closed_form(built)
    assert bound.contraction_multiply_adds == sum(
        min([use.flops, *(flops for _, flops in use.alternatives)]) for use in uses
    )
    assert bound.ratio == 1 + bound.contraction_multiply_adds / bound.sgd_multiply_adds


def test_a_model_that_the_engine_refuses_is_one_sentence():
    with pytest.raises(MeasurementError, match="The engine refuses the model: BatchMixedError"):
        closed_form(Case("tests.benchmarks.tiny:MIXING").build())
