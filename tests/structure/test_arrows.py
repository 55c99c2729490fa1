"""Structure: imports point one way, and libraries stay in their rooms."""

import json
import re
import subprocess
import sys

import pytest

from tests.structure.arrows import foreign_to_engines, is_within, misplaced, private, upward
from tests.structure.sources import ROOT, all_imports, imports_of, modules

STANDARD = frozenset(sys.stdlib_module_names)


def test_imports_point_one_way():
    assert upward(all_imports()) == []


def test_libraries_stay_in_their_rooms():
    assert misplaced(all_imports()) == []


def test_engines_imports_its_four_libraries_only():
    assert foreign_to_engines(all_imports(), STANDARD) == []


def test_no_private_import_across_packages():
    assert private(all_imports()) == []


def test_the_private_surface_of_torch_is_read_in_two_rooms_only():
    private_surface = re.compile(r"_saved_|_input_metadata|\btorch\._C\b")
    rooms = ("engines.autogram", "jdviz.profiling")
    outside = [
        name
        for name, path in modules()
        if not any(is_within(name, room) for room in rooms)
        and private_surface.search(path.read_text("utf-8"))
    ]
    assert outside == []


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("engines.errors", "import jdviz.figures"),
        ("engines.autogram.engine", "from jdviz import conflict"),
        ("engines.autogram.engine", "def f():\n    from jdviz.conflict import cosines"),
        ("jdviz.conflict", "from .figures.theme import CONFIG"),
        ("jdviz.conflict", "from . import training"),
        ("jdviz.figures.theme", "import jdviz.pages.train"),
        ("jdviz.training.loop", "if TYPE_CHECKING:\n    from app import main"),
        ("jdviz.runs.store", "from ..pages import overview"),
        ("jdviz", "import engines"),
        ("jdviz.runs.store", "from tests.support import browser"),
        ("jdviz.attic", "import engines"),
    ],
)
def test_an_arrow_that_points_up_is_found(importer, source):
    assert len(upward(imports_of(importer, source))) == 1


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("app", "from jdviz.pages import train"),
        ("jdviz.pages.train", "from jdviz.figures import loss_history"),
        ("jdviz.training.loop", "from jdviz.problems import PROBLEMS\nimport engines.autojac"),
        ("jdviz.conflict", "import engines"),
        ("jdviz.runs.store", "from jdviz import __version__"),
        ("jdviz.runs.store", "import os, numpy"),
    ],
)
def test_an_arrow_that_points_down_or_sideways_is_not(importer, source):
    assert upward(imports_of(importer, source)) == []


def test_a_relative_import_in_a_package_counts_from_the_package():
    (found,) = imports_of("jdviz.figures", "from .theme import CONFIG", is_package=True)
    assert found.target == "jdviz.figures.theme.CONFIG"


def test_a_library_outside_its_room_is_found():
    assert misplaced(imports_of("jdviz.training.loop", "import streamlit as st")) != []
    assert misplaced(imports_of("jdviz.pages.train", "from plotly import graph_objects")) != []
    assert foreign_to_engines(imports_of("engines.linalg.x", "import pandas"), STANDARD) != []


def test_a_private_import_across_packages_is_found():
    reach = "from engines.linalg import _solve"
    assert private(imports_of("jdviz.conflict", reach)) != []
    assert private(imports_of("jdviz.conflict", "import engines.linalg._solve")) != []
    assert private(imports_of("engines.linalg.cone", reach)) == []


def loaded_by(code: str) -> set[str]:
    """Top-level names in `sys.modules` of a fresh interpreter that ran some code."""
    report = "\nimport json, sys; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_engines_loads_no_library_of_the_app():
    everything = (
        "import engines, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(engines.__path__, 'engines.'):\n"
        "    importlib.import_module(module.name)"
    )
    loaded = loaded_by(everything)
    assert loaded.isdisjoint({"jdviz", "pandas", "plotly", "sklearn", "streamlit"})
    assert "torch" in loaded


def test_jdviz_itself_loads_no_library():
    loaded = loaded_by("import jdviz; assert jdviz.__version__")
    assert loaded.isdisjoint({"engines", "numpy", "pandas", "plotly", "streamlit", "torch"})


def test_the_recorder_and_what_reads_runs_back_load_no_library_of_the_app():
    loaded = loaded_by("from jdviz import Recorder, load_run")
    assert loaded.isdisjoint({"pandas", "plotly", "sklearn", "streamlit"})
