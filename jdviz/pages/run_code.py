"""The code of the figures of recorded runs: complete scripts with public names.

Text of a run reaches a script only as the representation of a value, so that none of it is code.
"""

import ast
from collections.abc import Iterable, Sequence

from jdviz.pages.run_view import RunView, ShownStep, example_view
from jdviz.runs import Run
from jdviz.runs.comparison import Result
from jdviz.training import StepRecord

Imports = dict[str, set[str]]
_LONGEST = 80


def run_code(view: RunView, figure: str, call: str, *, body: str = "", **names: str) -> str:
    """A script that opens a run and makes a figure of it.

    Args:
        view: The run.
        figure: The function of `jdviz.figures` that makes it.
        call: What stands between its parentheses.
        body: Lines between the run and the figure.
        **names: Further imports, "module with __ for dots" to names with commas.

    Returns:
        The text of the script, which ends in `figure = …`.
    """
    home, loader = _loader(view.run)
    imports = {"jdviz.figures": {figure}, home: {loader.partition("(")[0]}}
    for module, wanted in names.items():
        imports.setdefault(module.replace("__", "."), set()).update(wanted.split(", "))
    return script(imports, f"run = {loader}\n{body}{figure_line(figure, call)}")


def step_code(view: RunView, step: int, figure: str, call: str) -> str:
    """A script for a figure of one step whose Gramian is kept, there called `step`.

    Args:
        view: The run.
        step: The step.
        figure: The function of `jdviz.figures` that makes it.
        call: What stands between its parentheses.
    """
    return run_code(
        view,
        figure,
        call,
        body=f"step = show_step(run, {step})\n",
        jdviz__runs__shown="show_step",
    )


def series_code(view: RunView, figure: str, call: str, *, body: str = "", **names: str) -> str:
    """A script for a figure of the history of a run, there called `series`.

    Args:
        view: The run.
        figure: The function of `jdviz.figures` that makes it.
        call: What stands between its parentheses.
        body: Further lines before the figure.
        **names: As for `run_code`.
    """
    shown = ", ".join(filter(None, ["MOST_POINTS", names.pop("jdviz__runs__shown", "")]))
    return run_code(
        view,
        figure,
        call,
        body=f"series = run.series(max_points=MOST_POINTS)\n{body}",
        jdviz__runs__shown=shown,
        **names,
    )


def bars_code(
    view: RunView, step: ShownStep | StepRecord, figure: str, call: str, *, grouped: bool = True
) -> str:
    """A script for bars over the objectives of a step, also of one without a Gramian.

    Args:
        view: The run.
        step: The step, as it is shown or as it is stored.
        figure: The function of `jdviz.figures` that makes it.
        call: What stands between its parentheses, with NAMES for the names of the objectives.
        grouped: Whether the figure takes groups too.
    """
    if isinstance(step, ShownStep):
        groups = ", groups=step.groups" if grouped else ""
        call = call.replace("NAMES", "step.names") + groups
        return step_code(view, step.record.step, figure, call)
    return run_code(
        view,
        figure,
        call.replace("NAMES", "show_names(run)"),
        body=f"step = run.record({step.step})\n",
        jdviz__runs__shown="show_names",
    )


def update_code(
    view: RunView, step: ShownStep | StepRecord, rate: float, *, following: bool
) -> str:
    """A script for the change of the losses by one update.

    Args:
        view: The run.
        step: The step, as it is shown or as it is stored.
        rate: Learning rate.
        following: Whether the next step says what changed.
    """
    call = f'step.inner, {rate!r}, NAMES, "light"'
    if not following:
        return bars_code(view, step, "update_change_bars", call)
    number = (step.record if isinstance(step, ShownStep) else step).step
    losses, order = (
        ("step.record.losses", "[step.order]")
        if isinstance(step, ShownStep)
        else ("step.losses", "")
    )
    change = f"run.record({number + 1}).losses - {losses}"
    change = f"({change}){order}" if order else change
    return bars_code(view, step, "update_change_bars", f"{call}, change={change}")


