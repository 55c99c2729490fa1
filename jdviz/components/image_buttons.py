"""Buttons that save a figure as it is on the screen, as PNG or SVG.

The browser makes the file from the figure that `live_plot` has drawn there, with the visitor's zoom
and the page's theme, so nothing is asked of the server.
"""

import streamlit as st

from jdviz.components.assets import read_asset

_mount = st.components.v2.component(
    "jdviz_image_buttons",
    html=read_asset("image_buttons.html"),
    css=read_asset("image_buttons.css"),
    js=read_asset("image_buttons.js"),
)


def image_buttons(plot: str, *, title: str, file_name: str, key: str) -> None:
    """Draw the two buttons.

    Args:
        plot: Key of the `live_plot` on the same page.
        title: What stands above the figure in the file.
        file_name: Name of the file without its ending.
        key: Identifies the buttons on their page.
    """
    _mount(
        key=key,
        data={"name": key, "plot": plot, "title": title, "file": file_name},
        height="content",
    )
