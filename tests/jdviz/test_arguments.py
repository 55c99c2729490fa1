"""What the app takes behind the `--`, and what it says of the rest."""

import pytest

from jdviz.arguments import GIBIBYTE, Arguments, is_loopback, parse
from jdviz.training.limits import RunLimits


def test_nothing_given_is_one_person_without_limits():
    assert parse([]) == (Arguments(), [])
    assert not Arguments().shared
    assert Arguments().limits == RunLimits()


def test_everything_given_is_taken():
    given = "--problem a.b:c --problem d:e --shared --max-steps 500 --max-batch 64"
    chosen, wrong = parse([*given.split(), "--max-minutes", "1.5", "--store-limit-gib", "0.5"])
    assert wrong == []
    assert chosen == Arguments(
        problems=("a.b:c", "d:e"),
        shared=True,
        limits=RunLimits(max_steps=500, max_batch=64, max_seconds=90.0),
        store_limit_bytes=GIBIBYTE // 2,
    )


@pytest.mark.parametrize("name", ["--max-steps", "--max-batch", "--max-minutes"])
@pytest.mark.parametrize("value", ["0", "-3", "many", "nan", "inf", None])
def test_a_limit_that_is_none_is_said_and_the_rest_is_taken(name, value):
    chosen, wrong = parse(["--shared", name, *filter(None, [value])])
    (sentence,) = wrong
    assert sentence.startswith(f"The app was started with {name} {value or ''!r}, expected a ")
    assert chosen == Arguments(shared=True)


def test_a_step_is_whole():
    chosen, wrong = parse(["--max-steps", "2.5"])
    assert "expected a whole number above 0" in wrong[0]
    assert chosen.limits.max_steps is None


def test_what_is_unknown_is_said():
    chosen, wrong = parse(["--share", "--problem", "a:b"])
    assert "started with --share, expected --problem package.module:factory" in wrong[0]
    assert chosen.problems == ("a:b",)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.5.0.2", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.4", False),
        ("lab.example", False),
        ("", False),
        (None, False),
    ],
)
def test_only_the_machine_itself_is_loopback(address, expected):
    assert is_loopback(address) is expected
