"""The registry, the package and the printed forms say the same thing."""

import copy
import inspect
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import engines.aggregation as aggregation
from engines import Stateful
from engines.aggregation import (
    METHODS,
    MGDA,
    PROPERTIES,
    Aggregator,
    Constant,
    DualProj,
    DualProjWeighting,
    Flattening,
    GradVac,
    KrumWeighting,
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
from engines.aggregation.registry import markdown
from engines.named import by_name

EVERY = pytest.mark.parametrize("record", METHODS.values(), ids=lambda r: r.name)
BASES = {"Aggregator", "WeightedAggregator", "GramianWeightedAggregator"}
# These exist as weightings only; their records put them into a GramianWeightedAggregator.
WEIGHTINGS_ONLY = {"CRMOGM", "MoDo", "SDMGrad"}


def exported(base: type) -> set[str]:
    """Names of the package that are subclasses."""
    classes = {name: getattr(aggregation, name) for name in aggregation.__all__}
    return {n for n, c in classes.items() if isinstance(c, type) and issubclass(c, base)}


def test_every_exported_aggregator_is_registered() -> None:
    assert exported(Aggregator) - BASES == set(METHODS) - WEIGHTINGS_ONLY


def test_every_exported_weighting_is_registered() -> None:
    weighted = {f"{r.name}Weighting" for r in METHODS.values() if r.make_weighting is not None}
    assert exported(Weighting) - {"Weighting"} == weighted


def test_a_second_record_of_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="second record named 'Mean'"):
        by_name([METHODS["Mean"], METHODS["Mean"]])


@EVERY
def test_a_record_makes_what_it_names(record: MethodRecord) -> None:
    if record.name not in WEIGHTINGS_ONLY:
        assert record.make is getattr(aggregation, record.name)
        if record.make_weighting is not None:
            assert record.make_weighting is getattr(aggregation, f"{record.name}Weighting")
    assert isinstance(record.aggregator(5), Aggregator)
    if record.make_weighting is not None:
        assert isinstance(record.weighting(5), Weighting)
        own, weightings = map(inspect.signature, (record.make, record.make_weighting))
        assert own.parameters == weightings.parameters
    else:
        with pytest.raises(ValueError, match="aggregator on the Jacobian"):
            record.weighting(5)
    for text in (record.summary, record.formula, record.paper):
        assert text
        assert "\\" not in text
    assert record.summary.endswith(".")
    assert record.remarks == "" or record.remarks.endswith(".")
    assert record.properties == {name: getattr(record, name) for name in PROPERTIES}


@EVERY
def test_the_parameters_of_a_record_are_those_of_its_constructor(record: MethodRecord) -> None:
    signature = inspect.signature(record.make).parameters
    given = record.arguments(5)
    assert set(given) <= set(signature)
    required = {n for n, p in signature.items() if p.default is inspect.Parameter.empty}
    assert required <= set(given)
    for parameter in record.parameters:
        assert parameter.text.endswith(".")
        constructor = signature[parameter.name]
        if parameter.name in given:
            if parameter.kind == "vector":
                assert parameter.default is None
            else:
                assert parameter.low <= given[parameter.name] <= parameter.high
        else:
            assert parameter.default == constructor.default
        if parameter.kind == "choice":
            assert parameter.default in parameter.choices
        if parameter.kind in ("number", "integer"):
            assert isinstance(parameter.default, int | float)
            assert parameter.low <= parameter.default <= parameter.high
    assert ("generator" in signature) is record.random


