"""What axe-core finds on a page that is open in a browser."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe

BAD = {"serious", "critical"}
# What Streamlit alone causes and no style sheet can mend; each with its reason. None so far.
EXCLUDED: tuple[str, ...] = ()


def violations(page: Any) -> list[str]:
    """What is serious or critical, a line for each element with its rule and reason.

    Args:
        page: A page of playwright, at rest.
    """
    context = {"exclude": [[selector] for selector in EXCLUDED]} if EXCLUDED else None
    found = Axe().run(page, context, {"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]} {_reasons(node)}"
        for rule in found
        if rule["impact"] in BAD
        for node in rule["nodes"]
    ]


def _reasons(node: dict[str, Any]) -> str:
    """Why an element fails a rule."""
    return "; ".join(check["message"] for check in (*node["any"], *node["all"], *node["none"]))
