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
    images, answers = batch.tensors
    with torch.no_grad():
        _, parity = model(images)
        by_hand = -torch.stack(
            [
                row.log_softmax(0)[digit % 2]
                for row, digit in zip(parity, answers[:, 0], strict=True)
            ]
        ).mean()
        losses = problem.losses(model, batch)
    torch.testing.assert_close(losses[1], by_hand)


@pytest.mark.parametrize("key", ["digits_mlp", "digits_cnn"])
def test_the_dial_gives_a_share_of_the_images_a_wrong_digit(key: str) -> None:
    problem, right = PROBLEMS[key], load_images()
    assert torch.equal(problem.load(4, 0.0).targets, right.targets)
    before = right.targets
    # Nine in ten of 1,797 images at 1: 1617.3, rounded; 485.19 and 970.38 below.
    for conflict, count in ((0.3, 485), (0.6, 970), (1.0, 1617)):
        data = problem.load(4, conflict)
        assert torch.equal(data.inputs, right.inputs)
        assert int((data.targets != right.targets).sum()) == count
        # Turned up, the dial adds wrong digits and keeps those that are there.
        kept = before != right.targets
        assert torch.equal(data.targets[kept], before[kept])
        before = data.targets
    shifts = (before - right.targets) % 10
    counts = torch.bincount(shifts[shifts > 0], minlength=10)[1:]
    # 1,617 draws among nine: 179.7 of each is expected, with a standard deviation of 12.6.
    assert counts.min() > 129
    assert counts.max() < 231
    assert torch.equal(problem.load(4, 1.0).targets, before)
    assert not torch.equal(problem.load(5, 1.0).targets, before)
    assert load_images().targets[:10].tolist() == list(range(10))


def test_the_dial_inverts_a_share_of_the_second_answers() -> None:
    problem, right = PROBLEMS["digits_two_tasks"], load_images().targets
    for conflict, count in ((0.0, 0), (0.5, 449), (1.0, 898)):
        targets = problem.load(4, conflict).targets
        assert torch.equal(targets[:, 0], right)
        assert int((targets[:, 1] != right % 2).sum()) == count
        assert set(targets[:, 1].tolist()) == {0, 1}


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
