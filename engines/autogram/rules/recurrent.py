"""Recurrent layers that autograd records as one node."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autogram.graph import attribute, output_dtype, output_shape
from engines.autogram.places import Place, State, Unknown
from engines.autogram.rules.factors import COMPLEX, Declined, Role
from engines.autogram.rules.linear import LinearRule
from engines.autogram.rules.lstm import NODE, earlier_states, lstm_declines, lstm_factors
from engines.autogram.rules.registry import register


@register(NODE)
class RecurrentRule(LinearRule):
    """An LSTM layer in one direction: linear maps of its inputs and of its hidden states.

    Their output gradients are those of the gates, which the rule computes from the gradients of
    all three results: the output and the last hidden and cell state.
    """

    name = "recurrent"
    results = (0, 1, 2)

    def state(self, states: Mapping[int, State]) -> State:
        """See `Rule.state`: along the second dimension of the output, the first of the others."""
        found: State = Unknown("receives no gradient")
        for result, state in states.items():
            if not isinstance(state, Place):
                return state
            expected = 1 if result == 0 else 0
            if state.axis is not None and state.axis != expected:
                return Unknown("has the samples along a dimension that its rule does not take")
            place = state if state.axis is None else Place(1, state.owners)
            if isinstance(found, Place) and (
                found.axis != place.axis or not np.array_equal(found.owners, place.owners)
            ):
                return Unknown("has other samples in its output than in its last states")
            found = place
        return found

    def place(self, node: Node, place: Place) -> Place | None:
        """See `Rule.place`: positions of all samples one below the other."""
        positions, rows = output_shape(node)[:2]
        if place.axis is None:
            return Place(0, place.owners.repeat(positions * rows))
        return Place(0, np.tile(place.owners, positions)) if place.axis == 1 else None

    def role(
        self, node: Node, slot: int, parameter: Tensor, transposed: bool, place: Place
    ) -> Role | Declined:
        """See `Rule.role`."""
        if output_dtype(node).is_complex or not parameter.is_floating_point():
            return COMPLEX
        declined = lstm_declines(node)
        if declined is not None or transposed or not 1 <= slot <= 4:
            return Declined(declined or "has the parameter in an unusual place")
        return "weight" if slot <= 2 else "bias"

    def reads(self, node: Node, slot: int) -> tuple[str, ...]:
        """See `Rule.reads`."""
        return ("input", "hx_", "cx_", "result0", "weight0", "weight1")

    def section(self, node: Node, slot: int) -> int:
        """See `Rule.section`: the weight of the inputs and that of the states, with a bias each."""
        return (slot - 1) % 2

    def data(self, node: Node, slot: int) -> Tensor | None:
        """See `Rule.data`."""
        return None

    def output_gradient(self, node: Node, gradients: Sequence[Tensor | None]) -> Tensor | None:
        """See `Rule.output_gradient`: of the gates, shape [t·b, 4h]."""
        if all(gradient is None for gradient in gradients):
            return None
        return lstm_factors(node, gradients)[0].flatten(0, 1)

    def inputs(self, node: Node, slot: int, dtype: torch.dtype) -> Tensor:
        """See `Rule.inputs`: x_t or h_{t-1}, shape [t·b, …]."""
        found = attribute(node, "_saved_input") if slot == 1 else earlier_states(node)
        rows: Tensor = found.detach().to(dtype).flatten(0, 1)
        return rows

    def flags(self, transposed: Sequence[bool]) -> tuple[bool, ...]:
        """See `LinearRule.flags`: a weight of shape [4h, i] is used as that of a linear layer."""
        return (True,) * len(transposed)
