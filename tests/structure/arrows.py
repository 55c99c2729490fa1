"""Which module may import which: docs/ARCHITECTURE.md as rules on import statements."""

from collections.abc import Iterable

from tests.structure.sources import Import

# From the bottom up. A module may import rooms of its own level and below.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("jdviz.__version__",),
    ("engines",),
    (
        "jdviz.checks",
        "jdviz.compare",
        "jdviz.conflict",
        "jdviz.construction",
        "jdviz.gradients",
        "jdviz.histories",
        "jdviz.landscapes",
        "jdviz.layers",
        "jdviz.spectrum",
        "jdviz.trajectories",
    ),
    (
        "jdviz.arguments",
        "jdviz.components",
        "jdviz.figures",
        "jdviz.lessons",
        "jdviz.problems",
        "jdviz.profiling",
        "jdviz.runs",
        "jdviz.server",
        "jdviz.training",
    ),
    ("jdviz.pages",),
    ("app",),
    # Benchmarks drive a browser with the same helpers as the tests, and run the same edge cases.
    ("tests.support",),
    ("tests.engines.edges",),
    ("benchmarks",),
)
# Who alone may import a library.
HOMES: dict[str, tuple[str, ...]] = {
    "streamlit": ("app", "jdviz.components", "jdviz.pages", "jdviz.server"),
    "plotly": ("jdviz.figures",),
}
# What the numerics may import besides themselves and the standard library.
ENGINE_LIBRARIES = frozenset({"numpy", "quadprog", "scipy", "torch"})


def is_within(name: str, room: str) -> bool:
    """Whether a dotted name is a room or lies in it."""
    return name == room or name.startswith(room + ".")


def level_of(name: str) -> int | None:
    """The level of one of our modules; None for other people's and for a room without a level."""
    for level, rooms in enumerate(LEVELS):
        if any(is_within(name, room) for room in rooms):
            return level
    return None


def is_ours(name: str) -> bool:
    """Whether a dotted name is one of this repository's."""
    return name.split(".")[0] in {"app", "benchmarks", "engines", "jdviz", "tests"}


def upward(imports: Iterable[Import]) -> list[str]:
    """The imports that point up, or at a room that has no level.

    Args:
        imports: The imports to judge.

    Returns:
        A sentence for each wrong one.
    """
    wrong = []
    for found in imports:
        if not is_ours(found.target):
            continue
        if found.importer == "jdviz":
            if not is_within(found.target, "jdviz.runs"):
                wrong.append(f"{found}, but jdviz/__init__.py offers names of jdviz.runs only")
            continue
        if found.target == "jdviz":
            continue
        own, other = level_of(found.importer), level_of(found.target)
        if own is None:
            wrong.append(f"{found}, but {found.importer} has no level in tests/structure/arrows.py")
        elif other is None:
            wrong.append(f"{found}, which has no level in tests/structure/arrows.py")
        elif other > own:
            wrong.append(f"{found}, which points up")
    return wrong


def misplaced(imports: Iterable[Import]) -> list[str]:
    """The imports of a library outside its home.

    Args:
        imports: The imports to judge.

    Returns:
        A sentence for each wrong one.
    """
    wrong = []
    for found in imports:
        for library, rooms in HOMES.items():
            if is_within(found.target, library) and not any(
                is_within(found.importer, room) for room in rooms
            ):
                wrong.append(f"{found}, which only {', '.join(rooms)} may")
    return wrong


def private(imports: Iterable[Import]) -> list[str]:
    """The imports of a private name or module from another package of ours.

    Args:
        imports: The imports to judge.

    Returns:
        A sentence for each wrong one. A package's own modules, and those below it, may use what it
        keeps private.
    """
    wrong = []
    for found in imports:
        if not is_ours(found.target):
            continue
        parts = found.target.split(".")
        for at, part in enumerate(parts):
            if part.startswith("_") and not part.startswith("__"):
                owner = ".".join(parts[:at]) if at < len(parts) - 1 else ".".join(parts[: at - 1])
                if not is_within(found.importer, owner):
                    wrong.append(f"{found}, which is private to {owner}")
                break
    return wrong


def foreign_to_engines(imports: Iterable[Import], standard: frozenset[str]) -> list[str]:
    """The imports of `engines` beyond itself, its libraries and the standard library.

    Args:
        imports: The imports to judge.
        standard: Names of the standard library's modules.

    Returns:
        A sentence for each wrong one.
    """
    allowed = ENGINE_LIBRARIES | standard | {"engines"}
    return [
        f"{found}, which engines may not"
        for found in imports
        if is_within(found.importer, "engines") and found.target.split(".")[0] not in allowed
    ]
