"""Structure: exact versions, consistent with the ranges of the package."""

import importlib.metadata
import re
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.structure.sources import ROOT, all_imports, is_standard

PIN = re.compile(r"[A-Za-z0-9._-]+==\d+(\.\d+)*")


def pins(name: str) -> dict[str, str]:
    """Package and exact version on each line of a requirements file; fails on any other line."""
    found = {}
    for line in (ROOT / name).read_text("utf-8").splitlines():
        text = line.split("#")[0].strip()
        if not text or text.startswith("-r "):
            continue
        assert PIN.fullmatch(text), f"{name}: got {text!r}, expected package==version"
        package, version = text.split("==")
        found[package.lower()] = version
    return found


def package() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_pins_are_exact_and_lie_in_the_ranges():
    exact = pins("requirements.txt")
    ranges = [
        Requirement(text)
        for text in package()["dependencies"] + package()["optional-dependencies"]["app"]
    ]
    assert {wanted.name for wanted in ranges} == set(exact)
    for wanted in ranges:
        assert wanted.specifier.contains(exact[wanted.name]), wanted


def test_the_package_needs_four_libraries_without_the_app():
    names = {Requirement(text).name for text in package()["dependencies"]}
    assert names == {"numpy", "quadprog", "scipy", "torch"}


def test_the_tools_are_pinned_too():
    tools = pins("requirements-dev.txt")
    assert {"mypy", "playwright", "pytest", "ruff"} <= set(tools)
    assert set(tools).isdisjoint(pins("requirements.txt"))


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_what_is_installed_is_what_is_pinned(name):
    for pinned, version in pins(name).items():
        # A build's own suffix, as in 2.13.0+cpu, is not part of the pin.
        assert importlib.metadata.version(pinned).split("+")[0] == version, pinned


def test_every_library_that_is_imported_is_pinned():
    installed_as = importlib.metadata.packages_distributions()
    missing = {
        str(found)
        for found in all_imports()
        if not is_standard(found.target)
        and not {name.lower() for name in installed_as.get(found.target.split(".")[0], ["?"])}
        & set(pins("requirements.txt"))
    }
    assert missing == set()


def test_the_oldest_python_is_the_same_everywhere():
    assert package()["requires-python"] == ">=3.11"
    assert "sys.version_info < (3, 11)" in (ROOT / "Makefile").read_text("utf-8")
    assert sys.version_info >= (3, 11)
