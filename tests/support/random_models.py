"""Random models: a description that can be read and run again, and strategies that draw one."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.support.random_layers import LAYERS, MIXING, TABLES, Layer, Shape, tied

VOCABULARY = 5
MOST_VALUES = 96  # of one sample, at any place in a model
SHARING = 5  # how much likelier than a kind of layer each kind of sharing is
NOT_EMPTY = {"instance norm", "instance norm 2d"}  # torch's own forward fails without samples
ALL_LAYERS = LAYERS | MIXING

# How a layer is used. Those of the first group need a layer that keeps the shape.
KEEPING: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]] = {
    "residual": lambda f, x: x + f(x),
    "twice": lambda f, x: f(torch.tanh(f(x))),
    "gate": lambda f, x: x * torch.sigmoid(f(x)),
}
ANY: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]] = {
    "once": lambda f, x: f(x),
    "siamese": lambda f, x: f(x) - f(x.flip(-1)),
    "checkpointed": lambda f, x: checkpoint(f, x, use_reentrant=False),
    "separately": lambda f, x: torch.cat([f(part) for part in x.split(1)]) if len(x) else f(x),
}
# The first dimension of a sample joins the batch: samples outermost, or innermost.
FOLDING: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]] = {
    "folded": lambda f, x: f(x.flatten(0, 1)).unflatten(0, x.shape[:2]),
    "folded inside": lambda f, x: (
        f(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (x.shape[1], -1)).transpose(0, 1)
    ),
}
WAYS = KEEPING | ANY | FOLDING


class Readable:
    """Shows a dataclass as the call that builds it, without what is as usual."""

    def __repr__(self) -> str:
        described: Any = self
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(described)
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Have Hypothesis print the same."""
        printer.text("..." if cycle else repr(self))


@dataclass(frozen=True, repr=False)
class Step(Readable):
    """One layer of a model.

    Attributes:
        kind: A key of the tables of layers; "again" for the module of an earlier step, "tied" for
            a product with its weight.
        width: Number of outputs, where the layer has one.
        size: Which variant: a kernel's size, a placement of parameters, and the like.
        way: How the layer is used.
        of: The earlier step, for "again" and "tied".
    """

    kind: str
    width: int = 3
    size: int = 2
    way: str = "once"
    of: int = 0


@dataclass(frozen=True, repr=False)
class RandomModel(Readable):
    """A model, its data and its losses.

    Attributes:
        steps: The layers, in order.
        shape: Shape of one sample; one dimension if it is tokens.
        batch: Number of samples.
        tokens: Whether samples are integers.
        frozen: Positions, in the list of parameters, of those that are not trained.
        losses: Losses per sample; None for a vector, one per sample.
        losses_first: Whether the losses are [k, b] instead of [b, k].
        batch_dim: What the engine is told.
        data: How the input lies in memory: "own", "expanded" (all samples are one),
            "strided", or "tracked" (it requires a gradient).
        silent: Whether the first sample's losses are multiplied by zero.
        seed: Of parameters and data.
    """

    steps: tuple[Step, ...]
    shape: Shape = (3,)
    batch: int = 3
    tokens: bool = False
    frozen: tuple[int, ...] = ()
    losses: int | None = None
    losses_first: bool = False
    batch_dim: int | None = 0
    data: str = "own"
    silent: bool = False
    seed: int = 0

    def module(self, dtype: torch.dtype) -> "Stack":
        """The model with its parameters, some of them frozen."""
        torch.manual_seed(self.seed)
        stack = Stack(self.shape, self.tokens)
        for step in self.steps:
            stack.add(step)
        stack.close()
        parameters = list(stack.parameters())
        for position in self.frozen:
            parameters[position].requires_grad_(False)
        return stack.to(dtype)

    def inputs(self, dtype: torch.dtype) -> Tensor:
        """The batch, shape [b, *shape]."""
        numbers = torch.Generator().manual_seed(self.seed)
        rows = min(self.batch, 1) if self.data == "expanded" else self.batch
        if self.tokens:
            x = torch.randint(VOCABULARY, (rows, *self.shape), generator=numbers)
        else:
            # Drawn in one dtype and then cast, so that every dtype gets the same numbers.
            x = torch.randn(rows, *self.shape, generator=numbers).to(dtype)
        if self.data == "expanded" and rows:
            x = x.expand(self.batch, *self.shape)
        if self.data == "strided":
            x = x.transpose(0, -1).contiguous().transpose(0, -1)
        return x.requires_grad_(self.data == "tracked" and not self.tokens)

    def objectives(self, module: nn.Module, x: Tensor) -> Tensor:
        """Losses, shape [b], [b, k] or [k, b], none of them linear in the output."""
        y = module(x)
        k = self.losses or 1
        weights = torch.linspace(0.5, 1.5, y.shape[1] * k, dtype=y.dtype).reshape(-1, k)
        each = (y.square() + y) @ weights
        if self.silent and self.batch:
            each = each * (torch.arange(self.batch) > 0)[:, None]
        if self.losses is None:
            return each.squeeze(1)
        return each.T if self.losses_first else each


