"""Inner products of sums of outer products, in the cheaper of two forms."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engines.autogram.rules.base import WORKSPACE_BYTES, Price, add_outer, blocks

# One element of the t×t similarities costs as much as about this many multiply-adds: it is
# written by a product, read, multiplied and summed.
_ELEMENT_COST = 4
# From this share of a common row on it is taken out: beyond a factor of ten, lost digits show.
_MOST_COMMON = 0.9


@dataclass(frozen=True)
class Contraction:
    """Which way inner products are found, and at what predicted price.

    Attributes:
        form: "per-sample" builds gradients block by block; "input-output" never does.
        multiply_adds: Of the chosen form.
        alternative: Of the other form.
    """

    form: Literal["per-sample", "input-output"]
    multiply_adds: int
    alternative: int


def choose_contraction(left: torch.Size, right: torch.Size) -> Contraction:
    """Choose by predicted multiply-adds; both forms run in a bounded workspace.

    Args:
        left: Shape [k or 1, b, t, o].
        right: Shape [k or 1, b, t, i].

    Returns:
        The choice. With one position the input-output form always wins.
    """
    samples, positions, wide_left = left[1:]
    wide_right = right[3]
    losses = max(left[0], right[0])
    objectives = losses * samples
    size = wide_left * wide_right
    per_sample = objectives * positions * size + objectives**2 * size
    pairs = samples**2 * positions**2
    # Above the diagonal only, where the block pairs a loss with itself.
    input_output = pairs * (
        left[0] ** 2 * wide_left + right[0] ** 2 * wide_right + losses**2 * _ELEMENT_COST
    )
    input_output = (input_output + 1) // 2
    if positions == 1 or input_output < per_sample:
        return Contraction("input-output", input_output, per_sample)
    return Contraction("per-sample", per_sample, input_output)


def contraction_price(left: torch.Size, right: torch.Size, itemsize: int) -> Price:
    """Price of the contraction that would be chosen.

    Args:
        left: Shape [k or 1, b, t, o].
        right: Shape [k or 1, b, t, i].
        itemsize: Bytes of an element.

    Returns:
        The price.
    """
    chosen = choose_contraction(left, right)
    samples, positions = left[1:3]
    objectives = max(left[0], right[0]) * samples
    other = "per-sample" if chosen.form == "input-output" else "input-output"
    if chosen.form == "per-sample":
        block = objectives * left[3] * right[3]
    else:
        block = 2 * (samples * positions) ** 2
    return Price(
        chosen.form,
        chosen.multiply_adds,
        min(itemsize * block, WORKSPACE_BYTES),
        ((other, chosen.alternative),),
    )


def add_products(total: Tensor, left: Tensor, right: Tensor, *, ones: bool) -> None:
    """Add ⟨A_sᵀB_s, A_rᵀB_r⟩ for all objectives s and r.

    Args:
        total: Gramian, shape [m, m] with m = k·b, changed in place.
        left: A, shape [k or 1, b, t, o]; 1 means the same for all losses of a sample.
        right: B, shape [k or 1, b, t, i].
        ones: Whether B has a further column of ones (the bias beside a weight).

    Source: arXiv 1510.01799; the choice between forms as in arXiv 2205.10683, by time.
    Cost: see `choose_contraction`.
    """
    if left.shape[2] == 1:
        _scaled(_single_position, total, left, right, ones)
    elif choose_contraction(left.shape, right.shape).form == "input-output":
        _scaled(_input_output, total, left, right, ones)
    else:
        _per_sample(total, left, right, ones)


def _scaled(
    contract: Callable[[Tensor, Tensor, Tensor, bool], None],
    total: Tensor,
    left: Tensor,
    right: Tensor,
    ones: bool,
) -> None:
    """Contract factors whose squares could leave the range of the dtype as multiples in range.

    Both forms multiply each factor with itself before they multiply the two, so a tiny D beside a
    huge X would give zero times infinity. Powers of two change no digit.
    """
    down, across = _exponent(left), _exponent(right)
    if down == across == 0:
        contract(total, left, right, ones)
        return
    if ones:
        add_outer(total, _over_objectives(total, left.sum(2)))
    part = torch.zeros_like(total)
    contract(part, left * 2.0**-down, right * 2.0**-across, False)
    # In two steps, each of them in range.
    total.add_(part.mul_(2.0 ** (down + across)), alpha=2.0 ** (down + across))


def _exponent(x: Tensor) -> int:
    """The power of two near a factor's largest entry, 0 where its squares stay in range anyway."""
    if x.numel() == 0:
        return 0
    low, high = torch.aminmax(x)
    largest = max(-float(low), float(high))
    exponent = math.frexp(largest)[1] if math.isfinite(largest) and largest else 0
    # Two factors squared, with room for sums.
    return exponent if abs(exponent) > math.log2(torch.finfo(x.dtype).max) / 5 else 0


