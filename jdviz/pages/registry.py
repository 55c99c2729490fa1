"""The list of pages; the navigation, the overview's links and the tests are derived from it."""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PageRecord:
    """One page.

    Attributes:
        key: Its name in the address.
        name: Its name in the navigation.
        question: The question that it answers, also its title.
        invitation: What one can do there, in one sentence.
    """

    key: str
    name: str
    question: str
    invitation: str

    @property
    def path(self) -> Path:
        """The page's script."""
        return _FOLDER / f"{self.key}.py"


PAGES: dict[str, PageRecord] = {
    page.key: page
    for page in (
        PageRecord(
            "overview",
            "Overview",
            "What does training with several objectives look like?",
            "The idea in ten lines, with the formulas.",
        ),
        PageRecord(
            "tour",
            "Tour",
            "What would you expect to happen?",
            "Five short lessons, each with a prediction to make before its answer is computed.",
        ),
        PageRecord(
            "train",
            "Train",
            "When do objectives pull apart while a network trains?",
            "Train a network by Jacobian descent and watch its Gramian while it learns.",
        ),
        PageRecord(
            "runs",
            "Runs",
            "Which differences between runs are real?",
            "Compare recorded runs of the app and of your own scripts, over seeds too.",
        ),
        PageRecord(
            "lens",
            "Lens",
            "Where in the network do objectives conflict?",
            "Go through the steps of a run, pair by pair and layer by layer.",
        ),
        PageRecord(
            "directions",
            "Directions",
            "Where does each method go, and whom does it hurt?",
            "Set a few gradients in the plane and compare the aggregators' directions.",
        ),
        PageRecord(
            "trajectories",
            "Trajectories",
            "Where do a method's steps lead in the end?",
            "Follow several methods step by step on problems whose Pareto fronts are known.",
        ),
        PageRecord(
            "engines",
            "Engines",
            "How much memory and time does each engine need?",
            "Measure one training step by plain autograd, by autojac and by autogram.",
        ),
    )
}
