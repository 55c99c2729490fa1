"""Structure: `pip install .` takes along everything that a module reads or imports."""

import fnmatch
import tomllib

import jdviz
from tests.structure.sources import ROOT, repository_files

PACKAGES = ("engines", "jdviz")


def packaged() -> list[str]:
    """Paths from the root of all files in the packages."""
    names = [path.relative_to(ROOT).as_posix() for path in repository_files()]
    return [name for name in names if name.startswith(tuple(f"{top}/" for top in PACKAGES))]


def settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_folder_with_modules_is_a_package():
    folders = {name.rpartition("/")[0] for name in packaged() if name.endswith(".py")}
    assert {folder for folder in folders if f"{folder}/__init__.py" not in packaged()} == set()


def test_every_other_file_is_package_data():
    data = settings()["tool"]["setuptools"]["package-data"]
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, wanted in data.items()
        for pattern in wanted
    ]
    # fnmatch's star crosses folders, so "**/" has to be able to match none as well.
    patterns += [pattern.replace("**/", "") for pattern in patterns]
    left_behind = [
        name
        for name in packaged()
        if not name.endswith(".py")
        and not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    ]
    assert left_behind == []


def test_both_packages_say_that_they_are_typed():
    assert {f"{top}/py.typed" for top in PACKAGES} <= set(packaged())


def test_the_version_is_written_in_one_place():
    assert settings()["project"]["dynamic"] == ["version"]
    assert settings()["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "jdviz.__version__"}
    assert jdviz.__version__.count(".") == 2
