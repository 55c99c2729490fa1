"""Creates, completes or repairs `.venv`; the Makefile calls it before everything else.

It runs before anything is installed, so it needs the standard library only. A second call with
unchanged requirement files does nothing and takes a fraction of a second.

How an interrupted set-up is told from a finished one: `.venv.lock` holds the word of a set-up that
is under way and is emptied when it ends. Whoever takes the lock and finds the word there knows that
the last one was cut short, and starts over with a fresh `.venv`. The stamp of a finished install is
written last, and names the contents of the requirement files and the interpreter it holds for.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

REQUIREMENTS = {
    "app": ("requirements.txt",),
    "dev": ("requirements.txt", "requirements-dev.txt"),
}
UNDER_WAY = "a set-up is under way, or was cut short"

# Also imports pip: an environment without it was never finished.
_TAG_CODE = (
    "import pip, sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_platform())"
)


def interpreter_tag(python: Path) -> str | None:
    """Implementation, minor version and platform of an interpreter with pip.

    Args:
        python: The interpreter's executable.

    Returns:
        For instance "cpython-312 linux-x86_64", or None if it is absent, broken or has no pip.
    """
    try:
        done = subprocess.run(
            [python, "-I", "-c", _TAG_CODE], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def own_tag() -> str:
    """The tag, as of `interpreter_tag`, that an environment built by this interpreter has."""
    return f"{sys.implementation.cache_tag} {sysconfig.get_platform()}"


def stamp_key(root: Path, group: str, tag: str) -> str:
    """What a finished install of a group holds for.

    Args:
        root: The repository.
        group: A key of `REQUIREMENTS`.
        tag: The environment's interpreter, as of `interpreter_tag`.

    Returns:
        A digest of the requirement files' contents and the interpreter.
    """
    digest = hashlib.sha256(tag.encode())
    for name in REQUIREMENTS[group]:
        digest.update(b"\0" + name.encode() + b"\0" + (root / name).read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[TextIO]:
    """Holds an exclusive lock on a file, waiting for whoever has it.

    The lock belongs to the open file, so it is released with the process however that ends.
    Children that inherit the file keep the lock too: an orphaned pip still keeps others out.

    Args:
        path: The lock file; created if absent, left behind afterwards.

    Yields:
        The open file, positioned at its start.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another set-up of .venv to end.")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def set_up(root: Path, group: str, exact: bool) -> int:
    """Brings `.venv` to where a group of requirements is installed.

    Args:
        root: The repository; `.venv` and `.venv.lock` live there.
        group: A key of `REQUIREMENTS`.
        exact: Whether the environment must have this interpreter's version. Otherwise an existing
            environment is kept, whatever its version.

    Returns:
        The exit status: 0, or that of the step that failed.
    """
    venv = root / ".venv"
    with locked(root / ".venv.lock") as lock:
        was_cut_short = lock.read() != ""
        tag = interpreter_tag(venv / "bin" / "python")
        if tag is None or was_cut_short or (exact and tag != own_tag()):
            tag = own_tag()
            _say(f"Creating .venv with Python {sys.version.split()[0]}.")
            _mark(lock, UNDER_WAY)
            for name in REQUIREMENTS:
                (venv / f".installed-{name}").unlink(missing_ok=True)
            status = _run([sys.executable, "-m", "venv", "--clear", venv], lock)
            if status != 0:
                return status
            _mark(lock, "")

        if _stamp(venv, group) == stamp_key(root, group, tag):
            return 0
        _say(f"Installing {REQUIREMENTS[group][-1]} into .venv; the first time takes minutes.")
        status = _install(root, venv, group, lock)
        if status == 0:
            # The larger group contains the smaller one.
            for name, files in REQUIREMENTS.items():
                if set(files) <= set(REQUIREMENTS[group]):
                    _write_stamp(venv, name, stamp_key(root, name, tag))
        return status


def _install(root: Path, venv: Path, group: str, lock: TextIO) -> int:
    """Runs pip; the lock's word stays if it stopped with the environment half changed."""
    before = _installed(venv)
    status = 1
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    _mark(lock, UNDER_WAY)
    try:
        status = _run(
            [*pip, "install", "--requirement", root / REQUIREMENTS[group][-1]],
            lock,
        )
    finally:
        # Without a network pip fails before it touches anything, and what was there still works.
        if status == 0 or _installed(venv) == before:
            _mark(lock, "")
    if status != 0:
        _say("pip stopped, as said above; mend that and run the same command again.")
    return status


def _installed(venv: Path) -> set[str]:
    """Names of what lies in the package folders; an install or a removal changes them."""
    return {entry.name for entry in venv.glob("lib/python*/site-packages/*")}


def _run(command: Sequence[str | Path], lock: TextIO) -> int:
    return subprocess.run(command, pass_fds=(lock.fileno(),), check=False).returncode


def _mark(lock: TextIO, word: str) -> None:
    lock.seek(0)
    lock.truncate()
    lock.write(word)
    lock.flush()


def _stamp(venv: Path, group: str) -> str | None:
    try:
        return (venv / f".installed-{group}").read_text(encoding="utf-8")
    except OSError:
        return None


def _write_stamp(venv: Path, group: str, key: str) -> None:
    fresh = venv / f".installed-{group}.new"
    fresh.write_text(key, encoding="utf-8")
    os.replace(fresh, venv / f".installed-{group}")


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: `environment.py [--exact] app|dev`.

    Args:
        arguments: The arguments, by default those of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description="Set up .venv.")
    parser.add_argument("group", choices=REQUIREMENTS)
    parser.add_argument("--exact", action="store_true", help="rebuild for this Python's version")
    options = parser.parse_args(arguments)
    try:
        return set_up(Path(__file__).resolve().parents[2], options.group, options.exact)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        _say(f"make: got '{error}' while setting up .venv; expected a folder that can be written.")
        return 1


if __name__ == "__main__":
    sys.exit(main())
