"""The code of the figures of the Lens page."""

from jdviz.pages.run_code import Imports, figure_line, run_code, script
from jdviz.pages.run_view import RunView
from jdviz.runs.layout import Order
from jdviz.training import Futures


class StepCode:
    """Writes scripts for the figures of one step of a run, there called `step`.

    Args:
        view: The run.
        step: The step.
        order: Order of the objectives.
    """

    def __init__(self, view: RunView, step: int, order: Order) -> None:
        self.view = view
        self.step = step
        self.order = order

    def __call__(self, figure: str, call: str) -> str:
        """The script of a figure.

        Args:
            figure: The function of `jdviz.figures` that makes it.
            call: What stands between its parentheses.
        """
        return run_code(
            self.view,
            figure,
            call,
            body=f"step = lay_out(show_step(run, {self.step}), {self.order!r})\n",
            jdviz__runs__layout="lay_out",
            jdviz__runs__shown="show_step",
        )


class MatrixCode:
    """Writes scripts for the figures of a visitor's own matrix, there called `step`.

    Args:
        file: Name of the file.
        kind: What its matrix was taken for.
        order: Order of the objectives.
    """

    def __init__(self, file: str, kind: str, order: Order) -> None:
        self.file = file
        self.kind = kind
        self.order = order

    def __call__(self, figure: str, call: str) -> str:
        """The script of a figure; as for `StepCode`."""
        imports: Imports = {
            "pathlib": {"Path"},
            "jdviz.figures": {figure},
            "jdviz.runs.layout": {"lay_out_matrix"},
            "jdviz.runs.uploads": {"gramian_of", "read_matrix"},
        }
        body = (
            f"data = Path({self.file!r}).read_bytes()\n"
            f"matrix = read_matrix(data, kind={self.kind!r})\n"
            "m = len(matrix.values)\n"
            'names = matrix.names or tuple(f"objective {i + 1}" for i in range(m))\n'
            f"step = lay_out_matrix(gramian_of(matrix), names, {self.order!r})\n"
        )
        return script(imports, body + figure_line(figure, call))


def entries_code(file: str, kind: str, height: int) -> str:
    """The script of the entries of a matrix that is no Gramian.

    Args:
        file: Name of the file.
        kind: What its matrix was taken for.
        height: Height of the figure in pixels.
    """
    imports: Imports = {
        "pathlib": {"Path"},
        "jdviz.figures": {"gramian_heatmap"},
        "jdviz.runs.uploads": {"read_matrix"},
    }
    body = (
        f"data = Path({file!r}).read_bytes()\n"
        f"matrix = read_matrix(data, kind={kind!r})\n"
        "m = len(matrix.values)\n"
        'names = matrix.names or tuple(f"objective {i + 1}" for i in range(m))\n'
    )
    call = f'matrix.values.astype(float), names, "light", height={height}'
    return script(imports, body + figure_line("gramian_heatmap", call))


def history_code(view: RunView, step: int) -> str:
    """The script of the conflict over a run, with a step marked.

    Args:
        view: The run.
        step: The step.
    """
    given = 'series.steps, series.conflict_rate, series.least_cosine, "light"'
    code = run_code(
        view,
        "conflict_history",
        given,
        body="series = run.series(max_points=MOST_POINTS)\n",
        jdviz__figures__marks="mark_step",
        jdviz__runs__shown="MOST_POINTS",
    )
    return code.replace("figure = ", "history = ") + (
        f'figure = mark_step(history, {step}, "light")\n'
    )


def futures_code(view: RunView, found: Futures, figure: str, body: str, call: str) -> str:
    """A script that takes a step again with several methods, which takes up to a minute.

    Args:
        view: The run.
        found: The answer.
        figure: The function of `jdviz.figures` that draws it.
        body: Lines between the answer, there called `found`, and the figure.
        call: What stands between the function's parentheses.
    """
    methods = [*(one.method for one in found.futures), *(one.method for one in found.refused)]
    return run_code(
        view,
        figure,
        call,
        body=(
            f"at, checkpoint = run.store.checkpoint(run.run_id, at_most={found.step})\n"
            "found = ask_futures(\n    RunConfig.from_dict(run.config),\n    at,\n"
            f"    checkpoint,\n    {found.step},\n    {methods!r},\n    {found.steps_ahead},\n"
            f"    equal_length={found.equal_length},\n)\n{body}"
        ),
        jdviz__training="RunConfig, ask_futures",
    )
