"""Synthetic regression whose tasks agree or oppose each other, as a dial says."""

import math

import torch
from torch import Tensor, nn

from jdviz.problems.base import Batch, Data, check_conflict
from jdviz.problems.models import build_seeded, mlp
from jdviz.problems.sampling import SYNTHETIC_DATA, seeded_generator
from jdviz.problems.tasks import TaskProblem

N_TASKS = 4
N_INPUTS = 8
N_SAMPLES = 1024
# With torch's own range the first guess of an untrained network is about as far from zero as the
# targets' projection on what it can learn at first, and pulls all gradients the same way.
OUTPUT_SCALE = 0.1


class ConflictRegression(TaskProblem):
    """Tasks that want different values of the one output of a network.

    The inputs are standard normal, x in R⁸. The k = 4 base functions are waves across orthogonal
    directions, b_j(x) = sin(u_j·x), centred and made orthonormal over the samples. The target of
    task i is y_i = Σ_j (R^½)_ij b_j with R = (1 - ρ) I + ρ 1 1ᵀ: all targets have mean 0 and
    variance 1, and any two of them have the correlation ρ. The dial sets

        ρ = 1 - conflict · k / (k - 1).

    So at 0 every task has the same target, at 1 every pair has the correlation -1/(k-1), which is
    the least that k functions can have pairwise; then the targets add up to zero and no
    prediction is better for all tasks together than zero. Between the two, ρ falls linearly and
    vanishes at (k-1)/k. The last layer starts ten times smaller than usual, so that the first
    gradients show the targets and not the network's first guess: over four seeds and all sizes,
    at batch 128, the mean cosine between the tasks' gradients at the start fell steadily, from 1.00
    at 0 through 0.17 to 0.65 at one half to between -0.33 and -0.30 at 1. All tasks read the same
    output: heads of their own would let each task fit its own target, and the conflict would
    depend on the random heads.
    """

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(f"task {number}" for number in range(1, N_TASKS + 1))

    def make_model(self, size: str, seed: int) -> nn.Module:
        """Builds a perceptron with one output; the widths of the size are those of all layers."""
        widths = self.check_size(size)
        model = build_seeded(lambda: mlp(widths), seed)
        with torch.no_grad():
            for parameter in model[-1].parameters():
                parameter.mul_(OUTPUT_SCALE)
        return model

    def load(self, seed: int, conflict: float = 0.0) -> Data:
        """Makes inputs, shape [1024, 8], and targets, shape [1024, 4].

        The inputs and the base functions depend on the seed alone.
        """
        check_conflict(conflict)
        generator = seeded_generator(SYNTHETIC_DATA, seed)
        inputs = torch.randn(N_SAMPLES, N_INPUTS, generator=generator, dtype=torch.float64)
        directions = torch.linalg.qr(
            torch.randn(N_INPUTS, N_TASKS, generator=generator, dtype=torch.float64)
        ).Q
        waves = torch.sin(inputs @ directions)
        # Both factors of a QR decomposition may change sign together; the sign of R's diagonal
        # undoes that, so that each base function still is its wave.
        ortho = torch.linalg.qr(waves - waves.mean(dim=0))
        base = ortho.Q * ortho.R.diagonal().sign() * math.sqrt(N_SAMPLES)
        targets = base @ _root_of_correlation(N_TASKS, conflict)
        return Data(inputs.float(), targets.float())

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the mean squared error against each task's target, shape [4]."""
        inputs, targets = batch.tensors
        return (model(inputs) - targets).square().mean(dim=0)


def _root_of_correlation(k: int, conflict: float) -> Tensor:
    """Returns the symmetric square root of R = (1 - ρ) I + ρ 1 1ᵀ, shape [k, k].

    R has the eigenvalue 1 + (k-1)ρ = k(1 - conflict) for the vector of ones and
    1 - ρ = conflict · k/(k-1) for everything orthogonal to it.
    """
    mean = torch.full((k, k), 1 / k, dtype=torch.float64)
    along = math.sqrt(k * (1 - conflict))
    across = math.sqrt(conflict * k / (k - 1))
    return along * mean + across * (torch.eye(k, dtype=torch.float64) - mean)


CONFLICT_REGRESSION = ConflictRegression(
    key="conflict_regression",
    title="Regression with a conflict dial",
    summary="Four regression tasks share the one output of a small network, "
    "and a dial sets how far their target functions oppose each other.",
    objective_kind="tasks",
    batch_dim=None,
    sizes={
        "small": (N_INPUTS, 16, 1),
        "medium": (N_INPUTS, 64, 64, 1),
        "large": (N_INPUTS, 128, 128, 128, 1),
    },
    n_samples=N_SAMPLES,
    input_shape=(N_INPUTS,),
    target_shape=(N_TASKS,),
    target_dtype=torch.float32,
    default_size="medium",
    default_batch=128,
    max_batch=N_SAMPLES,
    default_learning_rate=0.1,
    dial="At 0 the four tasks want the same function, at 1 they oppose each other as far as four "
    "functions can.",
    default_conflict=0.5,
)
