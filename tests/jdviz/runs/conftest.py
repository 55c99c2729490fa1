"""A store of its own for every test."""

from pathlib import Path

import pytest

from jdviz.runs import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """An empty store in a folder that did not exist."""
    return RunStore(tmp_path / "deep" / "runs.sqlite")
