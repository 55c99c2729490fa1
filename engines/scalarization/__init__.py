"""Losses combined into one without a Jacobian: what aggregation methods are compared with.

A `Scalarizer` maps losses of any shape to one loss, whose ordinary backward pass gives the
gradient. `SCALARIZERS` lists them with what is known about them.
"""

from engines.scalarization.constant import Constant
from engines.scalarization.cosmos import COSMOS
from engines.scalarization.dwa import DWA
from engines.scalarization.famo import FAMO
from engines.scalarization.geometric_mean import GeometricMean
from engines.scalarization.imtll import IMTLL
from engines.scalarization.mean import Mean
from engines.scalarization.pbi import PBI
from engines.scalarization.random import Random
from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.registry import SCALARIZERS
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.stch import STCH
from engines.scalarization.sum import Sum
from engines.scalarization.uw import UW

__all__ = [
    "COSMOS",
    "DWA",
    "FAMO",
    "IMTLL",
    "PBI",
    "SCALARIZERS",
    "STCH",
    "UW",
    "Constant",
    "GeometricMean",
    "Mean",
    "Random",
    "Scalarizer",
    "ScalarizerRecord",
    "Sum",
]
