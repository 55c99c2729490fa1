"""The problems on handwritten digits."""

import numpy as np
import pytest
import torch

from jdviz.problems import PROBLEMS
from jdviz.problems.digits import image_names, load_images


def test_images_are_standardized() -> None:
    data = load_images()
    assert data.inputs.shape == (1797, 64)
    assert data.inputs.mean().abs() < 1e-5
    assert data.inputs.std() == pytest.approx(1.0, abs=1e-3)
    assert data.targets.unique().tolist() == list(range(10))


def test_names_say_row_and_digit() -> None:
    # The data begins with the digits 0 to 9 in order.
    assert image_names(np.array([0, 8, 3])) == ("image 0 (a 0)", "image 8 (an 8)", "image 3 (a 3)")


@pytest.mark.parametrize("key", ["digits_mlp", "digits_cnn"])
def test_the_loss_of_an_image_does_not_depend_on_the_others(key: str) -> None:
    problem = PROBLEMS[key]
    model = problem.make_model("small", seed=0)
    data = problem.load(seed=0)
    together = problem.batch(data, 0, 8, seed=0)
    images, digits = together.tensors
    alone = [
        problem.losses(model, type(together)((images[i : i + 1], digits[i : i + 1]), None))
        for i in range(8)
    ]
    torch.testing.assert_close(torch.cat(alone), problem.losses(model, together))


def test_parity_is_the_second_task() -> None:
    problem = PROBLEMS["digits_two_tasks"]
    model = problem.make_model("small", seed=0)
    batch = problem.batch(problem.load(seed=0), 0, 64, seed=0)
    images, digits = batch.tensors
    with torch.no_grad():
        _, parity = model(images)
        by_hand = -torch.stack(
            [row.log_softmax(0)[digit % 2] for row, digit in zip(parity, digits, strict=True)]
        ).mean()
        losses = problem.losses(model, batch)
    torch.testing.assert_close(losses[1], by_hand)


def test_tasks_have_names_and_no_other_number_of_them() -> None:
    problem = PROBLEMS["digits_two_tasks"]
    assert problem.objective_names(2) == ("which digit", "odd or even")
    with pytest.raises(ValueError, match="got 3 objectives, expected the 2 tasks"):
        problem.objective_names(3)


@pytest.mark.parametrize("key", ["digits_mlp", "digits_cnn", "digits_two_tasks"])
def test_plain_training_learns(key: str) -> None:
    problem = PROBLEMS[key]
    model = problem.make_model("small", seed=0)
    data = problem.load(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.default_learning_rate)
    means = []
    for step in range(150):
        loss = problem.losses(model, problem.batch(data, step, 64, seed=0)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        means.append(loss.item())
    assert np.mean(means[-10:]) < 0.5 * means[0]
