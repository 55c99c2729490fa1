"""Finds the Chromium that the browser tests drive; nothing here downloads a browser.

`python -m tests.support.browser` is a step of `make test`: it reports the browser that was found,
installs Debian's package where `CI=true`, and names the one command that installs one elsewhere.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Where the installers of macOS and Windows put a browser, which is not on the search path.
PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
INSTALL = {
    "linux": "sudo apt-get install chromium",
    "darwin": "brew install --cask google-chrome",
    "win32": "winget install Google.Chrome",
}


def find_chromium() -> Path | None:
    """Finds an installed Chromium or Chrome.

    Returns:
        The executable that `JDVIZ_CHROMIUM` names if it is set, otherwise the first one found, or
        None if there is none.

    Raises:
        FileNotFoundError: If `JDVIZ_CHROMIUM` names something that cannot be run.
    """
    chosen = os.environ.get("JDVIZ_CHROMIUM", "")
    if chosen:
        found = shutil.which(chosen)
        if found is None:
            raise FileNotFoundError(
                f"got JDVIZ_CHROMIUM={chosen}, expected the path of a Chromium that can be run; "
                "correct it, or unset it to have one looked for."
            )
        return Path(found)
    for name in (*NAMES, *PLACES):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    return None


def install_command() -> str:
    """The one command that installs a browser on this kind of machine."""
    return INSTALL.get(sys.platform, INSTALL["linux"])


def absence() -> str:
    """Why the browser tests cannot run without a browser, and what to do about it."""
    return f"no Chromium or Chrome was found; `{install_command()}` installs one"


def in_ci() -> bool:
    """Whether this is the continuous integration, where a missing browser is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def require_chromium() -> Path:
    """Gives a test its browser, or ends the test.

    Returns:
        The browser's executable. Without one the calling test is skipped with the reason, or fails
        where `CI=true`.
    """
    found = find_chromium()
    if found is None:
        if in_ci():
            pytest.fail(absence(), pytrace=False)
        pytest.skip(absence())
    return found


def launch(playwright: "Playwright") -> "Browser":
    """Starts the installed browser without a window.

    Playwright gives every launch a temporary profile of its own and removes it on `close()`.

    Args:
        playwright: A started Playwright, from `sync_playwright()`.

    Returns:
        The browser, which the caller closes.
    """
    return playwright.chromium.launch(
        executable_path=require_chromium(), headless=True, args=list(FLAGS)
    )


def install_on_debian() -> int:
    """Installs Debian's Chromium and a font with the letters that pages use.

    Returns:
        The exit status of the package manager, or 1 if there is none.
    """
    if shutil.which("apt-get") is None:
        return 1
    administrator = [] if os.geteuid() == 0 else ["sudo"]
    packages = ("chromium", "fonts-liberation")
    commands: Sequence[Sequence[str]] = (
        ("apt-get", "update"),
        ("apt-get", "install", "-y", "--no-install-recommends", *packages),
    )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in commands:
        try:
            status = subprocess.run(
                [*administrator, *command], env=environment, check=False
            ).returncode
        except OSError:
            return 1
        if status != 0:
            return status
    return 0


def main() -> int:
    """Reports the browser, and installs one first where `CI=true`.

    Returns:
        The exit status: 1 if there is no browser where `CI=true`, or a wrong one was named.
    """
    try:
        found = find_chromium()
        if found is None and in_ci():
            install_on_debian()
            found = find_chromium()
    except FileNotFoundError as error:
        sys.stderr.write(f"make: {error}\n")
        return 1
    if found is not None:
        sys.stderr.write(f"The browser tests drive {found}.\n")
    elif in_ci():
        sys.stderr.write(f"make: {absence()}.\n")
        return 1
    else:
        sys.stderr.write(f"The browser tests are skipped: {absence()}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
