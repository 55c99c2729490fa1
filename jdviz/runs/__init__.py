"""The run store: every step of every run, whoever trained it, as rows that the pages read."""

from jdviz.runs.errors import StoreError, TransferError
from jdviz.runs.rows import Run, Series, Source
from jdviz.runs.store import FINAL_STATUSES, RunStore, data_folder

__all__ = [
    "FINAL_STATUSES",
    "Run",
    "RunStore",
    "Series",
    "Source",
    "StoreError",
    "TransferError",
    "data_folder",
]
