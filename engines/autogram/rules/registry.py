"""The one registry of rules, by the name of the node they read."""

from collections.abc import Callable

from engines.autogram.rules.base import Rule

RULES: dict[str, Rule] = {}


def register(*names: str) -> Callable[[type[Rule]], type[Rule]]:
    """Register a rule for nodes of these names.

    Args:
        names: Names of autograd nodes.

    Returns:
        A class decorator.

    Raises:
        ValueError: One of the names has a rule already.
    """

    def add(rule: type[Rule]) -> type[Rule]:
        for name in names:
            if name in RULES:
                raise ValueError(
                    f"got a second rule {rule.__name__} for {name!r}, expected one rule per node "
                    f"name; extend {type(RULES[name]).__name__} instead."
                )
        instance = rule()
        RULES.update(dict.fromkeys(names, instance))
        return rule

    return add


def find(name: str) -> Rule | None:
    """Look up the rule for a node.

    Args:
        name: Name of the node.

    Returns:
        The rule, or None: the parameter takes the general path.
    """
    return RULES.get(name)