class Stack(nn.Module):
    """Layers one after the other; grows while its description is drawn or read."""

    def __init__(self, shape: Shape, tokens: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.steps: list[Step] = []
        self.shapes: list[Shape] = [shape]
        self.tokens = tokens

    def candidates(self, without: set[str]) -> list[str]:
        """Kinds of layer that the last shape admits, in the order of the tables."""
        shape = self.shapes[-1]
        if self.tokens and not self.steps:
            return list(TABLES)
        table = {kind: layer for kind, layer in ALL_LAYERS.items() if kind not in without}
        kinds = [k for k, layer in table.items() if len(shape) in layer.ndims and layer.fits(shape)]
        for kind in ("again", "tied"):
            kinds += [kind] * SHARING if self.partners(kind) else []
        return kinds

    def partners(self, kind: str) -> list[int]:
        """Earlier steps that "again" or "tied" may refer to."""
        shape = self.shapes[-1]
        if kind == "again":
            own = [i for i, step in enumerate(self.steps) if step.kind not in ("again", "tied")]
            start = 1 if self.tokens else 0
            return [i for i in own if i >= start and self.shapes[i] == shape]
        found = []
        for i, layer in enumerate(self.layers):
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim == 2 and shape[-1] in weight.shape:
                found.append(i)
        return found

    def add(self, step: Step) -> None:
        """Append a layer."""
        shape = self.shapes[-1]
        layer: nn.Module
        if step.kind == "again":
            layer = self.layers[step.of]
        elif step.kind == "tied":
            layer = nn.Identity()
        elif step.kind in TABLES:
            layer = TABLES[step.kind](VOCABULARY, step.width, step.size)
        else:
            inner = shape[1:] if step.way in FOLDING else shape
            layer = ALL_LAYERS[step.kind].make(inner, step.width, step.size)
        self.layers.append(layer)
        self.steps.append(step)
        x = torch.zeros(2, *self.shapes[0], dtype=torch.long if self.tokens else None)
        with torch.no_grad():
            self.shapes.append(tuple(self._run(x).shape[1:]))

    def undo(self) -> None:
        """Take the last layer off."""
        del self.layers[-1], self.steps[-1], self.shapes[-1]

    def close(self) -> None:
        """Append the head and a gain, which keeps the losses from losing all their gradients."""
        features = torch.Size(self.shapes[-1]).numel()
        self.head = nn.Linear(features, 3)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, 3))

    def _run(self, x: Tensor) -> Tensor:
        for step, layer in zip(self.steps, self.layers, strict=True):
            x = WAYS[step.way](self._operation(step, layer), x)
        return x

    def _operation(self, step: Step, layer: nn.Module) -> Callable[[Tensor], Tensor]:
        if step.kind != "tied":
            return layer
        weight: Any = self.layers[step.of].weight
        return lambda x: tied(weight, x)

    def ways(self, step: Step) -> list[str]:
        """Ways to use the layer that was just added in the ordinary way."""
        before, after = self.shapes[-2:]
        used = self.steps[step.of] if step.kind == "again" else step
        if used.kind in MIXING or used.kind in TABLES:
            return ["once"]
        if used.way in FOLDING:
            return [used.way]
        found = ["once"] * 4 + list(ANY) + (list(KEEPING) if before == after else [])
        layer, inner = LAYERS.get(step.kind), before[1:]
        if layer is not None and len(inner) in layer.ndims and layer.fits(inner):
            found += list(FOLDING)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self._run(x)).flatten(1)) * self.gain