def results_code(results: Sequence[Result], figure: str, needs: Imports, body: str) -> str:
    """A script that opens several runs, there a list `results`, and makes a figure of them.

    Args:
        results: The runs.
        figure: The function of `jdviz.figures` that makes it.
        needs: Further imports.
        body: What follows, which ends in `figure = …`.
    """
    loaders = [_loader(result.run) for result in results]
    imports: Imports = {"jdviz.figures": {figure}, "jdviz.runs.shown": {"show_result"}}
    for home, loader in loaders:
        imports.setdefault(home, set()).add(loader.partition("(")[0])
    for module, wanted in needs.items():
        imports.setdefault(module, set()).update(wanted)
    lines = "".join(f"    show_result({loader}),\n" for _, loader in loaders)
    return script(imports, f"results = [\n{lines}]\n{body}")


def overlay_code(
    results: Sequence[Result],
    names: Sequence[str],
    call: str,
    quantity: str,
    bases: Sequence[int | None] | None = None,
) -> str:
    """A script for one series of several runs on one axis.

    Args:
        results: The runs; those that are drawn first.
        names: What each of those drawn is called.
        call: The settings of the figure.
        quantity: The series, by its name in `jdviz.runs.comparison`.
        bases: Of each run drawn the place of its baseline, where differences are drawn.
    """
    needs: Imports = {"jdviz.figures": {"Line"}, "jdviz.runs.comparison": {"values_of"}}
    values, places, also = f"values_of(result, {quantity!r})", "", ""
    if bases is not None:
        needs["jdviz.runs.comparison"] = {"difference"}
        values = f"difference(result, results[base], {quantity!r})"
        places, also = f"bases = {list(bases)!r}\n", ", base"
    lists = "names, results" + (", bases" if bases is not None else "")
    return results_code(
        results,
        "overlay",
        needs,
        f"names = {listed(names)}\n{places}lines = [\n"
        f"    Line(name, result.series.steps, {values}, result.series.time_s)\n"
        # Baselines that are not drawn themselves stand behind the others.
        f"    for name, result{also} in zip({lists}, strict=False)\n]\n"
        + figure_line("overlay", f'lines, "light", {call}'),
    )


def listed(values: Iterable[object]) -> str:
    """Values as a list in a script, a line each."""
    return "[\n" + "".join(f"    {value!r},\n" for value in values) + "]"


def script(imports: Imports, body: str) -> str:
    """A script from its imports and the rest.

    Args:
        imports: Module to the names that it gives; "" for `import` lines.
        body: What follows them.
    """
    plain = [f"import {name}\n" for name in sorted(imports.get("", ()))]
    given = [
        f"from {module} import {', '.join(sorted(names))}\n"
        for module, names in sorted(imports.items())
        if module
    ]
    gap = "\n" if plain and given else ""
    return f"{''.join(plain)}{gap}{''.join(given)}\n{body}"


def figure_line(figure: str, call: str, wrapper: str = "") -> str:
    """The call that makes the figure, on several lines where it is long.

    Args:
        figure: The function.
        call: Its arguments as in a script.
        wrapper: Text with `{}` for the call, where the figure is what comes of it.
    """
    line = f"{figure}({call})"
    if len(line) > _LONGEST:
        tree = ast.parse(line, mode="eval").body
        parts = [*tree.args, *tree.keywords] if isinstance(tree, ast.Call) else []
        inside = "".join(f"    {ast.get_source_segment(line, part)},\n" for part in parts)
        line = f"{figure}(\n{inside})"
    return f"figure = {wrapper.format(line) if wrapper else line}\n"


def _loader(run: Run) -> tuple[str, str]:
    """Where the function comes from that opens a run, and the call."""
    if run.run_id == example_view().run.run_id:
        return "jdviz.runs.example", "example_run()"
    return "jdviz", f"load_run({run.run_id!r})"
