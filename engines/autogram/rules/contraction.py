"""Inner products of sums of outer products, in the forms that the planner chooses from."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from engines.autogram.rules.base import add_outer
from engines.autogram.rules.options import Option
from engines.autogram.rules.workspace import BLOCK_BYTES, Workspace

# Between this power of two and its inverse, sums of squares and products of two of them stay in the
# range of float32 with all digits; float64 has eight times the room.
_SAFE_EXPONENT = 48
# Above the diagonal, this many blocks of rows leave five eighths of all products.
_TRIANGLE_BLOCKS = 4


def add_products(
    total: Tensor,
    left: Tensor,
    right: Tensor,
    contraction: str,
    workspace: Workspace,
    *,
    ones: bool,
) -> None:
    """Add ⟨A_sᵀB_s, A_rᵀB_r⟩ for all objectives s and r.

    Args:
        total: Gramian, shape [m, m] with m = k·b, changed in place.
        left: A, shape [k or 1, b, t, o]; 1 means the same for all losses of a sample.
        right: B, shape [k or 1, b, t, i].
        contraction: "input-output" never builds a gradient, "per-sample" builds them block by
            block.
        workspace: Where blocks are.
        ones: Whether B has a further column of ones (the bias beside a weight).

    Source: arXiv 1510.01799.
    Cost: see `product_options`.
    """
    if contraction == "per-sample":
        _per_sample(total, left, right, ones, workspace)
    elif left.shape[2] > 1:
        _scaled(_input_output, total, left, right, ones, workspace)
    elif not (reads_back(left) and _single_position(total, left, right, ones)):
        _scaled(_any_position, total, left, right, ones, workspace)


def product_options(left: torch.Size, right: torch.Size, itemsize: int) -> tuple[Option, ...]:
    """Price the forms of a contraction.

    Args:
        left: Shape of A, [k or 1, b, t, o].
        right: Shape of B, [k or 1, b, t, i].
        itemsize: Bytes of an element.

    Returns:
        The forms that there are, the same for every size.
    """
    samples, positions, wide_left = left[1:]
    wide_right = right[3]
    losses = max(left[0], right[0])
    m, size = losses * samples, wide_left * wide_right
    rows = m * size
    pairs = samples**2 * positions**2
    share = 1.0
    if positions > 1 and losses == 1:
        blocks = min(samples, _TRIANGLE_BLOCKS)
        share = (blocks + 1) / (2 * blocks)
    similar = left[0] ** 2 + right[0] ** 2 + losses**2
    operands = samples * positions * (left[0] * wide_left + right[0] * wide_right)
    if positions == 1:
        block = (left[0] ** 2 + right[0] ** 2) * pairs
    else:
        block = 2 * samples * positions**2 + operands
    cuts = max(1, rows * itemsize // BLOCK_BYTES)
    weighted = samples * positions * size + left[0] * samples * positions * wide_left
    return (
        Option(
            contraction="input-output",
            multiply_adds=int(
                share * pairs * (left[0] ** 2 * wide_left + right[0] ** 2 * wide_right)
            ),
            moved_bytes=int(itemsize * (2 * share * pairs * similar + 3 * operands)),
            calls=6 if positions == 1 else 8 + 5 * losses**2 * min(samples, _TRIANGLE_BLOCKS),
            workspace_bytes=itemsize * block,
            rows_bytes=0,
            gradient_multiply_adds=weighted,
            gradient_moved_bytes=itemsize * (2 * operands + size),
        ),
        Option(
            contraction="per-sample",
            multiply_adds=m * positions * size + m**2 * size,
            moved_bytes=itemsize * (2 * rows + operands),
            calls=4 + cuts * (losses + 3),
            workspace_bytes=itemsize * m * min(wide_left, wide_right),
            rows_bytes=0,
            gradient_multiply_adds=weighted,
            gradient_moved_bytes=itemsize * (2 * operands + size),
        ),
        Option(
            contraction="rows",
            multiply_adds=m * positions * size + m**2 * size,
            moved_bytes=itemsize * (3 * rows + operands),
            calls=4 + losses,
            workspace_bytes=itemsize * rows,
            rows_bytes=max(1, itemsize * rows),
            gradient_multiply_adds=rows,
            gradient_moved_bytes=itemsize * (rows + size),
        ),
    )


def product_rows(left: Tensor, right: Tensor) -> Tensor:
    """Build the gradients A_sᵀB_s.

    Args:
        left: A, shape [k or 1, b, t, o].
        right: B, shape [k or 1, b, t, i].

    Returns:
        Shape [m, o, i].

    Cost: m·t·o·i multiply-adds.
    """
    losses = max(len(left), len(right))
    samples = left.shape[1]
    built = left.new_empty(losses, samples, left.shape[3], right.shape[3])
    for loss in range(losses):
        torch.bmm(left[loss % len(left)].mT, right[loss % len(right)], out=built[loss])
    return built.flatten(0, 1)


def write_products(target: Tensor, left: Tensor, right: Tensor, *, add: bool) -> bool:
    """Build the gradients A_sᵀB_s where they belong, if the target takes them as they are.

    Args:
        target: Where they go, shape [b, o·i].
        left: A, shape [1, b, t, o].
        right: B, shape [1, b, t, i].
        add: Whether they are added to what is there.

    Returns:
        Whether it was done: not for another dtype or device.
    """
    if target.dtype != left.dtype or target.device != left.device:
        return False
    a, b = left[0].mT, right[0]
    rows = target.unflatten(1, (a.shape[1], b.shape[2]))
    if add:
        rows.baddbmm_(a, b)
    elif a.shape[2] == 1:
        # No sum: a product entry by entry is written once and as fast as memory takes it. Measured,
        # 64 samples, 256×256: 0.14 ms against 0.27.
        torch.mul(a, b, out=rows)
    else:
        torch.bmm(a, b, out=rows)
    return True


def weighted_sum(weights: Tensor, left: Tensor) -> Tensor:
    """Weight output gradients and add up those of the losses of each sample.

    Args:
        weights: One for each objective, shape [m].
        left: Shape [k, b, …], or [1, b, …] for one that is the same for all losses.

    Returns:
        Shape [b, …].
    """
    samples = left.shape[1]
    if len(left) == 1 and len(weights) == samples:
        return left[0] * weights.view(-1, *(1,) * (left.dim() - 2))
    grid = weights.view(-1, samples)
    if len(left) == 1:
        scale = grid[0] if len(grid) == 1 else grid.sum(0)
        return left[0] * scale.view(-1, *(1,) * (left.dim() - 2))
    return torch.einsum("kb,kb...->b...", grid, left)


def weighted_positions(weights: Tensor, left: Tensor) -> Tensor:
    """The same, positions of all samples one below the other.

    Args:
        weights: One for each objective, shape [m].
        left: Shape [k, b, t, o].

    Returns:
        Shape [b·t, o].
    """
    if left.shape[2] == 1 and len(left) == 1:
        return left.view(len(weights), -1) * weights.unsqueeze(1)
    return weighted_sum(weights, left).flatten(0, 1)


Contract = Callable[[Tensor, Tensor, Tensor, bool, Workspace], None]


def _scaled(
    contract: Contract,
    total: Tensor,
    left: Tensor,
    right: Tensor,
    ones: bool,
    workspace: Workspace,
) -> None:
    """Contract factors whose squares could leave the range of the dtype as multiples in range.

    Both forms multiply each factor with itself before they multiply the two, so a tiny D beside a
    huge X would give zero times infinity. Powers of two change no digit.
    """
    if left.numel() == 0 or right.numel() == 0:
        return
    if reads_back(left) and in_range(left) and in_range(right):
        contract(total, left, right, ones, workspace)
        return
    # On an accelerator a look at the numbers would stop the queue, so all are scaled.
    scales = [power_for(x) for x in (left, right)]
    if ones:
        add_outer(total, over_objectives(total, left.sum(2)))
    part = torch.zeros_like(total)
    contract(part, left * scales[0], right * scales[1], False, workspace)
    # In two steps, each of them in range.
    back = (scales[0] * scales[1]).reciprocal()
    total.add_(part.mul_(back).mul_(back))


def reads_back(tensor: Tensor) -> bool:
    """Tell whether looking at numbers costs nothing, as no queue of a device has to be emptied.

    Args:
        tensor: Any.

    Returns:
        Whether it is on a CPU.
    """
    return tensor.device.type == "cpu"


def in_range(x: Tensor) -> bool:
    """Tell whether the sum of all squares is far from the limits of the dtype.

    Args:
        x: A factor.

    Returns:
        Whether it is; NaN is taken for in.
    """
    flat = x.flatten()
    squares, limit = float(torch.dot(flat, flat)), _limit(x.dtype)
    return not (squares < 1 / limit or squares > limit)


def _limit(dtype: torch.dtype) -> float:
    """The largest sum of squares that leaves room for a product of two."""
    return float(2.0 ** (8 * _SAFE_EXPONENT if dtype == torch.float64 else _SAFE_EXPONENT))


def power_for(x: Tensor) -> Tensor:
    """Find the power of two that brings a factor's largest entry near 1, without looking at it.

    Args:
        x: A factor.

    Returns:
        A scalar.
    """
    largest = torch.linalg.vector_norm(x, math.inf)
    exponent = torch.frexp(largest).exponent.clamp(-120, 120)
    usable = torch.isfinite(largest) & (largest > 0)
    return torch.ldexp(torch.ones_like(largest), torch.where(usable, -exponent, 0))


def _single_position(total: Tensor, left: Tensor, right: Tensor, ones: bool) -> bool:
    """(AAᵀ) ∘ (BBᵀ) for one position: two small products, whatever the width.

    Returns:
        Whether it was done: not if squares may have left the range of the dtype.
    """
    a, b = left.flatten(0, 2), right.flatten(0, 2)
    similar_left, similar_right = a @ a.T, b @ b.T
    limit = _limit(a.dtype)
    if not 1 / limit <= float(similar_left.trace()) <= limit:
        return False
    if not 1 / limit <= float(similar_right.trace()) <= limit:
        return False
    _add_hadamard(total, left, right, similar_left, similar_right, ones)
    return True


def _any_position(
    total: Tensor, left: Tensor, right: Tensor, ones: bool, workspace: Workspace
) -> None:
    """The same for factors that are in range."""
    a, b = left.flatten(0, 2), right.flatten(0, 2)
    _add_hadamard(total, left, right, a @ a.T, b @ b.T, ones)


def _add_hadamard(
    total: Tensor, left: Tensor, right: Tensor, a: Tensor, b: Tensor, ones: bool
) -> None:
    """Add the entrywise product of similarities, the smaller one repeated for all losses."""
    if ones:
        b += 1
    if a.shape == b.shape == total.shape:
        total.addcmul_(a, b)
        return
    samples = left.shape[1]
    losses = len(total) // samples
    grid = total.view(losses, samples, losses, samples)
    grid.addcmul_(
        a.view(len(left), samples, len(left), samples),
        b.view(len(right), samples, len(right), samples),
    )


def _per_sample(
    total: Tensor, left: Tensor, right: Tensor, ones: bool, workspace: Workspace
) -> None:
    """Build gradients for some rows of the parameter at a time; J Jᵀ is a sum over them."""
    if ones:
        add_outer(total, over_objectives(total, left.sum(2)))
    if left.shape[3] < right.shape[3]:
        left, right = right, left  # so that a row of a block is short
    samples, _, rows = left.shape[1:]
    columns = right.shape[3]
    losses = len(total) // samples
    for block in workspace.cut(rows, len(total) * columns * left.element_size()):
        height = block.stop - block.start
        (built,) = workspace.take(left, (losses, samples, height, columns))
        for loss in range(losses):
            part = left[loss % len(left), ..., block].mT
            torch.bmm(part, right[loss % len(right)], out=built[loss])
        add_outer(total, built.view(len(total), -1))


def _input_output(
    total: Tensor, left: Tensor, right: Tensor, ones: bool, workspace: Workspace
) -> None:
    """Σ_pq (A_s A_rᵀ)[p,q]·(B_s B_rᵀ)[p,q], in blocks of samples, above the diagonal."""
    if ones:
        add_outer(total, over_objectives(total, left.sum(2)))
    samples, positions = left.shape[1:3]
    losses = len(total) // samples
    bytes_each = 2 * positions * samples * positions * left.element_size()
    blocks = workspace.cut(samples, bytes_each, _TRIANGLE_BLOCKS)
    largest = max(block.stop - block.start for block in blocks) * positions * samples * positions
    turned, across, *scratch = workspace.take(left, left.shape, right.shape, (largest,), (largest,))
    left, right = reflected(left, turned), reflected(right, across)
    for rows in blocks:
        for first in range(losses):
            for second in range(first, losses):
                # Within one loss the blocks below the diagonal are mirror images.
                columns = slice(rows.start if first == second else 0, samples)
                height, width = rows.stop - rows.start, samples - columns.start
                shape = (height * positions, width * positions)
                products, other = (one[: math.prod(shape)].view(shape) for one in scratch)
                _similarities(left, first, second, rows, columns, products)
                products.mul_(_similarities(right, first, second, rows, columns, other))
                sums = products.view(height, positions, width, positions).sum((1, 3))
                _add_mirrored(total, sums, first * samples, second * samples, rows, columns)


def reflected(x: Tensor, out: Tensor) -> Tensor:
    """Turn the positions of every sample so that what they have in common is in the first.

    The same reflection of A's positions and of B's leaves AᵀB as it is. Where positions share a
    large row of B and their rows of A add up to nearly nothing, as below a normalisation, products
    of rows would cancel and with them all digits; after it the large row meets the sum itself.

    Args:
        x: Shape [k or 1, b, t, i].
        out: Where the result goes.

    Returns:
        (I - 2vvᵀ/vᵀv) x for v = 1 + √t·e₀, so that 1 is mapped to -√t·e₀; contiguous.
    """
    positions = x.shape[2]
    root = math.sqrt(positions)
    sums = x.sum(2, keepdim=True)
    common = torch.add(sums, x[:, :, :1], alpha=root).div_(positions + root)
    torch.sub(x, common, out=out)
    torch.mul(sums, -1 / root, out=out[:, :, :1])
    return out


def over_objectives(total: Tensor, rows: Tensor) -> Tensor:
    """Make one row per objective of one per sample.

    Args:
        total: For the number of objectives, shape [m, m].
        rows: Shape [k or 1, b, o].

    Returns:
        Shape [m, o].
    """
    losses = len(total) // rows.shape[1]
    return rows.expand(losses, -1, -1).reshape(len(total), -1)


def _similarities(
    x: Tensor, first: int, second: int, rows: slice, columns: slice, out: Tensor
) -> Tensor:
    """Dot products of the positions of some samples with those of others."""
    a = x[first % len(x), rows].flatten(0, 1)
    b = x[second % len(x), columns].flatten(0, 1)
    return torch.mm(a, b.T, out=out)


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
