"""What whoever starts the server chooses: `streamlit run app.py -- --shared --max-steps 2000`."""

import argparse
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from jdviz.training.limits import RunLimits

_KNOWN = (
    "--problem package.module:factory, --shared, --max-steps N, --max-batch N, --max-minutes N or "
    "--store-limit-gib N"
)
GIBIBYTE = 2**30
STORE_LIMIT_GIB = 2.0


@dataclass(frozen=True)
class Arguments:
    """What was chosen.

    Attributes:
        problems: Import paths of models of one's own.
        shared: Whether visitors are kept apart: each sees and controls the runs of their own
            session, and sees those that were published.
        limits: What a run may take.
        store_limit_bytes: From this size on the Runs page offers old runs for deletion.
    """

    problems: tuple[str, ...] = ()
    shared: bool = False
    limits: RunLimits = field(default_factory=RunLimits)
    store_limit_bytes: int = int(STORE_LIMIT_GIB * GIBIBYTE)


def parse(given: Sequence[str]) -> tuple[Arguments, list[str]]:
    """Read the arguments behind the `--`.

    Args:
        given: The arguments, without the name of the script.

    Returns:
        What was chosen, and a sentence for everything that could not be taken; the rest was.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # Without a value it is an import path without a name, which is said like any other.
    parser.add_argument("--problem", action="append", nargs="?", const="", default=[])
    parser.add_argument("--shared", action="store_true")
    for name in ("--max-steps", "--max-batch", "--max-minutes", "--store-limit-gib"):
        parser.add_argument(name, nargs="?", const="")
    options, unknown = parser.parse_known_args(given)
    wrong = []
    if unknown:
        wrong.append(
            f"The app was started with {' '.join(unknown)}, expected {_KNOWN}; write streamlit's "
            "own options before the --."
        )
    numbers = {}
    for name, whole in (
        ("max_steps", True),
        ("max_batch", True),
        ("max_minutes", False),
        ("store_limit_gib", False),
    ):
        text = getattr(options, name)
        if text is None:
            continue
        value = _positive(text, whole=whole)
        if value is None:
            option = f"--{name.replace('_', '-')}"
            kind = "a whole number" if whole else "a number"
            wrong.append(
                f"The app was started with {option} {text!r}, expected {kind} above 0; correct "
                "it, as no such limit is set now."
            )
        else:
            numbers[name] = value
    minutes = numbers.get("max_minutes")
    limits = RunLimits(
        max_steps=_whole(numbers.get("max_steps")),
        max_batch=_whole(numbers.get("max_batch")),
        max_seconds=None if minutes is None else 60.0 * minutes,
    )
    gibibytes = numbers.get("store_limit_gib", STORE_LIMIT_GIB)
    chosen = Arguments(tuple(options.problem), options.shared, limits, int(gibibytes * GIBIBYTE))
    return chosen, wrong


def is_loopback(address: str | None) -> bool:
    """Whether a server at this address is reached from its own machine alone.

    Args:
        address: A host name or an IP address; None or empty for all of the machine's addresses.

    Returns:
        The answer; False for a name other than localhost.
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address or "0.0.0.0").is_loopback
    except ValueError:
        return False


def _positive(text: str, *, whole: bool) -> float | None:
    """The number above 0 that a text names, or None."""
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
