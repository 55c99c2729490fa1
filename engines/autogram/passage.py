"""How the samples of an output gradient pass back through an operation: what is certain, as data.

Where the samples of a node's output gradient D lie along a dimension, an entry here says where they
lie in the gradient that the node sends to an input, or that this input has no samples and receives
a sum over them, or that the operation mixes them, or that it cannot tell. The claim is about the
backward map alone, D to the input's gradient: the rows of a sample there depend on its rows here
and on nothing else of D. It may use saved values however it likes, so what the forward pass mixed
is no matter here.

An operation that is not listed, or cannot tell, is not an error: `probing.py` asks it by numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute
from engines.autogram.places import Owners, Place


def node_names(names: str) -> list[str]:
    """Write out names of autograd's nodes.

    Args:
        names: Names without "Backward" before their number, as in "Add0 Mm0".

    Returns:
        The full names.
    """
    return [f"{name[:-1]}Backward{name[-1]}" for name in names.split()]


class Verdict(Enum):
    """What an entry says when there is no place."""

    SUMMED = "the input has no samples and receives a sum over them"
    PERHAPS = "the same, unless numbers say that it has samples"
    MIXED = "the operation mixes samples"


@dataclass(frozen=True)
class Step:
    """One edge on the way back: a node's output gradient and the gradient it sends to one input.

    Attributes:
        node: The operation.
        slot: Which input.
        output: Which of the node's results the gradient belongs to.
        axis: Where the samples are in the output gradient.
        owners: Whose they are, shape [size of the axis].
        above: Shape of the output gradient.
        below: Shape of the input.
    """

    node: Node
    slot: int
    output: int
    axis: int
    owners: Owners
    above: tuple[int, ...]
    below: tuple[int, ...]


BATCH_NORMS = frozenset(
    {"NativeBatchNormBackward0", "CudnnBatchNormBackward0", "MiopenBatchNormBackward0"}
)
_LEFT_FACTORS = {
    "AddmmBackward0": "_saved_mat1",
    "BaddbmmBackward0": "_saved_batch1",
    "BmmBackward0": "_saved_self",
    "MmBackward0": "_saved_self",
}

# A dimension stands for the same owners along it.
Found = int | Place | Verdict | None
Passage = Callable[[Step], Found]


def follow(step: Step) -> Place | Verdict | None:
    """Find the place of the samples below an operation.

    Args:
        step: The edge, samples along `step.axis` of the output gradient.

    Returns:
        Their place in the input's gradient, the verdict that there is none, or None: not certain.
    """
    passage = PASSAGES.get(step.node.name())
    found = None if passage is None else passage(step)
    if not isinstance(found, int):
        return found
    if 0 <= found < len(step.below) and step.below[found] == len(step.owners):
        return Place(found, step.owners)
    return None


def follow_whole(node: Node, output: int, sample: int, below: tuple[int, ...]) -> Place:
    """Find the place below an operation whose output gradient belongs to one sample.

    Args:
        node: The operation.
        output: Which of its results the gradient belongs to.
        sample: The sample.
        below: Shape of the input.

    Returns:
        The part of the input that the operation reads where it picks a part, else all of it.
    """
    picks: dict[str, Callable[[], int | slice]] = {
        "SelectBackward0": lambda: _signed(attribute(node, "_saved_index")),
        "UnbindBackward0": lambda: output,
        "SliceBackward0": lambda: _saved_slice(node),
    }
    pick = picks.get(node.name())
    if pick is None:
        return Place.whole(sample)
    (dim,) = _dims_of(node, "dim", len(below))
    owners = np.full(below[dim], -1)
    owners[pick()] = sample
    return Place(dim, owners)


def _signed(number: int) -> int:
    """Undo that torch hands out negative numbers as unsigned ones."""
    return int(number) - 2**64 if int(number) >= 2**63 else int(number)


def _saved_slice(node: Node) -> slice:
    """The part of its dimension that a slice takes."""
    start, end, step = (attribute(node, f"_saved_{name}") for name in ("start", "end", "step"))
    first, last = (None if bound is None else _signed(bound) for bound in (start, end))
    return slice(first, last, int(step))


def _dims_of(node: Node, name: str, ndim: int) -> tuple[int, ...]:
    """Read saved dimensions and count them from 0."""
    saved = attribute(node, f"_saved_{name}")
    if saved is None:  # all of them
        return ()
    listed = saved if isinstance(saved, tuple | list) else (saved,)
    return tuple(_signed(d) % max(ndim, 1) for d in listed)


def _entrywise(step: Step) -> Found:
    """Entry by entry; a broadcast input receives sums, over the samples too if they are new."""
    axis = step.axis - (len(step.above) - len(step.below))
    if axis < 0 or step.below[axis] == 1 < step.above[step.axis]:
        return Verdict.SUMMED
    return axis


def _unreduced(step: Step) -> Found:
    """A loss entry by entry, if its reduction is "none"."""
    return _entrywise(step) if attribute(step.node, "_saved_reduction") == 0 else None


def _negative_log_likelihood(step: Step) -> Found:
    """Rows of log-probabilities to one loss each, if the reduction is "none"."""
    unreduced = attribute(step.node, "_saved_reduction") == 0
    return 0 if unreduced and step.axis == 0 and len(step.below) > 1 else None


def _product(step: Step, first: int = 0) -> Found:
    """Matrix product: rows of D concern rows of the left factor, columns those of the right."""
    rows = len(step.above) - 2
    if step.slot == first:
        return step.axis if step.axis <= rows else Verdict.SUMMED
    if step.axis != rows:
        return step.axis
    # A constant matrix with zeros may be made of blocks, one for each sample.
    if looks_at_numbers(step):
        factor = attribute(step.node, _LEFT_FACTORS[step.node.name()])
        dense = isinstance(factor, Tensor) and factor.layout == torch.strided
        if not dense or not bool((factor != 0).all()):
            return Verdict.PERHAPS
    return Verdict.SUMMED


def looks_at_numbers(step: Step) -> bool:
    """Tell whether a verdict depends on what a saved tensor holds.

    Args:
        step: The edge.

    Returns:
        Whether it is below the right factor of a product whose left factor is a constant.
    """
    if step.node.name() not in _LEFT_FACTORS:
        return False
    first = 1 if step.node.name() in ("AddmmBackward0", "BaddbmmBackward0") else 0
    below_right = step.slot == first + 1 and step.axis == len(step.above) - 2
    return below_right and step.node.next_functions[first][0] is None and step.above[-2] > 1


def _product_added(step: Step) -> Found:
    """Matrix product added to a matrix, which may be broadcast."""
    return _entrywise(step) if step.slot == 0 else _product(step, first=1)


def _matrix_vector(step: Step) -> Found:
    """Matrix times vector: rows concern rows."""
    return 0 if step.slot == 0 else Verdict.SUMMED


def _per_sample(step: Step) -> Found:
    """The first dimension is a batch for the first input; parameters collect all of it."""
    if step.slot > 0:
        # In the channels, samples may have weights of their own.
        return Verdict.SUMMED if step.axis != 1 else Verdict.PERHAPS
    return 0 if step.axis == 0 else None


def _three_factors(step: Step) -> Found:
    """A bilinear map: both inputs row by row, its weight collects all rows."""
    if step.slot == 1:
        return Verdict.SUMMED
    return step.axis if step.axis < len(step.above) - 1 else None


def _attention(step: Step) -> Found:
    """The first dimension is a batch for queries, keys and values."""
    return 0 if step.slot < 3 and step.axis == 0 else None


def _spatial(width: int) -> Passage:
    """Operations on the last dimensions, channel by channel."""
    return lambda step: step.axis if step.axis < len(step.above) - width else None


def _padding(step: Step) -> Found:
    """Padding of the last dimensions, two numbers each."""
    padded = len(attribute(step.node, "_saved_pad")) // 2
    return step.axis if step.axis < len(step.above) - padded else None


def _layer_norm(step: Step) -> Found:
    """Normalisation over trailing dimensions."""
    leading = len(step.above) - len(attribute(step.node, "_saved_normalized_shape"))
    if step.slot > 0:
        return Verdict.SUMMED if step.axis < leading else step.axis - leading
    return step.axis if step.axis < leading else Verdict.MIXED


def uses_batch_statistics(node: Node) -> bool:
    """Tell whether an operation normalises by the statistics of its batch.

    Args:
        node: Any operation.

    Returns:
        Whether it is a batch normalisation in training mode, or one that does not say.
    """
    return node.name() in BATCH_NORMS and bool(getattr(node, "_saved_training", True))


def _batch_norm(step: Step) -> Found:
    """Normalisation channel by channel, over all else unless the statistics are stored ones."""
    if step.slot > 0:
        return 0 if step.axis == 1 else Verdict.SUMMED
    # Instance normalisation is this node with the samples folded into the channels.
    return Verdict.MIXED if uses_batch_statistics(step.node) and step.axis != 1 else step.axis


def _lookup(step: Step) -> Found:
    """Rows of a table, which collects what all indices say."""
    return Verdict.PERHAPS if step.slot == 0 else None


def _recurrent(step: Step) -> Found:
    """A recurrent layer, time first: samples keep to themselves, weights collect all of them."""
    if 1 <= step.slot <= 4:
        return Verdict.SUMMED
    # The output has time first, the last states have not; so have the inputs they come from.
    if step.axis != (1 if step.output == 0 else 0) or step.slot not in (0, 5, 6):
        return None
    return 1 if step.slot == 0 else 0


def _passed_through(step: Step) -> Found:
    """Every result is the input of its number: what DistributedDataParallel puts behind a model."""
    if step.output == step.slot:
        return step.axis
    return Place(0, np.full(step.below[0], -1)) if step.below else None


def _normalised(step: Step) -> Found:
    """Softmax along one dimension."""
    (dim,) = _dims_of(step.node, "dim", len(step.above))
    return Verdict.MIXED if dim == step.axis else step.axis


def _along(*, stacked: bool = False) -> Passage:
    """Operations along one dimension, which must not be that of the samples."""

    def passage(step: Step) -> Found:
        (dim,) = _dims_of(step.node, "dim", len(step.above))
        if dim == step.axis:
            return None
        return step.axis - (stacked and step.axis > dim)

    return passage


def _slice(step: Step) -> Found:
    """Part of one dimension."""
    (dim,) = _dims_of(step.node, "dim", len(step.above))
    if dim != step.axis:
        return step.axis
    owners = np.full(step.below[dim], -1)
    owners[_saved_slice(step.node)] = step.owners
    return Place(dim, owners)


def _reduction(step: Step) -> Found:
    """A sum, a mean or an extremum over some dimensions: the gradient spreads along them."""
    ndim = len(step.below)
    dims = _dims_of(step.node, "dim", ndim)
    if not dims:
        return None
    if attribute(step.node, "_saved_keepdim"):
        return None if step.axis in dims else step.axis
    return [d for d in range(ndim) if d not in dims][step.axis]


def _selection(step: Step) -> Found:
    """One index of a dimension."""
    (dim,) = _dims_of(step.node, "dim", len(step.below))
    return step.axis + (step.axis >= dim)


def _reshape(step: Step) -> Found:
    """The same entries in the same order: the samples must lie along one dimension again."""
    outer, size = math.prod(step.above[: step.axis]), step.above[step.axis]
    inner = math.prod(step.above[step.axis + 1 :])
    start, stop = _covering(step.below, outer, outer * size)
    if start is None or stop is None:
        return None
    span = step.below[start:stop]
    before = outer // math.prod(step.below[:start])
    grid = np.broadcast_to(step.owners[:, None], (before, size, math.prod(span) // before // size))
    if math.prod(step.below[stop:]) * grid.shape[2] != inner:
        return None
    grid = grid.reshape(span)
    for dim in range(len(span)):
        rows = np.moveaxis(grid, dim, 0).reshape(span[dim], -1)
        if (rows == rows[:, :1]).all():
            return Place(start + dim, rows[:, 0].copy())
    return None


def _covering(shape: tuple[int, ...], low: int, high: int) -> tuple[int | None, int | None]:
    """The fewest dimensions of a shape whose index steps span those from `low` to `high`."""
    start = None
    product = 1
    for dim, size in enumerate(shape):
        if product <= low and low % product == 0:
            start = dim
        product *= size
        if product >= high and product % high == 0:
            return start, dim + 1
    return start, None


def _transposition(step: Step) -> Found:
    """Two dimensions exchanged."""
    first = _dims_of(step.node, "dim0", len(step.above))[0]
    second = _dims_of(step.node, "dim1", len(step.above))[0]
    return {first: second, second: first}.get(step.axis, step.axis)


def _permutation(step: Step) -> Found:
    """Dimensions in another order."""
    return _dims_of(step.node, "dims", len(step.above))[step.axis]


def _matrix_transposition(step: Step) -> Found:
    """Rows and columns exchanged."""
    return 1 - step.axis if len(step.above) == 2 else step.axis


# By name of the node, without its ending "Backward" and number.
_ENTRYWISE = """
Abs0 Acos0 Acosh0 Add0 Addcdiv0 Addcmul0 Asin0 Asinh0 Atan0 Atan20 Atanh0 Celu0 Clamp0 Clamp1
ClampMax0 ClampMin0 Clone0 Cos0 Cosh0 Div0 Elu0 Elu1 Erf0 Erfc0 Exp0 Exp20 Expand0 Expm10 Gelu0
Hardsigmoid0 Hardswish0 Hardtanh0 Hypot0 LeakyRelu0 LeakyRelu1 Lerp0 Lerp1 Log0 Log100 Log1P0
Log20 LogSigmoid0 MaskedFill0 MaskedFill1 Maximum0 Minimum0 Mish0 Mul0 Mul1 NativeDropout0 Neg0 Pow0
Pow1 PreluKernel0 Reciprocal0 Relu0 Rsqrt0 Rsub1 Sigmoid0 Silu0 Sin0 Sinh0 Softplus0 Sqrt0 Sub0
Tan0 Tanh0 Threshold0 ToCopy0 Where0
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
    ("NativeBatchNorm0 CudnnBatchNorm0 MiopenBatchNorm0", _batch_norm),
    ("Embedding0 EmbeddingBag0", _lookup),
    ("Trilinear0", _three_factors),
    ("MkldnnRnnLayer0", _recurrent),
    ("LogSoftmax0 SafeSoftmax0 Softmax0", _normalised),
    ("Slice0", _slice),
    ("Gather0 Cat0 Split0 SplitWithSizes0 UnsafeSplit0", _along()),
    ("Stack0", _along(stacked=True)),
    (_REDUCTIONS, _reduction),
    ("Select0 Unbind0", _selection),
    (_RESHAPES, _reshape),
    ("Transpose0", _transposition),
    ("Permute0", _permutation),
    ("T0", _matrix_transposition),
)

PASSAGES: dict[str, Passage] = {
    name: passage for names, passage in _FAMILIES for name in node_names(names)
} | {"_DDPSinkBackward": _passed_through}
_READING_MORE = """
BinaryCrossEntropy0 BinaryCrossEntropyWithLogits0 Embedding0 EmbeddingBag0 Gather0 MaskedFill0
MaskedFill1 NativeDropout0 NllLoss0 NllLoss2D0 Where0
"""
# Operations that read nothing but their inputs: no mask, no index, no target.
PURE = frozenset(PASSAGES) - frozenset([*node_names(_READING_MORE), "_DDPSinkBackward"])
# Operations whose results are each one index of a dimension.
ONE_OF_A_DIMENSION = frozenset(node_names("Select0 Unbind0"))
# Operations whose results are parts of a tensor, by indices or sizes that the node saved.
PICKING = frozenset(
    node_names(
        """Gather0 Index0 IndexSelect0 MaskedSelect0 Split0 SplitWithSizes0 UnsafeSplit0
        UnsafeSplitWithSizes0"""
    )
)
