"""The Python of the documents runs, and each recipe does what it says."""

import importlib.util
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import engines.autogram
from tests.support.reference import reference_gramian, reference_jacobian
from tests.support.tolerances import RELATIVE, assert_close

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes.md"
DOCUMENTS = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md")} - {RECIPES})
OPTIONAL = ("lightning",)
Namespace = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """A Python block of a document, under a heading, that starts at a line."""

    heading: str
    source: str
    line: int


def blocks(path: Path) -> list[Block]:
    """All Python blocks of a document, in order."""
    found: list[Block] = []
    heading, kind, start = "", None, 0
    lines: list[str] = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), start=1):
        fence = re.match(r"\s*```\s*(\w*)", text)
        if fence and kind is None:
            kind, start, lines = fence[1], number, []
        elif fence:
            if kind == "python":
                found.append(Block(heading, "\n".join(lines), start))
            kind = None
        elif kind is not None:
            lines.append(text)
        elif text.startswith("## "):
            heading = text.removeprefix("## ").strip()
    assert kind is None, f"{path.name}: the block at line {start} has no end"
    return found


def absent(source: str) -> str | None:
    """An optional library that the source imports and that is not installed."""
    for library in OPTIONAL:
        needed = re.search(rf"^\s*(?:import|from) {library}\b", source, flags=re.MULTILINE)
        if needed and importlib.util.find_spec(library) is None:
            return library
    return None


