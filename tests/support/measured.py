"""A measurement of two layers and eight changes, made by hand."""

from jdviz.profiling import Failure, Measurement, MeasureSpec, Phase, Times
from jdviz.profiling.results import Source

SPEC = MeasureSpec("digits_mlp", "small", 8, "fused", "UPGrad", seed=3)
MACHINE = {"torch": "2.13.0", "device": "a processor", "threads": "1"}
MEASUREMENT = Measurement(
    spec=SPEC,
    times_ms=[0.0, 0.25, 0.5, 1.5, 1.75, 3.0],
    live_bytes=[0, 400, 1000, 1256, 656, 600],
    changed_by=[0, 1, 2, 3, 0, 0],
    sources=[
        Source("", ""),
        Source("0", "aten::addmm"),
        Source("1", "aten::tanh"),
        Source("", "aten::zeros"),
    ],
    phases=[Phase("forward", 0.125, 1.0), Phase("gramian", 1.125, 2.875)],
    peak_bytes=1256,
    peak_ms=1.5,
    peak_phase="gramian",
    peak_source=Source("", "aten::zeros"),
    peak_split={
        "activations": 1000,
        "jacobian": 0,
        "gramian": 256,
        "gradients": 0,
        "workspace": 0,
    },
    peak_layers=[("1", 600), ("0", 400), ("", 256)],
    parameter_bytes=600,
    batch_bytes=64,
    objectives=8,
    parameters=150,
    machine=MACHINE,
)
PLAIN = MeasureSpec("digits_mlp", "small", 8, "sgd", "UPGrad", seed=3)
AUTOJAC = MeasureSpec("digits_mlp", "small", 8, "autojac", "UPGrad", seed=3)
TIMES = Times(
    specs=[SPEC, PLAIN],
    durations_ms={"fused": [4.0, 2.0, 6.0], "sgd": [1.0, 2.0, 2.0]},
    errors={},
    failures={},
    waited_share=0.25,
    disturbed="Other processes kept the cores busy.",
    machine=MACHINE,
)
FAILURE = Failure(AUTOJAC, "memory", 'autojac: out of memory at batch 8, limit 4 GiB; "choose".')
