"""A small model of cost: a step over many ranks, predicted from a few rates."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from types import MappingProxyType

from jdviz.profiling.turns import number

# Float32; indices and headers are left out.
ENTRY_BYTES = 4
# The engine lets messages wait for others until so much travels at once.
SHIPMENT_BYTES = 2**20
# What the first rank says to each of the others before a step, and what each of them says to it.
FIRST_HEADER_BYTES, HEADER_BYTES = 5200, 100


@dataclass(frozen=True)
class Layer:
    """A use of a weight, or several of the same shape.

    Attributes:
        inputs: Features that go in, i.
        outputs: Features that come out, o.
        positions: Of a sample, t: tokens or pixels at which the weight is used.
        count: How many there are, such as the groups of a convolution.
    """

    inputs: int
    outputs: int
    positions: int = 1
    count: int = 1

    @property
    def entries(self) -> int:
        """Of the weight."""
        return self.count * self.inputs * self.outputs

    @property
    def features(self) -> int:
        """Entries of inputs and output gradients at one position."""
        return self.count * (self.inputs + self.outputs)


@dataclass(frozen=True)
class Machine:
    """What a rank does in a second.

    Attributes:
        multiply_adds_per_s: In products.
        bytes_per_s: Read and written.
        link_bytes_per_s: Sent to other ranks.
        latency_s: Of a small message.
        overlaps: Whether messages travel while the rank computes; not where the same processor
            carries them.
        crowding: How many ranks share the processor that the first two are about, at least 1.
    """

    multiply_adds_per_s: float
    bytes_per_s: float
    link_bytes_per_s: float
    latency_s: float
    overlaps: bool = True
    crowding: float = 1.0

    def seconds(self, multiply_adds: float, moved_entries: float) -> float:
        """Predicts how long work takes.

        Args:
            multiply_adds: Of its products.
            moved_entries: Read and written.

        Returns:
            Seconds.
        """
        products_s = multiply_adds / self.multiply_adds_per_s
        return self.crowding * (products_s + moved_entries * ENTRY_BYTES / self.bytes_per_s)

    def link_s(self, sent_entries: float, messages: float) -> float:
        """Predicts how long messages take.

        Args:
            sent_entries: By this rank.
            messages: That wait for each other.

        Returns:
            Seconds.
        """
        return sent_entries * ENTRY_BYTES / self.link_bytes_per_s + messages * self.latency_s

    def together(self, work_s: float, link_s: float) -> float:
        """Seconds of work and messages that need not wait for each other."""
        return max(work_s, link_s) if self.overlaps else work_s + link_s


@dataclass(frozen=True)
class Way:
    """One way in which the gradients of a layer meet those of other ranks, for one rank.

    Attributes:
        travels: "gradients", "factors" or "ring", as `Engine.explain` says it; "" for one rank.
        sent_entries: What the rank sends, on the average of all.
        multiply_adds: Of its part of the inner products.
        moved_entries: Read and written for that.
    """

    travels: str
    sent_entries: float
    multiply_adds: float
    moved_entries: float


@dataclass(frozen=True)
class Prediction:
    """A step of one rank.

    Attributes:
        plain_s: Forward and backward of the local batch, with nobody to wait for.
        ddp_s: The same, and the gradients' average over all ranks.
        fused_s: With the Gramian of all objectives, and the weighted gradient.
        sent_bytes: By all ranks together in a fused step.
        ddp_bytes: By all ranks together in a step by DDP.
        travels: How many layers travel which way.
    """

    plain_s: float
    ddp_s: float
    fused_s: float
    sent_bytes: float
    ddp_bytes: float
    travels: Mapping[str, int]

    @property
    def ratio(self) -> float:
        """Fused step ÷ DDP step."""
        return self.fused_s / self.ddp_s


def ways(layer: Layer, samples: int, ranks: int) -> list[Way]:
    """Lists the ways in which the gradients of a layer can be contracted.

    Args:
        layer: The layer.
        samples: Of each rank, b; one objective for each.
        ranks: How many, N.

    Returns:
        What each takes on one rank.
    """
    b, t, n, others = samples, layer.positions, layer.entries, ranks - 1
    m = b * ranks
    pairs = m * m * n / ranks
    rows = 2 * m * n / ranks
    small, large = sorted((layer.count * layer.inputs, layer.count * layer.outputs))
    # The Gramian is symmetric: half of its blocks are enough, and within one batch half of that.
    met = m * b * t * t / 2
    sent = 0.0 if ranks == 1 else ranks // 2 - (0.25 if ranks % 2 == 0 else 0.0)
    ring = Way("ring", b * t * layer.features * sent, met * layer.features, 3 * layer.count * met)
    gradients = Way("gradients", b * n * others / ranks, b * t * n + pairs, 2 * b * n + rows)
    gathered = m * t * (small + large / ranks)
    factors = Way(
        "factors",
        b * t * (small * others + large * others / ranks),
        b * t * n + pairs,
        rows + 2 * gathered,
    )
    return [gradients, factors, ring]


def predict(
    layers: Sequence[Layer],
    samples: int,
    ranks: int,
    machine: Machine,
    alone_s: tuple[float, float] | None = None,
) -> Prediction:
    """Predicts a step by DDP and a fused step of the same batch.

    Left out are the weighting, activations and normalisations, how well a processor runs each
    product, and whatever a fused step saves where rows of gradients are kept.

    Args:
        layers: Of the model.
        samples: Of each rank; one objective for each.
        ranks: How many.
        machine: What each of them does in a second.
        alone_s: What a plain and a fused step of one rank for itself take, where that was measured;
            then only what the other ranks add is predicted.

    Returns:
        What one rank takes, all ranks being alike.
    """
    entries = sum(layer.entries for layer in layers)
    chosen = [_quickest(layer, samples, ranks, machine) for layer in layers]
    work_s = sum(_work_s(way, machine) for way in chosen)
    if alone_s is None:
        plain_s = sum(_plain_s(layer, samples, machine) for layer in layers)
    else:
        plain_s, fused_s = alone_s
        expected_s = sum(
            _work_s(_quickest(layer, samples, 1, machine), machine) for layer in layers
        )
        work_s = max(0.0, work_s + fused_s - plain_s - expected_s)
    if ranks == 1:
        return Prediction(plain_s, plain_s, plain_s + work_s, 0.0, 0.0, {})
    rounds = 2 * ceil(log2(ranks))
    share = 2 * (ranks - 1) / ranks
    sum_s = machine.link_s(share * entries, rounds)
    # A wrapper sends gradients while it computes others; two thirds of a step are backward.
    ddp_s = plain_s / 3 + machine.together(2 * plain_s / 3, sum_s)
    sent = sum(way.sent_entries for way in chosen)
    shipments = ceil(sent * ENTRY_BYTES / SHIPMENT_BYTES)
    exchange_s = machine.link_s(sent, shipments + ranks - 1)
    m = samples * ranks
    gramian = share * m * (m + 1) / 2
    gramian_s = machine.link_s(gramian, rounds)
    headers = (ranks - 1) * (FIRST_HEADER_BYTES + HEADER_BYTES)
    fused_s = plain_s + machine.together(work_s, exchange_s) + gramian_s + sum_s
    fused_s += 2 * machine.latency_s
    travels: dict[str, int] = {}
    for way in chosen:
        travels[way.travels] = travels.get(way.travels, 0) + 1
    return Prediction(
        plain_s,
        ddp_s,
        fused_s,
        ranks * ENTRY_BYTES * (sent + gramian + share * entries) + headers,
        ranks * ENTRY_BYTES * share * entries,
        MappingProxyType(travels),
    )


def _plain_s(layer: Layer, samples: int, machine: Machine) -> float:
    """Forward, input gradient and weight gradient of a layer."""
    rows = samples * layer.positions
    return machine.seconds(3 * rows * layer.entries, 4 * layer.entries + 4 * rows * layer.features)


def _work_s(way: Way, machine: Machine) -> float:
    """What a rank computes for one layer."""
    return machine.seconds(way.multiply_adds, way.moved_entries)


def _quickest(layer: Layer, samples: int, ranks: int, machine: Machine) -> Way:
    """What takes least if nothing else is done meanwhile; what overlaps is not known yet."""

    def apart_s(way: Way) -> float:
        return _work_s(way, machine) + machine.link_s(way.sent_entries, 0)

    return min(ways(layer, samples, ranks), key=apart_s)


def perceptron(width: int, depth: int = 8) -> list[Layer]:
    """Layers of one width, used once by each sample.

    Args:
        width: Features.
        depth: Layers.

    Returns:
        The layers.
    """
    return [Layer(width, width)] * depth


def encoder(width: int, positions: int, depth: int = 12) -> list[Layer]:
    """Encoder layers: attention, and two linear layers with four times the features between them.

    Args:
        width: Features.
        positions: Tokens of a sample.
        depth: Encoder layers.

    Returns:
        The layers that have weights, without norms and biases.
    """
    block = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    return [Layer(i, o, positions) for i, o in block] * depth


#: Of the workloads that `python -m benchmarks distributed` measures, without biases and norms.
LAYERS: Mapping[str, Sequence[Layer]] = MappingProxyType(
    {
        "mlp": [Layer(64, 256), Layer(256, 256), Layer(256, 256), Layer(256, 10)],
        "cifar_cnn": [
            Layer(27, 32, 30 * 30),
            Layer(9, 2, 28 * 28, count=32),
            Layer(9, 1, 12 * 12, count=64),
            Layer(1024, 128),
            Layer(128, 10),
        ],
        "transformer": [*encoder(256, 32, depth=4), Layer(256, 10)],
    }
)

# Gbit/s of Ethernet and of InfiniBand, and what the data sheet of NVIDIA's A100 says of NVLink, all
# to one GPU. Latencies are the usual ones, rounded.
LINKS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "1 Gbit/s": (1.25e8, 5e-5),
        "10 Gbit/s": (1.25e9, 5e-5),
        "100 Gbit/s": (1.25e10, 1e-5),
        "300 GB/s": (3e11, 1e-5),
    }
)
#: One GPU in float32, as its data sheet states it (NVIDIA A100: 19.5 TFLOP/s, 1555 GB/s), rounded.
GPU_MULTIPLY_ADDS_PER_S, GPU_BYTES_PER_S = 1e13, 1.5e12
MODELS: Mapping[str, Sequence[Layer]] = MappingProxyType(
    {
        "perceptron, 8 layers of 256": perceptron(256),
        "perceptron, 8 layers of 4096": perceptron(4096),
        "12 encoder layers of 256, 128 tokens": encoder(256, 128),
        "12 encoder layers of 1024, 128 tokens": encoder(1024, 128),
    }
)
RANKS, OBJECTIVES = (8, 64, 512), (64, 512, 4096)


def gpu(link: str) -> Machine:
    """One of many GPUs.

    Args:
        link: Key of `LINKS`.

    Returns:
        Its rates.
    """
    return Machine(GPU_MULTIPLY_ADDS_PER_S, GPU_BYTES_PER_S, *LINKS[link])


def markdown() -> str:
    """Writes what the model of cost expects of hundreds of ranks.

    Returns:
        A table: fused step ÷ DDP step by model, objectives of all ranks together, ranks and link.
    """
    lines = [
        f"| model | objectives | ranks | {' | '.join(LINKS)} |",
        f"|---|--:|--:|{'--:|' * len(LINKS)}",
    ]
    for name, layers in MODELS.items():
        for m in OBJECTIVES:
            for ranks in RANKS:
                if m < ranks:
                    continue
                ratios = [predict(layers, m // ranks, ranks, gpu(link)).ratio for link in LINKS]
                cells = " | ".join(f"{number(ratio)}×" for ratio in ratios)
                lines.append(f"| {name} | {m:,} | {ranks} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