def execute(path: Path, block: Block, namespace: Namespace) -> None:
    """Run a block; a traceback shows the line of the document."""
    torch.manual_seed(0)
    # The place in the document, so that a failure names it.
    code = compile("\n" * block.line + block.source, str(path), "exec")
    exec(code, namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_reference_the_blocks_of_a_document_run(path: Path) -> None:
    namespace: Namespace = {"__name__": "example"}
    skipped = []
    for block in blocks(path):
        library = absent(block.source)
        if library is None:
            execute(path, block, namespace)
        else:
            skipped.append(f"line {block.line} needs {library}, which is not installed")
    if skipped:
        pytest.skip("; ".join(skipped))


@dataclass
class Record:
    """What a recipe did, beside what plain autograd says.

    Attributes:
        parameters: Those of the engine's modules.
        gramians: What was found, and what one autograd call per loss gives.
        steps: Losses' Jacobian in those parameters and the weights, of each backward pass.
    """

    parameters: list[nn.Parameter] = field(default_factory=list)
    gramians: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    steps: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def gradient(self, steps: int = 1) -> Tensor:
        """Sum of the weighted gradients of the last backward passes, shape [n]."""
        return sum(
            (weights.flatten() @ jacobian for jacobian, weights in self.steps[-steps:]),
            start=torch.zeros((), dtype=torch.float64),
        )


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Compares with plain autograd everything that the block about to run asks for."""
    kept = Record()
    plain_backward = torch.Tensor.backward

    class Observed(engines.autogram.Engine):
        def __init__(self, *modules: nn.Module, batch_dim: int | None) -> None:
            super().__init__(*modules, batch_dim=batch_dim)
            kept.parameters += [p for module in modules for p in module.parameters()]

        def compute_gramian(self, output: Tensor, **options: Any) -> Tensor:
            found = super().compute_gramian(output, **options)
            kept.gramians.append((found, reference_gramian(output, kept.parameters)))
            return found

        def backward(
            self,
            losses: Tensor,
            weighting: Callable[[Tensor], Tensor],
            retain_graph: bool = False,
        ) -> engines.autogram.GramianStep:
            expected = reference_gramian(losses, kept.parameters)
            jacobian = reference_jacobian(losses, kept.parameters).double()
            step = super().backward(losses, weighting, retain_graph)
            kept.gramians.append((step.gramian, expected))
            kept.steps.append((jacobian, step.weights.double()))
            return step

    def backward(losses: Tensor, gradient: Tensor | None = None, **options: Any) -> None:
        assert gradient is not None
        assert gradient.shape == losses.shape
        jacobian = reference_jacobian(losses, kept.parameters).double()
        kept.steps.append((jacobian, gradient.double()))
        plain_backward(losses, gradient, **options)

    monkeypatch.setattr(engines.autogram, "Engine", Observed)
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    return kept


def assert_steps_are_exact(record: Record, passes: int = 1, half: bool = False) -> None:
    """Gramians and final gradients are autograd's, and no update conflicts with an objective."""
    dtype = torch.bfloat16 if half else torch.float32
    assert record.gramians
    for found, expected in record.gramians:
        assert found.dtype == torch.float32
        assert_close(found, expected, dtype)
    found = torch.cat([p.grad.flatten() for p in record.parameters])
    assert_close(found, record.gradient(passes), dtype)
    for jacobian, weights in record.steps:
        direction = weights.flatten() @ jacobian
        lengths = jacobian.norm(dim=1) * direction.norm()
        assert bool((jacobian @ direction >= -RELATIVE[dtype] * lengths).all())


def assert_falls(history: list[float]) -> None:
    quarter = max(len(history) // 4, 1)
    assert sum(history[-quarter:]) < 0.9 * sum(history[:quarter])


def check_samples(namespace: Namespace, record: Record) -> None:
    assert namespace["gramian"].shape == (16, 16)
    assert namespace["weights"].shape == (16,)
    assert_steps_are_exact(record)
    assert_falls(namespace["history"])


def check_tasks(namespace: Namespace, record: Record) -> None:
    assert all(found.shape == (2, 2) for found, _ in record.gramians)
    assert_steps_are_exact(record)
    assert all(p.grad is not None for p in namespace["heads"].parameters())
    for task in zip(*namespace["history"], strict=True):
        assert_falls(list(task))


def check_tasks_per_sample(namespace: Namespace, record: Record) -> None:
    assert namespace["gramian"].shape == (32, 2, 2, 32)
    assert namespace["weights"].shape == (32, 2)
    assert_steps_are_exact(record)
    assert_falls(namespace["history"])


def check_part(namespace: Namespace, record: Record) -> None:
    last = list(namespace["trunk"][-1].parameters())
    assert list(map(id, record.parameters)) == list(map(id, last))
    assert all(p.grad is not None for p in namespace["trunk"].parameters())
    assert_steps_are_exact(record)
    assert_falls(namespace["history"])


def check_mixed_precision(namespace: Namespace, record: Record) -> None:
    assert namespace["outputs"].dtype == torch.bfloat16
    assert_steps_are_exact(record, half=True)
    assert_falls(namespace["history"])


def check_float16(namespace: Namespace, record: Record) -> None:
    assert namespace["outputs"].dtype == torch.float16
    skipped = 40 - len(namespace["history"])
    assert skipped > 0
    assert namespace["scaler"].get_scale() == 2.0 ** (30 - skipped)
    # Autograd makes weight gradients in float16, which may leave its range where ours do not.
    finite = [pair for pair in record.gramians if bool(pair[1].isfinite().all())]
    assert finite
    for found, expected in finite:
        assert_close(found, expected, torch.float16)
    assert all(bool(p.grad.isfinite().all()) for p in record.parameters)
    assert_falls(namespace["history"])


def check_micro_batches(namespace: Namespace, record: Record) -> None:
    assert len(record.steps) == 10 * namespace["parts"]
    assert_steps_are_exact(record, passes=namespace["parts"])
    assert_falls(namespace["history"])


def check_monitoring(namespace: Namespace, record: Record) -> None:
    assert len(namespace["log"]) == len(record.steps) == 5
    upper = torch.ones(16, 16).triu(1) > 0
    for entry, (jacobian, weights) in zip(namespace["log"], record.steps, strict=True):
        assert torch.equal(entry["weights"].double(), weights)
        units = nn.functional.normalize(jacobian, dim=1)
        cosines = (units @ units.T)[upper]
        assert entry["conflicting"] == pytest.approx((cosines < 0).double().mean().item())
        assert entry["lowest cosine"] == pytest.approx(cosines.min().item(), abs=1e-5)
    assert not namespace["weighting"]._forward_hooks
    assert_steps_are_exact(record)


def check_recurrent(namespace: Namespace, record: Record) -> None:
    assert namespace["weights"].shape == (16,)
    assert_steps_are_exact(record)
    assert_falls(namespace["history"])


def check_lightning(namespace: Namespace, record: Record) -> None:
    assert len(record.steps) == 20 * 4
    assert_steps_are_exact(record)
    assert_falls(namespace["module"].history)


CHECKS: dict[str, Callable[[Namespace, Record], None]] = {
    "One objective per sample": check_samples,
    "Several tasks": check_tasks,
    "Several tasks per sample": check_tasks_per_sample,
    "Part of a model": check_part,
    "Mixed precision": check_mixed_precision,
    "Mixed precision in float16": check_float16,
    "Micro-batches": check_micro_batches,
    "Monitoring": check_monitoring,
    "A recurrent network": check_recurrent,
    "PyTorch Lightning": check_lightning,
}


@pytest.mark.parametrize("block", blocks(RECIPES), ids=lambda block: block.heading)
def test_reference_recipe(block: Block, record: Record) -> None:
    assert block.heading in CHECKS, f"no check for the recipe {block.heading!r}"
    library = absent(block.source)
    if library is not None:
        pytest.skip(f"{library} is not installed; this recipe alone needs it")
    namespace: Namespace = {"__name__": "recipe"}
    with warnings.catch_warnings():
        if "import lightning" in block.source:
            # Lightning advises on loaders and workers, and warns about torch's own changes.
            warnings.simplefilter("ignore")
        execute(RECIPES, block, namespace)
    CHECKS[block.heading](namespace, record)


def test_structure_every_recipe_has_one_block_and_its_check() -> None:
    text = re.sub(r"^```.*?^```", "", RECIPES.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings == [block.heading for block in blocks(RECIPES)] == list(CHECKS)
