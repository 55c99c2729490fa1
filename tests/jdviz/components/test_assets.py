"""plotly.js appears in the served folder complete or not at all."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from jdviz.components import assets
from jdviz.components.assets import AssetError, publish_plotly_js

NAME = f"plotly-{version('plotly')}.min.js"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small stand-in for plotly.min.js."""
    path = tmp_path / "plotly.min.js"
    path.write_bytes(b"the library")
    monkeypatch.setattr(assets, "_plotly_js", lambda: path)
    return path


def test_the_installed_library_is_published(tmp_path: Path) -> None:
    folder = tmp_path / "static"
    assert publish_plotly_js(folder) == f"app/static/{NAME}"
    text = (folder / NAME).read_text(encoding="utf-8")
    assert "plotly.js v" in text[:200]
    assert (folder / NAME).stat().st_mode & 0o444 == 0o444
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_what_is_there_is_left_alone(tmp_path: Path, source: Path) -> None:
    publish_plotly_js(tmp_path / "static")
    target = tmp_path / "static" / NAME
    before = target.stat()
    publish_plotly_js(tmp_path / "static")
    assert target.stat().st_mtime_ns == before.st_mtime_ns
    assert target.stat().st_ino == before.st_ino


def test_a_broken_copy_is_replaced(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / NAME).write_bytes(b"the lib")
    publish_plotly_js(folder)
    assert (folder / NAME).read_bytes() == b"the library"


def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(assets.shutil, "copyfileobj", full)
    with pytest.raises(AssetError, match="No space left on device"):
        publish_plotly_js(tmp_path / "static")
    assert list((tmp_path / "static").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, source: Path) -> None:
    blocked = tmp_path / "static"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(AssetError, match=r"'static' that cannot be written to .*expected plotly-"):
        publish_plotly_js(blocked)


def test_a_missing_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match=r"requirements\.txt"):
        publish_plotly_js(tmp_path / "static")


def test_several_processes_at_once(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    code = (
        "import sys; from pathlib import Path;"
        "from jdviz.components.assets import publish_plotly_js;"
        "publish_plotly_js(Path(sys.argv[1]))"
    )
    folder = tmp_path / "static"
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=root) for _ in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert (folder / NAME).stat().st_size == assets._plotly_js().stat().st_size


def test_a_script_is_sent_without_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.js").write_text("// Why.\nconst a = {\n  b: 1, // c\n};\n\n", "utf-8")
    (tmp_path / "two.js").write_text("  // Why.\n  d(a);\n", "utf-8")
    monkeypatch.setattr(assets, "HERE", tmp_path)
    assert assets.read_script("one.js", "two.js") == "const a = {\nb: 1, // c\n};\nd(a);"
