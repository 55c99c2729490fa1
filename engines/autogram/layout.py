"""Finds by numbers where the samples are among the rows of an output gradient, at every call.

For graphs that `structure.py` cannot prove. If the rows of sample s are reached by the losses of
sample s only, then scaling those losses by r_s scales the rows by r_s. Factors that are signed
powers of two commute with every rounding, so the two passes must agree bit by bit, and what
mixes the samples by more than a row's own rounding is seen. A row without a gradient proves
nothing about other data, and need not: nothing found here is used for another call.
"""

import math
from collections.abc import Collection, Mapping
from enum import Enum

import torch
from torch import Tensor

_PROJECTIONS = 2
# Atomic additions on an accelerator reorder sums from pass to pass, which costs some roundings of
# the dtype they are made in; on a CPU every pass adds in the same order.
_REORDERING_EPS = 4
_SEED = 20240623
# Gradients times two to this power, up or down, stay far from the limits of the dtype.
_HALF_EXPONENT, _SINGLE_EXPONENT, _DOUBLE_EXPONENT = 4, 30, 100


class Layout(Enum):
    """Where row p of N = b·t rows belongs."""

    OUTER = "sample p // t"
    INNER = "sample p % b"

    def split(self, rows: Tensor, samples: int) -> Tensor:
        """Bring the samples of a tensor to the front.

        Args:
            rows: Shape [N, …], not empty.
            samples: b, a divisor of N.

        Returns:
            A view, shape [b, t, …].
        """
        if self is Layout.OUTER:
            return rows.unflatten(0, (samples, -1))
        return rows.unflatten(0, (-1, samples)).transpose(0, 1)


class Search:
    """Compares coded passes with the ordinary one, node by node.

    Args:
        rows: Number of rows N of every node looked at, a multiple of b.
        samples: b > 1.
        dtypes: Dtypes that the gradients pass through.
    """

    def __init__(
        self, rows: Mapping[int, int], samples: int, dtypes: Collection[torch.dtype]
    ) -> None:
        self._samples = samples
        self._open = {index: set(Layout) for index in rows}
        self._rows = rows
        self._coded: dict[int, list[Tensor]] = {index: [] for index in rows}
        self._codes = sample_codes(samples, code_exponent(dtypes))

    @property
    def nodes(self) -> tuple[int, ...]:
        """Nodes looked at."""
        return tuple(self._rows)

    @property
    def codes(self) -> Tensor:
        """Factors of the samples' losses in every coded pass, shape [passes, b]."""
        return self._codes

    def record(self, index: int, gradient: Tensor | None) -> None:
        """Take an output gradient of a coded pass; passes come in order.

        Args:
            index: The node.
            gradient: Its output gradient, None for zeros.
        """
        self._coded[index].append(self._print(index, gradient))

    def compare(self, index: int, gradient: Tensor | None) -> None:
        """Take the output gradient of the ordinary pass that belongs to the recorded ones.

        Args:
            index: The node.
            gradient: Its output gradient, None for zeros.
        """
        if gradient is not None and gradient.numel() == 0:
            return
        plain = self._print(index, gradient)
        coded, self._coded[index] = self._coded[index], []
        self._open[index] = {
            layout
            for layout in self._open[index]
            if len(coded) == len(self._codes)
            and all(
                self._agree(layout, plain, print_, code)
                for print_, code in zip(coded, self._codes, strict=True)
            )
        }

    def layout(self, index: int) -> Layout | None:
        """Tell where the samples of a node are as far as the passes show.

        Args:
            index: The node.

        Returns:
            Their layout, None if they are mixed. Where both layouts fit, the rows in which they
            differ are zero in this call.
        """
        return min(self._open[index], key=lambda layout: layout is Layout.INNER, default=None)

    def _print(self, index: int, gradient: Tensor | None) -> Tensor:
        """Project the rows of an output gradient on random directions, shape [N, 2]."""
        count = self._rows[index]
        if gradient is None or gradient.numel() == 0:
            return torch.zeros(count, _PROJECTIONS)
        flat = gradient.reshape(count, -1)
        if flat.dtype in (torch.float16, torch.bfloat16):
            flat = flat.float()
        generator = torch.Generator().manual_seed(_SEED + index)
        directions = torch.randn(flat.shape[1], _PROJECTIONS, generator=generator)
        return flat @ directions.to(flat)

    def _agree(self, layout: Layout, plain: Tensor, coded: Tensor, code: Tensor) -> bool:
        """Tell whether the rows of every sample were scaled by its factor, and by nothing else."""
        unit = layout.split(plain, self._samples)
        # Divided instead of multiplied, a sample with a small factor is as visible as the others.
        factor = code.to(coded).view(-1, 1, 1)
        found = layout.split(coded, self._samples) / factor
        if unit.device != found.device:
            return False
        if unit.device.type == "cpu":
            return torch.equal(found, unit.to(found))
        slack = _REORDERING_EPS * torch.finfo(unit.dtype).eps
        size = unit.abs().amax((1, 2), keepdim=True)
        return bool(((found - unit).abs() <= slack * size).all())


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

    One pass tells 2·(2·exponent + 1) samples apart. Fewer samples get exponents as far apart as
    there is room, all positive: then no combination of their gradients with small whole
    coefficients, such as a difference of neighbours, cancels under the factors and without.

    Args:
        samples: b.
        exponent: Largest exponent; the smallest is its negative.

    Returns:
        Factors, shape [passes, b]: any two columns differ in at least one pass.
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
    passes = math.ceil(math.log(samples, base))
    passes += base**passes < samples
    digits = [order // base**p % base for p in range(passes)]
    shuffles = [torch.randperm(base, generator=generator) for _ in range(passes)]
    return torch.stack([values[s[d]] for s, d in zip(shuffles, digits, strict=True)])
