"""Two classifications of the same image: which digit it shows, and whether that is odd or even."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from jdviz.problems.base import Batch, Data
from jdviz.problems.digits import (
    N_CLASSES,
    N_IMAGES,
    SIDE,
    chosen_images,
    image_names,
    load_images,
)
from jdviz.problems.models import Linear, build_seeded, mlp
from jdviz.problems.tasks import TaskProblem


class TwoHeads(nn.Module):
    """A shared trunk with one linear head per task."""

    def __init__(self, widths: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(mlp(widths), nn.ReLU())
        self.heads = nn.ModuleList(Linear(widths[-1], o) for o in outputs)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns the logits of each task for images of shape [m, 64]."""
        features = self.trunk(images)
        return [head(features) for head in self.heads]


class DigitsTwoTasks(TaskProblem):
    """The mean cross entropy of each of the two classifications is an objective."""

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the two tasks."""
        return ("which digit", "odd or even")

    def make_model(self, size: str, seed: int) -> nn.Module:
        """Builds trunk and heads; the widths are those of the trunk."""
        widths = self.check_size(size)
        return build_seeded(lambda: TwoHeads((SIDE * SIDE, *widths), (N_CLASSES, 2)), seed)

    def load(self, seed: int, conflict: float = 0.0) -> Data:
        """Loads the images, and both answers for each, shape [1797, 2]: digit, and 1 if odd.

        A share of conflict / 2, fixed for the seed, has the second answer inverted.
        """
        wrong, _ = chosen_images(seed, conflict, most=1 / 2)
        data = load_images()
        parity = data.targets % 2
        parity[wrong] = 1 - parity[wrong]
        return Data(data.inputs, torch.stack([data.targets, parity], dim=1))

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the mean cross entropy of each task, shape [2]."""
        images, answers = batch.tensors
        logits = model(images)
        return torch.stack(
            [F.cross_entropy(logits[task], answers[:, task]) for task in range(len(logits))]
        )

    def sample_names(self, sample_ids: NDArray[np.int64]) -> tuple[str, ...]:
        """Names images by their row in the data and the digit they show."""
        return image_names(sample_ids)


DIGITS_TWO_TASKS = DigitsTwoTasks(
    key="digits_two_tasks",
    title="Digits, two tasks",
    summary="One network with two heads learns which digit an image shows "
    "and whether that digit is odd or even.",
    objective_kind="tasks",
    batch_dim=None,
    sizes={"small": (32,), "medium": (128, 64), "large": (256, 256, 128)},
    n_samples=N_IMAGES,
    input_shape=(SIDE * SIDE,),
    target_shape=(2,),
    target_dtype=torch.int64,
    default_size="medium",
    default_batch=64,
    max_batch=N_IMAGES,
    default_learning_rate=0.1,
    dial="Tells the second task odd for even and even for odd, so that the two tasks want other "
    "features: for no image at 0, for every second one at 1.",
)
