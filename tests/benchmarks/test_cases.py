import importlib.metadata
import sys

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.judging import geometric_mean, judged
from benchmarks.peer import check_peer, chosen
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import OURS, PEERS, SGD, Limits, MeasurementError, MeasureSpec
from tests.benchmarks.made import inspected

TINY = "tests.benchmarks.tiny:TINY"


def test_a_case_is_the_same_at_every_build():
    one, other = (Case(TINY).build()[1].losses() for _ in range(2))
    assert torch.equal(one, other)
    assert one.shape == (3,)
    assert Case(TINY, batch_size=5).build()[1].losses().shape == (5,)


def test_a_case_says_what_is_not_its_own_choice():
    assert Case("mlp").name == "mlp"
    assert Case("mlp", "64", 2, "UPGrad").name == "mlp size=64 batch=2 UPGrad"


def test_targets_are_about_the_workloads_as_they_are():
    assert all(Case(name, device="cuda", threads=2).has_targets for name in WORKLOADS)
    others = [Case("digits_cnn"), Case("mlp", "64"), Case("mlp", batch_size=8)]
    assert not any(case.has_targets for case in [*others, Case("mlp", aggregator="UPGrad")])


def test_specifications_fill_in_the_problems_own_choice(monkeypatch):
    found = Case("mlp", threads=2).specs(["sgd", "fused"], Limits())
    assert found == [
        MeasureSpec("mlp", "256", 64, method, "Mean", 0, 2) for method in (SGD, "fused")
    ]
    monkeypatch.setattr("benchmarks.cases.inspect", inspected("own", 7))
    [own] = Case("a:b").specs(["sgd"], Limits())
    assert (own.size, own.batch_size) == ("own", 7)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case("resnet"), "There is no problem 'resnet'; choose one of"),
        (Case("mlp", batch_size=0), "Batch 0 is out of range"),
        (Case("mlp", size="65"), "has no model size '65'"),
        (Case("mlp", aggregator="Nash"), "There is no aggregator 'Nash'"),
        (Case("mlp", threads=10_000), "Number of threads 10,000"),
    ],
)
def test_a_case_that_cannot_be_is_refused(case, message):
    with pytest.raises(MeasurementError, match=message):
        case.specs(["sgd"], Limits())


@pytest.mark.parametrize("place", ["tests.benchmarks.tiny:MISSING", "no_such_package:here", ":b"])
def test_a_path_that_leads_nowhere_is_refused_here_too(place):
    with pytest.raises(MeasurementError, match="could not be loaded"):
        Case(place).build()


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MeasurementError, match="without a usable CUDA device"):
        Case("mlp", device="cuda").build()


def test_methods_are_those_asked_for_and_the_peers(monkeypatch):
    assert chosen(["fused", "fused"], peer=False) == [SGD, "fused"]
    monkeypatch.setitem(sys.modules, "torchjd", sys)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.18.0")
    assert chosen(OURS, peer=True) == [SGD, *OURS, *PEERS]


def test_a_peer_of_another_version_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", sys)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.8.0")
    with pytest.raises(MeasurementError, match=r"torchjd 0\.8\.0, expected 0\.18\.0"):
        check_peer()


def test_means_and_words():
    assert geometric_mean([1, 4]) == pytest.approx(2)
    assert judged(1.4, 1.4) == "met"
    assert judged(1.41, 1.4) == "not met"
