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
from benchmarks.cases import DEVICES, TIMEOUT_S, UNIFORM, Case, check_device, problem_names
from benchmarks.compare import compare_reports, read_report
from benchmarks.distributed import PROBLEMS as PROBLEMS_DISTRIBUTED
from benchmarks.distributed import RANKS, measure_distributed
from benchmarks.explain import measure_explanation
from benchmarks.fits import BUDGET_MEBIBYTES, measure_fits
from benchmarks.growth import BATCHES, PROBLEMS_GROWN, grown, measure_growth
from benchmarks.peer import chosen
from benchmarks.recorder import PROBLEM, measure_recorder
from benchmarks.report import Report
from benchmarks.step_memory import measure_step_memory
from benchmarks.step_time import measure_step_time
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import OURS, SGD, Limits, MeasurementError, measurable_methods

Options = argparse.Namespace
APP_PARTS = ("waits", "pages", "pad", "rate", "class", "soak")
MEBIBYTE = 2**20


def _parser() -> argparse.ArgumentParser:
    """All subcommands with their arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    time = commands.add_parser("time", help="every method ÷ one plain SGD step, in turn")
    memory = commands.add_parser("memory", help="peak memory of every method ÷ plain SGD's")
    memory.add_argument("--repeats", type=int, default=2, help="processes that have to agree")
    growth = commands.add_parser("growth", help="time and memory as the batch or model grows")
    growth.add_argument("--batches", type=int, nargs="+", default=BATCHES, metavar="M")
    growth.add_argument(
        "--sizes", nargs="*", default=None, help="model sizes, by default of what has several"
    )
    growth.add_argument("--no-memory", action="store_true", help="leave the peaks out")
    fits = commands.add_parser("fits", help="the largest batch within a budget of memory")
    fits.add_argument(
        "--budget",
        type=float,
        default=BUDGET_MEBIBYTES,
        metavar="MIB",
        help="for parameters, batch and step; %(default)g by default",
    )
    explain = commands.add_parser("explain", help="how every use of a parameter is contracted")
    explain.add_argument("--batch", type=int, default=None, help="samples in the step")
    explain.add_argument("--device", choices=DEVICES, default="cpu")
    distributed = commands.add_parser("distributed", help="a step over several ranks ÷ DDP SGD's")
    distributed.add_argument(
        "--world-size", "--world-sizes", type=int, nargs="+", default=RANKS, metavar="N"
    )
    distributed.add_argument("--device", choices=DEVICES, default="cpu", help="cuda: a GPU a rank")
    distributed.add_argument("--batch", type=int, default=None, help="samples of each rank")
    for command, problems in (
        (time, tuple(WORKLOADS)),
        (memory, tuple(WORKLOADS)),
        (growth, PROBLEMS_GROWN),
        (fits, ("digits_cnn",)),
        (explain, ("mlp",)),
        (distributed, PROBLEMS_DISTRIBUTED),
    ):
        command.add_argument(
            "--problem", "--workload", nargs="+", default=problems, help=problem_names()
        )
        command.add_argument("--threads", type=int, default=1, help="one by default, as the app")
    for command in (time, memory):
        command.add_argument("--batch", type=int, default=None, help="samples in the step")
    for command in (time, memory, fits, explain, distributed):
        command.add_argument("--size", default=None, help="the model size")
    for command in (time, growth, explain, distributed):
        command.add_argument(
            "--rounds", type=int, default=None, help="timed rounds; what fits in 10 s by default"
        )
    for command in (time, memory, growth, fits):
        _add_step(command)
    _add_timeout(distributed)
    for command in (time, memory, growth):
        command.add_argument("--device", choices=DEVICES, default="cpu")
        command.add_argument("--peer", action="store_true", help="measure torchjd 0.18.0 too")
        command.add_argument(
            "--memory-limit", type=float, default=None, metavar="MIB", help="of a process"
        )
    compare = commands.add_parser("compare", help="what changed between two saved reports")
    compare.add_argument("earlier", type=Path, metavar="A", help="a file that --json wrote")
    compare.add_argument("later", type=Path, metavar="B", help="another, of the same command")
    app = commands.add_parser("app", help="how long visitors wait; a class; a soak")
    app.add_argument("--rounds", type=int, default=5, help="how often each wait is taken")
    app.add_argument(
        "--parts",
        nargs="+",
        choices=APP_PARTS,
        default=[part for part in APP_PARTS if part != "soak"],
        help="by default all but the soak, which takes several minutes",
    )
    app.add_argument("--cycles", type=int, default=200, help="visits of the soak")
    commands.add_parser("exact", help="errors of both engines on every edge case")
    aggregation = commands.add_parser("aggregation", help="time of every weighting")
    aggregation.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="M")
    aggregation.add_argument("--repeats", type=int, default=9, help="calls that are timed")
    aggregation.add_argument("--peer", action="store_true", help="time torchjd's weightings too")
    recorder = commands.add_parser("recorder", help="a training loop with a Recorder ÷ without")
    recorder.add_argument(
        "--problem", "--workload", choices=tuple(WORKLOADS), default=PROBLEM, help="what is trained"
    )
    recorder.add_argument("--rounds", type=int, default=7, help="timed rounds; 7 by default")
    recorder.add_argument("--steps", type=int, default=None, help="in a block; about 2 s of them")
    recorder.add_argument("--threads", type=int, default=1, help="one by default, as the app")
    for command in commands.choices.values():
        command.add_argument("--json", type=Path, default=None, help="write the figures here too")
        command.add_argument("--csv", type=Path, default=None, help="write the table here too")
        command.add_argument("--html", type=Path, default=None, help="write a page here too")
    return parser


def _add_step(command: argparse.ArgumentParser) -> None:
    """What says how a step is taken, and what its process may take."""
    command.add_argument("--methods", nargs="+", choices=OURS, default=OURS)
    command.add_argument(
        "--aggregator",
        choices=measurable_methods(),
        default=UNIFORM,
        metavar="NAME",
        help=f"{UNIFORM} by default; or {', '.join(measurable_methods())}",
    )
    _add_timeout(command)


def _add_timeout(command: argparse.ArgumentParser) -> None:
    """How long what is started may take."""
    command.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT_S,
        metavar="S",
        help="seconds of a process; %(default)g by default",
    )


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
    """One case for each problem that was asked for, each once."""
    given = vars(options)
    return [
        Case(
            problem=name,
            size=given.get("size"),
            batch_size=given.get("batch"),
            aggregator=given.get("aggregator", UNIFORM),
            device=given.get("device", "cpu"),
            threads=options.threads,
        )
        for name in dict.fromkeys(options.problem)
    ]


def _limits(options: Options) -> Limits:
    """What every child may take."""
    given = vars(options).get("memory_limit")
    for name, value in (("memory-limit", given), ("timeout", options.timeout)):
        if value is not None and not value > 0:
            raise MeasurementError(f"got --{name} {value:g}, expected more than 0; give more.")
    return Limits(None if given is None else round(given * MEBIBYTE), options.timeout)


def _time(options: Options) -> Report:
    methods = chosen(options.methods, peer=options.peer)
    return measure_step_time(_cases(options), methods, options.rounds, _limits(options))


def _memory(options: Options) -> Report:
    methods = chosen(options.methods, peer=options.peer)
    return measure_step_memory(_cases(options), methods, options.repeats, _limits(options))


def _growth(options: Options) -> Report:
    methods, limits = chosen(options.methods, peer=options.peer), _limits(options)
    points, notes = grown(_cases(options), options.batches, options.sizes, limits)
    memory = not options.no_memory
    report = measure_growth(points, methods, options.rounds, limits, memory=memory)
    return replace(report, notes=[*notes, *report.notes])


def _fits(options: Options) -> Report:
    methods = list(dict.fromkeys([SGD, *options.methods]))
    budget_bytes = round(options.budget * MEBIBYTE)
    return measure_fits(_cases(options), methods, budget_bytes, _limits(options))


def _distributed(options: Options) -> Report:
    limits = _limits(options)
    return measure_distributed(_cases(options), options.world_size, options.rounds, limits)


_COMMANDS: dict[str, Callable[[Options], Report]] = {
    "time": _time,
    "memory": _memory,
    "growth": _growth,
    "fits": _fits,
    "explain": lambda options: measure_explanation(_cases(options), options.rounds),
    "compare": lambda options: compare_reports(
        read_report(options.earlier), read_report(options.later)
    ),
    "aggregation": lambda options: measure_aggregation(
        options.sizes, options.repeats, peer=options.peer
    ),
    "distributed": _distributed,
    "recorder": lambda options: measure_recorder(options.problem, options.rounds, options.steps),
    "exact": lambda options: _with_test_tools("exact").measure_exactness(),
    "app": lambda options: _with_test_tools("app").measure_app(
        options.parts, options.rounds, options.cycles
    ),
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


def _check_folders(options: Options) -> None:
    """Refuses a file that cannot be written, before minutes are spent on what goes into it."""
    for file in (options.json, options.csv, options.html):
        if file is not None and not file.resolve().parent.is_dir():
            raise MeasurementError(
                f"got {file}, whose folder is not there, expected one that is; make it first."
            )


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand and print its table.

    Args:
        arguments: The command line without the program; `sys.argv` if None.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        _check_folders(options)
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
        # Drawing loads two libraries more, which a table does not need.
        from benchmarks.page import page

        options.html.write_text(page(report), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