def _draw_step(draw: st.DrawFn, stack: Stack, kind: str) -> None:
    """Append a layer of a kind, used in some way, unless what comes out would be too large."""
    partners = stack.partners(kind) if kind in ("again", "tied") else [0]
    small = st.integers(1, 3)
    step = Step(kind, draw(small), draw(small), of=draw(st.sampled_from(partners)))
    if kind == "again":
        step = replace(step, way=stack.steps[step.of].way)
    stack.add(step)
    way = draw(st.sampled_from(stack.ways(step)))
    if way != step.way:
        stack.undo()
        stack.add(replace(step, way=way))
    if torch.Size(stack.shapes[-1]).numel() > MOST_VALUES:
        stack.undo()


def _shapes(kind: str | None) -> st.SearchStrategy[Shape]:
    """Shapes of a sample, or those that a kind of layer takes."""
    layer = ALL_LAYERS.get(kind or "", Layer((3, 2, 1), nn.Identity))
    side = st.integers(1, 4)
    ndims = st.sampled_from(layer.ndims)
    return ndims.flatmap(lambda n: st.tuples(*[side] * n)).filter(layer.fits)


@st.composite
def random_models(draw: st.DrawFn, kind: str | None = None, random: bool = True) -> RandomModel:
    """Draw a model, its data and its losses.

    Args:
        draw: Hypothesis gives it.
        kind: Kind of the first layer, or None for any.
        random: Whether a layer may draw random numbers.

    Returns:
        A description that builds the same model each time.
    """
    batch = draw(st.sampled_from([3, 4, 2, 1, 3, 4, 2, 0]))
    losses = draw(st.sampled_from([None, 1, 2, 3]))
    losses_first = losses is not None and draw(st.booleans())
    from_the_end = -1 if losses is None or losses_first else -2
    batch_dim = draw(st.sampled_from([int(losses_first), from_the_end, None]))
    data = draw(st.sampled_from(["own", "expanded", "strided", "tracked"]))
    if kind in MIXING:
        batch, batch_dim, data = max(batch, 2), None, "own"
    if kind in NOT_EMPTY:
        batch = max(batch, 1)
    tokens = kind in TABLES or (kind is None and draw(st.sampled_from([False, False, True])))
    shape = draw(st.tuples(st.integers(1, 4)) if tokens else _shapes(kind))
    stack = Stack(shape, tokens)
    if kind is not None:
        _draw_step(draw, stack, kind)
    without = set() if random else {"dropout"}
    # Equal samples less their mean are zero up to rounding, where a slope may take either side.
    distinct = batch > 1 and not tokens and data != "expanded"
    without |= set() if batch_dim is None and distinct else set(MIXING)
    without |= set() if batch else NOT_EMPTY
    for _ in range(draw(st.integers(1, 5))):
        _draw_step(draw, stack, draw(st.sampled_from(stack.candidates(without))))
    stack.close()
    # The gain is always trained: a Gramian of rounding errors alone has nothing to compare.
    places = [i for i, p in enumerate(stack.parameters()) if p is not stack.gain]
    frozen = draw(st.sets(st.sampled_from(places), max_size=len(places) // 2))
    return RandomModel(
        tuple(stack.steps),
        shape,
        batch,
        tokens,
        tuple(sorted(frozen)),
        losses,
        losses_first,
        batch_dim,
        data,
        draw(st.sampled_from([False, False, True])),
        draw(st.integers(0, 9)),
    )
