"""The code behind the tour's figures: complete scripts on public names."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PLANE = """\
import numpy as np

from jdviz.compare import compare
from jdviz.figures import {names}

J = np.array({rows})  # one gradient a row
found = compare(J, {methods}, seed=0).outcomes
"""
_MEASURED = """\
from jdviz.figures import {names}
from jdviz.profiling.example import example_comparison

found = example_comparison()  # measured once, and bundled
"""


def directions(jacobian: NDArray[np.float64], methods: Sequence[str]) -> str:
    """The script of the plane of gradients and directions.

    Args:
        jacobian: Shape [m, 2].
        methods: The methods shown.
    """
    return _plane("directions_figure", jacobian, methods) + (
        "directions = {o.method: o.draws if len(o.draws) > 1 else o.direction for o in found}\n"
        'figure = directions_figure(J, directions, "light")\n'
    )


def hurt(jacobian: NDArray[np.float64], methods: Sequence[str]) -> str:
    """The script of the bars of gᵢ·A(J).

    Args:
        jacobian: Shape [m, 2].
        methods: The methods shown.
    """
    return _plane("improvement_bars", jacobian, methods) + (
        'names = ["g₁", "g₂", "g₃"][: len(J)]\n'
        'figure = improvement_bars({o.method: o.inner for o in found}, names, "light")\n'
    )


def gramian(jacobian: NDArray[np.float64]) -> str:
    """The script of the Gramian.

    Args:
        jacobian: Shape [m, 2].
    """
    return (
        "import numpy as np\n\n"
        "from jdviz.figures import gramian_heatmap\n\n"
        f"J = np.array({_rows(jacobian)})  # one gradient a row\n"
        'names = ["g₁", "g₂", "g₃"][: len(J)]\n'
        'figure = gramian_heatmap(J @ J.T, names, "light")\n'
    )


def timelines() -> str:
    """The script of the memory of autojac and of a plain step."""
    return _MEASURED.format(names="memory_timelines") + (
        'figure = memory_timelines([found.of("autojac"), found.of("sgd")], "light")\n'
    )


def mirrored() -> str:
    """The script of the memory of both engines about one zero line."""
    return _MEASURED.format(names="mirrored_timelines") + (
        'autojac, autogram = found.of("autojac"), found.of("fused")\n'
        'figure = mirrored_timelines(autojac, autogram, "light", found.of("sgd"))\n'
    )


def _plane(names: str, jacobian: NDArray[np.float64], methods: Sequence[str]) -> str:
    return _PLANE.format(names=names, rows=_rows(jacobian), methods=list(methods))


def _rows(jacobian: NDArray[np.float64]) -> str:
    return repr([[float(f"{value:.6g}") for value in row] for row in jacobian])
