"""What is known about each method, in the order in which menus and tables show them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engines.aggregation.aggregators import Aggregator
from engines.aggregation.dualproj import DualProj, DualProjWeighting
from engines.aggregation.mean import Mean, MeanWeighting
from engines.aggregation.mgda import MGDA, MGDAWeighting
from engines.aggregation.pcgrad import PCGrad, PCGradWeighting
from engines.aggregation.sum import Sum, SumWeighting
from engines.aggregation.upgrad import UPGrad, UPGradWeighting
from engines.aggregation.weightings import Weighting


@dataclass(frozen=True)
class MethodRecord:
    """One method.

    Attributes:
        name: Its name, also its key in `METHODS`.
        make: Makes the aggregator, which maps a Jacobian [m, n] to a direction [n].
        make_weighting: Makes the weighting, which maps a Gramian [m, m] to weights [m]; same
            parameters as `make`.
        summary: What it does, one sentence.
        formula: Its definition in plain Unicode.
        paper: Where it was defined.
        random: Whether two calls on the same Jacobian may differ.
        non_conflicting: Whether J A(J) ≥ 0 for every Jacobian.
        linear_under_scaling: Whether c ↦ A(diag(c) J) is linear for c > 0.
        weighted: Whether A(J) = Jᵀw for some weights w.
    """

    name: str
    make: Callable[..., Aggregator]
    make_weighting: Callable[..., Weighting]
    summary: str
    formula: str
    paper: str
    random: bool
    non_conflicting: bool
    linear_under_scaling: bool
    weighted: bool


def _by_name(records: Iterable[MethodRecord]) -> Mapping[str, MethodRecord]:
    """Key the records by name; a second record of one name raises."""
    methods: dict[str, MethodRecord] = {}
    for record in records:
        if record.name in methods:
            raise ValueError(
                f"got a second record named {record.name!r}, expected one, rename or remove it."
            )
        methods[record.name] = record
    return MappingProxyType(methods)


METHODS: Mapping[str, MethodRecord] = _by_name(
    (
        MethodRecord(
            name="UPGrad",
            make=UPGrad,
            make_weighting=UPGradWeighting,
            summary="Projects each gradient onto the cone of directions that hurt no objective, "
            "then averages the projections.",
            formula="A(J) = (1/m) Σᵢ π(gᵢ), π the projection onto {x : gⱼ·x ≥ 0 for all j}",
            paper="Quinton & Rey, Jacobian Descent for Multi-Objective Optimization, 2024, "
            "arXiv 2406.16232",
            random=False,
            non_conflicting=True,
            linear_under_scaling=True,
            weighted=True,
        ),
        MethodRecord(
            name="DualProj",
            make=DualProj,
            make_weighting=DualProjWeighting,
            summary="Projects the mean gradient onto the cone of directions that hurt no "
            "objective.",
            formula="A(J) = π((1/m) Σᵢ gᵢ), π the projection onto {x : gⱼ·x ≥ 0 for all j}",
            paper="Lopez-Paz & Ranzato, Gradient Episodic Memory for Continual Learning, 2017, "
            "arXiv 1706.08840",
            random=False,
            non_conflicting=True,
            linear_under_scaling=False,
            weighted=True,
        ),
        MethodRecord(
            name="MGDA",
            make=MGDA,
            make_weighting=MGDAWeighting,
            summary="Takes the shortest convex combination of the gradients.",
            formula="A(J) = Jᵀα, α = argmin { |Jᵀα|² : α ≥ 0, Σᵢ αᵢ = 1 }",
            paper="Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective "
            "optimization, Comptes Rendus Mathématique 350, 2012",
            random=False,
            non_conflicting=True,
            linear_under_scaling=False,
            weighted=True,
        ),
        MethodRecord(
            name="PCGrad",
            make=PCGrad,
            make_weighting=PCGradWeighting,
            summary="Projects each gradient off those it conflicts with, in random order, and "
            "adds up the results.",
            formula="A(J) = Σᵢ cᵢ, from cᵢ = gᵢ by cᵢ ← cᵢ − min(0, cᵢ·gⱼ) gⱼ/|gⱼ|² for j ≠ i",
            paper="Yu et al., Gradient Surgery for Multi-Task Learning, 2020, arXiv 2001.06782",
            random=True,
            non_conflicting=False,
            linear_under_scaling=True,
            weighted=True,
        ),
        MethodRecord(
            name="Mean",
            make=Mean,
            make_weighting=MeanWeighting,
            summary="Averages the gradients, as gradient descent on the mean loss does.",
            formula="A(J) = (1/m) Σᵢ gᵢ",
            paper="Cauchy, Méthode générale pour la résolution des systèmes d'équations "
            "simultanées, 1847 (gradient descent)",
            random=False,
            non_conflicting=False,
            linear_under_scaling=True,
            weighted=True,
        ),
        MethodRecord(
            name="Sum",
            make=Sum,
            make_weighting=SumWeighting,
            summary="Adds the gradients, as gradient descent on the summed loss does.",
            formula="A(J) = Σᵢ gᵢ",
            paper="Cauchy, Méthode générale pour la résolution des systèmes d'équations "
            "simultanées, 1847 (gradient descent)",
            random=False,
            non_conflicting=False,
            linear_under_scaling=True,
            weighted=True,
        ),
    )
)
