"""The mathematics of an LSTM layer that autograd records as one node: its linear factors.

Torch runs a layer and direction of `nn.LSTM` as a single operation where oneDNN does (on the CPU in
float32 and bfloat16; in float64 it is many small ones). Autograd sees its weights and results, not
the gates in between. With the gates' pre-activations

    a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh

and their gradients δ_t, a sample's gradients are Σ_t δ_tᵀx_t for W_ih, Σ_t δ_tᵀh_{t-1} for W_hh and
Σ_t δ_t for either bias: the form of a linear map. So δ is what is computed here, from what the node
saved. Since it saved every h_t, all gates come from two products without a loop over time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_metadata
from engines.autogram.rules.base import readable

NODE = "MkldnnRnnLayerBackward0"

# Torch's number for LSTM among the recurrent layers; its others are built from small operations.
_LSTM = 2
# In the order in which the rows of both weights are stacked: input, forget, cell, output.
_GATES = 4


@dataclass(frozen=True, eq=False)
class _Slopes:
    """How the gates' gradients depend on those of a position's hidden and cell state.

    Attributes:
        cell: ∂h/∂c, shape [t, b, h].
        gates: ∂c/∂a of the input, forget and cell gates and ∂h/∂a of the output gate, shape
            [t, b, 4, h].
        forget: ∂c_t/∂c_{t-1}, shape [t, b, h].
    """

    cell: Tensor
    gates: Tensor
    forget: Tensor


def lstm_declines(node: Node) -> str | None:
    """Say why the factors of a node cannot be had.

    Args:
        node: The node of a recurrent layer, named `NODE`.

    Returns:
        The reason, in words that follow the name of the operation, or None: `lstm_factors` holds.
        `_saved_batch_first` is no reason: it says that the caller exchanged time and batch outside
        of the node, whose tensors have time first either way.
    """
    if node.name() != NODE:
        return "is not a recurrent layer in one node"
    if attribute(node, "_saved_mode") != _LSTM:
        return "is a recurrent layer of another kind than LSTM"
    if len(attribute(node, "_saved_batch_sizes")):
        return "packs sequences of different lengths"
    biases = ("weight2", "weight3") if attribute(node, "_saved_has_biases") else ()
    if not readable(node, "input", "hx_", "cx_", "result0", "weight0", "weight1", *biases):
        return "keeps what is needed behind hooks, as in a checkpoint, or not at all"
    hidden = int(attribute(node, "_saved_hidden_size"))
    if tuple(attribute(node, "_saved_weight1").shape) != (_GATES * hidden, hidden):
        return "projects its hidden state"
    return None


def lstm_factors(node: Node, gradients: Sequence[Tensor | None]) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of the gates, and what they are multiplied with in the weights'.

    Args:
        node: A node that `lstm_declines` does not decline.
        gradients: Of the node's output, shape [t, b, h], last hidden and last cell state, shape
            [b, h] each; None for zeros. All that are there may have a first dimension more, of
            size k, for k losses per sample.

    Returns:
        δ of the pre-activations, shape [t, b, 4h] or [k, t, b, 4h], the inputs x_t, shape
        [t, b, i], and the hidden states h_{t-1}, shape [t, b, h]; position p of each belongs to
        position p of the node's input whatever the direction. At least in float32.

    Raises:
        ValueError: A gradient has not the shape of its result, or there is none at all.
        RuntimeError: A backward pass freed what the node saved, or it was changed in place.

    Cost: t·b·4h·(i + (1 + k)·h) multiply-adds, about 7·t·b·h elements beside the results.
    """
    losses = _losses(node, gradients)
    inputs = _saved(node, "input")
    reverse = bool(attribute(node, "_saved_reverse"))
    hidden = _earlier(_saved(node, "result0"), _saved(node, "hx_"), reverse)
    slopes = _slopes(node, inputs, hidden, reverse)
    delta = _through_time(node, slopes, gradients, losses, reverse)
    return delta if losses is not None else delta[0], inputs, hidden


def earlier_states(node: Node) -> Tensor:
    """Read the hidden states h_{t-1} that a node multiplied with its second weight.

    Args:
        node: A node that `lstm_declines` does not decline.

    Returns:
        Shape [t, b, h], position p of it belonging to position p of the node's input.

    Raises:
        RuntimeError: A backward pass freed what the node saved, or it was changed in place.
    """
    reverse = bool(attribute(node, "_saved_reverse"))
    return _earlier(_saved(node, "result0"), _saved(node, "hx_"), reverse)


