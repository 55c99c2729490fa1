"""Methods that combine the gradients of several objectives into one direction.

An `Aggregator` maps a Jacobian [m, n] to a direction [n]; a `Weighting` maps a Gramian [m, m] to
the weights [m] of the combination. `METHODS` lists the methods with what is known about them.
"""

from engines.aggregation.aggregators import (
    Aggregator,
    GramianWeightedAggregator,
    WeightedAggregator,
)
from engines.aggregation.dualproj import DualProj, DualProjWeighting
from engines.aggregation.flattening import Flattening
from engines.aggregation.mean import Mean, MeanWeighting
from engines.aggregation.mgda import MGDA, MGDAWeighting
from engines.aggregation.pcgrad import PCGrad, PCGradWeighting
from engines.aggregation.records import PROPERTIES, MethodRecord, Parameter
from engines.aggregation.registry import METHODS
from engines.aggregation.sum import Sum, SumWeighting
from engines.aggregation.upgrad import UPGrad, UPGradWeighting
from engines.aggregation.weightings import GeneralizedWeighting, Weighting

__all__ = [
    "METHODS",
    "MGDA",
    "PROPERTIES",
    "Aggregator",
    "DualProj",
    "DualProjWeighting",
    "Flattening",
    "GeneralizedWeighting",
    "GramianWeightedAggregator",
    "MGDAWeighting",
    "Mean",
    "MeanWeighting",
    "MethodRecord",
    "PCGrad",
    "PCGradWeighting",
    "Parameter",
    "Sum",
    "SumWeighting",
    "UPGrad",
    "UPGradWeighting",
    "WeightedAggregator",
    "Weighting",
]
