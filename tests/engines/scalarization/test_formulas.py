"""Values and gradients: worked out by hand, transcribed from the papers, and by differences."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from engines.scalarization import (
    COSMOS,
    DWA,
    FAMO,
    IMTLL,
    PBI,
    SCALARIZERS,
    STCH,
    UW,
    Constant,
    GeometricMean,
    Mean,
    Random,
    Scalarizer,
    ScalarizerRecord,
    Sum,
)
from tests.support.tolerances import assert_close

E = math.e
LN2, LN3, ROOT2 = math.log(2), math.log(3), math.sqrt(2)


def but(*names: str) -> pytest.MarkDecorator:
    """All methods but these."""
    records = [record for record in SCALARIZERS.values() if record.name not in names]
    return pytest.mark.parametrize("record", records, ids=lambda r: r.name)


# FAMO's factor c counts as a constant, so its gradient is not that of its value; the reference of
# many steps has the gradient.
WITH_VALUE = but("FAMO")
# Others have weights that differ.
EQUAL = but("Constant", "Random")


def vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def learned(scalarizer: Scalarizer, *numbers: float) -> Scalarizer:
    """With these numbers for its parameters."""
    (parameter,) = scalarizer.double().parameters()
    with torch.no_grad():
        parameter.copy_(vector(*numbers))
    return scalarizer


def after_epochs(scalarizer: DWA, *epochs: tuple[Tensor, ...]) -> DWA:
    """After some epochs, each of some batches."""
    for epoch in epochs:
        for losses in epoch:
            scalarizer(losses)
        scalarizer.step()
    return scalarizer


PINNED: dict[str, tuple[Scalarizer, Tensor, float, Tensor]] = {
    "Mean": (Mean(), vector(1, 2, 6), 3, vector(1 / 3, 1 / 3, 1 / 3)),
    "Sum": (Sum(), vector(1, 2, 6), 9, vector(1, 1, 1)),
    # 1·2 + 0.5·6
    "Constant": (Constant(vector(1, 0.5)), vector(2, 6), 5, vector(1, 0.5)),
    # 1·8·27 = 216 = 6³; the derivative is 6/(3L).
    "GeometricMean": (GeometricMean(), vector(1, 8, 27), 6, vector(2, 1 / 4, 2 / 27)),
    # log(e⁰ + e^(log 3)) = log 4
    "STCH": (STCH(1, vector(1, 1)), vector(0, LN3), 2 * LN2, vector(1 / 4, 3 / 4)),
    # Weights of 1/2 make 2 log 3 into log 3 again.
    "STCH, equal": (STCH(1), vector(0, 2 * LN3), 2 * LN2, vector(1 / 8, 3 / 8)),
    "STCH, reference": (
        STCH(2, vector(2, 2), vector(5, 6)),
        vector(5, 6 + LN3),
        4 * LN2,
        vector(1 / 2, 3 / 2),
    ),
    # 3 - 2·3/5; the cosine's derivative is w/5 - 3L/125 = (0.2, 0) - (0.072, 0.096).
    "COSMOS": (COSMOS(2, vector(1, 0)), vector(3, 4), 1.8, vector(0.744, 0.192)),
    # 3 along, 4 across.
    "PBI": (PBI(5, vector(1, 0)), vector(3, 4), 23, vector(1, 5)),
    # L - z = (3, 1) is (2, 2) along and (1, -1) across: 2√2 + 5√2.
    "PBI, reference": (
        PBI(5, vector(3, 3), vector(1, 1)),
        vector(4, 2),
        7 * ROOT2,
        vector(6, -4) / ROOT2,
    ),
    # ½(2 + 0) + ½(4/4 + log 4)
    "UW": (learned(UW(2), 0, 2 * LN2), vector(2, 4), 1.5 + LN2, vector(1 / 2, 1 / 8)),
    # 2 + 2·4 - log 2
    "IMTLL": (learned(IMTLL(2), 0, LN2), vector(2, 4), 10 - LN2, vector(1, 2)),
    "DWA, first epoch": (DWA(), vector(2, 4), 6, vector(1, 1)),
    # Averages (1, 1), then (0, log 3): ratios (0, log 3), softmax (1/4, 3/4), times 2.
    "DWA": (
        after_epochs(DWA(1.0), (vector(0.5, 1.5), vector(1.5, 0.5)), (vector(0, LN3),)),
        vector(2, 4),
        7,
        vector(0.5, 1.5),
    ),
    # z = ½ each, c = 1/(½ + ½/e) = 2e/(e+1), and the logarithms are 0 and 1.
    "FAMO": (FAMO(2), vector(1, E), E / (E + 1), vector(E, 1) / (E + 1)),
    "FAMO, bounds": (FAMO(2, vector(-1, 1)), vector(0, 1 + E), E / (E + 1), vector(E, 1) / (E + 1)),
}


@pytest.mark.parametrize("name", PINNED)
def test_pinned(name: str) -> None:
    scalarizer, losses, value, gradient = PINNED[name]
    losses = losses.clone().requires_grad_()
    combined = scalarizer(losses)
    assert combined.shape == ()
    combined.backward()
    assert_close(combined.detach(), torch.tensor(value, dtype=torch.float64))
    assert losses.grad is not None
    assert_close(losses.grad, gradient)


def test_every_method_is_pinned() -> None:
    assert {name.partition(",")[0] for name in PINNED} | {"Random"} == set(SCALARIZERS)


@pytest.mark.parametrize(
    ("scalarizer", "gradient"),
    [
        # ½(1 - Lᵢ/σᵢ²)
        (learned(UW(2), 0, 2 * LN2), vector(-0.5, 0)),
        # exp(sᵢ)Lᵢ - 1
        (learned(IMTLL(2), 0, LN2), vector(1, 7)),
    ],
)
def test_pinned_gradients_of_parameters(scalarizer: Scalarizer, gradient: Tensor) -> None:
    (parameter,) = scalarizer.parameters()
    scalarizer(vector(2, 4)).backward()
    assert parameter.grad is not None
    assert_close(parameter.grad, gradient)


def test_pinned_update_of_famo() -> None:
    scalarizer = FAMO(2, weight_decay=0.0).double()
    scalarizer(vector(1, E))
    # The logarithms fall by (1, 0), so the gradient is ½((1, 0) - ½) = (¼, -¼), and Adam's first
    # step is the learning rate in the direction of the sign, up to its 1e-8.
    scalarizer.update(vector(1 / E, E))
    step = 0.025 * 0.25 / (0.25 + 1e-8)
    assert_close(scalarizer.logits, vector(-step, step))


def norm(numbers: list[float]) -> float:
    return math.sqrt(sum(number**2 for number in numbers))


def dot(u: list[float], v: list[float]) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True))


WEIGHTS, REFERENCE = [0.5, 2.0, 0.25, 1.0, 0.0, 3.0], [0.1, -1.0, 0.0, 0.2, 0.05, -0.3]


def of_stch(losses: list[float]) -> float:
    """Equation of arXiv 2402.19078, as it stands."""
    terms = [
        math.exp(w * (f - z) / 0.3) for w, f, z in zip(WEIGHTS, losses, REFERENCE, strict=True)
    ]
    return 0.3 * math.log(sum(terms))


def of_cosmos(losses: list[float]) -> float:
    product = dot(WEIGHTS, losses)
    return product - 2.5 * product / (norm(WEIGHTS) * norm(losses))


def of_pbi(losses: list[float]) -> float:
    """Section II.C of the paper, for minimisation."""
    length = norm(WEIGHTS)
    shifted = [f - z for f, z in zip(losses, REFERENCE, strict=True)]
    d1 = dot(shifted, WEIGHTS) / length
    rest = [f - d1 * w / length for f, w in zip(shifted, WEIGHTS, strict=True)]
    return d1 + 5 * norm(rest)


def of_uw(losses: list[float]) -> float:
    """With the standard deviations σ of the paper: L/(2σ²) + log σ."""
    deviations = [math.exp(s / 2) for s in REFERENCE]
    return sum(f / (2 * d * d) + math.log(d) for f, d in zip(losses, deviations, strict=True))


def of_imtll(losses: list[float]) -> float:
    return sum(math.exp(s) * f - s for f, s in zip(losses, REFERENCE, strict=True))


def of_famo(losses: list[float]) -> float:
    distances = [f - b for f, b in zip(losses, REFERENCE, strict=True)]
    z = 1 / len(losses)
    c = 1 / sum(z / d for d in distances)
    return c * sum(z * math.log(d) for d in distances)


def of_dwa(losses: list[float]) -> float:
    """Epochs of WEIGHTS + 1, then of REFERENCE + 2, at temperature 2."""
    powers = [
        math.exp((newer + 2) / (older + 1) / 2)
        for newer, older in zip(REFERENCE, WEIGHTS, strict=True)
    ]
    return sum(
        len(losses) * power / sum(powers) * f for power, f in zip(powers, losses, strict=True)
    )


def shaped(numbers: list[float], shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


REFERENCES: dict[
    str, tuple[Callable[[tuple[int, ...]], Scalarizer], Callable[[list[float]], float]]
] = {
    "Mean": (lambda s: Mean(), lambda f: sum(f) / len(f)),
    "Sum": (lambda s: Sum(), sum),
    "Constant": (lambda s: Constant(shaped(WEIGHTS, s)), lambda f: dot(WEIGHTS, f)),
    "GeometricMean": (lambda s: GeometricMean(), lambda f: math.prod(f) ** (1 / len(f))),
    "STCH": (lambda s: STCH(0.3, shaped(WEIGHTS, s), shaped(REFERENCE, s)), of_stch),
    "COSMOS": (lambda s: COSMOS(2.5, shaped(WEIGHTS, s)), of_cosmos),
    "PBI": (lambda s: PBI(5.0, shaped(WEIGHTS, s), shaped(REFERENCE, s)), of_pbi),
    "UW": (lambda s: set_to(UW(s), REFERENCE, s), of_uw),
    "IMTLL": (lambda s: set_to(IMTLL(s), REFERENCE, s), of_imtll),
    "DWA": (
        lambda s: after_epochs(DWA(), (shaped(WEIGHTS, s) + 1,), (shaped(REFERENCE, s) + 2,)),
        of_dwa,
    ),
    "FAMO": (lambda s: FAMO(s, shaped(REFERENCE, s)), of_famo),
}


def set_to(scalarizer: Scalarizer, numbers: list[float], shape: tuple[int, ...]) -> Scalarizer:
    (parameter,) = scalarizer.double().parameters()
    with torch.no_grad():
        parameter.copy_(shaped(numbers, shape))
    return scalarizer


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 3, 2)], ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_reference_of_the_papers_formula(name: str, shape: tuple[int, ...]) -> None:
    make, formula = REFERENCES[name]
    generator = torch.Generator().manual_seed(0)
    scalarizer = make(shape)
    for _ in range(3):
        losses = torch.rand(6, generator=generator, dtype=torch.float64) + 0.2
        expected = formula(losses.tolist())
        found = scalarizer(losses.reshape(shape)).detach()
        assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_reference_of_random() -> None:
    losses = vector(1, 2, 3, 4)
    found = Random(generator=torch.Generator().manual_seed(3))(losses)
    normal = torch.randn(4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert_close(found, (normal.exp() / normal.exp().sum() * losses).sum())


def test_reference_of_famo_over_many_steps() -> None:
    """The authors' loop with torch's Adam; their 1e-8 is in the bounds."""
    generator = torch.Generator().manual_seed(0)
    bounds = vector(0, 0.1, -0.2)
    scalarizer = FAMO(3, bounds - 1e-8, lr=0.1, weight_decay=0.01).double()
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.1, weight_decay=0.01)
    for _ in range(30):
        before, after = torch.rand(2, 3, generator=generator, dtype=torch.float64) + 0.2
        losses = before.clone().requires_grad_()
        scalarizer(losses).backward()
        distances = before - bounds + 1e-8
        z = torch.softmax(w, -1)
        assert losses.grad is not None
        assert_close(losses.grad, (z / distances / (z / distances).sum()).detach())
        scalarizer.update(after)
        delta = distances.log() - (after - bounds + 1e-8).log()
        (w.grad,) = torch.autograd.grad(z, w, grad_outputs=delta)
        adam.step()
        assert_close(scalarizer.logits, w.detach())


def test_reference_imtll_is_twice_uw_at_the_negated_parameter() -> None:
    s, losses = vector(0.3, -1, 2), vector(1, 2, 0.5)
    uw, imtll = set_to(UW(3), s.tolist(), (3,)), set_to(IMTLL(3), (-s).tolist(), (3,))
    assert_close(imtll(losses).detach(), 2 * uw(losses).detach())


def repeatable(record: ScalarizerRecord, shape: tuple[int, ...]) -> Callable[..., Tensor]:
    """The same function of the losses, and of the parameters, at every call."""
    generator = torch.Generator().manual_seed(0)
    m = math.prod(shape)
    scalarizer = record.scalarizer(m, generator=generator).double()
    if isinstance(scalarizer, DWA):
        rows = torch.rand(2, m, generator=generator, dtype=torch.float64)
        scalarizer = after_epochs(scalarizer, *((row,) for row in rows))

    def combine(losses: Tensor, *parameters: Tensor) -> Tensor:
        generator.manual_seed(1)
        names = [name for name, _ in scalarizer.named_parameters()]
        replaced = dict(zip(names, parameters, strict=True))
        combined: Tensor = torch.func.functional_call(scalarizer, replaced, (losses.flatten(),))
        return combined

    return combine


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)], ids=str)
@WITH_VALUE
def test_reference_gradients_are_those_of_differences(
    record: ScalarizerRecord, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(2)
    count = 2 if record.learned else 1
    first, *others = torch.rand(count, math.prod(shape), generator=generator, dtype=torch.float64)
    losses = (first + 0.2).reshape(shape).requires_grad_()
    parameters = [other.requires_grad_() for other in others]
    combine = repeatable(record, shape)
    assert gradcheck(combine, (losses, *parameters))
    assert gradgradcheck(combine, (losses, *parameters))


@pytest.mark.parametrize("make", [Constant, STCH, COSMOS, PBI])
def test_reference_gradients_reach_learned_weights(make: type[Scalarizer]) -> None:
    first = {STCH: {"mu": 0.5}, COSMOS: {"lambda_": 2.0}, PBI: {"theta": 5.0}}.get(make, {})
    scalarizer = make(**first, weights=torch.nn.Parameter(vector(0.5, 1, 2)))
    (weights,) = scalarizer.parameters()
    assert scalarizer.weights is weights

    def combine(losses: Tensor, value: Tensor) -> Tensor:
        (name,) = dict(scalarizer.named_parameters())
        combined: Tensor = torch.func.functional_call(scalarizer, {name: value}, (losses,))
        return combined

    losses = vector(1, 3, 2).requires_grad_()
    assert gradcheck(combine, (losses, weights.detach().clone().requires_grad_()))
    # A plain tensor takes the place of the parameter again.
    scalarizer.weights = vector(1, 1, 1)
    assert list(scalarizer.parameters()) == []


PERMUTED = sorted(set(SCALARIZERS) - {"Random"})


@pytest.mark.parametrize("name", PERMUTED)
def test_property_order_does_not_matter(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(4, 5, generator=generator, dtype=torch.float64) + 0.1
    order = torch.randperm(5, generator=generator)
    found = []
    for rank in (torch.arange(5), order):
        arguments = SCALARIZERS[name].arguments(5)
        if "weights" in arguments:
            arguments["weights"] = rows[3][rank]
        scalarizer = SCALARIZERS[name].make(**arguments)
        if isinstance(scalarizer, DWA):
            after_epochs(scalarizer, (rows[0][rank],), (rows[1][rank],))
        if isinstance(scalarizer, FAMO):
            scalarizer(rows[0][rank])
            scalarizer.update(rows[1][rank])
        found.append(scalarizer(rows[2][rank]).detach())
    assert_close(found[1], found[0])


def test_property_order_matters_to_random() -> None:
    losses = vector(1, 2, 3)
    one, other = (
        Random(generator=torch.Generator().manual_seed(0))(given)
        for given in (losses, losses.flip(0))
    )
    assert float(one) != float(other)


@EQUAL
def test_property_equal_losses_get_equal_gradients(record: ScalarizerRecord) -> None:
    losses = torch.full((4,), 0.7, dtype=torch.float64, requires_grad=True)
    record.scalarizer(4)(losses).backward()
    assert losses.grad is not None
    assert_close(losses.grad, losses.grad.mean().expand(4))
    assert float(losses.grad[0]) > 0
