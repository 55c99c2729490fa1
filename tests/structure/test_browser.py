"""Structure: how the tests find a browser, and what they say when there is none."""

import pytest

from tests.support import browser


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv("JDVIZ_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "PLACES", ())
    return tmp_path


def executable(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_an_installed_browser_is_found_by_name(nothing_installed, name):
    placed = executable(nothing_installed / name)
    assert browser.find_chromium() == placed


def test_the_variable_comes_first(nothing_installed, monkeypatch):
    executable(nothing_installed / "chromium")
    chosen = executable(nothing_installed / "mine")
    monkeypatch.setenv("JDVIZ_CHROMIUM", str(chosen))
    assert browser.find_chromium() == chosen


def test_a_wrong_variable_is_refused(nothing_installed, monkeypatch):
    monkeypatch.setenv("JDVIZ_CHROMIUM", str(nothing_installed / "absent"))
    with pytest.raises(FileNotFoundError, match=r"got JDVIZ_CHROMIUM=.*, expected .*; correct it"):
        browser.find_chromium()


def test_without_a_browser_the_test_is_skipped_with_the_command(nothing_installed, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(browser.sys, "platform", "linux")
    assert browser.find_chromium() is None
    with pytest.raises(pytest.skip.Exception, match="sudo apt-get install chromium"):
        browser.require_chromium()


def test_in_ci_a_missing_browser_fails(nothing_installed, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Chromium or Chrome was found"):
        browser.require_chromium()


def test_in_ci_the_debian_package_is_installed(nothing_installed, monkeypatch):
    log = nothing_installed / "log"
    installs = f'case "$1" in install) printf "" > {nothing_installed}/chromium;'
    permits = f"/bin/chmod +x {nothing_installed}/chromium;; esac"
    fake = executable(nothing_installed / "apt-get")
    fake.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{installs} {permits}\n')
    monkeypatch.setattr(browser.os, "geteuid", lambda: 0)
    monkeypatch.setenv("CI", "true")
    assert browser.main() == 0
    assert log.read_text().splitlines() == [
        "update",
        "install -y --no-install-recommends chromium fonts-liberation",
    ]


def test_in_ci_a_browser_that_cannot_be_installed_fails_the_set_up(nothing_installed, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert browser.main() == 1


def test_elsewhere_nothing_is_installed(nothing_installed, monkeypatch, capsys):
    monkeypatch.delenv("CI", raising=False)
    assert browser.main() == 0
    assert "The browser tests are skipped: no Chromium" in capsys.readouterr().err
