"""Measurements, times, growth, a map and fits that are small enough to check by hand."""

from types import SimpleNamespace
from typing import Any

from jdviz.figures import CrossoverDot, GrowthPoint
from jdviz.profiling.results import Comparison, Failure, Measurement, Phase, Source, Times
from jdviz.profiling.spec import MeasureSpec

MIB = 2**20
#: A Jacobian of 4 rows of the model of `measurement`.
JACOBIAN = 4 * MIB


def spec(method: Any) -> MeasureSpec:
    return MeasureSpec("digits_cnn", "medium", 4, method, "UPGrad")


def measurement(
    method: str,
    peak_mib: int,
    *,
    scale_ms: float = 1.0,
    split: dict[str, int] | None = None,
    phases: tuple[str, ...] = ("forward", "gramian", "weights", "backward"),
) -> Measurement:
    """One MiB of parameters, 4 objectives; a phase takes a millisecond, the second has the peak.

    Args:
        method: Of the step.
        peak_mib: Its peak.
        scale_ms: Factor of all times.
        split: MiB of the peak by owner; workspace is what is left.
        phases: Their names.
    """
    parts = dict.fromkeys(("activations", "jacobian", "gramian", "gradients"), 0) | (split or {})
    parts["workspace"] = peak_mib - sum(parts.values())
    ends = [scale_ms * (place + 1) for place in range(len(phases))]
    return Measurement(
        spec=spec(method),
        times_ms=[0.0, 0.5 * scale_ms, 1.5 * scale_ms, 2.0 * scale_ms],
        live_bytes=[0, peak_mib * MIB // 2, peak_mib * MIB, MIB],
        changed_by=[0, 1, 2, 1],
        sources=[Source("", ""), Source("conv1", "aten::convolution"), Source("conv2", "aten::mm")],
        phases=[Phase(name, end - scale_ms, end) for name, end in zip(phases, ends, strict=True)],
        peak_bytes=peak_mib * MIB,
        peak_ms=1.5 * scale_ms,
        peak_phase=phases[1],
        peak_source=Source("conv2", "aten::mm"),
        peak_split={owner: size * MIB for owner, size in parts.items()},
        peak_layers=[("conv2", peak_mib * MIB)],
        parameter_bytes=MIB,
        batch_bytes=MIB // 4,
        objectives=4,
        parameters=MIB // 4,
        machine={"torch": "2.13.0"},
    )


def measurements() -> list[Measurement]:
    jacobian = ("forward", "jacobian", "weights", "backward")
    return [
        measurement("fused", 6, split={"activations": 2, "gramian": 1}),
        measurement("two-pass", 8, split={"activations": 4, "gramian": 1}),
        measurement(
            "autojac", 48, scale_ms=2.0, phases=jacobian, split={"activations": 2, "jacobian": 40}
        ),
        measurement(
            "sgd", 4, scale_ms=0.5, phases=("forward", "backward"), split={"activations": 3}
        ),
    ]


def times() -> Times:
    return Times(
        specs=[spec(method) for method in ("fused", "autojac", "sgd")],
        durations_ms={
            "sgd": [2.0, 2.0, 2.0],
            "autojac": [7.0, 8.0, 9.0],
            "fused": [3.0, 4.0, 5.0],
        },
        errors={},
        failures={"two-pass": "autogram, two passes: timed out after 120 s."},
        waited_share=0.0,
        disturbed="",
        machine={},
    )


def failure() -> Failure:
    sentence = "torchjd autojac: out of memory at batch 512, limit 4 GiB."
    return Failure(spec("torchjd autojac"), "memory", sentence)


def comparison() -> Comparison:
    return Comparison(measurements(), times(), [failure()])


def growth() -> list[GrowthPoint]:
    """Autojac grows like the batch, fused autogram like its root; they are equal at 4."""
    found = [
        GrowthPoint("autojac", batch, float(MIB * batch), float(MIB * batch))
        for batch in (1, 4, 16)
    ]
    found.append(
        GrowthPoint("autojac", 64, None, 64.0 * MIB, "autojac: out of memory at batch 64.")
    )
    fused = [GrowthPoint("fused", b, 2 * MIB * b**0.5, 2.2 * MIB * b**0.5) for b in (1, 4, 16, 64)]
    return [*fused, *found]


def crossover() -> tuple[list[int], list[int], list[list[float]], list[CrossoverDot]]:
    """Two objectives: autojac needs less of the small model; eight: autogram needs less."""
    dots = [CrossoverDot(2, 1000, 1.0 * MIB, 2.0 * MIB), CrossoverDot(8, 10_000, 3.0 * MIB, MIB)]
    return [2, 8], [1000, 100_000], [[-2.0, 1.0], [0.0, 3.0]], dots


def fit(method: str, **values: Any) -> Any:
    known = {"predicted_batch": None, "verified_batch": None, "fails_at": None, "note": ""}
    return SimpleNamespace(method=method, **({"budget_bytes": 2**30} | known | values))


def fits() -> list[Any]:
    return [
        fit("autojac", predicted_batch=110, verified_batch=100, fails_at=102),
        fit("fused", predicted_batch=950, verified_batch=1000, fails_at=1001),
        fit("sgd", predicted_batch=2000),
        fit("torchjd autojac", note="torchjd autojac: torchjd is not installed."),
    ]
