"""Words for runs: which of them a query means, what sets them apart, what is a repeat of what."""

import json
from collections.abc import Sequence
from typing import Any

from jdviz.runs.rows import RANKS, Run

SEED = "seed"
METHOD = "aggregator"
#: Settings whose values say by themselves what they are.
_PLAIN_SETTINGS = frozenset({METHOD, "problem", "engine", "optimizer"})

#: Settings beside method, problem and seed that a name holds.
_MORE = 2
#: Characters of a name in a legend.
_LONGEST = 60
_MARKUP = str.maketrans("", "", "<>[]{}`$*\\")


def matches(run: Run, query: str, title: str = "") -> bool:
    """Whether every word of a query occurs in what is known of a run.

    Args:
        run: The run.
        query: Words; "seed=3" asks for a setting with its value.
        title: What a page writes for the run beside what is known of it.

    Returns:
        The answer; True for an empty query.
    """
    settings = [f"{name}={shown(value)}" for name, value in run.config.items()]
    known = [title, run.run_id, run.name, *run.tags, run.notes, run.status, run.source]
    text = "\n".join([*known, *run.objectives, *settings]).casefold()
    return all(word in text for word in query.casefold().split())


def seed_of(run: Run) -> str:
    """The seed of a run as text; empty where its settings hold none."""
    return "" if SEED not in run.config else shown(run.config[SEED])


def without_seed(run: Run) -> str:
    """What the repeats of a run have in common, as text to compare.

    Args:
        run: The run.

    Returns:
        Its settings without the seed. A run of a script that recorded no other settings is told
        apart from those of other scripts by its name.
    """
    settings = {name: value for name, value in run.config.items() if name != SEED}
    # How many ranks there were is recorded for everybody.
    name = "" if settings.keys() - {RANKS} else run.name
    return json.dumps([settings, name, run.objectives], sort_keys=True, default=str)


def labels(runs: Sequence[Run], *, ignoring: Sequence[str] = ()) -> list[str]:
    """A short name for each of several runs, no two alike.

    Args:
        runs: The runs.
        ignoring: Settings that are not to be named.

    Returns:
        The names that people gave; for a run without one the settings in which the runs differ.
    """
    names = [_clean(run.name) for run in runs]
    # What a run with a name was started with does not make the others' names longer.
    unnamed = [
        run for run, name in zip(runs, names, strict=True) if not name or names.count(name) > 1
    ]
    differing = [
        key
        for key in dict.fromkeys(name for run in unnamed for name in run.config)
        if key not in ignoring
        and len({shown(run.config[key]) for run in unnamed if key in run.config}) > 1
    ]
    settings = [_settings_label(run, differing) for run in runs]
    found = [
        own if not name else name if names.count(name) == 1 else f"{name} · {own}"
        for name, own in zip(names, settings, strict=True)
    ]
    seen: dict[str, int] = {}
    unique = []
    for label in found:
        seen[label] = seen.get(label, 0) + 1
        unique.append(label if found.count(label) == 1 else f"{label} ({seen[label]})")
    return unique


def shown(value: Any) -> str:
    """The value of a setting as text."""
    if value is None:
        return "not recorded"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _named(key: str, value: Any) -> str:
    return f"{key.replace('_', ' ')} {shown(value)}"


def _settings_label(run: Run, differing: Sequence[str]) -> str:
    """The settings of a run in which it differs from others: method, problem, a few more, seed."""
    first = [key for key in (METHOD, "problem") if key in differing]
    others = [key for key in differing if key not in (*first, SEED)]
    last = [SEED] if SEED in differing else []
    parts = [
        shown(run.config[key]) if key in _PLAIN_SETTINGS else _named(key, run.config[key])
        for key in (*first, *others[:_MORE], *last)
        if key in run.config
    ]
    fallback = str(run.config.get(METHOD) or run.run_id)
    return _clean(" · ".join(parts) or fallback)


def _clean(text: str) -> str:
    """A name short enough for a legend, without what figures and Markdown take for markup."""
    kept = " ".join(text.translate(_MARKUP).split())
    return kept if len(kept) <= _LONGEST else f"{kept[: _LONGEST - 1]}…"