def _single_position(total: Tensor, left: Tensor, right: Tensor, ones: bool) -> None:
    """(AAᵀ) ∘ (BBᵀ) for one position: two small products, whatever the width."""
    samples = left.shape[1]
    losses = len(total) // samples
    a, b = left.flatten(0, 2), right.flatten(0, 2)
    similar_left, similar_right = a @ a.T, b @ b.T
    if ones:
        similar_right += 1
    if similar_left.shape == similar_right.shape == total.shape:
        total.addcmul_(similar_left, similar_right)
        return
    grid = total.view(losses, samples, losses, samples)
    grid.addcmul_(
        similar_left.view(len(left), samples, len(left), samples),
        similar_right.view(len(right), samples, len(right), samples),
    )


def _per_sample(total: Tensor, left: Tensor, right: Tensor, ones: bool) -> None:
    """Build gradients for some rows of the parameter at a time; J Jᵀ is a sum over them."""
    samples, _, rows = left.shape[1:]
    columns = right.shape[3]
    losses = len(total) // samples
    for block in blocks(rows, len(total) * columns * left.element_size()):
        part = left[..., block].transpose(2, 3)
        built = left.new_empty(losses, samples, part.shape[2], columns)
        for loss in range(losses):
            torch.bmm(part[loss % len(part)], right[loss % len(right)], out=built[loss])
        add_outer(total, built.reshape(len(total), -1))
    if ones:
        add_outer(total, _over_objectives(total, left.sum(2)))


def _input_output(total: Tensor, left: Tensor, right: Tensor, ones: bool) -> None:
    """Σ_pq (A_s A_rᵀ)[p,q]·(B_s B_rᵀ)[p,q], in blocks of samples, above the diagonal."""
    if ones:
        add_outer(total, _over_objectives(total, left.sum(2)))
    left, right = left.contiguous(), right.contiguous()
    if _common_share(left) > _common_share(right):
        left, right = right, left
    if _common_share(right) > _MOST_COMMON:
        right = _without_common_row(total, left, right)
    samples, positions = left.shape[1:3]
    losses = len(total) // samples
    bytes_each = 2 * positions * samples * positions * left.element_size()
    for rows in blocks(samples, bytes_each):
        for first in range(losses):
            for second in range(first, losses):
                # Within one loss the block left of the diagonal is the mirror of one done.
                columns = slice(rows.start if first == second else 0, samples)
                similar = _similarities(left, first, second, rows, columns)
                similar *= _similarities(right, first, second, rows, columns)
                products = similar.view(
                    rows.stop - rows.start, positions, samples - columns.start, positions
                )
                _add_mirrored(
                    total, products.sum((1, 3)), first * samples, second * samples, rows, columns
                )


def _common_share(x: Tensor) -> float:
    """How much of the squares of all rows is that of their mean row, between 0 and 1."""
    rows = x.flatten(0, 2)
    return float(rows.mean(0).square().sum() / rows.square().sum(1).mean().clamp_min(1e-30))


def _without_common_row(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Take the mean row c out of B, and add what it contributes to the inner products.

    With B = B' + 1cᵀ, the gradient is AᵀB' + u cᵀ with u = Σ_p A_p. Where positions share a large
    row and u is nearly zero, as below a normalisation, the products of rows cancel and with them
    all digits; u is summed before anything is squared.

    Args:
        total: Gramian to add to in place, shape [m, m].
        left: A, shape [k or 1, b, t, o].
        right: B, shape [k or 1, b, t, i].

    Returns:
        B', shape [k or 1, b, t, i]; its inner products are not added.

    Cost: b·t·(i + o) + m²·o multiply-adds, and a copy of B.
    """
    common = right.mean((0, 1, 2))
    rest = right - common
    u = _over_objectives(total, left.sum(2))
    w = _over_objectives(total, (left * (rest @ common).unsqueeze(-1)).sum(2))
    total.addmm_(w, u.T).addmm_(u, w.T).addmm_(u, u.T, alpha=float(common.square().sum()))
    return rest


def _over_objectives(total: Tensor, rows: Tensor) -> Tensor:
    """One row per objective from one per sample, shape [k or 1, b, o] to [m, o]."""
    losses = len(total) // rows.shape[1]
    return rows.expand(losses, -1, -1).reshape(len(total), -1)


def _similarities(x: Tensor, first: int, second: int, rows: slice, columns: slice) -> Tensor:
    """Dot products of the positions of some samples with those of others."""
    a = x[first % len(x), rows].flatten(0, 1)
    b = x[second % len(x), columns].flatten(0, 1)
    return a @ b.T


def _add_mirrored(
    total: Tensor, block: Tensor, down: int, across: int, rows: slice, columns: slice
) -> None:
    """Add a block and, where it lies above the diagonal, its mirror image."""
    r = slice(down + rows.start, down + rows.stop)
    total[r, across + columns.start : across + columns.stop] += block
    # The square on the diagonal is its own mirror image.
    beyond = rows.stop - rows.start if down == across else 0
    c = slice(across + columns.start + beyond, across + columns.stop)
    total[c, r] += block[:, beyond:].T
