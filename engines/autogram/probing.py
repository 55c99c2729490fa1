"""Asks an operation by numbers where the samples go, for what `passage.py` cannot tell.

The backward map of one operation is linear. It keeps the samples apart if and only if scaling the
output gradient's rows by one factor per sample scales the rows of the result by the same factors,
and one random gradient decides that for every gradient: what the losses send there today, zeros of
a branch that does not act yet among it, is no matter. Factors are signed powers of two, which
commute with every rounding, so the two results must agree bit by bit.
"""

import math
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_metadata, saves_behind_hooks
from engines.autogram.passage import PICKING, node_names
from engines.autogram.places import Owners, Place, Unknown
from engines.failures import concerns_graph

_SEED = 20240623
# What a write to a part of a tensor leaves.
COPY_SLICES = "torch::autograd::CopySlices"
# Gradients times two to this power, up or down, stay far from the limits of the dtype.
_HALF_EXPONENT, _SINGLE_EXPONENT, _DOUBLE_EXPONENT = 4, 30, 100
# Atomic additions on an accelerator reorder sums from call to call, which costs some roundings; on
# a CPU both calls add in the same order.
_REORDERING_EPS = 4
# Operations that save no tensor and show all their settings. Others that save none may hide some,
# as the strides of `as_strided` and the sizes of constants in `cat`; and what is saved may decide
# what goes where, as indices, zeros and the coordinates of `grid_sample` do.
TRANSPARENT = frozenset(
    node_names(
        """Col2Im0 Cumsum0 Diagonal0 FftC2C0 FftC2R0 FftR2C0 Flip0 Im2Col0 PixelShuffle0
        PixelUnshuffle0 ReflectionPad1D0 ReflectionPad3D0 Repeat0 ReplicationPad1D0
        ReplicationPad3D0 Roll0 Tril0 Triu0 Unfold0 UpsampleBicubic2D0 UpsampleBilinear2D0
        UpsampleLinear1D0 UpsampleNearest1D0 UpsampleNearest2D0 UpsampleNearest3D0
        UpsampleTrilinear3D0"""
    )
)
# Forgotten all at once; a model has a few dozen.
_MOST_KEPT = 4096

# In place of a sample: several samples, or one whose factor was met to rounding only.
_SEVERAL, _ROUNDED = -2, -3
# What roundings of one operation can add up to, in units of the dtype's precision.
_ROUNDING_EPS = 1024

Found = dict[int, Place | Unknown | None]


class Proofs:
    """What was found by numbers and holds for every call with an operation of the same shapes.

    Kept only where nothing but shapes and settings decides what goes where, and every row of the
    result was reached. A proof concerns one operation, so keeping it keeps nothing of a model.
    """

    def __init__(self) -> None:
        self._kept: dict[object, Found] = {}

    def find(self, node: Node, places: Mapping[int, Place], slots: Collection[int]) -> Found | None:
        """Find where the samples are in the gradients that an operation sends on.

        Args:
            node: The operation.
            places: Of its output gradients, by number of the result; others are zero.
            slots: Which inputs to look at.

        Returns:
            For every slot the place, None where samples are not kept apart, or that nothing is
            certain. None instead of it all if the operation cannot be asked: Python code, whose
            backward need not be linear; saved tensors behind hooks; results that are sparse.

        Raises:
            RuntimeError: Saved tensors were freed.

        Cost: the backward of this operation twice (more beyond 122 samples in float32, 402 in
            float64), at every call; for operations that save no tensor, at the first call with
            these shapes and settings.
        """
        if not callable(node) or saves_behind_hooks(node):
            return None
        transparent = node.name() in TRANSPARENT
        key = _signature(node, places, slots) if transparent else None
        if key in self._kept:
            return self._kept[key]
        profiler: object = sys.getprofile()
        if node.name() == COPY_SLICES and profiler is not None and not callable(profiler):
            return None  # one in C, which could not be put back
        probe = _Probe(node, places)
        if not probe.possible:
            return None
        try:
            found, reached = probe.run(slots)
        except RuntimeError as error:
            if concerns_graph(error):
                raise
            return None  # it takes no dense gradient, as the results of sparse operations do
        if probe.ran_python:
            return None
        if transparent and reached:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[key] = found
        return found


@dataclass(frozen=True)
class _Coding:
    """Factors of every sample in every coded call, shape [calls, b]."""

    codes: NDArray[np.float64]

    def owners(self, ratios: NDArray[np.float64]) -> Owners:
        """Read samples off ratios, shape [calls, rows]."""
        table = {tuple(column): sample for sample, column in enumerate(self.codes.T.tolist())}
        return np.array(
            [table.get(tuple(row), _SEVERAL) for row in ratios.T.tolist()], dtype=np.int64
        )


