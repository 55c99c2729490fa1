"""What is refused, and what works at the edges: dtypes, shapes, sizes, zeros."""

import math

import pytest
import torch
from torch import Tensor

from engines.scalarization import (
    COSMOS,
    DWA,
    FAMO,
    PBI,
    SCALARIZERS,
    STCH,
    GeometricMean,
    Scalarizer,
    ScalarizerRecord,
)
from tests.support.tolerances import assert_close

EVERY = pytest.mark.parametrize("record", SCALARIZERS.values(), ids=lambda r: r.name)
NAN, INF = math.nan, math.inf


def made(record: ScalarizerRecord, m: int) -> Scalarizer:
    return record.scalarizer(m, generator=torch.Generator().manual_seed(0))


def combined(scalarizer: Scalarizer, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient."""
    losses = losses.clone().requires_grad_()
    value = scalarizer(losses)
    value.backward()
    assert losses.grad is not None
    assert value.dtype == losses.grad.dtype == losses.dtype
    return value.detach(), losses.grad


@EVERY
@pytest.mark.parametrize(
    ("losses", "error", "says"),
    [
        ([1.0, 2.0], TypeError, "type list, expected a torch.Tensor"),
        (torch.tensor([1, 2]), TypeError, "torch.int64, expected a real floating-point dtype"),
        (torch.tensor([True, False]), TypeError, "torch.bool"),
        (torch.tensor([1j, 2j]), TypeError, "torch.complex64"),
        (torch.ones(0), ValueError, r"shape \[0\], expected at least one"),
        (torch.ones(2, 0), ValueError, r"shape \[2, 0\], expected at least one"),
        (torch.tensor([1.0, NAN]), ValueError, "NaN or infinite at flat positions 1, expected"),
        (torch.tensor([[INF, 1.0], [1.0, -INF]]), ValueError, "flat positions 0, 3, expected"),
        (torch.full((11,), NAN), ValueError, "flat positions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …, exp"),
    ],
)
def test_what_are_no_losses_is_refused(
    record: ScalarizerRecord, losses: object, error: type[Exception], says: str
) -> None:
    scalarizer = made(record, 2)
    with pytest.raises(error, match=says):
        scalarizer(losses)
    # A method with memory has none of it.
    assert not isinstance(scalarizer, DWA) or scalarizer.get_extra_state()["_total"] is None
    assert not isinstance(scalarizer, FAMO) or scalarizer.get_extra_state()["_before"] is None


@pytest.mark.parametrize("name", ["Constant", "COSMOS", "PBI", "UW", "IMTLL", "FAMO"])
@pytest.mark.parametrize("shape", [(), (1,), (2,), (3, 1)], ids=str)
def test_losses_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected the same shape, reshape one"):
        made(SCALARIZERS[name], 3)(torch.ones(shape))


@pytest.mark.parametrize(
    "scalarizer",
    [
        STCH(1.0, weights=torch.ones(3)),
        STCH(1.0, reference=torch.zeros(3)),
        PBI(1.0, torch.ones(2), torch.zeros(3)),
    ],
)
def test_weights_and_references_of_another_shape_are_refused(scalarizer: Scalarizer) -> None:
    with pytest.raises(ValueError, match=r"losses of shape \[2\] for \w+ of shape \[3\]"):
        scalarizer(torch.ones(2))


def test_negative_losses_have_no_geometric_mean() -> None:
    with pytest.raises(ValueError, match="negative losses at flat positions 1, 2, expected"):
        GeometricMean()(torch.tensor([[1.0, -1.0], [-1e-30, 0.0]]))


def test_famo_needs_losses_above_their_bounds() -> None:
    with pytest.raises(ValueError, match="not above their min_losses at flat positions 1, 2"):
        FAMO(3)(torch.tensor([1.0, 0.0, -1.0]))
    scalarizer = FAMO((2, 2), min_losses=torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    with pytest.raises(ValueError, match="flat positions 3,"):
        scalarizer(torch.tensor([[1.0, 2.0], [3.0, 3.0]]))
    # What the authors' 1e-8 allows.
    value, gradient = combined(FAMO(2, torch.full((2,), -1e-8)), torch.tensor([0.0, 1.0]))
    assert math.isfinite(value)
    assert_close(gradient, torch.tensor([1.0, 1e-8]), torch.float32)


def test_dwa_refuses_a_change_of_shape_until_reset() -> None:
    scalarizer = DWA()
    scalarizer(torch.ones(2))
    for _ in range(3):
        with pytest.raises(ValueError, match=r"shape \[3\] after \[2\].*call reset"):
            scalarizer(torch.ones(3))
        scalarizer.step()
    scalarizer.reset()
    scalarizer(torch.ones(3))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_narrow_losses_are_computed_wide(record: ScalarizerRecord, dtype: torch.dtype) -> None:
    losses = torch.tensor([0.3, 2.0, 0.01], dtype=dtype)
    value, gradient = combined(made(record, 3), losses)
    wide_value, wide_gradient = combined(made(record, 3), losses.double())
    # Rounded once, at the end.
    assert torch.equal(value, wide_value.to(dtype))
    assert torch.equal(gradient, wide_gradient.to(dtype))


@EVERY
def test_autocast_changes_nothing(record: ScalarizerRecord) -> None:
    losses = torch.tensor([0.3, 2.0, 0.01])
    with torch.autocast("cpu", torch.bfloat16):
        found = combined(made(record, 3), losses)
    for one, other in zip(found, combined(made(record, 3), losses), strict=True):
        assert torch.equal(one, other)


SIZES = [
    (torch.float32, (1e-30, 1e30)),
    (torch.float32, (1e-44, 3e-39)),
    (torch.float32, (1e37, 2e37)),
    (torch.float64, (1e-200, 1e200)),
    (torch.float64, (1e-300, 3e-300)),
    (torch.float64, (1e300, 3e300)),
    (torch.float16, (1e-7, 2e-7)),
    (torch.float16, (1e-4, 3e4)),
    (torch.bfloat16, (1e-30, 1e30)),
]


@EVERY
@pytest.mark.parametrize(("dtype", "sizes"), SIZES, ids=str)
def test_tiny_and_huge_losses(
    record: ScalarizerRecord, dtype: torch.dtype, sizes: tuple[float, float]
) -> None:
    losses = torch.tensor(sizes, dtype=dtype)
    assert bool((losses > 0).all())
    # A penalty of 1, so that the result itself is a number of the dtype.
    options = {"theta": 1.0} if record.name == "PBI" else {}
    scalarizer = record.scalarizer(2, generator=torch.Generator().manual_seed(0), **options)
    value, gradient = combined(scalarizer, losses)
    assert math.isfinite(gradient[0])
    assert math.isfinite(gradient[1])
    logarithmic = record.name == "FAMO" and max(sizes) > 1e36
    assert math.isfinite(value) or logarithmic


def test_the_geometric_mean_of_extremes_is_exact() -> None:
    value, gradient = combined(GeometricMean(), torch.tensor([1e-30, 4e30]))
    assert_close(value, torch.tensor(2.0), torch.float32)
    assert_close(gradient, torch.tensor([1e30, 2.5e-31]), torch.float32)


@pytest.mark.parametrize(
    "losses",
    [torch.tensor([0.0, 2.0]), torch.tensor([[0.0, 0.0], [1.0, 3.0]]), torch.tensor([-0.0, 1.0])],
)
def test_a_zero_makes_the_geometric_mean_and_its_gradient_zero(losses: Tensor) -> None:
    value, gradient = combined(GeometricMean(), losses)
    assert float(value) == 0
    assert torch.equal(gradient, torch.zeros_like(losses))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("size", [0.0, 3.0])
def test_one_loss_is_its_own_geometric_mean(shape: tuple[int, ...], size: float) -> None:
    value, gradient = combined(GeometricMean(), torch.full(shape, size))
    assert float(value) == size
    assert torch.equal(gradient, torch.ones(shape))


@pytest.mark.parametrize("mu", [1e-3, 1e-30, 1e-300, 5e-324])
def test_stch_with_little_smoothing_is_the_maximum(mu: float) -> None:
    scalarizer = STCH(mu, weights=torch.ones(3))
    value, gradient = combined(scalarizer, torch.tensor([1.0, 3.0, 2.0]))
    assert float(value) == 3
    assert torch.equal(gradient, torch.tensor([0.0, 1.0, 0.0]))
    value, gradient = combined(scalarizer, torch.tensor([3.0, 3.0, -1e30]))
    assert_close(value, torch.tensor(3 + mu * math.log(2)), torch.float32)
    assert torch.equal(gradient, torch.tensor([0.5, 0.5, 0.0]))


def test_stch_with_much_smoothing_is_the_mean() -> None:
    _, gradient = combined(STCH(1e9, weights=torch.ones(2)), torch.tensor([1.0, 3.0]))
    assert_close(gradient, torch.tensor([0.5, 0.5]), torch.float32)


@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_pbi_on_its_direction_has_the_gradient_along(m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights, reference = torch.rand(2, m, generator=generator, dtype=torch.float64)
    unit = weights / weights.norm()
    for size in (1.0, 1e-200, 1e200):
        value, gradient = combined(PBI(5.0, weights), size * weights)
        assert_close(value, size * weights.norm())
        assert_close(gradient, unit)
    value, gradient = combined(PBI(5.0, weights, reference), reference)
    assert float(value) == 0
    assert_close(gradient, unit)


def test_cosmos_on_its_direction_and_at_zero() -> None:
    weights = torch.tensor([0.25, 0.5])
    value, gradient = combined(COSMOS(3.0, weights), 4 * weights)
    assert_close(value, torch.tensor(4 * 0.3125 - 3.0), torch.float32)
    assert_close(gradient, weights, torch.float32)
    for tiny in (0.0, 1e-45):
        value, gradient = combined(COSMOS(3.0, weights), torch.tensor([tiny, 0.0]))
        assert float(value) == pytest.approx(0.0, abs=1e-40)
        assert torch.equal(gradient, weights)


@pytest.mark.parametrize("make", [lambda w: COSMOS(1.0, w), lambda w: PBI(1.0, w)])
def test_a_direction_is_not_zero(make: type[Scalarizer]) -> None:
    with pytest.raises(ValueError, match="weights of 2 zeros, expected a direction"):
        make(torch.zeros(2))
    scalarizer = make(torch.tensor([1e-300, 0.0], dtype=torch.float64))
    assert bool(combined(scalarizer, torch.ones(2))[1].isfinite().all())


@pytest.mark.parametrize(
    ("older", "newer", "weights"),
    [
        # Twice 0 counts as unchanged: both ratios are 1.
        ([0.0, 2.0], [0.0, 2.0], [1.0, 1.0]),
        # One that rose from 0 rose infinitely fast.
        ([0.0, 2.0], [1.0, 2.0], [2.0, 0.0]),
        ([0.0, -0.0], [1.0, 2.0], [1.0, 1.0]),
        # One that fell from 0 gets nothing, unless all did.
        ([0.0, 2.0], [-1.0, 2.0], [0.0, 2.0]),
        ([0.0, 0.0], [-1.0, -2.0], [1.0, 1.0]),
        ([5e-324, 1.0], [1e300, 1.0], [2.0, 0.0]),
    ],
)
def test_dwa_with_averages_of_zero(
    older: list[float], newer: list[float], weights: list[float]
) -> None:
    scalarizer = DWA(temperature=1e-9)
    for epoch in (older, newer):
        scalarizer(torch.tensor(epoch, dtype=torch.float64))
        scalarizer.step()
    assert_close(combined(scalarizer, torch.ones(2))[1], torch.tensor(weights), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64], ids=str)
@pytest.mark.parametrize("name", ["Constant", "COSMOS", "PBI", "STCH"])
def test_weights_of_another_dtype_are_moved(name: str, dtype: torch.dtype) -> None:
    options = {"weights": torch.tensor([1, 2])}
    if name in {"PBI", "STCH"}:
        options["reference"] = torch.tensor([1, 0])
    results = []
    for used in (torch.float32, dtype):
        arguments = {**SCALARIZERS[name].arguments(2)}
        arguments |= {key: tensor.to(used) for key, tensor in options.items()}
        results.append(combined(SCALARIZERS[name].make(**arguments), torch.tensor([3.0, 1.0])))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["UW", "IMTLL", "FAMO"])
@pytest.mark.parametrize("own", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_modules_and_losses_of_different_dtypes(
    name: str, own: torch.dtype, dtype: torch.dtype
) -> None:
    scalarizer = made(SCALARIZERS[name], 2).to(own)
    losses = torch.tensor([1.0, 2.0], dtype=dtype)
    combined(scalarizer, losses)
    if isinstance(scalarizer, FAMO):
        scalarizer.update(0.5 * losses * torch.tensor([1.0, 1.5], dtype=dtype))
        assert scalarizer.logits.dtype == own
        assert float(scalarizer.logits[0]) < 0 < float(scalarizer.logits[1])
