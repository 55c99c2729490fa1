"""How the samples of an output gradient pass back through an operation: what is certain, as data.

Where the samples of a node's output gradient D lie along axis a (index p of N = b·t belongs to
sample p // t), an entry here says along which axis of an input they lie in the gradient that the
node sends there, or that it cannot tell. The claim is about the backward map alone, D to the
input's gradient: block i of one depends on block i of the other and on nothing else of it. It may
use saved values however it likes, so what the forward pass mixed is no matter here.

An operation that is not listed is not an error: its samples are then looked for by numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.autograd.graph import Node

from engines.autogram.graph import attribute


@dataclass(frozen=True)
class Step:
    """One edge on the way back: a node's output gradient and the gradient it sends to one input.

    Attributes:
        node: The operation.
        slot: Which input.
        axis: Where the samples are in the output gradient.
        above: Shape of the output gradient.
        below: Shape of the input.
        samples: b.
    """

    node: Node
    slot: int
    axis: int
    above: tuple[int, ...]
    below: tuple[int, ...]
    samples: int


Passage = Callable[[Step], int | None]


def follow(step: Step) -> int | None:
    """Find the axis of the samples below an operation.

    Args:
        step: The edge, samples along `step.axis` of the output gradient.

    Returns:
        Their axis in the input's gradient, None where that is not certain.
    """
    passage = PASSAGES.get(step.node.name())
    axis = None if passage is None else passage(step)
    if axis is None or not 0 <= axis < len(step.below) or step.below[axis] % step.samples:
        return None
    return axis


def _dims(step: Step, name: str, ndim: int) -> tuple[int, ...]:
    """Read saved dimensions, which torch hands out as unsigned numbers, and count them from 0."""
    saved = attribute(step.node, f"_saved_{name}")
    if saved is None:  # all of them
        return ()
    listed = saved if isinstance(saved, tuple | list) else (saved,)
    return tuple((int(d) - 2**64 if int(d) >= 2**63 else int(d)) % max(ndim, 1) for d in listed)


def _entrywise(step: Step) -> int | None:
    """Entry by entry; a broadcast input receives sums, over the samples too if they are new."""
    axis = step.axis - (len(step.above) - len(step.below))
    return axis if axis >= 0 and step.below[axis] == step.above[step.axis] else None


def _unreduced(step: Step) -> int | None:
    """A loss entry by entry, if its reduction is "none"."""
    return _entrywise(step) if attribute(step.node, "_saved_reduction") == 0 else None


def _negative_log_likelihood(step: Step) -> int | None:
    """Rows of log-probabilities to one loss each, if the reduction is "none"."""
    unreduced = attribute(step.node, "_saved_reduction") == 0
    return 0 if unreduced and step.axis == 0 and len(step.below) > 1 else None


def _product(step: Step, first: int = 0) -> int | None:
    """Matrix product: rows of D concern rows of the left factor, columns those of the right."""
    rows = len(step.above) - 2
    if step.slot == first:
        return step.axis if step.axis <= rows else None
    return step.axis if step.axis != rows else None


def _product_added(step: Step) -> int | None:
    """Matrix product added to a matrix, which may be broadcast."""
    return _entrywise(step) if step.slot == 0 else _product(step, first=1)


def _matrix_vector(step: Step) -> int | None:
    """Matrix times vector: rows concern rows."""
    return 0 if step.slot == 0 else None


def _per_sample(step: Step) -> int | None:
    """The first dimension is a batch for the first input; parameters collect all of it."""
    return 0 if step.slot == 0 and step.axis == 0 else None


def _attention(step: Step) -> int | None:
    """The first dimension is a batch for queries, keys and values."""
    same = step.below[0] == step.above[0]
    return 0 if step.slot < 3 and step.axis == 0 and same else None


def _spatial(width: int) -> Passage:
    """Operations on the last dimensions, channel by channel."""
    return lambda step: step.axis if step.axis < len(step.above) - width else None


def _padding(step: Step) -> int | None:
    """Padding of the last dimensions, two numbers each."""
    padded = len(attribute(step.node, "_saved_pad")) // 2
    return step.axis if step.axis < len(step.above) - padded else None


def _layer_norm(step: Step) -> int | None:
    """Normalisation over trailing dimensions."""
    trailing = len(attribute(step.node, "_saved_normalized_shape"))
    return step.axis if step.slot == 0 and step.axis < len(step.above) - trailing else None


def _batch_norm(step: Step) -> int | None:
    """Normalisation with stored statistics; with those of the batch nothing is separate."""
    fixed = step.slot == 0 and not attribute(step.node, "_saved_training")
    return step.axis if fixed else None


def _along(name: str, *, stacked: bool = False) -> Passage:
    """Operations along one dimension, which must not be that of the samples."""

    def passage(step: Step) -> int | None:
        (dim,) = _dims(step, name, len(step.above))
        same = len(step.below) == len(step.above) - stacked
        if dim == step.axis or not same:
            return None
        axis = step.axis - (stacked and step.axis > dim)
        return axis if step.below[axis] == step.above[step.axis] else None

    return passage


def _reduction(step: Step) -> int | None:
    """A sum, a mean or an extremum over some dimensions: the gradient spreads along them."""
    ndim = len(step.below)
    dims = _dims(step, "dim", ndim)
    if not dims:
        return None
    if attribute(step.node, "_saved_keepdim"):
        return None if step.axis in dims else step.axis
    return [d for d in range(ndim) if d not in dims][step.axis]


def _selection(step: Step) -> int | None:
    """One index of a dimension."""
    (dim,) = _dims(step, "dim", len(step.below))
    return step.axis + (step.axis >= dim)


def _reshape(step: Step) -> int | None:
    """The same entries in the same order: samples must be outermost in some dimension again."""
    period = math.prod(step.above[step.axis :])
    for axis in range(len(step.below)):
        inner = math.prod(step.below[axis:])
        if inner == period and step.below[axis] % step.samples == 0:
            return axis
    return None


def _transposition(step: Step) -> int | None:
    """Two dimensions exchanged."""
    first = _dims(step, "dim0", len(step.above))[0]
    second = _dims(step, "dim1", len(step.above))[0]
    return {first: second, second: first}.get(step.axis, step.axis)


def _permutation(step: Step) -> int | None:
    """Dimensions in another order."""
    return _dims(step, "dims", len(step.above))[step.axis]


def _matrix_transposition(step: Step) -> int | None:
    """Rows and columns exchanged."""
    return 1 - step.axis if len(step.above) == 2 else step.axis


# By name of the node, without its ending "Backward" and number.
_ENTRYWISE = """
Abs0 Add0 Clamp0 Clamp1 ClampMax0 ClampMin0 Clone0 Cos0 Div0 Elu0 Elu1 Erf0 Exp0 Expand0
Expm10 Gelu0 Hardsigmoid0 Hardswish0 Hardtanh0 LeakyRelu0 LeakyRelu1 Log0 Log100 Log1P0 Log20
LogSigmoid0 MaskedFill0 MaskedFill1 Maximum0 Minimum0 Mish0 Mul0 NativeDropout0 Neg0 Pow0
Pow1 PreluKernel0 Reciprocal0 Relu0 Rsqrt0 Rsub1 Sigmoid0 Silu0 Sin0 Softplus0 Sqrt0 Sub0
Tanh0 Threshold0 ToCopy0 Where0
"""
_UNREDUCED = "BinaryCrossEntropy0 BinaryCrossEntropyWithLogits0 HuberLoss0 MseLoss0 SmoothL1Loss0"
_RESHAPES = "ReshapeAlias0 Squeeze0 Squeeze1 Squeeze2 UnsafeView0 Unsqueeze0 View0"
_POOLS_2D = """AdaptiveAvgPool2D0 AdaptiveMaxPool2D0 AvgPool2D0 MaxPool2DWithIndices0
ReflectionPad2D0 ReplicationPad2D0"""
_POOLS_3D = "AdaptiveAvgPool3D0 AdaptiveMaxPool3D0 AvgPool3D0 MaxPool3DWithIndices0"
_REDUCTIONS = "Amax0 Amin0 LinalgVectorNorm0 Logsumexp0 Max0 Mean1 Min0 Sum1"

_FAMILIES: tuple[tuple[str, Passage], ...] = (
    (_ENTRYWISE, _entrywise),
    (_UNREDUCED, _unreduced),
    ("NllLoss0 NllLoss2D0", _negative_log_likelihood),
    ("Mm0 Bmm0", _product),
    ("Addmm0 Baddbmm0", _product_added),
    ("Mv0", _matrix_vector),
    ("Convolution0 NativeGroupNorm0", _per_sample),
    ("ScaledDotProductFlashAttentionForCpu0", _attention),
    (_POOLS_2D, _spatial(2)),
    (_POOLS_3D, _spatial(3)),
    ("ConstantPadNd0", _padding),
    ("NativeLayerNorm0", _layer_norm),
    ("NativeBatchNorm0", _batch_norm),
    ("LogSoftmax0 Softmax0 Slice0 Gather0 Cat0", _along("dim")),
    ("Stack0", _along("dim", stacked=True)),
    (_REDUCTIONS, _reduction),
    ("Select0", _selection),
    (_RESHAPES, _reshape),
    ("Transpose0", _transposition),
    ("Permute0", _permutation),
    ("T0", _matrix_transposition),
)

PASSAGES: dict[str, Passage] = {
    f"{name[:-1]}Backward{name[-1]}": passage
    for names, passage in _FAMILIES
    for name in names.split()
}
