"""A step without its numbers: every tensor gets its memory, hardly any is computed.

Memory that is asked for and never touched costs nothing, so a step of any batch size can be gone
through, by the very code that would run it, in a fraction of a second. What is counted is what a
profiler of the allocator counts: storages as they come and go, and the scratch of convolutions.
"""

import contextlib
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from jdviz.profiling.scratch import scratch_bytes

# What is no larger and known is computed, so that code which looks at numbers finds them; whole
# numbers, which are indices mostly, up to the second bound.
SMALL_BYTES = 2**16
INDEX_BYTES = 2**26

_MOST_TOLD = 100_000

_aten = torch.ops.aten
# These read or make shapes only, so that they can run as they are.
_SHAPES_ONLY = frozenset(
    (
        _aten.empty.memory_format,
        _aten.empty_strided.default,
        _aten.empty_like.default,
        _aten.new_empty.default,
        _aten.new_empty_strided.default,
        _aten.resize_.default,
        _aten._unsafe_view.default,
        _aten._reshape_alias.default,
        _aten.lift_fresh.default,
        _aten._fused_sdp_choice.default,
    )
)


@dataclass(frozen=True)
class _New:
    """A tensor to be made."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes(self) -> int:
        """Its entries' bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class _Given:
    """An argument that is returned."""

    place: int


