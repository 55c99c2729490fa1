"""The files of the repository, and what its modules import, read without running them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT_SUFFIXES = {
    ".cfg",
    ".css",
    ".html",
    ".ini",
    ".js",
    ".json",
    ".md",
    ".py",
    ".svg",
    ".toml",
    ".txt",
    ".yml",
}


@dataclass(frozen=True)
class Import:
    """One import statement of one name.

    Attributes:
        importer: Dotted name of the module that imports.
        target: Dotted name that it imports; for `from a import b` this is "a.b", whether b is a
            module or a name in one.
        line: Line of the statement, from 1.
    """

    importer: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


@cache
def repository_files() -> tuple[Path, ...]:
    """Paths of all files that git tracks or would track; without git, of all but hidden folders."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        names = [name for name in listing.stdout.decode().split("\0") if name]
        return tuple(sorted(ROOT / name for name in names if (ROOT / name).is_file()))
    hidden = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
    return tuple(
        sorted(
            path
            for path in ROOT.rglob("*")
            if path.is_file() and not hidden & set(path.relative_to(ROOT).parts)
        )
    )


def text_files() -> Iterator[tuple[str, str]]:
    """Name from the root, and contents, of every text file of the repository."""
    for path in repository_files():
        if path.suffix in TEXT_SUFFIXES or path.name in {
            "Makefile",
            "LICENSE",
            "run",
            ".gitignore",
        }:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def module_name(path: Path) -> str:
    """Dotted name of a Python file, for instance "jdviz.figures.theme" or "app"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name and path of every module outside the tests."""
    for path in repository_files():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py" and (name == "app.py" or name.startswith(("engines/", "jdviz/"))):
            yield module_name(path), path


def imports_of(importer: str, source: str, is_package: bool = False) -> list[Import]:
    """Every import in a module, wherever it stands: at the top, in a function, for types only.

    Args:
        importer: The module's dotted name.
        source: Its text.
        is_package: Whether it is an `__init__`, against which relative imports count differently.

    Returns:
        The imports in the order in which the tree is walked.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(importer, alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = importer.split(".")
                drop = node.level - 1 if is_package else node.level
                parents = parts[: len(parts) - drop]
                base = ".".join([*parents, base] if base else parents)
            found += [Import(importer, f"{base}.{alias.name}", node.lineno) for alias in node.names]
    return found


@cache
def all_imports() -> tuple[Import, ...]:
    """Every import of every module outside the tests."""
    return tuple(
        found
        for name, path in modules()
        for found in imports_of(name, path.read_text("utf-8"), path.name == "__init__.py")
    )


def is_standard(target: str) -> bool:
    """Whether a dotted name is the standard library's or this repository's."""
    top = target.split(".")[0]
    return top in sys.stdlib_module_names or top in {"app", "engines", "jdviz"}
