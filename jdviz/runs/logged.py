"""What a script logs of one step, as arrays that nothing else writes to."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from jdviz.conflict import improvements
from jdviz.training.record import StepRecord

#: Numbers as scripts have them.
Values = Tensor | ArrayLike | Sequence[Tensor]
#: Losses with their graph: one tensor, or scalar tensors in a list or by name.
Losses = Tensor | Sequence[Tensor] | Mapping[str, Tensor]

#: A Gramian further from symmetry than this, relative to its largest entry, is another matrix.
ASYMMETRY = 1e-3


@dataclass(frozen=True, eq=False)
class Fields:
    """What is known of a step so far; None where it was not given.

    Attributes:
        losses: Shape [m].
        gramian: Shape [m, m].
        shares: Module path to its share of the Gramian, shape [m, m].
        weights: Shape [m].
        inner: Shape [m].
        direction_norm: Length of the update direction.
        sample_ids: Shape [m].
        elapsed_s: Seconds that the step took.
        peak_bytes: Peak of its memory.
        scalars: Further numbers by name.
    """

    losses: NDArray | None = None
    gramian: NDArray | None = None
    shares: Mapping[str, NDArray] | None = None
    weights: NDArray | None = None
    inner: NDArray | None = None
    direction_norm: float | None = None
    sample_ids: NDArray[np.int64] | None = None
    elapsed_s: float | None = None
    peak_bytes: int | None = None
    scalars: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.scalars) or any(getattr(self, name) is not None for name in _NAMES)

    def overlap(self, other: "Fields") -> list[str]:
        """Names of what both have, scalars under their own.

        Args:
            other: What is to be added.

        Returns:
            The names.
        """
        both = [
            name
            for name in _NAMES
            if getattr(self, name) is not None and getattr(other, name) is not None
        ]
        return both + [name for name in self.scalars if name in other.scalars]

    def merged(self, other: "Fields") -> "Fields":
        """Both together.

        Args:
            other: What is added; has nothing in common with this.

        Returns:
            All of it.
        """
        changes: dict[str, Any] = {
            name: value
            for name in (*_NAMES, "shares")
            if (value := getattr(other, name)) is not None
        }
        return replace(self, **changes, scalars={**self.scalars, **other.scalars})

    def check(self) -> None:
        """See that everything is about the same objectives.

        Raises:
            ValueError: Sizes differ.
        """
        sizes = {
            name: len(values)
            for name in ("losses", "gramian", "weights", "inner", "sample_ids")
            if (values := getattr(self, name)) is not None
        }
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} of {size}" for name, size in sizes.items())
            raise ValueError(
                f"got {listed} objectives in one step, expected the same number everywhere; log "
                "one loss, one weight, and one row and column of the Gramian for each."
            )

    def without_matrices(self) -> "Fields":
        """The same without what is large.

        Returns:
            Losses and everything else of size m; what weights and Gramian say of the update stays.
        """
        inner, norm = self.update()
        return replace(self, gramian=None, shares=None, inner=inner, direction_norm=norm)

    def update(self) -> tuple[NDArray | None, float | None]:
        """What the update does, as given or from Gramian and weights.

        Returns:
            J·A(J), shape [m], and the length of A(J); None where neither is known.
        """
        inner, norm = self.inner, self.direction_norm
        if self.gramian is not None and self.weights is not None:
            with np.errstate(all="ignore"):  # what diverged is recorded as it is
                found = improvements(self.gramian, self.weights)
                length = math.sqrt(max(float(found @ self.weights), 0.0))
            inner = found if inner is None else inner
            norm = length if norm is None else norm
        return inner, norm


# All but the scalars, and the shares, which come with a Gramian.
_NAMES = tuple(one.name for one in fields(Fields) if one.name not in ("shares", "scalars"))


@dataclass(frozen=True, eq=False)
class Entry:
    """A step on its way to the store.

    Attributes:
        step: Its number.
        time_s: Seconds from the beginning of the run.
        since_s: Seconds from the step before it.
        known: What is known of it.
        complete: Whether nothing can be added any more.
        stored: Whether the store has all of this.
    """

    step: int
    time_s: float
    since_s: float
    known: Fields
    complete: bool = False
    stored: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, and about what the rest takes."""
        known = self.known
        arrays = [known.losses, known.gramian, known.weights, known.inner, known.sample_ids]
        arrays += (known.shares or {}).values()
        return 500 + 100 * len(known.scalars) + sum(a.nbytes for a in arrays if a is not None)

    def record(self, m: int) -> StepRecord:
        """The row that it becomes.

        Args:
            m: Objectives of the run, for a step without losses.

        Returns:
            The record, with what follows from Gramian and weights. A Gramian that is not finite is
            left out, as no figure could be made of it.
        """
        known = self.known
        inner, norm = known.update()
        gramian, shares = known.gramian, known.shares
        if gramian is not None and not np.isfinite(gramian).all():
            gramian = shares = None
        return StepRecord(
            step=self.step,
            time_s=self.time_s,
            losses=np.full(m, np.nan) if known.losses is None else _wide(known.losses),
            gramian=None if gramian is None else _wide(gramian),
            weights=None if known.weights is None else _wide(known.weights),
            inner=None if inner is None else _wide(inner),
            direction_norm=norm,
            sample_ids=known.sample_ids,
            elapsed_s=self.since_s if known.elapsed_s is None else known.elapsed_s,
            peak_bytes=known.peak_bytes,
            shares=None if shares is None else {name: _wide(one) for name, one in shares.items()},
            scalars=known.scalars,
        )


