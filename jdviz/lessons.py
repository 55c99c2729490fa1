"""The guided tour: five lessons as data, and their answers computed from what each one shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from engines.aggregation import METHODS
from jdviz.compare import Outcome, compare
from jdviz.conflict import conflict_rate
from jdviz.figures.arrows import subscript
from jdviz.figures.words import degrees, listed, mebibytes, number, share
from jdviz.gradients import rows_from_polar
from jdviz.profiling import Comparison

#: Angles of three gradients in degrees; the first and the third conflict.
ANGLES = (20.0, 105.0, 165.0)
#: How long the first one becomes; the mean begins to hurt the third at 1.83 times.
LONGER = 2.5
#: Two in conflict, one ten times as long as the other.
UNEQUAL = ((20.0, 150.0), (4.0, 0.4))
TURN_DEG = 90.0
#: The methods that the last lesson compares; the question is about the first three.
COMPARED = ("Mean", "MGDA", "UPGrad", "PCGrad")
ASKED = COMPARED[:3]
SEED = 0


@dataclass(frozen=True)
class Lesson:
    """One lesson.

    Attributes:
        key: Its name in the address.
        title: What it is about, a few words.
        text: Two or three short paragraphs, Markdown.
        question: What to predict before the answer is computed.
        choices: Three answers, of which one is right.
        source: Where the facts are from.
    """

    key: str
    title: str
    text: str
    question: str
    choices: tuple[str, str, str]
    source: str


@dataclass(frozen=True)
class Answer:
    """What came of a lesson's question.

    Attributes:
        right: Place of the right choice, from 0.
        reason: Why, with the numbers that the figure shows.
    """

    right: int
    reason: str


LESSONS: dict[str, Lesson] = {
    lesson.key: lesson
    for lesson in (
        Lesson(
            "conflict",
            "What conflicts",
            "Gradient descent steps against the gradient of a loss, and the loss falls. Now let "
            "there be several losses, one for each task or for each image. We call them "
            "**objectives**; each has a gradient gᵢ of its own.\n\n"
            "The network in the picture has two parameters, so a gradient is an arrow. A small "
            "step against a direction d lowers loss i if gᵢ·d > 0: if d and gᵢ point to the same "
            "side.\n\n"
            "Two gradients **conflict** if the angle between them is more than 90°, so gᵢ·gⱼ < 0. "
            "A small step that follows one then raises the other's loss. The shaded **dual cone** "
            "holds the directions that raise neither.",
            "A network that reads digits takes its first step, with one loss for each of 32 "
            "images. How many of the 496 pairs of gradients conflict?",
            ("More than a half", "A quarter to a half", "Fewer than a quarter"),
            "Conflict: Yu et al., arXiv 2001.06782, Definition 1. One objective for each image: "
            "Quinton & Rey, arXiv 2406.16232, where it is called IWRM.",
        ),
        Lesson(
            "mean",
            "Why the mean can hurt",
            "With several losses, ordinary training follows their mean. Its gradient is the mean "
            "of the gradients, so a long gradient counts for more than a short one.\n\n"
            "Here are three gradients of equal length and their mean. A(J) is the direction that a "
            "method makes of them, here the mean, and the bars show how fast each loss falls along "
            "it, gᵢ·A(J). All three are above zero: nobody is hurt, although g₁ and g₃ conflict.",
            "Now g₁ becomes 2.5 times as long, and the angles stay. What does a small step along "
            "the mean do?",
            (
                "It lowers all three losses, the first one fastest",
                "It raises the third loss",
                "It raises the second and the third loss",
            ),
            "Methods that raise no loss are called non-conflicting: Quinton & Rey, "
            "arXiv 2406.16232, Section 2.2.",
        ),
        Lesson(
            "gramian",
            "What a Gramian is",
            "Write the m gradients below each other: they are the rows of the **Jacobian** J. A "
            "network with n parameters makes it m × n numbers.\n\n"
            "Take the inner products of all pairs of gradients, and of each with itself. They are "
            "the **Gramian** G = JJᵀ, m × m numbers however large the network is. On its diagonal "
            "are the squared lengths; beside it, a negative entry is a conflict.\n\n"
            "Many methods are weighted sums of the gradients, A(J) = Jᵀw. The weights w of most of "
            "them, UPGrad's too, depend on the Gramian alone.",
            "Turn all three gradients by 90°, together. What happens to the Gramian?",
            ("Every entry changes", "Nothing", "Some entries change their sign"),
            "Quinton & Rey, arXiv 2406.16232, Section 6.",
        ),
        Lesson(
            "memory",
            "Why autogram needs less memory",
            "The direct way to a weighted sum of gradients is to build the whole Jacobian. The "
            "engine **autojac** does so. The figure is the memory of one such step, measured: 64 "
            "images, one loss each, and a network with 38,282 parameters. Its "
            "Jacobian is 2.45 million numbers. A plain step, which knows only the mean of the "
            "losses, is drawn for comparison.\n\n"
            "The Gramian has 64 × 64 = 4,096 numbers. A gradient consists of one part for each "
            "layer, and inner products add up over the parts. So the engine **autogram** goes back "
            "through the network, adds each layer's share to the Gramian and drops it. With the "
            "weights found, it takes the gradient of the weighted loss, as in ordinary training.",
            "The same step by autogram: how high is its peak, beside autojac's?",
            ("Less than a quarter of it", "A quarter to a half of it", "More than half of it"),
            "Quinton & Rey, arXiv 2406.16232, Section 6 and Algorithm 3. The measurement is this "
            "project's.",
        ),
        Lesson(
            "methods",
            "Which method when",
            "No method is best for every problem; three questions help to choose. May a loss get "
            "worse for a while? If so, the **mean** is the cheapest. If not, take one that is "
            "non-conflicting, such as **MGDA** or **UPGrad**.\n\n"
            "Should a long gradient count for more? With UPGrad each objective counts in "
            "proportion to its gradient's length. MGDA takes the shortest vector that lies "
            "between the gradients, which is never longer than the shortest of them.\n\n"
            "Is the result to be the same every time? **PCGrad** goes through the objectives in a "
            "random order. With two it raises neither loss; with more it may.",
            "One gradient is ten times as long as the other, and they conflict. Which method "
            "raises no loss and still takes a direction longer than the short gradient?",
            ("Mean", "MGDA", "UPGrad"),
            "Désidéri, 2012 (MGDA); Yu et al., arXiv 2001.06782 (PCGrad); Quinton & Rey, "
            "arXiv 2406.16232, Section 2 (UPGrad).",
        ),
    )
}


def three_gradients(length: float, turn_deg: float = 0.0) -> NDArray[np.float64]:
    """The gradients of the second and the third lesson.

    Args:
        length: Of the first one; the others have length 1.
        turn_deg: By how much all are turned together, degrees.

    Returns:
        The Jacobian, shape [3, 2].
    """
    return rows_from_polar([angle + turn_deg for angle in ANGLES], (length, 1.0, 1.0))


def conflict_answer(G: NDArray[np.float64]) -> Answer:
    """How many pairs of a recorded step conflict.

    Args:
        G: Its Gramian, shape [m, m].
    """
    m = len(G)
    pairs = m * (m - 1) // 2
    rate = conflict_rate(G)
    return Answer(
        2 - int(np.searchsorted([0.25, 0.5], rate)),
        f"{share(round(rate * pairs), pairs, 'pair')} in conflict, {number(100 * rate)} %. "
        "Before it has learnt anything, images of different digits pull the network to different "
        "answers.",
    )


def mean_answer(jacobian: NDArray[np.float64]) -> Answer:
    """Whom the mean of three gradients hurts.

    Args:
        jacobian: Shape [3, 2].
    """
    mean = outcomes_of(jacobian, ("Mean",))[0]
    hurt = np.flatnonzero(mean.hurt)
    lines = [
        f"g{subscript(i + 1)}·A(J) = {number(value, signed=True)}"
        for i, value in enumerate(mean.inner)
    ]
    ending = (
        "The long gradient pulls the mean to its side and out of the shaded cone, where "
        "directions that raise no loss still are."
        if hurt.size
        else "The mean stays in the shaded cone."
    )
    return Answer(min(int(hurt.size), 2), f"{listed(lines)}. {ending}")


def gramian_answer(before: NDArray[np.float64], after: NDArray[np.float64]) -> Answer:
    """What another view of the same gradients does to their Gramian.

    Args:
        before: Gradients, shape [m, 2].
        after: The same, turned, shape [m, 2].
    """
    first, second = before @ before.T, after @ after.T
    changed = ~np.isclose(first, second, rtol=0.0, atol=1e-12)
    flipped = np.sign(first) != np.sign(second)
    right = 1 if not changed.any() else 2 if (flipped & changed).any() else 0
    first_weights, second_weights = _weights(before), _weights(after)
    # Turning leaves rounding in the inner products, and so in the weights.
    same = np.allclose(first_weights, second_weights, rtol=0.0, atol=1e-9)
    ending = (
        f"So UPGrad finds the same weights, {listed([number(w) for w in first_weights])}, and its "
        "direction turns along with the gradients."
        if same
        else "These gradients were not only turned, so UPGrad finds other weights."
    )
    return Answer(right, f"Lengths and angles are all that it knows of the gradients. {ending}")


def memory_answer(measured: Comparison) -> Answer:
    """How much of autojac's peak autogram needs.

    Args:
        measured: A comparison that has both.

    Raises:
        ValueError: If it lacks one of them.
    """
    full, fused = measured.of("autojac"), measured.of("fused")
    if full is None or fused is None:
        raise ValueError("got a comparison without both engines, expected autojac and fused.")
    part = fused.peak_bytes / full.peak_bytes
    return Answer(
        int(np.searchsorted([0.25, 0.5], part)),
        f"autogram peaks at {mebibytes(fused.peak_bytes)}, autojac at "
        f"{mebibytes(full.peak_bytes)}: {number(100 * part)} % of it. The Jacobian alone would "
        f"take {mebibytes(4 * full.objectives * full.parameters)}. With only a few objectives the "
        "Jacobian has few rows, and little or nothing is gained.",
    )


def methods_answer(jacobian: NDArray[np.float64]) -> Answer:
    """Which of the methods asked about raises no loss and does not shrink to the short gradient.

    Args:
        jacobian: Two gradients in conflict, shape [2, 2].

    Raises:
        ValueError: If not exactly one of them does.
    """
    shortest = float(np.linalg.norm(jacobian, axis=1).min())
    outcomes = outcomes_of(jacobian, ASKED)
    fit = [i for i, one in enumerate(outcomes) if not one.hurt.any() and one.norm > shortest]
    if len(fit) != 1:
        raise ValueError(f"got {len(fit)} methods that fit, expected one; take other gradients.")
    return Answer(fit[0], " ".join(_judged(one) for one in outcomes))


def outcomes_of(jacobian: NDArray[np.float64], methods: Sequence[str]) -> tuple[Outcome, ...]:
    """What some methods make of a small Jacobian.

    Args:
        jacobian: Shape [m, n].
        methods: Their names.
    """
    return compare(jacobian, methods, SEED).outcomes


def properties_table() -> pd.DataFrame:
    """What is known of the methods of the last lesson, a row each."""
    asked = {
        "raises no loss": "non_conflicting",
        "each counts by its length": "linear_under_scaling",
        "the same every time": "random",
    }
    return pd.DataFrame(
        {
            words: [
                "yes" if METHODS[one].properties[name] != (name == "random") else "no"
                for one in COMPARED
            ]
            for words, name in asked.items()
        },
        index=list(COMPARED),
    )


def pair_of_gradients(angle_deg: float) -> NDArray[np.float64]:
    """The gradients of the first lesson: two of length 1.

    Args:
        angle_deg: Angle between them, degrees.

    Returns:
        The Jacobian, shape [2, 2].
    """
    return rows_from_polar([0.0, angle_deg], [1.0, 1.0])


def pair_sentence(jacobian: NDArray[np.float64]) -> str:
    """Whether two gradients conflict, in one sentence.

    Args:
        jacobian: Two gradients in the plane, neither zero, shape [2, 2].
    """
    product = float(jacobian[0] @ jacobian[1])
    lengths = np.linalg.norm(jacobian, axis=1)
    cosine = float(np.clip(product / lengths.prod(), -1.0, 1.0))
    between = degrees(float(np.degrees(np.arccos(cosine))))
    # A right angle is exact for multiples of 90°, and rounding for others.
    verdict = (
        "neither helps nor hurts the other"
        if abs(cosine) < 1e-12
        else "conflict"
        if cosine < 0
        else "agree"
    )
    begin = f"The angle is {between} and g₁·g₂ = {number(product, signed=True)}"
    if abs(cosine) < 1e-12:
        return f"The angle is {between} and g₁·g₂ = 0: each {verdict}."
    return f"{begin}: the gradients {verdict}."


def _judged(one: Outcome) -> str:
    hurt = [f"g{subscript(int(i) + 1)}" for i in np.flatnonzero(one.hurt)]
    effect = f"makes {listed(hurt)} worse" if hurt else "makes none worse"
    return f"{one.method} {effect}; its direction has length {number(one.norm)}."


def _weights(jacobian: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights that UPGrad finds, shape [m]."""
    weights = outcomes_of(jacobian, ("UPGrad",))[0].weights
    return np.zeros(len(jacobian)) if weights is None else weights
