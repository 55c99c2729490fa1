"""The registry, the package and the printed forms say the same thing."""

import copy
import inspect
import pickle

import pytest
import torch

import engines.aggregation as aggregation
from engines.aggregation import (
    METHODS,
    MGDA,
    Aggregator,
    DualProj,
    DualProjWeighting,
    Flattening,
    MeanWeighting,
    MethodRecord,
    MGDAWeighting,
    PCGrad,
    SumWeighting,
    UPGrad,
    UPGradWeighting,
    WeightedAggregator,
    Weighting,
)
from engines.aggregation.registry import _by_name

EVERY = pytest.mark.parametrize("record", METHODS.values(), ids=lambda r: r.name)
BASES = {"Aggregator", "WeightedAggregator", "GramianWeightedAggregator"}


def test_the_order_is_fixed() -> None:
    assert list(METHODS) == ["UPGrad", "DualProj", "MGDA", "PCGrad", "Mean", "Sum"]


def test_every_exported_aggregator_is_registered() -> None:
    exported = {
        name
        for name in aggregation.__all__
        if isinstance(getattr(aggregation, name), type)
        and issubclass(getattr(aggregation, name), Aggregator)
    }
    assert exported - BASES == set(METHODS)


def test_a_second_record_of_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="second record named 'Mean'"):
        _by_name([METHODS["Mean"], METHODS["Mean"]])


@EVERY
def test_a_record_makes_what_it_names(record: MethodRecord) -> None:
    assert record.make is getattr(aggregation, record.name)
    assert record.make_weighting is getattr(aggregation, f"{record.name}Weighting")
    assert isinstance(record.make(), Aggregator)
    assert isinstance(record.make_weighting(), Weighting)
    assert inspect.signature(record.make) == inspect.signature(record.make_weighting)
    for text in (record.summary, record.formula, record.paper):
        assert text
        assert "\\" not in text
    assert record.summary.endswith(".")


@EVERY
def test_the_docstring_names_its_cost(record: MethodRecord) -> None:
    text = inspect.getdoc(record.make) or ""
    assert "Cost:" in text
    assert ">>>" in text
    assert "A(J)" in text


@pytest.mark.parametrize(
    ("instance", "shown", "named"),
    [
        (
            UPGrad(),
            "UPGrad(pref_vector=None, norm_eps=0.0001, reg_eps=0.0001, solver='auto')",
            "UPGrad",
        ),
        (
            UPGrad(torch.tensor([1.0, 2.0, 3.0]), solver="quadprog"),
            "UPGrad(pref_vector=tensor([1., 2., 3.]), norm_eps=0.0001, reg_eps=0.0001, "
            "solver='quadprog')",
            "UPGrad([1., 2., 3.])",
        ),
        (
            DualProjWeighting(torch.tensor([0.25, 1.5]), 0.0, 0.5, "batched"),
            "DualProjWeighting(pref_vector=tensor([0.2500, 1.5000]), norm_eps=0.0, reg_eps=0.5, "
            "solver='batched')",
            "DualProjWeighting([0.25, 1.5])",
        ),
        (MGDA(max_iters=7), "MGDA(epsilon=0.001, max_iters=7)", "MGDA"),
        (PCGrad(), "PCGrad()", "PCGrad"),
        (aggregation.Mean(), "Mean()", "Mean"),
        (aggregation.Sum(), "Sum()", "Sum"),
        (Flattening(MeanWeighting()), "Flattening(weighting=MeanWeighting())", "Flattening"),
    ],
)
def test_printed_forms(instance: object, shown: str, named: str) -> None:
    assert repr(instance) == shown
    assert str(instance) == named


def test_a_generator_is_shown() -> None:
    assert repr(PCGrad(generator=torch.Generator())).startswith("PCGrad(generator=<torch")


