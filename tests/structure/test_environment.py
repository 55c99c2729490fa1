"""Structure: what `make` relies on when it sets `.venv` up.

The requirement files are empty here, so that no network is needed.
"""

import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.structure.sources import ROOT
from tests.support import environment

SCRIPT = "tests/support/environment.py"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the set-up alone, with empty requirement files and a finished environment."""
    root = tmp_path_factory.mktemp("project")
    (root / SCRIPT).parent.mkdir(parents=True)
    shutil.copy(ROOT / SCRIPT, root / SCRIPT)
    shutil.copy(ROOT / "Makefile", root / "Makefile")
    for name in environment.REQUIREMENTS["dev"]:
        (root / name).write_text("# nothing\n")
    assert run(root, "app").returncode == 0
    return root


def command(root, group, *options):
    return [sys.executable, "-I", str(root / SCRIPT), *options, group]


def run(root, group, *options):
    return subprocess.run(
        command(root, group, *options), capture_output=True, text=True, check=False
    )


def stamp(root, group):
    return root / ".venv" / f".installed-{group}"


def test_the_second_time_does_nothing(project):
    again = run(project, "app", "--exact")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_changed_requirement_file_is_installed_again(project):
    run(project, "dev")
    before = stamp(project, "dev").read_text()
    (project / "requirements-dev.txt").write_text("# still nothing\n")
    assert "Installing requirements-dev.txt" in run(project, "dev").stderr
    assert stamp(project, "dev").read_text() != before
    assert run(project, "app").stderr == ""


def test_a_failed_install_leaves_no_stamp_and_keeps_what_was_there(project):
    stamp(project, "dev").unlink(missing_ok=True)
    (project / "requirements-dev.txt").write_text("./no-such-folder\n")
    failed = run(project, "dev")
    (project / "requirements-dev.txt").write_text("# nothing\n")
    assert failed.returncode != 0
    assert "run the same command again" in failed.stderr
    assert not stamp(project, "dev").exists()
    assert run(project, "app").stderr == ""


def test_a_set_up_that_was_cut_short_is_started_over(project):
    left_over = project / ".venv" / "left-over"
    left_over.touch()
    (project / ".venv.lock").write_text(environment.UNDER_WAY)
    started_over = run(project, "app")
    assert started_over.returncode == 0
    assert "Creating .venv" in started_over.stderr
    assert not left_over.exists()
    assert (project / ".venv.lock").read_text() == ""


def test_a_second_set_up_waits_for_the_first(project):
    with environment.locked(project / ".venv.lock"):
        second = subprocess.Popen(
            command(project, "app"), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert "Waiting" in second.stderr.readline()
        time.sleep(0.2)
        assert second.poll() is None
    _, rest = second.communicate(timeout=60)
    assert (second.returncode, rest) == (0, "")


def test_the_stamp_holds_for_one_interpreter(project):
    keys = {
        environment.stamp_key(project, "app", tag) for tag in ("cpython-311 x", "cpython-312 x")
    }
    assert len(keys) == 2


def make(root, *arguments, path=None):
    variables = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    if path is not None:
        variables["PATH"] = path
    return subprocess.run(
        ["make", "environment", *arguments],
        cwd=root,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def script(folder, name, body):
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


def test_an_old_python_is_refused_in_one_sentence(project, tmp_path):
    old = script(tmp_path, "old", '[ "$1" = -V ] && { echo Python 3.9.2; exit; }; [ -z "$2" ]')
    refused = make(project, f"PYTHON={old}")
    assert refused.returncode != 0
    assert refused.stderr.startswith(f"make: got Python 3.9.2 from '{old}'; expected Python 3.11")


def test_a_python_without_venv_is_refused_in_one_sentence(project, tmp_path):
    bare = script(tmp_path, "bare", 'case "$2" in *venv*) exit 1;; esac')
    refused = make(project, f"PYTHON={bare}")
    assert refused.returncode != 0
    assert "without the modules venv and ensurepip" in refused.stderr


def test_a_python_that_is_not_there_is_refused_in_one_sentence(project):
    refused = make(project, "PYTHON=no-such-python")
    assert refused.returncode != 0
    assert "got the interpreter 'no-such-python', which does not run" in refused.stderr


def test_make_finds_an_interpreter_by_itself(project, tmp_path):
    script(tmp_path, "python3", "exit 1")
    (tmp_path / "python3.13").symlink_to(sys.executable)
    found = make(project, path=f"{tmp_path}:/usr/bin:/bin")
    assert found.returncode == 0, found.stderr
