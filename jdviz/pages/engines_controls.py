"""The settings of the Engines page, in its rail, and what they ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from engines.aggregation import METHODS
from jdviz.pages.controls import Choice, Number, Setting, Switch, escaped
from jdviz.problems import own_paths
from jdviz.problems.subjects import MAX_BATCH, SUBJECTS
from jdviz.profiling import (
    METHOD_LABELS,
    OURS,
    PEERS,
    SGD,
    Limits,
    MeasurementError,
    MeasureSpec,
    StepMethod,
    available_bytes,
    has_peer,
    measurable_methods,
)
from jdviz.server import lab

MEBIBYTE = 2**20
VIEW_KEY = "e_view"
VIEWS = ("This step", "Growth", "Map", "What fits", "Plan")
_FIRST = SUBJECTS["digits_cnn"]
_LIMITS_MIB = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_DEFAULT_LIMIT_MIB = 4096
_SUGGEST = "engines:suggest"
_GRAMIAN_FIRST: tuple[StepMethod, ...] = ("fused", "two-pass", "torchjd two-pass")

AGGREGATOR = Choice("e_aggregator", "Aggregator", measurable_methods(), "UPGrad")
LIMIT = Choice("e_limit", "Memory limit", tuple(map(str, _LIMITS_MIB)), str(_DEFAULT_LIMIT_MIB))
TIMEOUT = Number("e_timeout", "Time limit (s)", 10, 600, 120, 10)
BUDGET = Number("e_budget", "Memory budget (MiB)", 16, 65536, 256, 64)
PEER = Switch("e_peer", "torchjd too")
VIEW = Choice(VIEW_KEY, "View", VIEWS, VIEWS[0])
UPPER = Choice("e_upper", "Upward", ("autojac", "sgd", "torchjd autojac"), "autojac")
LOWER = Choice("e_lower", "Downward", _GRAMIAN_FIRST, "fused")


@dataclass(frozen=True)
class Shown:
    """What the page knows of a subject without building its model.

    Attributes:
        key: Its name.
        title: Its name for a person.
        summary: One sentence that says what it is.
        sizes: What each model size is, by name, smallest first.
        default_size: Size to start with.
        default_batch: Batch size to start with.
        resizable: Whether other batch sizes can be built.
        tasks: Number of objectives where they are tasks; 0 where samples have theirs.
        per_sample: Objectives of one sample, where samples have theirs.
        own: Whether whoever started the server brought it.
        failure: Why it cannot be built, one sentence; "" where it can.
    """

    key: str
    title: str
    summary: str
    sizes: Mapping[str, str]
    default_size: str
    default_batch: int
    resizable: bool
    tasks: int
    per_sample: int
    own: bool
    failure: str = ""

    def objectives(self, batch_size: int) -> int:
        """Number of objectives m of a step with this batch size."""
        return self.tasks or self.per_sample * batch_size


@dataclass(frozen=True)
class Asked:
    """What the controls ask for.

    Attributes:
        subject: What is measured.
        size: Its model size.
        batch_size: Samples in the step.
        aggregator: Of the methods that have one.
        methods: What is compared.
        limits: What a child process may take.
        budget_bytes: Memory for parameters, batch and step, where the largest batch is looked for.
        upper: Method whose memory is drawn upward.
        lower: Method whose memory is drawn downward.
    """

    subject: Shown
    size: str
    batch_size: int
    aggregator: str
    methods: tuple[StepMethod, ...]
    limits: Limits
    budget_bytes: int
    upper: str
    lower: str

    def spec(
        self, method: StepMethod, batch_size: int | None = None, size: str | None = None
    ) -> MeasureSpec:
        """One step, with another batch or model size where one is given."""
        return MeasureSpec(
            problem=self.subject.key,
            size=size or self.size,
            batch_size=batch_size or self.batch_size,
            method=method,
            aggregator=self.aggregator,
        )

    def specs(self, batch_size: int | None = None, size: str | None = None) -> list[MeasureSpec]:
        """One step by every method."""
        return [self.spec(method, batch_size, size) for method in self.methods]


def problem_choice() -> Choice:
    """The problems of the app, the workloads, and what whoever started the server brought."""
    return Choice("e_problem", "Problem", (*SUBJECTS, *own_paths()), _FIRST.key)


def shown() -> Shown:
    """The problem chosen at present; one of a visitor's own is asked for in a child process."""
    key = problem_choice().current()
    if key not in SUBJECTS:
        return _own(key)
    found = SUBJECTS[key]
    return Shown(
        key=key,
        title=found.title,
        summary=found.summary,
        sizes=found.sizes,
        default_size=found.default_size,
        default_batch=found.default_batch,
        resizable=found.resizable,
        tasks=found.tasks,
        per_sample=found.per_sample,
        own=False,
    )


