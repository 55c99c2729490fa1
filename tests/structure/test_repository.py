"""Structure: what holds for every file, and what the documents promise."""

import io
import re
import tokenize

import pytest

from jdviz.pages.registry import PAGES
from tests.structure.sources import ROOT, repository_files, text_files

LONGEST = 450
CODE = {".py", ".js", ".css", ".html"}
MOST_SUPPRESSIONS = 10
SUPPRESSION = re.compile(
    r"#\s*(?:noqa\b(?::\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*)?|type:\s*ignore(?:\[[\w,\s-]*\])?"
    r"|(?:ruff|mypy|flake8)\s*:\s*\S+(?:\s*:?\s*[A-Z]+\d+)*)(?P<reason>.*)"
)
# Written in pieces, so that this file does not contain what it looks for.
FORBIDDEN = {
    "a folder of one person's machine": re.compile(
        r"/(?:home|Users)/[A-Za-z][\w.-]*/|[A-Z]:\\+Users\\|(?<![\w.~/-])/ro"
        r"ot/"
        r"|(?<![\w.~/-])/tmp/\w"
    ),
    "the host of a package registry": re.compile(
        r"(?:py"
        r"pi|python"
        r"hosted|np"
        r"mjs)\.(?:org|com|io)|download\.py"
        r"torch\.org"
        r"|(?:deb|security)\.deb"
        r"ian\.org|archive\.ub"
        r"untu\.com"
    ),
}


def suppressions(name: str, source: str) -> list[tuple[str, str]]:
    """Place and reason of each suppressed finding; only comments count, not strings."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            for match in SUPPRESSION.finditer(token.string):
                found.append((f"{name}:{token.start[0]}", match["reason"].strip(" -:#")))
    return found


def all_suppressions() -> list[tuple[str, str]]:
    return [
        found
        for name, text in text_files()
        if name.endswith(".py")
        for found in suppressions(name, text)
    ]


def intruders(text: str) -> list[str]:
    """What kind of forbidden text stands in a text."""
    return [kind for kind, pattern in FORBIDDEN.items() if pattern.search(text)]


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, flags=re.MULTILINE))


def documents() -> list[tuple[str, str]]:
    return [(name, text) for name, text in text_files() if name.endswith(".md")]


def test_no_file_is_too_long():
    lengths = {
        name: text.count("\n") + 1
        for name, text in text_files()
        if any(name.endswith(suffix) for suffix in CODE)
    }
    assert {name: count for name, count in lengths.items() if count > LONGEST} == {}


def test_suppressions_are_few():
    assert len(all_suppressions()) <= MOST_SUPPRESSIONS, all_suppressions()


def test_each_suppression_has_its_reason():
    assert [place for place, reason in all_suppressions() if len(reason.split()) < 3] == []


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("x = 1  # noqa: E501", ""),
        ("x = 1  # noqa: E501, F401 - read as it stands", "read as it stands"),
        ("x = f()  # type: ignore[arg-type]", ""),
        ("x = f()  # type: ignore[arg-type]  # the stub forgets None", "the stub forgets None"),
    ],
)
def test_a_suppression_is_found(comment, reason):
    assert suppressions("sample.py", comment + "\n") == [("sample.py:1", reason)]


def test_a_string_about_suppressions_is_none():
    assert suppressions("sample.py", 'x = "# noqa: E501"\n') == []


def test_no_text_holds_a_personal_path_or_a_registry_host():
    assert {name: found for name, text in text_files() if (found := intruders(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "/home/" + "ada/jdviz/app.py",
        "/Users/" + "ada/jdviz",
        "C:" + "\\Users\\ada",
        "see https://py" + "pi.org/simple",
        "https://download.py" + "torch.org/whl/cpu",
    ],
)
def test_a_personal_path_or_a_host_is_found(text):
    assert len(intruders(text)) == 1


@pytest.mark.parametrize(
    "text", ["~/.local/share/jdviz", "pytorch.org/get-started", "/usr/bin/chromium", "a/root/b"]
)
def test_an_ordinary_path_is_not(text):
    assert intruders(text) == []


def test_every_make_target_that_is_written_about_exists():
    named = {
        (name, target)
        for name, text in documents()
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(code_spans(text)))
    }
    assert {target for _, target in named} >= {"app", "test", "check"}
    assert {(name, target) for name, target in named if target not in make_targets()} == set()


def code_spans(text: str) -> list[str]:
    """What a Markdown document sets as code, in a block or in a line."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return blocks + re.findall(r"`([^`\n]+)`", rest)


def test_the_readme_names_every_command_of_the_ci():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    readme = "\n".join(code_spans((ROOT / "README.md").read_text("utf-8")))
    housekeeping = ("#", "set ", "cd ")
    commands = [
        line.strip()
        for line in script.splitlines()
        if line.strip() and not line.strip().startswith(housekeeping)
    ]
    assert commands
    assert [command for command in commands if command not in readme] == []


def test_every_environment_variable_that_is_read_is_in_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    read = {
        found
        for name, text in text_files()
        if name.endswith(".py")
        for found in re.findall(r"\bJDVIZ_[A-Z_]+\b", text)
    }
    assert {found for found in read if found not in readme} == set()


def test_links_between_documents_lead_somewhere():
    broken = [
        (name, target)
        for name, text in documents()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
        if "://" not in target and not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert broken == []


def test_everything_that_is_tracked_is_small():
    # A clone stays quick; data that grows belongs in a package or is generated.
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in repository_files()}
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}


def test_the_readme_answers_for_every_page():
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = {f"| {page.name} | {page.question} |" for page in PAGES.values()}
    assert {row for row in rows if row not in readme} == set()


def test_the_example_in_the_readme_runs():
    readme = (ROOT / "README.md").read_text("utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
