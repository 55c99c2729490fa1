"""The views of how memory grows, and of which engine needs less."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log2, nan

import streamlit as st

from jdviz.figures import (
    CrossoverDot,
    GrowthPoint,
    crossover_caption,
    crossover_map,
    crossover_table,
    growth_caption,
    growth_lines,
    growth_table,
)
from jdviz.pages.engines_code import crossover_code, growth_code
from jdviz.pages.engines_controls import Asked
from jdviz.pages.frame import Panel, draw_panels, opened, theme
from jdviz.problems.subjects import SUBJECTS, Subject
from jdviz.profiling import MeasurementError, MeasureSpec, StepMethod
from jdviz.profiling.estimate import predicted_bytes
from jdviz.profiling.structure import Structure
from jdviz.server import lab

#: Measured at these multiples of the batch size that is chosen.
STRETCHES = (0.25, 0.5, 1.0, 2.0, 4.0)
MAP_OBJECTIVES = tuple(2**power for power in range(10))
MAP_MEASURED = (8, 64, 256)
_MAP_FALLBACK = "mlp"


def batches(asked: Asked) -> list[int]:
    """Batch sizes around the chosen one, each once; only that where there is no other."""
    if not asked.subject.resizable:
        return [asked.batch_size]
    return sorted({max(2, round(asked.batch_size * stretch)) for stretch in STRETCHES})


def measure(asked: Asked, watch: Callable[[str], None]) -> list[str]:
    """Measures every method at several batch sizes and, where there are several, model sizes.

    Args:
        asked: What the controls ask for.
        watch: Told what is going on.

    Returns:
        What failed, a sentence each.
    """
    wanted = [spec for batch in batches(asked) for spec in asked.specs(batch_size=batch)]
    wanted += [spec for size in asked.subject.sizes for spec in asked.specs(size=size)]
    failed = []
    for spec in dict.fromkeys(wanted):
        if lab().measured(spec) is None:
            lab().measure(spec, asked.limits, watch)
        failure = lab().failed(spec, asked.limits)
        failed += [] if failure is None else [failure.sentence]
    return failed


def draw(asked: Asked) -> None:
    """Draws predictions as lines and measurements as marks, over batch and over model size."""
    panels, tables = [], []
    if asked.subject.resizable:
        points = [
            point for batch in batches(asked) for point in _points(asked, batch, asked.size, batch)
        ]
        panels.append(_panel("growth-batch", "As the batch grows", asked, points, "batch size"))
        tables.append(growth_table(points))
    else:
        st.info(
            f"{asked.subject.title} comes with one batch size. Give its factory an argument "
            "batch_size to see how memory grows with the batch."
        )
    widths = _parameters(asked)
    if len(widths) > 1:
        points = [
            point
            for size, n in widths.items()
            for point in _points(asked, asked.batch_size, size, n)
        ]
        panels.append(_panel("growth-width", "As the model grows", asked, points, "parameters"))
        tables.append(growth_table(points, "parameters"))
    if panels:
        draw_panels(*panels)
    with opened("numbers-growths", "The same as numbers") as is_open:
        for panel, table in zip(panels, tables, strict=True) if is_open else ():
            alt = f"{panel.title}. {panel.caption}"
            st.dataframe(table, hide_index=True, width="stretch", alt=alt)
    st.caption(
        "Thin lines are predicted: the step is gone through without computing it. Marks are "
        "measured. Weights are uniform; memory is the peak of the step beside parameters and batch."
    )


def _panel(key: str, title: str, asked: Asked, points: Sequence[GrowthPoint], x: str) -> Panel:
    limit = asked.limits.memory_bytes if any(point.failure for point in points) else None
    return Panel(
        key,
        title,
        growth_lines(points, theme(), x, limit),
        growth_caption(points, x),
        code=growth_code(points, x, limit),
    )


def _points(asked: Asked, batch: int, size: str, x: float) -> list[GrowthPoint]:
    """What is known of one step by every method."""
    found = []
    structure = _structure(asked.subject.key, size)
    for method in asked.methods:
        spec = asked.spec(method, batch, size)
        measured, failure = lab().measured(spec), lab().failed(spec, asked.limits)
        predicted = None if structure is None else predicted_bytes(structure, method, batch)
        found.append(
            GrowthPoint(
                method,
                x,
                None if measured is None else measured.peak_bytes,
                predicted,
                "" if failure is None else failure.sentence,
            )
        )
    return found


def _structure(problem: str, size: str) -> Structure | None:
    """What predictions are made of, None where there is none."""
    try:
        with st.spinner("Going through a step of the model in a process of its own…"):
            return lab().structure(problem, size)
    except MeasurementError:
        return None


def _parameters(asked: Asked) -> dict[str, int]:
    """Number of parameters by model size, where it is known."""
    found = {size: _structure(asked.subject.key, size) for size in asked.subject.sizes}
    return {size: one.parameters for size, one in found.items() if one is not None}


@dataclass(frozen=True)
class _Plane:
    """What the map is about.

    Attributes:
        subject: One with a gradient for every sample and several model sizes.
        structures: By size, in order of their parameters.
    """

    subject: Subject
    structures: dict[str, Structure]


def _plane(asked: Asked) -> _Plane:
    """The chosen problem where it has both axes, else the perceptron."""
    key = asked.subject.key
    fits = key in SUBJECTS and not asked.subject.tasks and len(asked.subject.sizes) > 1
    subject = SUBJECTS[key if fits else _MAP_FALLBACK]
    return _Plane(subject, {size: lab().structure(subject.key, size) for size in subject.sizes})


def measure_map(asked: Asked, watch: Callable[[str], None]) -> list[str]:
    """Measures both engines at some places of the map.

    Args:
        asked: What the controls ask for.
        watch: Told what is going on.

    Returns:
        What failed, a sentence each.
    """
    plane = _plane(asked)
    sizes = list(plane.structures)
    failed = []
    for size in dict.fromkeys((sizes[0], sizes[len(sizes) // 2], sizes[-1])):
        for m in MAP_MEASURED:
            for method in _rivals(asked):
                spec = _map_spec(asked, plane, size, m, method)
                if lab().measured(spec) is None:
                    lab().measure(spec, asked.limits, watch)
                failure = lab().failed(spec, asked.limits)
                failed += [] if failure is None else [failure.sentence]
    return failed


def _rivals(asked: Asked) -> tuple[StepMethod, StepMethod]:
    """Who is compared: the Jacobian, and the Gramian in the form that the page shows downward."""
    return "autojac", "two-pass" if asked.lower == "two-pass" else "fused"


def _map_spec(asked: Asked, plane: _Plane, size: str, m: int, method: StepMethod) -> MeasureSpec:
    """One place of the map."""
    return replace(asked.spec(method, m, size), problem=plane.subject.key)


def draw_map(asked: Asked) -> None:
    """Draws by how much one engine needs less, over objectives and parameters."""
    plane = _plane(asked)
    jacobian, gramian = _rivals(asked)
    if plane.subject.key != asked.subject.key:
        st.caption(
            f"{asked.subject.title} has not both axes, so this is {plane.subject.title}, "
            f"{plane.subject.summary[0].lower()}{plane.subject.summary[1:]}"
        )
    ordered = sorted(plane.structures.items(), key=lambda item: item[1].parameters)
    ratios, dots = [], []
    for size, structure in ordered:
        line = []
        for m in MAP_OBJECTIVES:
            first = predicted_bytes(structure, jacobian, m)
            second = predicted_bytes(structure, gramian, m)
            line.append(log2(first / second) if first and second else nan)
            known = [
                lab().measured(_map_spec(asked, plane, size, m, method))
                for method in (jacobian, gramian)
            ]
            if known[0] is not None and known[1] is not None:
                dots.append(
                    CrossoverDot(m, structure.parameters, known[0].peak_bytes, known[1].peak_bytes)
                )
        ratios.append(line)
    parameters = [structure.parameters for _, structure in ordered]
    draw_panels(
        Panel(
            "crossover",
            f"Memory of autojac ÷ memory of autogram, {plane.subject.title}",
            crossover_map(MAP_OBJECTIVES, parameters, ratios, dots, theme()),
            crossover_caption(MAP_OBJECTIVES, parameters, ratios, dots),
            code=crossover_code(MAP_OBJECTIVES, parameters, ratios, dots),
        )
    )
    if dots:
        with opened("numbers-places", "The measured places as numbers") as is_open:
            if is_open:
                st.dataframe(
                    crossover_table(dots),
                    hide_index=True,
                    width="stretch",
                    alt=f"The {len(dots)} measured places of the map",
                )
    st.caption(
        "Colours are predicted by going through each step without computing it, dots are measured. "
        "autogram takes "
        f"{'two passes' if gramian == 'two-pass' else 'its fused step'} here; weights are uniform."
    )
