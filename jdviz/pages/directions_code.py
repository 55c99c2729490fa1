"""The code of the figures of the Directions page."""

from collections.abc import Mapping
from typing import Any

import torch

from jdviz.pages.directions_settings import (
    BUILD_TITLES,
    BUILD_VIEW,
    SPACE_VIEW,
    Asked,
    Gradients,
)


def directions_code(asked: Asked, frame: float | None, height: int) -> str:
    """The code of gradients and directions, in the plane or in space.

    Args:
        asked: What the page shows.
        frame: Half the width of the picture; None in space.
        height: In pixels.
    """
    function = "space_figure" if asked.view == SPACE_VIEW else "directions_figure"
    ending = "" if frame is None else f", frame={frame!r}"
    return (
        _compared(asked, function)
        + f"figure = {function}(\n"
        + '    jacobian, compared.directions, "light", names=names, remarks=compared.drawn,\n'
        + f"    height={height}{ending},\n)\n"
    )


def construction_code(asked: Asked, frame: float, height: int) -> str:
    """The code of UPGrad's construction.

    Args:
        asked: What the page shows.
        frame: Half the width of the picture.
        height: In pixels.
    """
    step = list(BUILD_TITLES).index(asked.build)
    return (
        "from jdviz.figures import construction_figure\n"
        "from jdviz.gradients import rows_from_polar\n\n"
        + _gradients(asked.gradients, named=False)
        + "figure = construction_figure(\n"
        + f'    jacobian, {step}, "light", frame={frame!r},\n'
        + f"    regularisation={asked.regularisation!r}, height={height},\n)\n"
    )


def hurt_code(asked: Asked) -> str:
    """The code of the bars that show who gets hurt.

    Args:
        asked: What the page shows.
    """
    if asked.view != BUILD_VIEW:
        return (
            _compared(asked, "improvement_bars")
            + "inner = {one.method: one.inner for one in compared.outcomes}\n"
            + 'figure = improvement_bars(inner, names, "light")\n'
        )
    return (
        "from jdviz.construction import upgrad_construction\n"
        "from jdviz.figures import improvement_bars\n"
        "from jdviz.gradients import rows_from_polar\n\n"
        + _gradients(asked.gradients)
        + f"built = upgrad_construction(jacobian, {asked.regularisation!r})\n"
        + 'figure = improvement_bars({"UPGrad": built.inner}, names, "light")\n'
    )


def matrix_code(asked: Asked, function: str) -> str:
    """The code of the gradients' cosines or Gramian.

    Args:
        asked: What the page shows.
        function: "cosine_heatmap" or "gramian_heatmap".
    """
    rows = "rows_from_polar" if asked.gradients.rises is None else "rows_from_spherical"
    return (
        f"from jdviz.figures import {function}\n"
        f"from jdviz.gradients import gramian_from_rows, {rows}\n\n"
        + _gradients(asked.gradients)
        + f'figure = {function}(gramian_from_rows(jacobian), names, "light")\n'
    )


def aggregator_code(asked: Asked) -> str:
    """The directions alone, by the aggregators of `engines`.

    Args:
        asked: What the page shows.
    """
    rows = ", ".join(str([float(value) for value in row]) for row in asked.gradients.jacobian)
    lines = [
        "import torch",
        "",
        "from engines.aggregation import METHODS",
        "",
        f"jacobian = torch.tensor([{rows}], dtype=torch.float64)",
        f"generator = torch.Generator().manual_seed({asked.seed})",
        f"parameters = {_written(asked.parameters)}",
        f"for name in {list(asked.methods)!r}:",
        "    own = parameters.get(name, {})",
        "    aggregator = METHODS[name].aggregator(len(jacobian), generator=generator, **own)",
        "    print(name, aggregator(jacobian))",
    ]
    return "\n".join(lines) + "\n"


def _compared(asked: Asked, function: str) -> str:
    """The beginning of a script: gradients, and what the methods make of them."""
    rows = "rows_from_polar" if asked.gradients.rises is None else "rows_from_spherical"
    torch_line = "import torch\n\n" if _has_tensor(asked.parameters) else ""
    return (
        torch_line
        + "from jdviz.compare import compare\n"
        + f"from jdviz.figures import {function}\n"
        + f"from jdviz.gradients import {rows}\n\n"
        + _gradients(asked.gradients)
        + f"methods = {list(asked.methods)!r}\n"
        + f"parameters = {_written(asked.parameters)}\n"
        + f"compared = compare(jacobian, methods, {asked.seed}, parameters)\n"
    )


def _gradients(gradients: Gradients, *, named: bool = True) -> str:
    angles, lengths = zip(*gradients.polar, strict=True)
    names = f"names = {list(gradients.names)!r}\n" if named else ""
    if gradients.rises is None:
        return f"jacobian = rows_from_polar({list(angles)!r}, {list(lengths)!r})\n{names}"
    given = f"{list(angles)!r}, {list(gradients.rises)!r}, {list(lengths)!r}"
    return f"jacobian = rows_from_spherical({given})\n{names}"


def _has_tensor(parameters: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(torch.is_tensor(value) for own in parameters.values() for value in own.values())


def _written(parameters: Mapping[str, Mapping[str, Any]]) -> str:
    entries = (
        f"{name!r}: {{" + ", ".join(f"{key!r}: {_value(value)}" for key, value in own.items()) + "}"
        for name, own in parameters.items()
    )
    return "{" + ", ".join(entries) + "}"


def _value(value: Any) -> str:
    if torch.is_tensor(value):
        return f"torch.tensor({value.tolist()!r}, dtype=torch.float64)"
    return repr(value)
