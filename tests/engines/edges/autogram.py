"""Edge cases of the Gramian: forwards, losses and batches."""

import copy
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.autogram import Engine
from engines.errors import BatchMixedError, UnsupportedGraphError
from tests.engines.edges.record import Pairs, exact, refused
from tests.support.reference import reference_gramian

B = 6


def mlp(dtype: torch.dtype, out: int = 3) -> nn.Sequential:
    """A small network, input width 4."""
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, out)).to(dtype)


def data(dtype: torch.dtype, *shape: int) -> Tensor:
    """Inputs from torch's global generator."""
    return torch.randn(*(shape or (B, 4)), dtype=dtype)


def losses_of(model: nn.Module, x: Tensor) -> Tensor:
    """One loss per sample, shape [b]."""
    losses: Tensor = model(x).square().flatten(1).sum(1)
    return losses


def gradient_of(parameters: Iterable[Tensor]) -> Tensor:
    """The `.grad` of some parameters, those without left out, shape [n]."""
    found = [p.grad.flatten() for p in parameters if p.grad is not None]
    return torch.cat(found)


def pair(
    losses: Tensor, *modules: nn.Module, engine: Engine | None = None, batch_dim: int | None = 0
) -> tuple[Tensor, Tensor]:
    """The engine's Gramian and plain autograd's."""
    engine = engine or Engine(*modules, batch_dim=batch_dim)
    parameters = [p for module in modules for p in module.parameters()]
    return engine.compute_gramian(losses), reference_gramian(losses, parameters)