@pytest.mark.parametrize("make", [UPGrad, DualProj, UPGradWeighting, DualProjWeighting])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("pref_vector", torch.ones(2, 2), ValueError),
        ("pref_vector", torch.tensor(1.0), ValueError),
        ("pref_vector", torch.tensor([1.0, float("nan")]), ValueError),
        ("pref_vector", [1.0, 2.0], TypeError),
        ("pref_vector", torch.tensor([True, False]), TypeError),
        ("norm_eps", -1.0, ValueError),
        ("norm_eps", float("nan"), ValueError),
        ("norm_eps", "small", TypeError),
        ("reg_eps", -1e-9, ValueError),
        ("reg_eps", float("inf"), ValueError),
        ("reg_eps", True, TypeError),
        ("solver", "magic", ValueError),
    ],
)
def test_projection_parameters_are_checked(
    make: type[UPGrad], name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected"):
        make(**{name: value})
    instance = make()
    before = repr(instance)
    with pytest.raises(error, match="expected"):
        setattr(instance, name, value)
    assert repr(instance) == before


@pytest.mark.parametrize("make", [MGDA, MGDAWeighting])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("epsilon", 0.0, ValueError),
        ("epsilon", -1.0, ValueError),
        ("epsilon", None, TypeError),
        ("max_iters", 0, ValueError),
        ("max_iters", 2.5, TypeError),
        ("max_iters", True, TypeError),
    ],
)
def test_mgda_parameters_are_checked(
    make: type[MGDA], name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected"):
        make(**{name: value})
    instance = make()
    with pytest.raises(error, match="expected"):
        setattr(instance, name, value)


def test_pcgrad_parameters_are_checked() -> None:
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        PCGrad(generator=0)
    with pytest.raises(TypeError):
        PCGrad(torch.Generator())


@pytest.mark.parametrize("make", [UPGrad, DualProj])
def test_set_parameters_take_effect(make: type[UPGrad]) -> None:
    aggregator = make()
    aggregator.pref_vector = torch.tensor([1.0, 3.0])
    aggregator.norm_eps, aggregator.reg_eps, aggregator.solver = 0.0, 1, "batched"
    assert (aggregator.norm_eps, aggregator.reg_eps, aggregator.solver) == (0.0, 1, "batched")
    assert torch.equal(aggregator(torch.eye(2)), torch.tensor([1.0, 3.0]))
    aggregator.pref_vector = None
    assert torch.equal(aggregator(torch.eye(2)), torch.tensor([0.5, 0.5]))


def test_the_epsilons_do_not_change_the_weights() -> None:
    gramian = torch.tensor([[1.0, -1e3], [-1e3, 2e6]], dtype=torch.float64)
    expected = UPGradWeighting()(gramian)
    assert torch.equal(UPGradWeighting(norm_eps=1e9, reg_eps=0.5)(gramian), expected)


@pytest.mark.parametrize("make", [UPGrad, DualProj])
def test_preferences_of_another_length_are_refused(make: type[UPGrad]) -> None:
    with pytest.raises(ValueError, match="3 entries for 2 objectives"):
        make(torch.ones(3))(torch.eye(2))


@pytest.mark.parametrize("make", [UPGrad, DualProj, MGDA, PCGrad])
@pytest.mark.parametrize("name", ["weighting", "gramian_weighting"])
def test_the_weighting_cannot_be_replaced(make: type[UPGrad], name: str) -> None:
    aggregator = make()
    before = aggregator.gramian_weighting, aggregator.weighting
    with pytest.raises(AttributeError, match=f"assignment to {name} of a {make.__name__}"):
        setattr(aggregator, name, MeanWeighting())
    assert (aggregator.gramian_weighting, aggregator.weighting) == before


def test_copies_and_pickles_keep_their_weighting() -> None:
    for copied in (copy.deepcopy(UPGrad()), pickle.loads(pickle.dumps(UPGrad()))):
        copied.pref_vector = torch.tensor([1.0, 3.0])
        assert torch.equal(copied(torch.eye(2)), torch.tensor([1.0, 3.0]))


def test_the_weighting_of_a_weighted_aggregator_can_be_replaced() -> None:
    aggregator = WeightedAggregator(MeanWeighting())
    aggregator.weighting = SumWeighting()
    assert torch.equal(aggregator(torch.eye(2)), torch.ones(2))
