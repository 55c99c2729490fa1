"""One table of tolerances for engine tests, with reasons."""

import torch

# Relative Frobenius error of a Gramian against float64 autograd.
RELATIVE: dict[torch.dtype, float] = {
    # A few hundred roundings of 1e-16.
    torch.float64: 1e-12,
    # Roundings of 6e-8 through the forward pass, the backward pass and the contraction.
    torch.float32: 1e-5,
    # Activations carry 8 bits: 4e-3 each, a few layers.
    torch.bfloat16: 5e-2,
    # Activations carry 11 bits.
    torch.float16: 1e-2,
}


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Frobenius norm of the difference over that of the expected tensor."""
    assert found.shape == expected.shape
    difference = (found.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(torch.finfo(torch.float64).tiny))


def assert_close(
    found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype = torch.float64
) -> None:
    """Assert equality within the table's tolerance for computations in `dtype`."""
    error = relative_error(found, expected)
    assert error <= RELATIVE[dtype], f"relative error {error:.2e} > {RELATIVE[dtype]:.0e}"
