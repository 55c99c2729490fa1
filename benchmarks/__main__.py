"""`python -m benchmarks`: one subcommand for each kind of measurement."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.aggregation import SIZES, measure_aggregation
from benchmarks.cases import DEVICES, Case, check_device
from benchmarks.compare import compare_reports, read_report
from benchmarks.explain import measure_explanation
from benchmarks.growth import SIZES as GROWTH_SIZES
from benchmarks.growth import WIDTHS, WORKLOADS_GROWN, grown, measure_growth
from benchmarks.memory import measure_memory
from benchmarks.page import page
from benchmarks.report import Report
from benchmarks.step_memory import measure_step_memory
from benchmarks.step_time import measure_step_time
from benchmarks.steps import OURS, chosen
from jdviz.problems import PROBLEMS
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import MeasurementError, measurable_methods

Options = argparse.Namespace
NAMES = f"{', '.join(WORKLOADS)}, or package.module:name of a Workload"


def _parser() -> argparse.ArgumentParser:
    """All subcommands with their arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    time = commands.add_parser("time", help="every method ÷ one plain SGD step, in turn")
    _add_workloads(time, tuple(WORKLOADS), "--problem")
    _add_rounds(time)
    _add_methods(time)
    memory = commands.add_parser("memory", help="peak memory of every method ÷ plain SGD's")
    _add_workloads(memory, tuple(WORKLOADS))
    _add_methods(memory)
    memory.add_argument("--repeats", type=int, default=2, help="processes that have to agree")
    memory.add_argument(
        "--problem",
        default=None,
        help=f"a problem of the app instead, also timed: {', '.join(PROBLEMS)}; or "
        "package.module:name of a Workload",
    )
    memory.add_argument("--size", default=None, help="the problem's model size")
    memory.add_argument(
        "--aggregator", choices=measurable_methods(), default=None, help="of the problem's step"
    )
    growth = commands.add_parser("growth", help="time and memory as the batch or width grows")
    growth.add_argument("--workload", nargs="+", default=WORKLOADS_GROWN, help=NAMES)
    growth.add_argument("--sizes", type=int, nargs="+", default=GROWTH_SIZES, metavar="M")
    growth.add_argument("--widths", type=int, nargs="*", default=WIDTHS, help="of mlp")
    growth.add_argument("--no-memory", action="store_true", help="leave the profiles out")
    _add_rounds(growth)
    _add_methods(growth)
    explain = commands.add_parser("explain", help="how every use of a parameter is contracted")
    _add_workloads(explain, ("mlp",), "--problem")
    _add_rounds(explain)
    compare = commands.add_parser("compare", help="what changed between two saved reports")
    compare.add_argument("earlier", type=Path, metavar="A", help="a file that --json wrote")
    compare.add_argument("later", type=Path, metavar="B", help="another, of the same command")
    for command in (time, memory, growth, explain):
        command.add_argument("--device", choices=DEVICES, default="cpu")
        command.add_argument("--threads", type=int, default=None, help="torch's own by default")
    app = commands.add_parser("app", help="server start, first page, and Start to the first step")
    app.add_argument("--rounds", type=int, default=5, help="how often Start is pressed")
    exact = commands.add_parser("exact", help="errors of both engines on every edge case")
    aggregation = commands.add_parser("aggregation", help="time of every weighting")
    aggregation.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="M")
    aggregation.add_argument("--repeats", type=int, default=9, help="calls that are timed")
    aggregation.add_argument("--peer", action="store_true", help="time torchjd's weightings too")
    for command in (time, memory, growth, explain, compare, app, exact, aggregation):
        command.add_argument("--json", type=Path, default=None, help="write the figures here too")
        command.add_argument("--csv", type=Path, default=None, help="write the table here too")
        command.add_argument("--html", type=Path, default=None, help="write a page here too")
    return parser


def _add_workloads(
    command: argparse.ArgumentParser, default: tuple[str, ...], *aliases: str
) -> None:
    command.add_argument("--workload", *aliases, nargs="+", default=default, help=NAMES)
    command.add_argument("--batch", type=int, default=None, help="samples in the step")


def _add_rounds(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--rounds", type=int, default=None, help="timed rounds; what fits in 10 s by default"
    )


def _add_methods(command: argparse.ArgumentParser) -> None:
    command.add_argument("--methods", nargs="+", choices=OURS, default=OURS)
    command.add_argument("--peer", action="store_true", help="measure torchjd 0.18.0 too")


def _with_test_tools(module: str) -> Any:
    """Import what needs the test tools, which whoever measures memory may not have."""
    try:
        return importlib.import_module(f"benchmarks.{module}")
    except ModuleNotFoundError as error:
        raise MeasurementError(
            f"got an environment without {error.name}, expected the test tools; "
            "`make environment-dev` installs them."
        ) from error


def _cases(options: Options) -> list[Case]:
    """One case for each workload that was asked for, each once."""
    names = dict.fromkeys(options.workload)
    return [Case(name, options.batch, device=options.device) for name in names]


def _time(options: Options) -> Report:
    methods = chosen(options.methods, peer=options.peer)
    return measure_step_time(_cases(options), methods, options.rounds)


def _memory(options: Options) -> Report:
    if options.problem in PROBLEMS:
        if options.device != "cpu" or options.peer:
            raise MeasurementError(
                "got --device or --peer with a problem of the app, expected a workload; leave "
                "them or --problem out."
            )
        aggregator, threads = options.aggregator or "UPGrad", options.threads or 1
        return measure_memory(options.problem, options.size, options.batch, aggregator, threads)
    for name in ("size", "aggregator"):
        if getattr(options, name) is not None:
            raise MeasurementError(
                f"got --{name} without a problem of the app, expected one of "
                f"{', '.join(PROBLEMS)}; name it with --problem."
            )
    if options.problem is not None:
        options.workload = [options.problem]
    methods = chosen(options.methods, peer=options.peer)
    return measure_step_memory(_cases(options), methods, options.repeats)


def _growth(options: Options) -> Report:
    methods = chosen(options.methods, peer=options.peer)
    cases = grown(options.workload, options.sizes, options.widths, options.device)
    return measure_growth(cases, methods, options.rounds, memory=not options.no_memory)


_COMMANDS: dict[str, Callable[[Options], Report]] = {
    "time": _time,
    "memory": _memory,
    "growth": _growth,
    "explain": lambda options: measure_explanation(_cases(options), options.rounds),
    "compare": lambda options: compare_reports(
        read_report(options.earlier), read_report(options.later)
    ),
    "aggregation": lambda options: measure_aggregation(
        options.sizes, options.repeats, peer=options.peer
    ),
    "exact": lambda options: _with_test_tools("exact").measure_exactness(),
    "app": lambda options: _with_test_tools("app").measure_app(options.rounds),
}


def _measure(options: Options) -> Report:
    """Run one subcommand with the threads that were asked for."""
    check_device(getattr(options, "device", "cpu"))
    threads = getattr(options, "threads", None)
    if threads is None:
        return _COMMANDS[options.command](options)
    if threads < 1:
        raise MeasurementError(f"got {threads} threads, expected at least 1; give more.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _COMMANDS[options.command](options)
    finally:
        torch.set_num_threads(before)


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand and print its table.

    Args:
        arguments: The command line without the program; `sys.argv` if None.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        report = replace(_measure(options), command=options.command)
    except MeasurementError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{report.text()}\n")
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_dict(), indent=2) + "\n", "utf-8")
    if options.csv is not None:
        options.csv.write_text(report.csv(), "utf-8")
    if options.html is not None:
        options.html.write_text(page(report), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
