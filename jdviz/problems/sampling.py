"""Seeded random numbers that are functions of their keys, and the batches drawn with them."""

import numpy as np
import torch
from torch import Tensor

# Separates the streams that are seeded by the same run seed.
PARAMETERS, ORDER, SYNTHETIC_DATA, AGGREGATOR, ANSWERS = range(5)


def seeded_generator(*keys: int) -> torch.Generator:
    """Makes a generator whose stream depends on all keys.

    Seeds that differ by one give related streams in some generators; NumPy's seed sequence mixes
    them, in a way that its documentation promises to keep from version to version.

    Args:
        *keys: Non-negative whole numbers, such as a purpose, the run's seed and an epoch.

    Returns:
        A new generator on the CPU.
    """
    state = np.random.SeedSequence(keys).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def batch_rows(n_samples: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Chooses the rows of one step: a new order in each epoch, no row twice in an epoch.

    Args:
        n_samples: Rows in the data.
        batch_size: Rows in a batch, at most `n_samples`.
        step: Number of the step, from 0.
        seed: Seed of the order.

    Returns:
        Row numbers, shape [batch_size], int64.
    """
    steps_per_epoch = n_samples // batch_size
    epoch, position = divmod(step, steps_per_epoch)
    order = torch.randperm(n_samples, generator=seeded_generator(ORDER, seed, epoch))
    return order[position * batch_size : (position + 1) * batch_size]