@EVERY
def test_every_parameter_can_be_set_and_is_checked_then(record: MethodRecord) -> None:
    made = [] if record.name in WEIGHTINGS_ONLY else [record.aggregator(5)]
    if record.make_weighting is not None:
        made.append(record.weighting(5))
    for parameter in record.parameters:
        for instance in made:
            value = getattr(instance, parameter.name)
            setattr(instance, parameter.name, value)
            before = repr(instance)
            with pytest.raises((TypeError, ValueError), match="expected"):
                setattr(instance, parameter.name, -1.5 if parameter.kind != "vector" else 1.0)
            with pytest.raises((TypeError, ValueError), match="expected"):
                setattr(instance, parameter.name, object())
            assert repr(instance) == before
            if parameter.kind == "number":
                with pytest.raises(ValueError, match=parameter.name):
                    setattr(instance, parameter.name, float("nan"))
            if parameter.kind == "vector":
                setattr(instance, parameter.name, torch.ones(4))
                with pytest.raises(ValueError, match=parameter.name):
                    instance(torch.eye(5))
                with pytest.raises(ValueError, match=parameter.name):
                    setattr(instance, parameter.name, torch.ones(2, 2))
                setattr(instance, parameter.name, value)


@EVERY
def test_reset_belongs_to_what_has_memory(record: MethodRecord) -> None:
    assert isinstance(record.aggregator(5), Stateful) is record.stateful
    if record.make_weighting is not None:
        assert isinstance(record.weighting(5), Stateful) is record.stateful


@EVERY
def test_an_aggregator_is_called_by_its_name(record: MethodRecord) -> None:
    # CAGrad0.5, 2.0-FairGrad, TM1 for TrimmedMean(1).
    shown = {"TrimmedMean": "TM"}.get(record.name, record.name)
    assert shown in str(record.aggregator(5))


def test_whole_numbers_and_numbers_of_other_libraries_are_taken() -> None:
    assert KrumWeighting(np.int64(1)).n_byzantine == 1
    assert type(MGDA(max_iters=np.int32(7)).max_iters) is int
    assert MGDA(epsilon=Fraction(1, 8)).epsilon == 0.125
    assert type(GradVac(eps=np.float32(0.5)).eps) is float
    with pytest.raises(ValueError, match="epsilon"):
        MGDA(epsilon=10**400)


@pytest.mark.parametrize("kind", [torch.nn.Parameter, torch.nn.Buffer])
def test_parameters_and_buffers_are_checked_and_not_registered(
    kind: Callable[[Tensor], Tensor],
) -> None:
    with pytest.raises(ValueError, match="NaN or infinity in pref_vector"):
        UPGrad(kind(torch.tensor([float("nan"), 1.0])))
    with pytest.raises(ValueError, match="weights of shape"):
        Constant(kind(torch.ones(2, 2)))
    aggregator = UPGrad(kind(torch.tensor([1.0, 3.0])))
    assert torch.equal(aggregator(torch.eye(2)), torch.tensor([1.0, 3.0]))
    aggregator.pref_vector = torch.ones(2)
    aggregator.pref_vector = kind(torch.tensor([3.0, 1.0]))
    assert torch.equal(aggregator(torch.eye(2)), torch.tensor([3.0, 1.0]))
    assert not list(aggregator.parameters())
    assert not aggregator.state_dict()


def test_a_script_may_say_what_a_weighting_is_of() -> None:
    class Own(Weighting[Tensor]):
        def forward(self, stat: Tensor, /) -> Tensor:
            return torch.ones(len(stat))

    assert torch.equal(WeightedAggregator(Own())(torch.eye(2)), torch.ones(2))


@EVERY
def test_the_docstring_names_its_cost(record: MethodRecord) -> None:
    described = record.make
    if record.name in WEIGHTINGS_ONLY:
        described = getattr(aggregation, f"{record.name}Weighting")
    text = inspect.getdoc(described) or ""
    assert "Cost:" in text
    assert ">>>" in text
    assert "Source:" in text or record.name in ("Mean", "Sum", "Constant")
    assert "A(J)" in text or record.name in WEIGHTINGS_ONLY


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


def test_the_page_has_the_tables_of_the_registry() -> None:
    page = (Path(__file__).parents[3] / "docs" / "aggregation.md").read_text("utf-8")
    assert markdown() in page, "put what engines.aggregation.registry.markdown() gives there"
