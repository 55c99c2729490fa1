"""Jacobians and Gramians from plain autograd, one call per row: what engines are compared with."""

from collections.abc import Iterable

import torch
from torch import Tensor


def reference_jacobian(output: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """Differentiate every element of the output, shape [m, n]; unreached parameters give zeros."""
    tracked = [p for p in dict.fromkeys(parameters) if p.requires_grad]
    rows = []
    for element in output.flatten():
        found = torch.autograd.grad(element, tracked, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.to_dense().flatten()
                    for g, p in zip(found, tracked, strict=True)
                ]
            )
        )
    return torch.stack(rows)


def reference_gramian(output: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """Generalized Gramian of the output, shape [m1, …, mk, mk, …, m1]."""
    jacobian = reference_jacobian(output, parameters)
    ndim = output.ndim
    folded = (jacobian @ jacobian.T).reshape((*output.shape, *output.shape))
    return folded.permute((*range(ndim), *reversed(range(ndim, 2 * ndim))))