class _Probe:
    """One operation and random output gradients for it."""

    def __init__(self, node: Node, places: Mapping[int, Place]) -> None:
        self._node, self._places = node, places
        self.ran_python = False
        self._metadata = output_metadata(node)
        kinds = {self._metadata[output].dtype for output in places}
        below = [output_metadata(child)[n] for child, n in node.next_functions if child is not None]
        self.possible = not any(
            m.is_nested_tensor or m.is_cpp_nested_tensor
            for m in [*below, *(self._metadata[output] for output in places)]
        )
        # Owners of nobody are -1.
        samples = max(1, *(1 + int(place.owners.max()) for place in places.values()))
        kinds |= {m.dtype for m in below}
        self._coding = _Coding(sample_codes(samples, code_exponent(kinds)).numpy())

    def run(self, slots: Collection[int]) -> tuple[Found, bool]:
        """Places by slot, and whether every row was reached."""
        plain = self._gradients(None)
        coded = [self._gradients(code) for code in self._coding.codes]
        found: Found = {}
        complete = True
        for slot in slots:
            gradient = plain[slot]
            if gradient is None or gradient.numel() == 0:
                found[slot], complete = None, False
                continue
            found[slot] = self._locate(gradient, [gradients[slot] for gradients in coded])
            place = found[slot]
            complete &= isinstance(place, Place) and bool((place.owners >= 0).all())
        return found, complete

    def _gradients(self, code: NDArray[np.float64] | None) -> list[Tensor | None]:
        """What the operation sends to its inputs for random gradients, coded or plain."""
        generator = torch.Generator().manual_seed(_SEED)
        cotangents: list[Tensor | None] = []
        for output, known in enumerate(self._metadata):
            place = self._places.get(output)
            if place is None:
                cotangents.append(None)
                continue
            shape = tuple(int(size) for size in known.shape)
            # Away from zero: every entry tells.
            random = torch.rand(shape, generator=generator) + 0.5
            random *= torch.randint(2, shape, generator=generator) * 2 - 1
            if known.dtype.is_complex:
                random = torch.complex(random, random.flip(tuple(range(len(shape)))) + 0.25)
            factor = _factors(place, code, len(shape))
            cotangent = random.to(known.dtype) * torch.from_numpy(factor).to(known.dtype)
            cotangents.append(cotangent.to(known.device))
        call = attribute(self._node, "__call__")
        with torch.no_grad():
            if self._node.name() == COPY_SLICES:
                sent, ran_python = _watched(call, cotangents)
                self.ran_python |= ran_python
            else:
                sent = call(*cotangents)
        listed = sent if isinstance(sent, tuple) else (sent,)
        inputs = self._node.next_functions
        return [_as_input(*pair) for pair in zip(listed, inputs, strict=True)]

    def _locate(self, plain: Tensor, coded: list[Tensor | None]) -> Place | Unknown | None:
        """Find a dimension along which every index was scaled by one sample's factor."""
        present = [gradient for gradient in coded if gradient is not None]
        if plain.layout != torch.strided:
            return Unknown(f"lies below {self._node.name()}, which sends sparse gradients")
        if len(present) < len(coded):
            return None
        wholes = {int(p.owners[0]) if p.axis is None else -1 for p in self._places.values()}
        if len(wholes) == 1 and -1 not in wholes and self._node.name() not in PICKING:
            return Place.whole(*wholes)
        if plain.ndim == 0:
            plain, present = plain[None], [gradient[None] for gradient in present]
        preferred = next(iter(self._places.values())).axis or 0
        rounded = False
        for axis in sorted(range(plain.ndim), key=lambda axis: (axis != preferred, axis)):
            owners = self._owners(plain, present, axis)
            if (owners >= -1).all():
                single = len(set(owners.tolist())) == 1 and owners[0] >= 0
                return Place.whole(int(owners[0])) if single else Place(axis, owners)
            rounded |= bool((owners != _SEVERAL).all())
        name = self._node.name()
        return (
            Unknown(f"lies below {name}, which keeps samples apart to rounding")
            if rounded
            else None
        )

    def _owners(self, plain: Tensor, coded: list[Tensor], axis: int) -> Owners:
        """Whose every index of a dimension is: a sample's, nobody's, or several samples'."""
        unit = _by_row(plain, axis)
        place = unit.abs().argmax(1, keepdim=True)
        largest = unit.gather(1, place)
        silent = (largest == 0).squeeze(1)
        eps = torch.finfo(plain.dtype).eps
        slack = 0.0 if plain.device.type == "cpu" else _REORDERING_EPS * eps
        exact = torch.ones(len(unit), dtype=torch.bool)
        nearly = exact.clone()
        ratios = []
        for gradient in coded:
            rows = _by_row(gradient, axis)
            ratio = rows.gather(1, place) / torch.where(largest == 0, 1, largest)
            ratio = ratio.sign() * ratio.abs().log2().round().exp2()
            off = ((rows - unit * ratio).abs() / (largest * ratio).abs()).nan_to_num(0.0).amax(1)
            exact &= off <= slack
            nearly &= off <= _ROUNDING_EPS * eps
            ratios.append(ratio.squeeze(1).numpy())
        owners = self._coding.owners(np.stack(ratios))
        owners[(owners >= 0) & ~exact.numpy() & nearly.numpy()] = _ROUNDED
        owners[~nearly.numpy()] = _SEVERAL
        owners[silent.numpy() & exact.numpy()] = -1
        return owners


