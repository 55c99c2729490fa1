"""Parameters are checked when they are given and when they are set, and then take effect."""

import math

import numpy as np
import pytest
import torch

from engines.scalarization import (
    COSMOS,
    DWA,
    FAMO,
    IMTLL,
    PBI,
    STCH,
    UW,
    Constant,
    Random,
    Scalarizer,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("make", [UW, IMTLL, FAMO])
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (3, (3,)),
        ((2, 3), (2, 3)),
        ([2, 3], (2, 3)),
        (torch.Size([4]), (4,)),
        ((), ()),
        ((np.int64(2),), (2,)),
    ],
)
def test_shapes(make: type[UW], shape: int, sizes: tuple[int, ...]) -> None:
    scalarizer = make(shape)
    assert scalarizer.shape == sizes
    losses = torch.rand(sizes, generator=torch.Generator().manual_seed(0)) + 0.1
    assert scalarizer(losses).shape == ()
    with pytest.raises(AttributeError):
        scalarizer.shape = (2,)


@pytest.mark.parametrize("make", [UW, IMTLL, FAMO])
@pytest.mark.parametrize(
    ("shape", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        ((2, 0), ValueError),
        (2.0, TypeError),
        ("2", TypeError),
        (True, TypeError),
        ((True, 2), TypeError),
        ((2.5,), TypeError),
        (None, TypeError),
    ],
)
def test_shapes_that_are_none(make: type[UW], shape: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="got shape="):
        make(shape)


REFUSED = [
    *[
        (make, name, value, error)
        for make, name in [(lambda **p: STCH(**{"mu": 1.0, **p}), "mu"), (DWA, "temperature")]
        for value, error in [
            (0.0, ValueError),
            (-1.0, ValueError),
            (NAN, ValueError),
            (INF, ValueError),
            ("1", TypeError),
            (None, TypeError),
            (True, TypeError),
        ]
    ],
    *[
        (make, name, value, error)
        for make, name in [
            (lambda **p: COSMOS(**{"lambda_": 1.0, "weights": torch.ones(2), **p}), "lambda_"),
            (lambda **p: PBI(**{"theta": 1.0, "weights": torch.ones(2), **p}), "theta"),
            (lambda **p: FAMO(2, **p), "lr"),
            (lambda **p: FAMO(2, **p), "weight_decay"),
        ]
        for value, error in [
            (-1e-9, ValueError),
            (NAN, ValueError),
            (INF, ValueError),
            ("1", TypeError),
            (None, TypeError),
        ]
    ],
    *[
        (make, name, value, error)
        for make, names in [
            (lambda **p: Constant(**{"weights": torch.ones(2), **p}), ["weights"]),
            (lambda **p: STCH(**{"mu": 1.0, **p}), ["weights", "reference"]),
            (
                lambda **p: COSMOS(**{"lambda_": 1.0, "weights": torch.ones(2), **p}),
                ["weights"],
            ),
            (
                lambda **p: PBI(**{"theta": 1.0, "weights": torch.ones(2), **p}),
                ["weights", "reference"],
            ),
            (lambda **p: FAMO(2, **p), ["min_losses"]),
        ]
        for name in names
        for value, error in [
            ([1.0, 2.0], TypeError),
            (torch.tensor([True, False]), TypeError),
            (torch.tensor([1j, 1j]), TypeError),
            (torch.tensor([1.0, NAN]), ValueError),
            (torch.tensor([-INF, 1.0]), ValueError),
            (torch.nn.Parameter(torch.tensor([1.0, NAN])), ValueError),
        ]
    ],
    (lambda **p: Constant(**{"weights": torch.ones(2), **p}), "weights", None, TypeError),
    (lambda **p: FAMO(2, **p), "min_losses", torch.zeros(3), ValueError),
    (Random, "generator", 0, TypeError),
]


@pytest.mark.parametrize(("make", "name", "value", "error"), REFUSED)
def test_parameters_are_checked_when_made_and_when_set(
    make: type[Scalarizer], name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected"):
        make(**{name: value})
    scalarizer = make()
    before = repr(scalarizer)
    with pytest.raises(error, match="expected"):
        setattr(scalarizer, name, value)
    assert repr(scalarizer) == before


def test_set_parameters_take_effect() -> None:
    losses = torch.tensor([1.0, 3.0])
    stch = STCH(1.0)
    stch.mu, stch.weights, stch.reference = 1e-9, torch.ones(2), torch.tensor([0.0, 1.0])
    assert float(stch(losses)) == 2
    stch.weights = stch.reference = None
    assert float(stch(losses)) == 1.5
    cosmos = COSMOS(1.0, torch.ones(2))
    cosmos.lambda_, cosmos.weights = 0, torch.tensor([2.0, 1.0])
    assert float(cosmos(losses)) == 5
    pbi = PBI(5.0, torch.ones(2))
    pbi.theta, pbi.weights, pbi.reference = 2, torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0])
    assert float(pbi(losses)) == 4
    constant = Constant(torch.ones(2))
    constant.weights = torch.ones(2, 1)
    assert float(constant(losses[:, None])) == 4


def test_set_parameters_of_famo_take_effect() -> None:
    scalarizer = FAMO(2, lr=1.0)
    losses = torch.tensor([1.0, 3.0])
    scalarizer(losses)
    scalarizer.lr = 0
    scalarizer.update(0.5 * losses**2)
    assert torch.equal(scalarizer.logits, torch.zeros(2))
    scalarizer.lr = 0.5
    scalarizer.update(0.5 * losses**2)
    assert float(scalarizer.logits.abs().min()) > 0.1
    scalarizer.min_losses = torch.tensor([0, 2])
    assert torch.equal(scalarizer.min_losses, torch.tensor([0.0, 2.0]))
    assert torch.isfinite(scalarizer(losses))
    scalarizer.min_losses = None
    assert torch.equal(scalarizer.min_losses, torch.zeros(2))