def _own(path: str) -> Shown:
    try:
        with st.spinner("Building the model once in a process of its own, to know it…"):
            found = lab().inspection(path)
    except MeasurementError as error:
        return Shown(
            path, path, "", {"own": ""}, "own", 1, False, 0, 1, own=True, failure=str(error)
        )
    tasks = found.objectives if found.batch_dim is None else 0
    return Shown(
        key=path,
        title=found.title,
        summary=found.summary,
        sizes=found.sizes,
        default_size=found.size,
        default_batch=found.default_batch,
        resizable=found.resizable,
        tasks=tasks,
        per_sample=1 if tasks else max(1, found.objectives // found.batch_size),
        own=True,
    )


def _size(subject: Shown) -> Choice:
    return Choice("e_size", "Model size", tuple(subject.sizes), subject.default_size)


def _batch(subject: Shown) -> Number:
    if not subject.resizable:
        only = subject.default_batch
        return Number("e_batch", "Batch size", only, only, only, 1)
    # A batch of one is no batch of objectives, unless these are tasks.
    return Number("e_batch", "Batch size", 1, MAX_BATCH, subject.default_batch, 1)


def settings(subject: Shown) -> tuple[Setting, ...]:
    """Every setting of the page."""
    choices = (problem_choice(), _size(subject), AGGREGATOR, LIMIT, UPPER, LOWER, PEER, VIEW)
    return (*choices, _batch(subject), TIMEOUT, BUDGET)


def _note_problem() -> None:
    """Another problem was chosen; its sizes and its batch may be known only later."""
    st.session_state[_SUGGEST] = True


def suggest(subject: Shown) -> None:
    """Begin with the problem's own sizes after another one was chosen. Call it before drawing."""
    size, batch = _size(subject), _batch(subject)
    changed = st.session_state.pop(_SUGGEST, False)
    if changed or st.session_state.get(size.key, size.default) not in size.options:
        st.session_state[size.key] = subject.default_size
    known = st.session_state.get(batch.key, batch.default)
    if changed or not batch.low <= known <= batch.high:
        st.session_state[batch.key] = subject.default_batch


def draw_controls(subject: Shown, view: str) -> Asked:
    """Draw the controls, the three that matter first.

    Args:
        subject: The problem chosen at present.
        view: The view that is open, one of `VIEWS`.

    Returns:
        What they ask for.
    """
    problem_choice().draw(
        _title, on_change=_note_problem, help_text=escaped(subject.summary) or None
    )
    size = _draw_size(subject)
    batch_size = _draw_batch(subject)
    aggregator = AGGREGATOR.default
    if view == "This step":
        aggregator = AGGREGATOR.draw(help_text=METHODS[AGGREGATOR.current()].summary)
    upper, lower = UPPER.current(), LOWER.current()
    budget = BUDGET.default
    if view == "What fits":
        budget = BUDGET.draw(help_text="For parameters, batch and everything a step allocates.")
    with st.expander("Methods and limits"):
        if view == "This step":
            upper = UPPER.draw(_label)
            lower = LOWER.draw(_label)
        methods = _draw_methods(upper, lower)
        limits = _draw_limits()
    return Asked(
        subject=subject,
        size=size,
        batch_size=batch_size,
        # The other views are about the engines; a solver for thousands of objectives is not.
        aggregator=aggregator if view == "This step" else "Mean",
        methods=methods,
        limits=limits,
        budget_bytes=int(budget * MEBIBYTE),
        upper=upper,
        lower=lower,
    )


def _title(key: str) -> str:
    return SUBJECTS[key].title if key in SUBJECTS else key


def _label(method: str) -> str:
    return next(label for name, label in METHOD_LABELS.items() if name == method)


def _draw_size(subject: Shown) -> str:
    if len(subject.sizes) == 1:
        return subject.default_size
    return _size(subject).draw(
        lambda name: name if subject.sizes[name] == name else f"{name} ({subject.sizes[name]})"
    )


def _draw_batch(subject: Shown) -> int:
    if subject.failure:
        return subject.default_batch
    if not subject.resizable:
        st.caption(f"Batch size {subject.default_batch:,}, as its factory makes it.")
        return subject.default_batch
    note = f" {subject.tasks} tasks are the objectives." if subject.tasks else ""
    return int(_batch(subject).draw(help_text=f"Samples in the step.{note}"))


def _draw_methods(upper: str, lower: str) -> tuple[StepMethod, ...]:
    """What is compared: ours and the plain step, and the field's library where it is installed."""
    methods: list[StepMethod] = [*OURS, SGD]
    if has_peer():
        wanted = PEER.draw(
            help_text="Measures the two engines of the installed torchjd in the same way."
        )
        if wanted or upper in PEERS or lower in PEERS:
            methods += PEERS
    return tuple(methods)


def _draw_limits() -> Limits:
    free_mib = available_bytes() / MEBIBYTE
    limit = int(
        LIMIT.draw(
            lambda mib: f"{int(mib) / 1024:g} GiB" if int(mib) >= 1024 else f"{mib} MiB",
            help_text="Of one measuring process: model, batch and step. What needs more is "
            f"stopped and labelled. This machine has {free_mib / 1024:.3g} GiB free.",
        )
    )
    seconds = TIMEOUT.draw(help_text="A measuring process that takes longer is ended.")
    return Limits(limit * MEBIBYTE, float(seconds))


def own_command(paths: Sequence[str] = ()) -> str:
    """The command that starts the app with a model of one's own."""
    path = paths[0] if paths else "package.module:factory"
    return f"streamlit run app.py -- --problem {path}"
