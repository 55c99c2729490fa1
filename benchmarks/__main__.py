"""`python -m benchmarks`: one subcommand for each kind of measurement."""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.memory import measure_memory
from engines.aggregation import METHODS
from jdviz.problems import PROBLEMS
from jdviz.profiling import MeasurementError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    memory = commands.add_parser("memory", help="peak memory and time of one training step")
    memory.add_argument("--problem", choices=list(PROBLEMS), default="digits_cnn")
    memory.add_argument("--size", default=None, help="model size; the problem's own by default")
    memory.add_argument("--batch", type=int, default=None, help="samples in the step")
    memory.add_argument("--aggregator", choices=list(METHODS), default="UPGrad")
    app = commands.add_parser("app", help="server start, first page, and Start to the first step")
    app.add_argument("--rounds", type=int, default=5, help="how often Start is pressed")
    exact = commands.add_parser("exact", help="errors of both engines on every edge case")
    for command in (memory, app, exact):
        command.add_argument("--json", type=Path, default=None, help="write the figures here too")
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
