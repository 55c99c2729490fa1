"""A page of the app opened without a browser."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from jdviz.pages import PAGES

APP = str(Path(__file__).resolve().parents[2] / "app.py")


def open_page(key: str, **query: str | list[str]) -> AppTest:
    """Open one of the app's pages, as somebody does who follows a link to it.

    Args:
        key: The page's key.
        query: The address's settings.

    Returns:
        The app after the page has run.
    """
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    if key != "overview":
        # Without opening the app first: every page's address is the name of its file.
        app.switch_page(str(PAGES[key].path.relative_to(Path(APP).parent)))
    return app.run()


def numbers(values: Any) -> list[float]:
    """The numbers of a figure's trace, which plotly sends packed."""
    if not isinstance(values, dict):
        return list(values)
    kind = np.dtype(values["dtype"]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(values["bdata"]), kind).tolist()


def texts(elements: Iterable[Any]) -> str:
    """The words of several elements, a line each."""
    return "\n".join(element.value for element in elements)


def drawn(app: AppTest, key: str) -> dict[str, Any] | None:
    """What the page sends for one of its figures; None where it is not on the page.

    Args:
        app: The app after the page has run.
        key: The figure's name on the page.
    """
    sent = [json.loads(element.proto.json) for element in app.get("bidi_component")]
    return next((data for data in sent if data["name"] == f"plot-{key}"), None)