def _saved(node: Node, name: str) -> Tensor:
    """A saved tensor in the dtype of the computation."""
    tensor: Tensor = attribute(node, f"_saved_{name}").detach()
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _losses(node: Node, gradients: Sequence[Tensor | None]) -> int | None:
    """The size k of the gradients' first dimension, None where they have none such."""
    shapes = [tuple(result.shape) for result in output_metadata(node)[:3]]
    present = [(g, s) for g, s in zip(gradients, shapes, strict=True) if g is not None]
    leading = {tuple(g.shape)[: g.ndim - len(s)] for g, s in present}
    fits = all(tuple(g.shape)[g.ndim - len(s) :] == s for g, s in present)
    if len(leading) != 1 or not fits or len(min(leading)) > 1:
        found = [None if g is None else tuple(g.shape) for g in gradients]
        raise ValueError(
            f"got gradients of shapes {found}, expected those of the results, {shapes}, or all "
            "with the same dimension in front; pass at least one as autograd hands them out."
        )
    (sizes,) = leading
    return sizes[0] if sizes else None


def _order(positions: int, reverse: bool) -> range:
    """The positions in the order in which the layer reads them."""
    return range(positions - 1, -1, -1) if reverse else range(positions)


def _earlier(states: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    """For every position the state before it, shape [t, b, h]."""
    first = initial.unsqueeze(0)
    return torch.cat([states[1:], first] if reverse else [first, states[:-1]])


def _slopes(node: Node, inputs: Tensor, hidden: Tensor, reverse: bool) -> _Slopes:
    """Compute gates and cell states again, and from them all that does not depend on gradients."""
    positions, samples, width = hidden.shape
    rows, weight = inputs.flatten(0, 1), _saved(node, "weight0").T
    # Without biases the node hands out other weights in their place.
    if attribute(node, "_saved_has_biases"):
        both = torch.addmm(_saved(node, "weight2") + _saved(node, "weight3"), rows, weight)
    else:
        both = rows @ weight
    both.addmm_(hidden.flatten(0, 1), _saved(node, "weight1").T)
    gates = both.view(positions, samples, _GATES, width)
    admitted, forget = gates[:, :, :2].sigmoid().unbind(2)
    proposed, shown = gates[:, :, 2].tanh(), gates[:, :, 3].sigmoid()
    initial = _saved(node, "cx_")
    cells = admitted * proposed
    previous = initial
    for position in _order(positions, reverse):
        previous = cells[position].addcmul_(forget[position], previous)
    # The slopes take the place of the gates, whose pre-activations nobody needs any more.
    by_input, by_forget, by_cell, by_output = gates.unbind(2)
    torch.mul(_sigmoid_slope(admitted), proposed, out=by_input)
    torch.mul(_sigmoid_slope(forget), _earlier(cells, initial, reverse), out=by_forget)
    torch.mul(_tanh_slope(proposed), admitted, out=by_cell)
    seen = cells.tanh_()
    torch.mul(_sigmoid_slope(shown), seen, out=by_output)
    return _Slopes(cell=_tanh_slope(seen).mul_(shown), gates=gates, forget=forget)


def _sigmoid_slope(value: Tensor) -> Tensor:
    """The derivative of a sigmoid from its value, with the digits that are left near 1."""
    return (1 - value).mul_(value)


def _tanh_slope(value: Tensor) -> Tensor:
    """The derivative of a hyperbolic tangent from its value, likewise."""
    return (1 - value).mul_(1 + value)


def _through_time(
    node: Node,
    slopes: _Slopes,
    gradients: Sequence[Tensor | None],
    losses: int | None,
    reverse: bool,
) -> Tensor:
    """Run back from the last position read to the first; δ, shape [k or 1, t, b, 4h]."""
    recurrent = _saved(node, "weight1")
    positions, samples, width = slopes.cell.shape
    size = (1 if losses is None else losses, samples, width)
    shown, hidden, cell = (
        None if g is None else g.detach().to(recurrent).reshape(size[0], -1, samples, width)
        for g in gradients
    )
    # Time first: steps are small, and read and write blocks. A single loss needs each slope once,
    # so its gradients take their place: fresh memory costs more than the products written to it.
    arriving = None if shown is None else shown.transpose(0, 1).contiguous()
    by_gate = slopes.gates.unsqueeze(1)
    delta = by_gate
    if size[0] != 1:
        delta = recurrent.new_empty(positions, size[0], samples, _GATES, width)
    hidden = recurrent.new_zeros(size) if hidden is None else hidden[:, 0]
    cell = recurrent.new_zeros(size) if cell is None else cell[:, 0]
    steps = list(zip(delta, by_gate, slopes.cell, slopes.forget, strict=True))
    later: Tensor | None = None
    for position in reversed(_order(positions, reverse)):
        now, by_gates, by_cell, forget = steps[position]
        if later is None:
            hidden = hidden if arriving is None else hidden + arriving[position]
        elif arriving is None:
            hidden = (later @ recurrent).view(size)
        else:
            hidden = torch.addmm(arriving[position].flatten(0, 1), later, recurrent).view(size)
        cell = torch.addcmul(cell, hidden, by_cell)
        torch.mul(by_gates[:, :, :3], cell.unsqueeze(2), out=now[:, :, :3])
        torch.mul(by_gates[:, :, 3], hidden, out=now[:, :, 3])
        later = now.view(size[0] * samples, _GATES * width)
        cell *= forget
    return delta.flatten(3).movedim(1, 0)
