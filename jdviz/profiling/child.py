"""The child process of a measurement: reads one request, measures, writes one answer, ends.

Request, one line of JSON: `kind`, `memory_limit_bytes` (or null), `threads`, and what that kind
needs. Answer, one line: `{"found": ...}` or `{"error": "memory", "step" or "refused", "message":
...}`. The request's stream stays open; when it ends, the parent is gone and the child ends too.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from jdviz.problems.base import parameter_count
from jdviz.problems.own import ProblemError
from jdviz.problems.registry import PROBLEMS
from jdviz.problems.subjects import find_subject
from jdviz.profiling.cuda import record_history
from jdviz.profiling.events import Recorded, read_profile
from jdviz.profiling.inspecting import inspect_here
from jdviz.profiling.machine import machine, settle
from jdviz.profiling.marks import STEP, layer_marks
from jdviz.profiling.memory import Timeline, read_timeline, thinned
from jdviz.profiling.requests import answer_request
from jdviz.profiling.results import Measurement, Source
from jdviz.profiling.spec import MeasurementError, MeasureSpec, check_objectives
from jdviz.profiling.steps import MeasuredStep
from jdviz.profiling.timing import sentence, time_here

WARM_UPS = 2


def measure_here(spec: MeasureSpec) -> Measurement:
    """Measures in this process; two profilers in one process crash it, so let it have no other.

    Args:
        spec: A valid specification.

    Returns:
        The measurement.

    Raises:
        MeasurementError: The aggregator does not take so many objectives.
        ProblemError: The problem cannot be built.
    """
    torch.set_num_threads(spec.threads)
    subject = find_subject(spec.problem)
    built = subject.build(spec.size, spec.batch_size, spec.seed, spec.device)
    m = subject.objectives(spec.batch_size)
    check_objectives(spec.aggregator, m)
    step = MeasuredStep(spec, built, subject.batch_dim, m)
    for _ in range(WARM_UPS):
        step.run()
        step.clear()
    # The collector runs when it likes and frees blocks then, which would move the curve.
    gc.collect()
    gc.disable()
    try:
        timeline = _record(step, spec.device, m)
    finally:
        gc.enable()
    kept = thinned(timeline.live_bytes)
    sources: dict[Source, int] = {}
    changed_by = [timeline.sources[timeline.changed_by[place]] for place in kept]
    parameters = list(step.model.parameters())
    return Measurement(
        spec=spec,
        times_ms=[round(timeline.times_ms[place], 6) for place in kept],
        live_bytes=[timeline.live_bytes[place] for place in kept],
        changed_by=[sources.setdefault(source, len(sources)) for source in changed_by],
        sources=list(sources),
        phases=timeline.phases,
        peak_bytes=timeline.peak_bytes,
        peak_ms=round(timeline.peak_ms, 6),
        peak_phase=timeline.peak_phase,
        peak_source=timeline.peak_source,
        peak_split=timeline.peak_split,
        peak_layers=timeline.peak_layers,
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        batch_bytes=built.batch_bytes,
        objectives=m,
        parameters=parameter_count(step.model),
        machine=machine(spec.device, torch.get_num_threads()),
    )


def _record(step: MeasuredStep, device: str, m: int) -> Timeline:
    """Runs the step under the recorder of its device."""
    with layer_marks(step.model) as spans:
        recorded = record_history(step, spans) if device == "cuda" else _profile(step)
    addresses = {
        parameter.grad.untyped_storage().data_ptr()
        for parameter in step.model.parameters()
        if parameter.grad is not None and parameter.grad.layout is torch.strided
    }
    step.clear()
    return read_timeline(recorded, m, addresses)


def _profile(step: MeasuredStep) -> Recorded:
    """Runs the step under the profiler; the first of two profiles pays for loading it."""
    for _ in range(2):
        step.clear()
        # Shapes are not recorded: keeping them keeps tensors alive and raises the peak.
        with (
            profile(
                activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=False
            ) as prof,
            record_function(STEP),
        ):
            step.run()
    return read_profile(prof)


def _limit_memory(limit_bytes: int) -> None:
    """Lets the process allocate so much more than it has, where the system can do that.

    Torch reserves address space that it never uses, so the limit is on data (Linux), counted from
    what is there now, before the model is.
    """
    _load_libraries()
    if torch.cuda.is_available():
        share = limit_bytes / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    status = Path("/proc/self/status")
    if not status.exists():
        return
    import resource

    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    present = int(lines["VmData"].split()[0]) * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = present + limit_bytes
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _load_libraries() -> None:
    """Lets the profiler and the libraries below torch take what they take once, 110 MiB.

    Otherwise a limit of that size would stop a step of a few kilobytes.
    """
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 1)
    )
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True):
        layers(torch.zeros(2, 1, 8, 8)).sum().backward()


def _memory(request: dict[str, Any]) -> Any:
    return measure_here(MeasureSpec.from_dict(request["spec"])).to_dict()


def _times(request: dict[str, Any]) -> Any:
    specs = [MeasureSpec.from_dict(values) for values in request["specs"]]
    return time_here(specs, request["rounds"]).to_dict()


def _inspection(request: dict[str, Any]) -> Any:
    found = inspect_here(
        request["problem"], request["size"], request["batch_size"], request["threads"]
    )
    return found.to_dict()


def _structure(request: dict[str, Any]) -> Any:
    from jdviz.profiling.structure import read_structure

    subject = find_subject(request["problem"])
    return read_structure(subject, request["size"] or subject.default_size).to_dict()


_KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "memory": _memory,
    "times": _times,
    "inspection": _inspection,
    "structure": _structure,
}


def _load_data(request: dict[str, Any]) -> None:
    """Loads what a problem of the app reads; the library that brings it takes 80 MiB."""
    spec = request.get("spec") or (request.get("specs") or [{}])[0]
    if spec.get("problem") in PROBLEMS:
        PROBLEMS[spec["problem"]].load(spec["seed"])


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Finds out what a request asks for.

    Args:
        request: As the module says.

    Returns:
        The answer, ready for JSON.
    """
    try:
        torch.set_num_threads(request["threads"])
        _load_data(request)
        settle(request.get("device", "cpu"))
        if request["memory_limit_bytes"] is not None:
            _limit_memory(request["memory_limit_bytes"])
        return {"found": _KINDS[request["kind"]](request)}
    except MemoryError:
        return {"error": "memory", "message": ""}
    except MeasurementError as error:
        return {"error": error.kind, "message": str(error)}
    except ProblemError as error:
        return {"error": "refused", "message": str(error)}
    except Exception as error:  # the parent turns whatever happened into a sentence
        # Torch reports a refused allocation as a plain RuntimeError.
        out = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        return {"error": "memory" if out else "step", "message": sentence(error)}


def main() -> None:
    """Reads the request from standard input and writes the answer to standard output."""
    answer_request(answer)


if __name__ == "__main__":
    main()