class DryRun(TorchDispatchMode):
    """Within it tensors are allocated and not computed, and what is alive is counted.

    What is large, or depends on what was not computed, holds whatever was in its memory; as a
    truth value it is true and as a number 1. Views are views, and what exists before is not
    counted.

    Attributes:
        live_bytes: Bytes alive of what was made within.
        peak_bytes: Their greatest value since `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: set[int] = set()
        self._blank: set[int] = set()
        self._infer = FakeTensorMode()
        self._fills: list[bool] = []
        self._told: dict[Any, Any] = {}

    def restart(self) -> None:
        """Begins a new peak at what is alive now."""
        self.peak_bytes = self.live_bytes

    def __enter__(self) -> Self:
        # Under deterministic algorithms torch writes to what it allocates.
        settings: Any = torch.utils.deterministic
        self._fills.append(settings.fill_uninitialized_memory)
        settings.fill_uninitialized_memory = False
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        settings: Any = torch.utils.deterministic
        settings.fill_uninitialized_memory = self._fills.pop()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs an operation, or gives it memory for its results only."""
        # A sum in which autograd collects gradients is put off to here: by now what it replaced is
        # freed, as if it had been written over. Without a mode autograd writes over it.
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        if any(tensor.layout is not torch.strided for tensor in tensors):
            return self._counted(func, func(*args, **kwargs))
        for tensor in tensors:
            self._meet(tensor)
        blank = any(self._key(tensor) in self._blank for tensor in tensors)
        if func is _aten._local_scalar_dense.default:
            return _one(args[0].dtype) if blank else func(*args)
        if func is _aten.nonzero.default and blank:
            # What the engines look for in numbers are those that are not finite.
            return self._counted(func, torch.empty(0, args[0].ndim, dtype=torch.int64))
        if not tensors or _only_shapes(func):
            if not tensors and func.namespace == "aten":
                return self._made(func, args, kwargs, blank=False)
            return self._counted(func, func(*args, **kwargs))
        written = _written(func, args, kwargs)
        if written is None:
            return self._made(func, args, kwargs, blank=blank)
        if not blank and _size(tensors) <= _bound([tensor.dtype for tensor in tensors]):
            return self._counted(func, func(*args, **kwargs))
        self._blank.update(self._key(tensor) for tensor in _tensors(written))
        return written[0] if len(func._schema.returns) == 1 else tuple(written)

    def _made(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, blank: bool
    ) -> Any:
        """Results of an operation that makes new ones."""
        given = _tensors((args, kwargs))
        if not blank and torch.Tag.dynamic_output_shape in func.tags:
            return self._counted(func, func(*args, **kwargs))
        shapes = self._shapes(func, args, kwargs, given)
        needs = [one for one in _leaves((shapes,)) if isinstance(one, _New)]
        size = _size(given) + sum(one.bytes for one in needs)
        if not blank and size <= _bound(
            [*(one.dtype for one in given), *(one.dtype for one in needs)]
        ):
            return self._counted(func, func(*args, **kwargs))

        def allocated(value: Any) -> Any:
            if isinstance(value, _Given):
                return given[value.place]
            if not isinstance(value, _New):
                return value
            made = torch.empty_strided(
                value.shape, value.stride, dtype=value.dtype, device=value.device
            )
            self._blank.add(self._key(made))
            return made

        before = self.live_bytes
        made = self._counted(func, _mapped(allocated, shapes))
        scratch = scratch_bytes(func, args)
        if scratch:
            self.peak_bytes = max(self.peak_bytes, before + scratch)
        return made

    def _shapes(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: Sequence[Tensor]
    ) -> Any:
        """What an operation would return, with what is to be made in place of tensors."""
        key = (func, _described(args), tuple((name, _described(kwargs[name])) for name in kwargs))
        try:
            return self._told[key]
        except (KeyError, TypeError):  # not told yet, or with arguments that have no hash
            pass
        places: dict[int, int] = {}
        stand_ins: dict[int, Tensor] = {}
        for place, tensor in enumerate(given):
            if id(tensor) not in stand_ins:
                with self._infer:
                    made = torch.empty_strided(
                        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
                    )
                stand_ins[id(tensor)] = made
                places[id(made)] = place

        def replaced(leaf: Any) -> Any:
            return stand_ins.get(id(leaf), leaf)

        with self._infer:
            own = {name: _mapped(replaced, value) for name, value in kwargs.items()}
            results = func(*_mapped(replaced, args), **own)

        def told(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if id(value) in places:
                return _Given(places[id(value)])
            return _New(tuple(value.shape), value.stride(), value.dtype, value.device)

        shapes = _mapped(told, results)
        if len(self._told) < _MOST_TOLD:
            with contextlib.suppress(TypeError):
                self._told[key] = shapes
        return shapes

    def _counted(self, func: Any, results: Any) -> Any:
        """Counts the new memory among some results."""
        for tensor in _tensors(results):
            if tensor.layout is not torch.strided:
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._known:
                size = storage.nbytes()
                self._known.add(key)
                weakref.finalize(storage, self._freed, key, size).atexit = False
                self.live_bytes += size
        if func is not _aten.add.Tensor or not _within_backward():
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return results

    def _meet(self, tensor: Tensor) -> None:
        """Notes memory that was there before."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            weakref.finalize(storage, self._freed, storage._cdata, 0).atexit = False

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._blank.discard(key)
        self.live_bytes -= size

    @staticmethod
    def _key(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata


def dry_peak(dry: DryRun, run: Callable[[], object]) -> int:
    """Goes through a step.

    Args:
        dry: The mode in which its model and batch were built.
        run: The step.

    Returns:
        The greatest number of bytes alive that the step made.
    """
    before = dry.live_bytes
    dry.restart()
    with dry:
        run()
    return dry.peak_bytes - before


def _one(dtype: torch.dtype) -> bool | int | float:
    """What stands for a number that nobody computed."""
    return True if dtype is torch.bool else 1.0 if dtype.is_floating_point else 1


def _leaves(values: Any) -> list[Any]:
    """What is in tuples, lists and dictionaries; torch's own way takes ten times as long."""
    found: list[Any] = []
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, tuple | list | dict):
            found += _leaves(value)
        else:
            found.append(value)
    return found


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """The same with other leaves."""
    if isinstance(value, tuple | list):
        return type(value)([_mapped(change, one) for one in value])
    return change(value)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in _leaves((values,)) if isinstance(value, Tensor)]


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _bound(dtypes: Sequence[torch.dtype]) -> int:
    """Up to which size an operation on these is computed."""
    whole = not any(dtype.is_floating_point or dtype.is_complex for dtype in dtypes)
    return INDEX_BYTES if whole else SMALL_BYTES


def _described(leaf: Any) -> Any:
    """What of an argument decides the shapes of results; 1, 1.0 and True are three things."""
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device
    if isinstance(leaf, tuple | list):
        return tuple([_described(one) for one in leaf])
    return type(leaf), leaf


@cache
def _only_shapes(func: Any) -> bool:
    """Whether an operation needs no numbers, and computes none."""
    return func.is_view or func in _SHAPES_ONLY or torch.Tag.inplace_view in func.tags


@cache
def _places_written(func: Any) -> tuple[tuple[int, str], ...]:
    """The arguments that an operation writes to, by place and name."""
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
    """The arguments that an operation writes to, None where it writes to none."""
    found = [
        kwargs[name] if name in kwargs else args[place]
        for place, name in _places_written(func)
        if name in kwargs or place < len(args)
    ]
    return found or None


def _within_backward() -> bool:
    """Whether autograd is running a node of a backward pass in this thread."""
    return torch._C._current_autograd_node() is not None