def as_vector(values: Values, what: str) -> NDArray:
    """Copy one number for each objective.

    Args:
        values: A tensor of any shape, an array, or a list of numbers or of tensors of one element.
        what: Its name, for messages.

    Returns:
        A copy on the CPU, shape [m].

    Raises:
        TypeError: These are no real numbers.
    """
    return _copied(values, what).reshape(-1)


def as_ids(values: Values) -> NDArray[np.int64]:
    """Copy which row of the data each objective is.

    Args:
        values: Integers.

    Returns:
        A copy, shape [m].

    Raises:
        TypeError: These are no integers.
    """
    found = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(
            f"got sample_ids of {found.dtype}, expected integers; log the rows of the data that "
            "the losses belong to."
        )
    return found.astype(np.int64).reshape(-1)


def as_step(step: int) -> int:
    """Check the number of a step.

    Args:
        step: An integer of any library.

    Returns:
        The same as Python has it.

    Raises:
        TypeError: It is no integer.
        ValueError: It is below 0.
    """
    try:
        found = operator.index(step)
    except TypeError as error:
        raise TypeError(
            f"got {type(step).__name__} as step, expected an integer; count steps, or leave it out."
        ) from error
    if found < 0:
        raise ValueError(f"got step {found}, expected 0 or more; count from 0, or leave it out.")
    return found


def as_matrix(values: Values, what: str = "a Gramian") -> NDArray:
    """Copy a Gramian.

    Args:
        values: Shape [m, m], or generalized, shape [m1, …, mk, mk, …, m1].
        what: Its name, for messages.

    Returns:
        A copy on the CPU, shape [m, m].

    Raises:
        TypeError: These are no real numbers.
        ValueError: The shape is another one.
    """
    found = _copied(values, what)
    half = found.ndim // 2
    if found.ndim % 2 or found.shape[:half] != found.shape[half:][::-1]:
        raise ValueError(
            f"got {what} of shape {found.shape}, expected [m, m] or the generalized form "
            "[m1, …, mk, mk, …, m1]; log the inner products of the gradients, not the gradients."
        )
    order = (*range(half), *reversed(range(half, found.ndim)))
    m = math.prod(found.shape[:half])
    return found.transpose(order).reshape(m, m)


def as_gramian(
    values: Values | Mapping[str, Values] | None,
) -> tuple[NDArray | None, dict[str, NDArray] | None]:
    """Copy a Gramian, whole or split.

    Args:
        values: As `as_matrix`, or the share of every module by its path; None for none.

    Returns:
        The Gramian, shape [m, m], and its shares; None where there are none.

    Raises:
        TypeError: These are no real numbers.
        ValueError: A shape is another one.
    """
    if values is None:
        return None, None
    if not isinstance(values, Mapping):
        return as_matrix(values), None
    shares = {str(path): as_matrix(one, "a share") for path, one in values.items()}
    shapes = {one.shape for one in shares.values()}
    if len(shapes) != 1:
        raise ValueError(
            f"got shares of {len(shapes)} different shapes, expected one share of shape [m, m] or "
            "more; log what compute_gramian(losses, by_module=True) returns."
        )
    return reduce(np.add, shares.values()), shares


def refuse_asymmetry(gramian: NDArray) -> None:
    """Raise if a matrix is no Gramian at first sight.

    Args:
        gramian: Shape [m, m].

    Raises:
        ValueError: It is not symmetric.
    """
    with np.errstate(all="ignore"):
        apart = np.abs(gramian - gramian.T).max(initial=0.0)
        # Comparisons with NaN are false: a run that diverged is no mistake in the script.
        if apart > ASYMMETRY * np.abs(gramian).max(initial=0.0):
            raise ValueError(
                f"got a Gramian whose entries (i, j) and (j, i) differ by up to {apart:.3g}, "
                "expected a symmetric matrix; log J Jᵀ, the inner products of the gradients."
            )


def as_number(value: Any) -> float:
    """Read one number.

    Args:
        value: A number, or a tensor of one element, with or without a graph.

    Returns:
        The number.

    Raises:
        TypeError: It is none.
        ValueError: It is text that is no number.
        RuntimeError: It is a tensor of several elements.
    """
    return float(value.detach() if isinstance(value, Tensor) else value)


def as_scalars(scalars: Mapping[str, Any] | None) -> dict[str, float]:
    """Copy numbers by name.

    Args:
        scalars: Names and numbers, or tensors of one element; None for none.

    Returns:
        The numbers.

    Raises:
        TypeError: A name is no text, or a value no number.
    """
    found = {}
    for name, value in (scalars or {}).items():
        try:
            found[name] = as_number(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"got {type(value).__name__} for the scalar {name!r}, expected one number; log "
                "vectors as losses or weights."
            ) from error
        if not isinstance(name, str):
            raise TypeError(
                f"got {name!r} as the name of a scalar, expected text; give each a name."
            )
    return found


def _copied(values: Values, what: str) -> NDArray:
    """A copy on the CPU, in float32 where that holds it, else in float64."""
    try:
        if isinstance(values, list | tuple) and any(isinstance(one, Tensor) for one in values):
            # One copy from the device instead of one for each.
            values = torch.stack([torch.as_tensor(one).detach().reshape(()) for one in values])
        if isinstance(values, Tensor):
            narrow = values.dtype in (torch.float32, torch.float16, torch.bfloat16)
            dtype = torch.float32 if narrow else torch.float64
            if not values.is_complex():
                return values.detach().to("cpu", dtype, copy=True).numpy()
        elif not np.iscomplexobj(values):
            return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"got {what} that cannot be read as numbers ({error}), expected a tensor, an array or "
            "a list of numbers or of tensors of one element; convert it first."
        ) from error
    raise TypeError(f"got {what} with complex numbers, expected real ones; log the real part.")


def _wide(values: NDArray) -> NDArray[np.float64]:
    return values.astype(np.float64, copy=False)
