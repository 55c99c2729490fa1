"""The registry, the package, the printed forms and the page say the same thing."""

import inspect

import pytest
import torch

import engines.scalarization as scalarization
from engines.named import by_name
from engines.scalarization import (
    COSMOS,
    DWA,
    FAMO,
    IMTLL,
    PBI,
    SCALARIZERS,
    STCH,
    UW,
    Constant,
    GeometricMean,
    Mean,
    Random,
    Scalarizer,
    ScalarizerRecord,
    Sum,
)
from engines.scalarization.registry import markdown
from engines.stateful import Stateful
from tests.structure.sources import ROOT

EVERY = pytest.mark.parametrize("record", SCALARIZERS.values(), ids=lambda r: r.name)


def test_every_exported_scalarizer_is_registered() -> None:
    exported = {
        name
        for name in scalarization.__all__
        if isinstance(getattr(scalarization, name), type)
        and issubclass(getattr(scalarization, name), Scalarizer)
    }
    assert exported - {"Scalarizer"} == set(SCALARIZERS)


def test_the_order_is_fixed() -> None:
    assert list(SCALARIZERS) == [
        "Mean",
        "Sum",
        "Constant",
        "Random",
        "GeometricMean",
        "STCH",
        "COSMOS",
        "PBI",
        "UW",
        "IMTLL",
        "DWA",
        "FAMO",
    ]


def test_a_second_record_of_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="second record named 'Mean'"):
        by_name([SCALARIZERS["Mean"], SCALARIZERS["Mean"]])


@EVERY
def test_a_record_says_what_is_true(record: ScalarizerRecord) -> None:
    assert record.make is getattr(scalarization, record.name)
    scalarizer = record.scalarizer(3, generator=torch.Generator())
    assert isinstance(scalarizer, record.make)
    assert record.stateful == isinstance(scalarizer, Stateful)
    assert record.learned == bool(list(scalarizer.parameters()))
    assert record.random == ("generator" in inspect.signature(record.make).parameters)
    required = {
        name
        for name, parameter in inspect.signature(record.make).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    assert set(record.arguments(3)) == required
    for text in (record.summary, record.formula, record.paper):
        assert text
        assert "\\" not in text
        assert "|" not in text
    assert record.summary.endswith(".")
    assert record.remarks == "" or record.remarks.endswith(".")


@EVERY
def test_the_docstring_has_source_cost_and_example(record: ScalarizerRecord) -> None:
    text = inspect.getdoc(record.make) or ""
    for part in ("Source:", "Cost:", ">>>"):
        assert part in text
    parameters = inspect.signature(record.make).parameters
    assert [name for name in parameters if f"    {name}: " not in text] == []
    assert [name for name in parameters if not hasattr(record.scalarizer(2), name)] == []


SIGNATURES = {
    "Mean": "()",
    "Sum": "()",
    "GeometricMean": "()",
    "Constant": "(weights)",
    "Random": "(*, generator=None)",
    "STCH": "(mu, weights=None, reference=None)",
    "COSMOS": "(lambda_, weights)",
    "PBI": "(theta, weights, reference=None)",
    "UW": "(shape)",
    "IMTLL": "(shape)",
    "DWA": "(temperature=2.0)",
    "FAMO": "(shape, min_losses=None, lr=0.025, weight_decay=0.001)",
}


@EVERY
def test_signatures(record: ScalarizerRecord) -> None:
    signature = inspect.signature(record.make)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    found = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    assert str(found) == SIGNATURES[record.name]


@pytest.mark.parametrize(
    ("instance", "shown", "named"),
    [
        (Mean(), "Mean()", "Mean"),
        (Sum(), "Sum()", "Sum"),
        (GeometricMean(), "GeometricMean()", "GeometricMean"),
        (Random(), "Random()", "Random"),
        (
            Constant(torch.tensor([1.0, 0.25])),
            "Constant(weights=tensor([1.0000, 0.2500]))",
            "Constant([1., 0.25])",
        ),
        (
            Constant(torch.ones(1, 2)),
            "Constant(weights=tensor([[1., 1.]]))",
            "Constant(weights of shape (1, 2))",
        ),
        (STCH(0.5), "STCH(mu=0.5, weights=None, reference=None)", "STCH"),
        (COSMOS(1.0, torch.ones(1)), "COSMOS(lambda_=1.0, weights=tensor([1.]))", "COSMOS"),
        (
            PBI(5.0, torch.ones(1), torch.zeros(1)),
            "PBI(theta=5.0, weights=tensor([1.]), reference=tensor([0.]))",
            "PBI",
        ),
        (UW(2), "UW(shape=(2,))", "UW"),
        (IMTLL((2, 3)), "IMTLL(shape=(2, 3))", "IMTLL"),
        (DWA(), "DWA(temperature=2.0)", "DWA"),
        (
            FAMO(2),
            "FAMO(shape=(2,), min_losses=tensor([0., 0.]), lr=0.025, weight_decay=0.001)",
            "FAMO",
        ),
    ],
)
def test_printed_forms(instance: Scalarizer, shown: str, named: str) -> None:
    assert repr(instance) == shown
    assert str(instance) == named


def test_a_generator_is_shown() -> None:
    assert repr(Random(generator=torch.Generator())).startswith("Random(generator=<torch")


def test_a_scalarizer_of_ones_own() -> None:
    class Largest(Scalarizer):
        def forward(self, values: torch.Tensor, /) -> torch.Tensor:
            return values.amax()

    assert repr(Largest()) == "Largest()"
    assert float(Largest()(torch.tensor([1.0, 2.0]))) == 2
    with pytest.raises(ValueError, match="at least one"):
        Largest()(torch.ones(0))
    with pytest.raises(TypeError, match="abstract"):
        Scalarizer()


def test_the_page_shows_the_registry() -> None:
    page = (ROOT / "docs" / "scalarization.md").read_text("utf-8")
    assert markdown() in page, "put what engines.scalarization.registry.markdown() gives there"
