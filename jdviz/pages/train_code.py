"""The code of a run, ready to copy."""

import streamlit as st

from jdviz.pages.frame import opened
from jdviz.pages.run_view import RunView
from jdviz.problems import is_own
from jdviz.training import ConfigError, RunConfig
from jdviz.training.script import script


def draw_code(view: RunView | None, planned: RunConfig | None) -> None:
    """Draw a script that trains as a run does, folded away.

    Args:
        view: The run shown; None before one was started.
        planned: What Start would train; None where nothing can be.
    """
    config = planned if view is None else _config_of(view)
    if config is None:
        return
    with opened("train:code", "Code of this run") as is_open:
        if not is_open:
            return
        if view is None:
            st.caption("What Start would train, with the settings on the left.")
        try:
            config.validate()
        except ConfigError as error:
            st.caption(f"There is no script for these settings: {error}")
            return
        st.code(script(config), language="python")


def _config_of(view: RunView) -> RunConfig | None:
    """The configuration of a run of this app; None for one of somebody's own script."""
    # A model of someone's own that no run of this server has built is not built for its code.
    unbuilt = is_own(view.setting("problem")) and view.state is None
    if view.run.source == "recorder" or unbuilt:
        return None
    try:
        return RunConfig.from_dict(view.run.config)
    except ConfigError:
        return None
