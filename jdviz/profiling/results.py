"""What measuring gives, in forms that JSON can hold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, Self

from jdviz.profiling.spec import FailureKind, MeasurementError, MeasureSpec

#: What the peak is made of, in the order of a stack from the bottom.
OWNERS = ("activations", "jacobian", "gramian", "gradients", "workspace")


class Phase(NamedTuple):
    """A part of the step.

    Attributes:
        name: "forward", "jacobian" or "gramian", "weights", "backward".
        start_ms: When it began, milliseconds from the beginning of the step.
        end_ms: When it ended.
    """

    name: str
    start_ms: float
    end_ms: float


class Source(NamedTuple):
    """What allocated or freed.

    Attributes:
        layer: Path of the module at work, "" outside of all of them.
        operation: Such as "aten::mm", "" where none was running.
    """

    layer: str
    operation: str


@dataclass(frozen=True)
class _Record:
    """What goes through JSON and back."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def _check(cls, values: Any) -> None:
        names = {one.name for one in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            got = ", ".join(values) if isinstance(values, Mapping) else type(values).__name__
            raise MeasurementError(
                f"The {cls.__name__.lower()} has the entries {got or 'none'}; "
                f"it must have {', '.join(sorted(names))}."
            )


@dataclass(frozen=True)
class Measurement(_Record):
    """Memory over one step.

    The memory is what the step itself allocates: parameters, batch and Python are not in it, new
    gradients are. Times come from a step under the profiler, which slows it down.

    Attributes:
        spec: What was measured.
        times_ms: When the memory changed, milliseconds from the beginning of the step.
        live_bytes: Bytes alive from each of those times to the next. Long curves are thinned to
            2000 points that keep the least and the greatest value of every stretch.
        changed_by: For each of those points, the place in `sources` of what changed it.
        sources: Layers and operations, each once.
        phases: The parts of the step, in order.
        peak_bytes: Greatest value of the full curve.
        peak_ms: When it was reached first.
        peak_phase: In which part of the step.
        peak_source: Layer and operation whose allocation reached it.
        peak_split: Bytes alive at the peak by owner, a key of `OWNERS` each; they add up to
            `peak_bytes`. Activations are what the forward pass leaves, Jacobian what the Jacobian
            phase leaves, Gramian the m x m matrix, gradients what is alive at the end of the step,
            workspace the rest.
        peak_layers: Bytes alive at the peak by the layer that allocated them, largest first.
        parameter_bytes: Bytes of the model's parameters, which are not in the curve.
        batch_bytes: Bytes of the batch, which are not in the curve either.
        objectives: Number of objectives m.
        parameters: Number of trainable parameters n.
        machine: Versions, device and threads.
    """

    spec: MeasureSpec
    times_ms: list[float]
    live_bytes: list[int]
    changed_by: list[int]
    sources: list[Source]
    phases: list[Phase]
    peak_bytes: int
    peak_ms: float
    peak_phase: str
    peak_source: Source
    peak_split: dict[str, int]
    peak_layers: list[tuple[str, int]]
    parameter_bytes: int
    batch_bytes: int
    objectives: int
    parameters: int
    machine: dict[str, str]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds a measurement from what `to_dict` gave, also after a way through JSON.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        cls._check(values)
        made = {
            "spec": MeasureSpec.from_dict(values["spec"]),
            "phases": [Phase(*phase) for phase in values["phases"]],
            "sources": [Source(*source) for source in values["sources"]],
            "peak_source": Source(*values["peak_source"]),
            "peak_layers": [(layer, size) for layer, size in values["peak_layers"]],
        }
        return cls(**{**values, **made})


@dataclass(frozen=True)
class Times(_Record):
    """Durations of several methods' steps, taken in turn in one process without a profiler.

    Attributes:
        specs: What was timed, one for each method.
        durations_ms: One value per round, by method.
        errors: Relative Frobenius error of each method's gradients against the plain step's; empty
            where the aggregator's weights are not uniform or the plain step was not timed.
        failures: Why a method has no durations, by method.
        waited_share: How much of the time a thread waited for a core, from 0 to 1 for each thread
            that torch may use; None where the system does not tell.
        disturbed: Why the durations say little, one sentence; "" where nothing disturbed them.
        machine: Versions, device and threads.
    """

    specs: list[MeasureSpec]
    durations_ms: dict[str, list[float]]
    errors: dict[str, float]
    failures: dict[str, str]
    waited_share: float | None
    disturbed: str
    machine: dict[str, str]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds times from what `to_dict` gave.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        cls._check(values)
        return cls(**{**values, "specs": [MeasureSpec.from_dict(one) for one in values["specs"]]})


@dataclass(frozen=True)
class Failure(_Record):
    """A measurement that gave no result.

    Attributes:
        spec: What was to be measured.
        kind: As `MeasurementError.kind`.
        sentence: Why, such as "autojac: out of memory at batch 512, limit 4 GiB."
    """

    spec: MeasureSpec
    kind: FailureKind
    sentence: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds a failure from what `dataclasses.asdict` gave.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        cls._check(values)
        return cls(**{**values, "spec": MeasureSpec.from_dict(values["spec"])})


@dataclass(frozen=True)
class Comparison(_Record):
    """One step of one model by several methods.

    Attributes:
        measurements: Memory, one for each method that gave a result.
        times: Durations of those, or None where none was taken.
        failures: The methods that gave none.
    """

    measurements: list[Measurement]
    times: Times | None
    failures: list[Failure] = field(default_factory=list)

    def of(self, method: str) -> Measurement | None:
        """The measurement of a method, None where there is none."""
        found = [one for one in self.measurements if one.spec.method == method]
        return found[0] if found else None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds a comparison from what `to_dict` gave.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        cls._check(values)
        times = values["times"]
        return cls(
            [Measurement.from_dict(one) for one in values["measurements"]],
            None if times is None else Times.from_dict(times),
            [Failure.from_dict(one) for one in values["failures"]],
        )


@dataclass(frozen=True)
class Use(_Record):
    """What the engine does with one use of one parameter; see `engines.autogram.UsePlan`.

    Attributes:
        parameter: Path of the parameter in the model.
        operation: Name of autograd's node that uses it.
        rule: The rule's name, or "general" for the exact path row by row.
        contraction: How inner products are formed.
        multiply_adds: Predicted, of the contraction.
        workspace_bytes: Predicted size of the largest block beside its operands.
        predicted_ms: Predicted duration of the contraction and of the weighted gradient.
        reason: Why, in words.
    """

    parameter: str
    operation: str
    rule: str
    contraction: str
    multiply_adds: int
    workspace_bytes: int
    predicted_ms: float
    reason: str


@dataclass(frozen=True)
class Inspection(_Record):
    """What is known of a problem without taking a step.

    Attributes:
        problem: Its name.
        size: Name of its model size.
        batch_size: Samples in the batch.
        title: Its name for a person.
        summary: One sentence that says what it is.
        batch_dim: Dimension of the losses that indexes samples, None where objectives are tasks.
        sizes: What each of its model sizes is, by name.
        default_batch: Batch size that it comes with.
        resizable: Whether other batch sizes can be built.
        objectives: Number of objectives m.
        parameters: Number of trainable parameters n.
        uses: What the engine does, use by use; empty where it refuses the model.
        refusal: Why it refuses the model, as it says it; "" where it takes it.
        unused: Trainable parameters that the objectives do not reach.
        machine: Versions, device and threads.
    """

    problem: str
    size: str
    batch_size: int
    title: str
    summary: str
    batch_dim: int | None
    sizes: dict[str, str]
    default_batch: int
    resizable: bool
    objectives: int
    parameters: int
    uses: list[Use]
    refusal: str
    unused: list[str]
    machine: dict[str, str]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds an inspection from what `to_dict` gave.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        cls._check(values)
        return cls(**{**values, "uses": [Use(**use) for use in values["uses"]]})
