"""The code of the figures of the Trajectories page."""

from collections.abc import Mapping
from typing import Any

import torch

from jdviz.pages.trajectories_controls import Asked

#: Points of the Pareto set and front in a picture.
PARETO_POINTS = 201
#: Cells of the field of cosines along each side, in one picture and in one of several panels. The
#: colours between them are interpolated, and all of them are sent with every step that is played.
CELLS, CELLS_APART = 50, 40


def parameters_code(asked: Asked, step: int) -> str:
    """The code of the paths in the plane of the parameters.

    Args:
        asked: What the page shows.
        step: The step shown.
    """
    cells = CELLS_APART if asked.apart else CELLS
    return (
        _simulated(asked, "CosineField, parameter_paths")
        + "points = {name: [path.points for path in own] for name, own in paths.items()}\n"
        + f"field = CosineField(*problem.grid({cells}), problem.cosines({cells}), problem.frame)\n"
        + f"pareto = problem.pareto_set({PARETO_POINTS})\n"
        + f'figure = parameter_paths(field, points, pareto, {step}, "light", {_ending(asked)})\n'
    )


def objectives_code(asked: Asked, step: int) -> str:
    """The code of the paths in the plane of the objectives.

    Args:
        asked: What the page shows.
        step: The step shown.
    """
    return (
        _simulated(asked, "objective_paths")
        + "values = {name: [path.values for path in own] for name, own in paths.items()}\n"
        + f"front = problem.pareto_front({PARETO_POINTS})\n"
        + f'figure = objective_paths(values, front, {step}, "light", {_ending(asked)})\n'
    )


def distances_code(asked: Asked, step: int) -> str:
    """The code of the distances to the front.

    Args:
        asked: What the page shows.
        step: The step shown.
    """
    return (
        _simulated(asked, "distance_lines")
        + "distances = {name: [path.distances for path in own] for name, own in paths.items()}\n"
        + f'figure = distance_lines(distances, {step}, "light", steps={asked.steps})\n'
    )


def _simulated(asked: Asked, names: str) -> str:
    """The beginning of a script: the paths of every method."""
    return (
        f"from jdviz.figures import {names}\n"
        "from jdviz.landscapes import LANDSCAPES\n"
        "from jdviz.trajectories import simulate_all\n\n"
        f"problem = LANDSCAPES[{asked.problem.key!r}]\n"
        f"rates = {dict(asked.rates)!r}\n"
        f"starts = {list(asked.starts)!r}\n"
        f"parameters = {_plain(asked.parameters)!r}\n"
        "paths = simulate_all(\n"
        f"    problem.key, rates, starts, steps={asked.steps}, seed={asked.seed}, "
        "parameters=parameters\n"
        ")\n"
    )


def _plain(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            key: value.tolist() if torch.is_tensor(value) else value for key, value in own.items()
        }
        for name, own in parameters.items()
    }


def _ending(asked: Asked) -> str:
    return f"steps={asked.steps}, apart={asked.apart}"
