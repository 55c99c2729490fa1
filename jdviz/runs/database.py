"""The file of the run store: opening it, transactions, and what it says when it cannot be used."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jdviz.runs.errors import StoreError, explain
from jdviz.runs.journal import choose_journal
from jdviz.runs.schema import SCHEMA_VERSION, check_version, upgrade

BUSY_TIMEOUT_S = 5.0


def writable(path: Path) -> bool:
    """Whether a file that exists, and the folder its journal needs, can be written."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


class Database:
    """One SQLite file in the schema of this version.

    A connection lives as long as one operation: it crosses neither threads nor a fork, and a file
    that is removed or replaced is noticed at the next operation.

    Args:
        path: The file; it and its folder are created when missing, unless `read_only`.
        read_only: Open an existing file without ever changing what it holds.

    Attributes:
        path: The file.
        read_only: Whether nothing can be written: as asked, or because the file system forbids it.
        notice: A sentence for a person about what this file cannot do; else empty.

    Raises:
        StoreError: If the file cannot be opened, is not a run store, or has a newer schema.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.notice = ""
        self._has_wal = True
        self._prepare()

    def _prepare(self) -> None:
        if not self.read_only and self.path.exists() and not writable(self.path):
            self.read_only = True
            self.notice = (
                f"The run store {self.path} is read-only: its runs can be looked at, and nothing "
                "new is recorded. Make the file and its folder writable, or point JDVIZ_DATA at "
                "another folder."
            )
        if not self.read_only:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise explain(error, self.path) from error
        with self._opened() as connection:
            version = check_version(connection, self.path)
            if self.read_only:
                if version < SCHEMA_VERSION:
                    raise StoreError(
                        f"The run store {self.path} has an older schema ({version}, expected "
                        f"{SCHEMA_VERSION}) and cannot be brought up to date while it is "
                        "read-only. Copy it to a folder that is yours to write, and open that."
                    )
                return
            if version == 0:
                # Must be set before the first table: deleted runs then give their space back.
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            self._has_wal, self.notice = choose_journal(connection, self.path)
            upgrade(connection, self.path)

    def open(self) -> sqlite3.Connection:
        """A new connection, before anything is read through it.

        Returns:
            The connection, in autocommit mode; the caller closes it.

        Raises:
            sqlite3.Error: If the file cannot be opened.
        """
        if not self.read_only:
            return sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        # Not SQLite's read-only mode: that leaves the log of a live store behind when it closes.
        connection = self._open_uri("mode=rw")
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            if "unable to open" not in str(error) or not self.path.exists():
                raise
            # A log cannot be made in this folder, so nobody writes here: the file is all there is.
            return self._open_uri("mode=ro&immutable=1")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _open_uri(self, query: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?{query}"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation.

        Yields:
            The connection, in autocommit mode.

        Raises:
            StoreError: If the file cannot be used.
        """
        if not self.read_only and not self.path.exists():
            # Somebody moved the file away while the server runs: begin a new one.
            self._prepare()
        with self._opened() as connection:
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self.open()
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self.path) from error
        try:
            # A file from elsewhere must not run functions from its schema.
            connection.execute("PRAGMA trusted_schema=OFF")
            if not self.read_only:
                connection.execute("PRAGMA foreign_keys=ON")
                # A write-ahead log cannot be damaged by a power cut at NORMAL, a rollback
                # journal can.
                connection.execute(f"PRAGMA synchronous={'NORMAL' if self._has_wal else 'FULL'}")
            yield connection
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self.path) from error
        finally:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the file as it is now, whatever others write meanwhile.

        Yields:
            The connection, in a transaction that only reads.

        Raises:
            StoreError: If the file cannot be read.
        """
        with self.connection() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are all kept at the end, or none if there is an exception.

        Yields:
            The connection, holding the lock for writing.

        Raises:
            StoreError: If the file cannot be written.
        """
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A full disk may already have rolled back; a second rollback would hide the cause.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def shrink(self) -> None:
        """Give the space of deleted rows back to the file system, as far as that is possible now.

        While others read, the space stays in the file and new steps use it.
        """
        with self.connection() as connection, suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA busy_timeout=0")
            if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 2:
                # Every page is a row without columns, and `execute` ends at the first of those.
                connection.executescript("PRAGMA incremental_vacuum")
            else:
                # A file of schema 1 was made without; from now on it has it.
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def seal(self) -> None:
        """Fold the journal into the one file, so that it can be shipped and opened read-only.

        Raises:
            StoreError: If the file cannot be written.
        """
        with self.connection() as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("VACUUM")

    def size_bytes(self) -> int:
        """Bytes that the file's content takes, without the space that deleted rows left in it.

        Raises:
            StoreError: If the file cannot be read.
        """
        with self.connection() as connection:
            numbers = [
                int(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            ]
        return (numbers[0] - numbers[1]) * numbers[2]
