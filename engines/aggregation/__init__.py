"""Methods that combine the gradients of several objectives into one direction.

An `Aggregator` maps a Jacobian [m, n] to a direction [n]; a `Weighting` maps a Gramian [m, m] to
the weights [m] of the combination. `METHODS` lists the methods with what is known about them.
"""

from engines.aggregation.aggregators import (
    Aggregator,
    GramianWeightedAggregator,
    WeightedAggregator,
)
from engines.aggregation.aligned_mtl import AlignedMTL, AlignedMTLWeighting
from engines.aggregation.cagrad import CAGrad, CAGradWeighting
from engines.aggregation.config import ConFIG, ConFIGWeighting
from engines.aggregation.constant import Constant, ConstantWeighting
from engines.aggregation.cr_mogm import CRMOGMWeighting
from engines.aggregation.dualproj import DualProj, DualProjWeighting
from engines.aggregation.excess_mtl import ExcessMTL, ExcessMTLWeighting
from engines.aggregation.fairgrad import FairGrad, FairGradWeighting
from engines.aggregation.flattening import Flattening
from engines.aggregation.graddrop import GradDrop
from engines.aggregation.gradvac import GradVac, GradVacWeighting
from engines.aggregation.imtl_g import IMTLG, IMTLGWeighting
from engines.aggregation.krum import Krum, KrumWeighting
from engines.aggregation.mean import Mean, MeanWeighting
from engines.aggregation.mgda import MGDA, MGDAWeighting
from engines.aggregation.modo import MoDoWeighting
from engines.aggregation.nash_mtl import NashMTL, NashMTLWeighting
from engines.aggregation.pcd import PCD, PCDWeighting
from engines.aggregation.pcgrad import PCGrad, PCGradWeighting
from engines.aggregation.random import Random, RandomWeighting
from engines.aggregation.records import PROPERTIES, MethodRecord, Parameter
from engines.aggregation.registry import METHODS
from engines.aggregation.sdmgrad import SDMGradWeighting
from engines.aggregation.sum import Sum, SumWeighting
from engines.aggregation.trimmed_mean import TrimmedMean
from engines.aggregation.upgrad import UPGrad, UPGradWeighting
from engines.aggregation.weightings import GeneralizedWeighting, Weighting

__all__ = [
    "IMTLG",
    "METHODS",
    "MGDA",
    "PCD",
    "PROPERTIES",
    "Aggregator",
    "AlignedMTL",
    "AlignedMTLWeighting",
    "CAGrad",
    "CAGradWeighting",
    "CRMOGMWeighting",
    "ConFIG",
    "ConFIGWeighting",
    "Constant",
    "ConstantWeighting",
    "DualProj",
    "DualProjWeighting",
    "ExcessMTL",
    "ExcessMTLWeighting",
    "FairGrad",
    "FairGradWeighting",
    "Flattening",
    "GeneralizedWeighting",
    "GradDrop",
    "GradVac",
    "GradVacWeighting",
    "GramianWeightedAggregator",
    "IMTLGWeighting",
    "Krum",
    "KrumWeighting",
    "MGDAWeighting",
    "Mean",
    "MeanWeighting",
    "MethodRecord",
    "MoDoWeighting",
    "NashMTL",
    "NashMTLWeighting",
    "PCDWeighting",
    "PCGrad",
    "PCGradWeighting",
    "Parameter",
    "Random",
    "RandomWeighting",
    "SDMGradWeighting",
    "Sum",
    "SumWeighting",
    "TrimmedMean",
    "UPGrad",
    "UPGradWeighting",
    "WeightedAggregator",
    "Weighting",
]