def _watched(call: Callable[..., Any], arguments: list[Tensor | None]) -> tuple[Any, bool]:
    """Call a node, and tell whether Python code ran inside it.

    What a write to a part of a tensor (`CopySlices`) has inside is not visible otherwise: a custom
    function in Python, or saved tensors behind hooks.
    """
    frames = 0

    def count(_: FrameType, event: str, __: Any) -> None:
        nonlocal frames
        frames += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        sent = call(*arguments)
    finally:
        sys.setprofile(before)
    return sent, frames > 0


def _as_input(gradient: Tensor | None, edge: tuple[Node | None, int]) -> Tensor | None:
    """Sum and cast what a formula gives to what the input is, as autograd does after it."""
    child, output = edge
    if gradient is None or child is None or gradient.layout != torch.strided:
        return gradient
    known = output_metadata(child)[output]
    shape = tuple(int(size) for size in known.shape)
    if gradient.is_complex() and not known.dtype.is_complex:
        gradient = gradient.real
    return gradient.sum_to_size(shape) if gradient.shape != shape else gradient


def _by_row(tensor: Tensor, axis: int) -> Tensor:
    """Indices of a dimension as rows, real and wide, shape [size, entries]."""
    rows = tensor.detach().movedim(axis, 0)
    if rows.is_complex():
        rows = torch.view_as_real(rows.resolve_conj())
    return rows.reshape(tensor.shape[axis], -1).double().cpu()


def _factors(place: Place, code: NDArray[np.float64] | None, ndim: int) -> NDArray[np.float64]:
    """Factors along a place's dimension, zero where no loss reaches, ready to broadcast."""
    values = np.ones_like(place.owners, dtype=np.float64) if code is None else code[place.owners]
    values = np.where(place.owners >= 0, values, 0.0)
    if place.axis is None:
        return values.reshape((1,) * ndim)
    return values.reshape([-1 if axis == place.axis else 1 for axis in range(ndim)])


def _signature(node: Node, places: Mapping[int, Place], slots: Collection[int]) -> object:
    """All that the backward map of an operation without saved tensors depends on."""
    settings = [
        (name, repr(attribute(node, name))) for name in dir(node) if name.startswith("_saved_")
    ]
    return (
        node.name(),
        tuple((o, p.axis, p.owners.tobytes()) for o, p in sorted(places.items())),
        tuple(slots),
        tuple((str(m.shape), m.dtype, str(m.device)) for m in output_metadata(node)),
        tuple(
            None if child is None else str(output_metadata(child)[n].shape)
            for child, n in node.next_functions
        ),
        tuple(settings),
    )


def code_exponent(dtypes: Collection[torch.dtype]) -> int:
    """Choose how far factors may go.

    Args:
        dtypes: Dtypes that the gradients pass through.

    Returns:
        Largest exponent; the smallest is its negative.
    """
    if torch.float16 in dtypes:
        return _HALF_EXPONENT
    if {torch.float64, torch.complex128}.issuperset(dtypes):
        return _DOUBLE_EXPONENT
    return _SINGLE_EXPONENT


def sample_codes(samples: int, exponent: int) -> Tensor:
    """Give every sample its own sequence of signed powers of two.

    One call tells 2·(2·exponent + 1) samples apart. Fewer samples get exponents as far apart as
    there is room, all positive: then no combination of their gradients with small whole
    coefficients, such as a difference of neighbours, cancels under the factors and without.

    Args:
        samples: b.
        exponent: Largest exponent; the smallest is its negative.

    Returns:
        Factors, shape [calls, b]: any two columns differ in at least one call.
    """
    generator = torch.Generator().manual_seed(_SEED)
    # In an order that follows no pattern the samples may have.
    order = torch.randperm(samples, generator=generator)
    powers = torch.arange(-exponent, exponent + 1, dtype=torch.float64).exp2()
    if samples <= len(powers):
        spread = torch.linspace(0, len(powers) - 1, samples, dtype=torch.float64).round()
        return powers[spread.long()][order].unsqueeze(0)
    values = torch.cat([powers, -powers])
    base = len(values)
    calls = math.ceil(math.log(samples, base))
    calls += base**calls < samples
    digits = [order // base**p % base for p in range(calls)]
    shuffles = [torch.randperm(base, generator=generator) for _ in range(calls)]
    return torch.stack([values[s[d]] for s, d in zip(shuffles, digits, strict=True)])
