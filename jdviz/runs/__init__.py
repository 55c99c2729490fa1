"""The run store: every step of every run, whoever trained it, as rows that the pages read."""

from jdviz.runs.errors import StoreError
from jdviz.runs.store import FINAL_STATUSES, Run, RunStore, Series, data_folder

__all__ = [
    "FINAL_STATUSES",
    "Run",
    "RunStore",
    "Series",
    "StoreError",
    "data_folder",
]
