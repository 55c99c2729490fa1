"""Memory that an operation takes while it runs, beside its results.

Only convolutions take much. oneDNN copies their operands into blocks of channels and back, and
where a group has few channels it unfolds the input. Read off the allocator's events of torch 2.13
on a processor with 512-bit vectors, one thread; others take less or a little more.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_BLOCK_CHANNELS = 16
_LEAST_CHANNELS = 8


def scratch_bytes(func: Any, args: tuple[Any, ...]) -> int:
    """Bytes above what was there before, at the fullest moment of an operation, results included.

    Args:
        func: The operation, as torch's dispatcher gives it.
        args: Its arguments.

    Returns:
        Bytes; 0 where the results are all that counts.
    """
    need = _NEEDS.get(func)
    return need(*args) if need is not None else 0


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> int:
    stride, padding, dilation, transposed, _, groups = rest[:6]
    if transposed or x.dtype is not torch.float32:
        return 0
    spatial = [
        (size + 2 * pad - dil * (kernel - 1) - 1) // step + 1
        for size, pad, dil, kernel, step in zip(
            x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    result = 4 * x.shape[0] * weight.shape[0] * math.prod(spatial)
    copied_x = _copied(x, groups) if _in_blocks(x, weight, groups) else 0
    copied_y = _padded(result, weight.shape[0], groups)
    return copied_x + copied_y + max(_bytes(weight), result)


def _backward(d: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    stride, transposed, groups, wanted = rest[1], rest[4], rest[6], rest[7]
    if transposed or x.dtype is not torch.float32:
        return 0
    blocks = _in_blocks(x, weight, groups)
    copied_d = _copied(d, groups) if blocks or groups == 1 else 0
    kernel = _bytes(weight)
    peak = held = 0
    if wanted[0]:
        copied = _bytes(x) if max(stride) > 1 else _copied(x, groups)
        # A kernel with a stride writes plainly, and its result is copied once more.
        times = 2 if max(stride) > 1 else 1
        peak = copied + max(copied_d + kernel, times * _bytes(x))
        held = _bytes(x)
    if wanted[1]:
        expanded = 0 if weight.is_contiguous() else kernel
        copied = copied_d + (_copied(x, groups) if blocks else 0)
        if groups > 1 and not blocks:
            positions = math.prod(d.shape[2:]) * math.prod(weight.shape[1:])
            copied = 4 * kernel + 4 * positions
        peak = max(peak, held + expanded + kernel + max(copied, kernel))
    return peak


def _in_blocks(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether oneDNN copies inputs into blocks: enough channels in a group, or one each."""
    inputs, outputs = x.shape[1] // groups, weight.shape[0] // groups
    depthwise = groups > 1 and inputs == outputs == 1
    return depthwise or min(inputs, outputs) >= _LEAST_CHANNELS


def _copied(tensor: Tensor, groups: int) -> int:
    return _padded(_bytes(tensor), tensor.shape[1], groups)


def _padded(size: int, channels: int, groups: int) -> int:
    """Bytes with the channels filled up to whole blocks."""
    if groups > 1:
        return size
    return size // channels * (-(-channels // _BLOCK_CHANNELS) * _BLOCK_CHANNELS)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


_NEEDS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.convolution.default: _forward,
    torch.ops.aten.convolution_backward.default: _backward,
}
