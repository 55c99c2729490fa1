"""The code of the figures of the Engines page."""

from collections.abc import Sequence

from jdviz.figures import CrossoverDot, GrowthPoint
from jdviz.pages.engines_controls import Asked
from jdviz.pages.run_code import Imports, figure_line, listed, script
from jdviz.profiling.fits import Fit


class ComparisonCode:
    """Writes scripts for the figures of one step by several methods, there called `found`.

    Args:
        asked: What the controls ask for; None for the bundled example.
    """

    def __init__(self, asked: Asked | None) -> None:
        self.asked = asked

    def __call__(self, figure: str, call: str, *, timed: bool = False) -> str:
        """The script of a figure. Bytes are the same on the same versions, times never are.

        Args:
            figure: The function of `jdviz.figures` that makes it.
            call: What stands between its parentheses.
            timed: Whether it needs times.
        """
        imports: Imports = {"jdviz.figures": {figure}}
        if self.asked is None:
            imports["jdviz.profiling.example"] = {"example_comparison"}
            body = "found = example_comparison()\n"
        else:
            imports["jdviz.profiling"] = {"Limits", "MeasureSpec", "compare"}
            rounds = "" if timed else "rounds=0, "
            body = (
                f"specs = {listed(self.asked.specs())}\n"
                f"found = compare(specs, {rounds}limits={self.asked.limits!r})\n"
            )
        return script(imports, body + figure_line(figure, call))


def growth_code(points: Sequence[GrowthPoint], x: str, limit: int | None) -> str:
    """The script of how memory grows, with the bytes that were predicted and measured.

    Args:
        points: What is known.
        x: What the axis holds.
        limit: Where measuring ended, in bytes; None where it did not.
    """
    body = f"points = {listed(points)}\n"
    call = f'points, "light", {x!r}, {limit!r}'
    imports: Imports = {"jdviz.figures": {"GrowthPoint", "growth_lines"}}
    return script(imports, body + figure_line("growth_lines", call))


def crossover_code(
    objectives: Sequence[int],
    parameters: Sequence[int],
    ratios: Sequence[Sequence[float]],
    dots: Sequence[CrossoverDot],
) -> str:
    """The script of the map of both engines, with the ratios that were predicted.

    Args:
        objectives: Numbers of objectives.
        parameters: Numbers of parameters.
        ratios: Powers of two, a list for each number of parameters.
        dots: What was measured.
    """
    # What is not known is a number too, and its representation a name.
    imports: Imports = {"jdviz.figures": {"crossover_map"}, "math": {"nan"}}
    if dots:
        imports["jdviz.figures"] = {"CrossoverDot", "crossover_map"}
    body = (
        f"objectives = {list(objectives)!r}\nparameters = {list(parameters)!r}\n"
        f"ratios = {listed(ratios)}\ndots = {listed(dots) if dots else []}\n"
    )
    call = 'objectives, parameters, ratios, dots, "light"'
    return script(imports, body + figure_line("crossover_map", call))


def fits_code(fits: Sequence[Fit]) -> str:
    """The script of the largest batches, as they were predicted and found.

    Args:
        fits: One for each method.
    """
    lines = "".join(
        f"    Fit({fit.method!r}, {fit.budget_bytes}, {fit.predicted_batch}, {fit.verified_batch}, "
        f"{fit.fails_at}, note={fit.note!r}),\n"
        for fit in fits
    )
    imports: Imports = {"jdviz.figures": {"fit_bars"}, "jdviz.profiling.fits": {"Fit"}}
    return script(imports, f"fits = [\n{lines}]\n" + figure_line("fit_bars", 'fits, "light"'))
