"""`python -m benchmarks`: one subcommand for each kind of measurement."""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.aggregation import SIZES, measure_aggregation
from benchmarks.memory import measure_memory
from jdviz.problems import PROBLEMS
from jdviz.profiling import MeasurementError, measurable_methods


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    memory = commands.add_parser("memory", help="peak memory and time of one training step")
    memory.add_argument("--problem", choices=list(PROBLEMS), default="digits_cnn")
    memory.add_argument("--size", default=None, help="model size; the problem's own by default")
    memory.add_argument("--batch", type=int, default=None, help="samples in the step")
    memory.add_argument("--aggregator", choices=measurable_methods(), default="UPGrad")
    app = commands.add_parser("app", help="server start, first page, and Start to the first step")
    app.add_argument("--rounds", type=int, default=5, help="how often Start is pressed")
    exact = commands.add_parser("exact", help="errors of both engines on every edge case")
    aggregation = commands.add_parser("aggregation", help="time of every weighting")
    aggregation.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="M")
    aggregation.add_argument("--repeats", type=int, default=9, help="calls that are timed")
    aggregation.add_argument("--peer", action="store_true", help="time torchjd's weightings too")
    for command in (memory, app, exact, aggregation):
        command.add_argument("--json", type=Path, default=None, help="write the figures here too")
        command.add_argument("--csv", type=Path, default=None, help="write the table here too")
    return parser


def _with_test_tools(module: str) -> Any:
    """Import what needs the test tools, which whoever measures memory may not have."""
    try:
        return importlib.import_module(f"benchmarks.{module}")
    except ModuleNotFoundError as error:
        raise MeasurementError(
            f"got an environment without {error.name}, expected the test tools; "
            "`make environment-dev` installs them."
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand and print its table.

    Args:
        arguments: The command line without the program; `sys.argv` if None.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "memory":
            report = measure_memory(
                options.problem, options.size, options.batch, options.aggregator
            )
        elif options.command == "aggregation":
            report = measure_aggregation(options.sizes, options.repeats, peer=options.peer)
        elif options.command == "exact":
            report = _with_test_tools("exact").measure_exactness()
        else:
            report = _with_test_tools("app").measure_app(options.rounds)
    except MeasurementError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{report.text()}\n")
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    if options.csv is not None:
        options.csv.write_text(report.csv())
    return 0


if __name__ == "__main__":
    sys.exit(main())
