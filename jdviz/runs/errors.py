"""What can be wrong with the run store, as one sentence that a page can show."""

import sqlite3
from pathlib import Path


class StoreError(RuntimeError):
    """The run store cannot be used; the text says what happened and what to do."""


class TransferError(StoreError):
    """A run cannot be exported or imported; the text says why and what to do."""


def explain(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """Says what happened to the store and what to do.

    Args:
        error: What SQLite or the file system said.
        path: The store's file.

    Returns:
        The exception to raise.
    """
    text = str(error).lower()
    if "locking protocol" in text:
        reason = (
            "cannot be locked: its file system is shared with other machines. Point JDVIZ_DATA at "
            "a local folder"
        )
    elif "locked" in text or "busy" in text:
        reason = "is locked by another program. Close it, or wait; nothing recorded is lost"
    elif "full" in text or "no space left" in text or "quota" in text:
        reason = "cannot grow because the disk is full. Free some space; nothing recorded is lost"
    elif "not a database" in text or "malformed" in text:
        reason = (
            "is not a readable run store. Move it away, or point JDVIZ_DATA at another folder; "
            "the file was left as it is"
        )
    elif "unique constraint failed: runs.id" in text:
        reason = "already holds a run of this identifier. Choose another, or leave it to chance"
    elif "constraint" in text:
        reason = (
            "no longer holds this run: it was deleted, or the file was removed or replaced, while "
            "the run went on. Stop the run and start again"
        )
    elif "readonly" in text or "read-only" in text:
        reason = "is read-only. Make it writable, or point JDVIZ_DATA at another folder"
    elif isinstance(error, OSError) or "unable to open" in text:
        reason = (
            "cannot be opened. Check that the folder exists and is yours to write, "
            "or point JDVIZ_DATA at another one"
        )
    else:
        reason = f"reported an error ({error}). Check the disk; what was recorded before is kept"
    return StoreError(f"The run store {path} {reason}.")