@exact("autogram", "Another forward with gradients whose losses are not used")
def stray_forward(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine = Engine(model, batch_dim=0)
    model(x.flip(0))
    losses = losses_of(model, x)
    model(x[:2])
    yield pair(losses, model, engine=engine)


@exact("autogram", "Two forwards, then two Gramians")
def two_forwards(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine = Engine(model, batch_dim=0)
    first, second = losses_of(model, x), losses_of(model, x[:4])
    yield pair(first, model, engine=engine)
    yield pair(second, model, engine=engine)


@exact("autogram", "An exception in a later layer's forward, then a normal step")
def exception_in_forward(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine = Engine(model, batch_dim=0)
    try:
        nn.Sequential(model[0], nn.Linear(9, 9, dtype=dtype))(x)
    except RuntimeError:
        yield pair(losses_of(model, x), model, engine=engine)


@exact("autogram", "The Gramian of the same losses twice")
def same_losses_twice(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine, losses = Engine(model, batch_dim=0), losses_of(model, x)
    yield pair(losses, model, engine=engine)
    yield pair(losses, model, engine=engine)


@exact("autogram", "Two engines on one model")
def two_engines(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engines = [Engine(model, batch_dim=0), Engine(model, batch_dim=None)]
    losses = losses_of(model, x)
    yield from (pair(losses, model, engine=engine) for engine in engines)


@exact("autogram", "Two forwards concatenated into one loss vector")
def concatenated_forwards(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    yield pair(torch.cat([losses_of(model, x[:2]), losses_of(model, x[2:])]), model)


@exact("autogram", "One forward per sample, stacked")
def loop_over_samples(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    yield pair(torch.stack([model(sample).square().sum() for sample in x]), model)


@exact("autogram", "Siamese: two forwards of one batch, combined")
def siamese(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    yield pair((model(x) - model(x.flip(1))).square().sum(1), model)


@refused(
    "autogram",
    "Training-mode BatchNorm, without parameters too",
    BatchMixedError,
    says="after 2  BatchNorm is in training mode  -> GroupNorm, or eval mode",
    why="A sample's gradient depends on the others through the statistics. Exact with "
    "`batch_dim=None`, in eval mode, and with other norms.",
)
def training_batch_norm(dtype: torch.dtype) -> Pairs:
    layers = [nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3), nn.BatchNorm1d(3, affine=False)]
    model = nn.Sequential(*layers).to(dtype)
    yield pair(losses_of(model, data(dtype)), model)


@exact("autogram", "Training-mode BatchNorm with `batch_dim=None`")
def training_batch_norm_whole_batch(dtype: torch.dtype) -> Pairs:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).to(dtype)
    yield pair(losses_of(model, data(dtype)), model, batch_dim=None)


@exact("autogram", "BatchNorm in eval mode, or frozen inside a model in training mode")
def frozen_batch_norm(dtype: torch.dtype) -> Pairs:
    norm = nn.BatchNorm1d(5)
    model = nn.Sequential(nn.Linear(4, 5), norm, nn.Linear(5, 3)).to(dtype)
    model(3 * data(dtype) + 1)
    norm.eval()
    yield pair(losses_of(model, data(dtype)), model)
    norm.requires_grad_(False)
    yield pair(losses_of(model, data(dtype)), model)


@refused(
    "autogram",
    "Losses normalised over the batch (`l / l.sum()`)",
    BatchMixedError,
    says="after 2  Sum over the batch reaches every sample  -> detach it, or apply it outside",
    why="Every loss depends on every sample. Exact with `batch_dim=None`, and with the sum "
    "detached.",
)
def normalised_losses(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = losses_of(model, data(dtype))
    yield pair(losses / losses.sum(), model)


@exact("autogram", "Losses normalised over the batch by a detached sum")
def losses_with_detached_sum(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = losses_of(model, data(dtype))
    yield pair(losses / losses.sum().detach(), model)


@refused(
    "autogram",
    "Attention across the batch (`batch_first` forgotten)",
    BatchMixedError,
    says="rows are combined over the batch",
    why="Samples attend to each other. Exact with `batch_dim=None`, and with `batch_first=True`.",
)
def attention_across_the_batch(dtype: torch.dtype) -> Pairs:
    model, x = nn.MultiheadAttention(8, 2).to(dtype), data(dtype, B, 3, 8)
    yield pair(model(x, x, x, need_weights=False)[0].square().sum((1, 2)), model)


@refused(
    "autogram",
    "Attention across the batch, with a projection of the raw input each for queries and keys",
    BatchMixedError,
    says="Addmm reads the whole batch for every sample",
    why="The keys of one sample reach the losses of all. Exact with `batch_dim=None`.",
)
def attention_across_raw_inputs(dtype: torch.dtype) -> Pairs:
    model, x = nn.ModuleList([nn.Linear(4, 5) for _ in range(3)]).to(dtype), data(dtype)
    q, k, v = (layer(x) for layer in model)
    yield pair(((q @ k.T).softmax(1) @ v).square().sum(1), model)


@refused(
    "autogram",
    "In-batch negatives (contrastive loss)",
    BatchMixedError,
    says="rows are combined over the batch",
    why="Every loss compares with all samples. Exact with `batch_dim=None`.",
)
def contrastive(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    z = F.normalize(model(data(dtype)), dim=1)
    yield pair(F.cross_entropy(z @ z.T, torch.arange(B), reduction="none"), model)


@refused(
    "autogram",
    "A branch that mixes samples but starts at zero",
    BatchMixedError,
    says="Mean over the batch reaches every sample",
    why="Found before it acts: what decides is the operation, not today's gradient. Exact with "
    "`batch_dim=None`.",
)
def zero_branch_that_mixes(dtype: torch.dtype) -> Pairs:
    first, second = nn.Linear(4, 4, dtype=dtype), nn.Linear(4, 4, dtype=dtype)
    nn.init.zeros_(second.weight)
    h = first(data(dtype))
    yield pair((h + second(h.mean(0))).square().sum(1), first, second)


@exact("autogram", "A residual branch that starts at zero, over three steps")
def zero_branch(dtype: torch.dtype) -> Pairs:
    first, second = nn.Linear(4, 4, dtype=dtype), nn.Linear(4, 4, dtype=dtype)
    nn.init.zeros_(second.weight)
    x, engine = data(dtype), Engine(first, second, batch_dim=0)
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    for _ in range(3):
        h = first(x)
        losses = (h + torch.asinh(second(h))).square().sum(1)
        yield pair(losses, first, second, engine=engine)
        losses.mean().backward()
        optimizer.step()


@exact(
    "autogram",
    "Two task losses averaged over the batch, with `batch_dim=0`",
    note="the dimension indexes tasks, whose shared parts take the general path",
)
def averaged_tasks_by_sample(dtype: torch.dtype) -> Pairs:
    trunk, heads = mlp(dtype), nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 2)]).to(dtype)
    h = trunk(data(dtype))
    yield pair(torch.stack([head(h).square().mean() for head in heads]), trunk, heads)


@exact("autogram", "Two task losses averaged over the batch, with `batch_dim=None`")
def averaged_tasks(dtype: torch.dtype) -> Pairs:
    trunk, heads = mlp(dtype), nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 2)]).to(dtype)
    h = trunk(data(dtype))
    losses = torch.stack([head(h).square().mean() for head in heads])
    yield pair(losses, trunk, heads, batch_dim=None)


@exact("autogram", "A module only partly used, an unused output, an unused head")
def unused_parts(dtype: torch.dtype) -> Pairs:
    trunk, used, unused = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 2)
    model = nn.ModuleList([trunk, used, unused]).to(dtype)
    h = trunk(data(dtype))
    unused(h)
    yield pair(used(h).square()[:, :2].sum(1), model)


@exact("autogram", "Samples in another order than the losses, sorted losses")
def reordered(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine = Engine(model, batch_dim=0)
    for order in ([0, 1, 2, 3, 4, 5], [3, 1, 5, 0, 2, 4]):
        yield pair(losses_of(model, x)[torch.tensor(order)], model, engine=engine)
    yield pair(losses_of(model, x).sort().values, model, engine=engine)


@exact("autogram", "Graphs of different sizes in one batch, pooled by index")
def graph_batch(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype, 9, 4)
    engine = Engine(model, batch_dim=0)
    for sizes in ([3, 3, 3], [5, 1, 3]):
        owner = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
        pooled = torch.zeros(3, 3, dtype=dtype).index_add(0, owner, model(x))
        yield pair(pooled.square().sum(1), model, engine=engine)


@exact("autogram", "Batch of one; batch as large as a feature size")
def small_batches(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    for rows in (1, 4, 5):
        yield pair(losses_of(model, data(dtype, rows, 4)), model)


@exact("autogram", "Empty batch", note="shape `[0, 0]`")
def empty_batch(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    for batch_dim in (0, None):
        losses = losses_of(model, data(dtype, 0, 4))
        found = Engine(model, batch_dim=batch_dim).compute_gramian(losses)
        yield found, torch.zeros(0, 0, dtype=dtype)


@refused(
    "autogram",
    "Detached losses, or a forward under `no_grad` or `inference_mode`",
    UnsupportedGraphError,
    says="check for detach(), no_grad() or frozen parameters",
    why="There is no graph to read, and nothing was stored.",
)
def detached_losses(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            losses = losses_of(model, data(dtype))
        try:
            Engine(model, batch_dim=0).compute_gramian(losses)
        except UnsupportedGraphError:
            continue
        return
    yield pair(losses_of(model, data(dtype)).detach(), model)


def shaped(y: Tensor, shape: Sequence[int], dim: int | None) -> Tensor:
    """Outputs [6, 6] of six samples, in a shape in which some dimension indexes them."""
    if dim is None and not shape:
        return y.square().mean()
    if len(shape) == 1:
        return y.square().sum(1)
    place = list(shape).index(B)
    rest = [size for size in shape if size != B]
    return y[:, : torch.Size(rest).numel()].square().unflatten(1, rest).movedim(0, place)


@exact("autogram", "Outputs of 0 to 4 dimensions, `batch_dim` 0, 1, 2, -1 or None")
def shapes(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype, B), data(dtype)
    for shape, dim in [
        ((), None),
        ((6,), 0),
        ((6,), -1),
        ((6, 3), 0),
        ((3, 6), 1),
        ((3, 6), None),
        ((3, 2, 6), 2),
        ((3, 6, 2), -2),
        ((6, 1, 3, 2), 0),
        ((6, 1, 3, 2), None),
    ]:
        losses = shaped(model(x), shape, dim)
        yield pair(losses, model, batch_dim=dim)
    losses = losses_of(model, x)
    by_sample = Engine(model, batch_dim=0).compute_gramian(losses)
    yield by_sample, Engine(model, batch_dim=None).compute_gramian(losses)


@exact("autogram", "A subset of the modules, one by one and overlapping")
def subsets(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = losses_of(model, data(dtype))
    yield pair(losses, model[0])
    yield pair(losses, model[2])
    yield pair(losses, model[2], model)
    shares = Engine(model, batch_dim=0).compute_gramian(losses, by_module=True)
    yield torch.stack(list(shares.values())).sum(0), reference_gramian(losses, model.parameters())


@exact("autogram", "A copy of the model between forward and backward (EMA, target network)")
def copied_between(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine = Engine(model, batch_dim=0)
    losses = losses_of(model, x)
    copied = copy.deepcopy(model)
    yield pair(losses, model, engine=engine)
    yield pair(losses_of(copied, x), copied)
