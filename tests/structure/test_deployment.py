"""Structure: the files of docs/deployment/ agree with each other, with app and documentation."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest

from jdviz.arguments import parse
from tests.structure.sources import ROOT
from tests.support.waiting import wait_until

FOLDER = ROOT / "docs" / "deployment"
PAGE = (ROOT / "docs" / "deployment.md").read_text("utf-8")
PORT = "8501"


def text_of(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def instructions(word: str) -> list[str]:
    """What follows a word at the beginning of the Containerfile's lines."""
    lines = text_of("Containerfile").splitlines()
    return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]


def container_command() -> list[str]:
    (command,) = instructions("CMD")
    return json.loads(command)


def unit_command() -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", text_of("jdviz.service"), flags=re.MULTILINE)
    return shlex.split(line)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def code_of(text: str) -> str:
    """A file without its comments."""
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith("#"))


def test_the_page_names_every_file_and_the_readme_the_page():
    assert sorted(path.name for path in FOLDER.iterdir()) == [
        "Caddyfile",
        "Containerfile",
        "jdviz.service",
        "nginx.conf",
    ]
    for path in FOLDER.iterdir():
        assert f"](deployment/{path.name})" in PAGE
    assert "](docs/deployment.md)" in (ROOT / "README.md").read_text("utf-8")


def test_the_image_holds_what_the_app_is_made_of():
    copied = {
        source.removeprefix("./")
        for line in instructions("COPY")
        for source in line.split()[:-1]
        if not source.startswith("--")
    }
    assert {"app.py", "engines", "jdviz", "static", ".streamlit", "requirements.txt"} <= copied
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_image_runs_as_an_ordinary_user_who_owns_only_the_data():
    lines = text_of("Containerfile").splitlines()
    assert instructions("USER") == ["jdviz"]
    # What comes after the change of user is what runs as it.
    after = lines[lines.index("USER jdviz") :]
    assert not [line for line in after if line.startswith(("RUN", "COPY"))]
    assert instructions("VOLUME") == ["/data"]
    assert "JDVIZ_DATA=/data" in " ".join(instructions("ENV"))
    assert "install -d -o jdviz /data" in " ".join(instructions("RUN"))


@pytest.mark.parametrize("command", [container_command(), unit_command()])
def test_the_server_is_shared_and_limited(command):
    chosen, wrong = parse(command[command.index("--") + 1 :])
    assert wrong == []
    assert chosen.shared
    limits = chosen.limits
    assert (limits.max_steps, limits.max_batch, limits.max_seconds) == (2000, 256, 600.0)
    assert "| 2000, 256, 10 |" in PAGE
    assert option(command, "--server.port") == PORT


def test_every_file_says_the_same_port_and_path():
    base = option(unit_command(), "--server.baseUrlPath")
    assert instructions("EXPOSE") == [PORT]
    for name in ("nginx.conf", "Caddyfile"):
        assert f"127.0.0.1:{PORT}" in code_of(text_of(name))
        assert f"/{base}/" in code_of(text_of(name))
    assert f"127.0.0.1:{PORT}/" in " ".join(instructions("HEALTHCHECK"))
    assert "_stcore/health" in " ".join(instructions("HEALTHCHECK"))


def test_a_proxy_lets_the_largest_upload_through_and_little_more():
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))
    largest = settings["server"]["maxUploadSize"] + 1
    for name, pattern in (
        ("nginx.conf", r"client_max_body_size (\d+)m"),
        ("Caddyfile", r"max_size (\d+)MB"),
    ):
        assert re.findall(pattern, code_of(text_of(name))) == [str(largest)]


def test_nginx_passes_websockets_and_the_name_on():
    code = code_of(text_of("nginx.conf"))
    for wanted in (
        "proxy_http_version 1.1",
        "proxy_set_header Upgrade $http_upgrade",
        "proxy_set_header Connection $jdviz_connection",
        "proxy_set_header Host $http_host",
    ):
        assert f"{wanted};" in code
    assert code.count("{") == code.count("}")


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_command_of_the_image_starts_a_healthy_server(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    swapped = {"/opt/jdviz/bin/python": sys.executable, PORT: port, "0.0.0.0": "127.0.0.1"}
    command = [swapped.get(word, word) for word in container_command()]
    log = tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "JDVIZ_DATA": str(tmp_path), "JDVIZ_WORKERS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: server.poll() is not None or answer(port) == b"ok", "the server")
        said = log.read_text("utf-8", "replace")
        assert server.poll() is None, said
        # It asked nobody for its address.
        assert "external IP" not in said
    finally:
        server.terminate()
        server.wait(30)


def answer(port: str) -> bytes:
    """What the health endpoint says; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as got:
            return got.read()
    except OSError:
        return b""


def test_a_folder_of_the_page_is_the_one_of_the_files():
    assert Path(container_command()[0]).parent == Path("/opt/jdviz/bin")
    assert f"{unit_command()[0]} -m pip install --no-cache-dir -r requirements.txt" in PAGE
    assert any(
        "pip install --no-cache-dir -r requirements.txt" in run for run in instructions("RUN")
    )
