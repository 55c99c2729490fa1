"""The full Jacobian: gradients of every objective, combined by an aggregator.

`backward` and `mtl_backward` with an aggregator write `.grad`. Without one they leave the Jacobian
in `.jac`, which `jac_to_grad` aggregates; `jac` returns Jacobians and writes nothing.
"""

from engines.autojac.backward import backward
from engines.autojac.jac import jac
from engines.autojac.jac_to_grad import jac_to_grad
from engines.autojac.mtl_backward import mtl_backward
from engines.autojac.passes import default_chunk_rows

__all__ = ["backward", "default_chunk_rows", "jac", "jac_to_grad", "mtl_backward"]
