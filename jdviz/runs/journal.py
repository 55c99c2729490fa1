"""Which journal the run store can use: a write-ahead log, or a rollback journal where that fails.

With a write-ahead log pages read while a run is written. It needs memory that all processes share,
which a file system in the network does not give: two machines could then damage the file.
"""

import re
import sqlite3
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")

_NETWORK = re.compile(
    r"9p|afs|autofs|beegfs|ceph|cifs|davfs|gfs2?|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|smb[23]|"
    r"smbfs|(fuse\.)?(glusterfs|rclone|s3fs|sshfs)"
)


def choose_journal(connection: sqlite3.Connection, path: Path) -> tuple[bool, str]:
    """Switch the store to a write-ahead log if its file system can do that.

    Args:
        connection: The store, writable, outside a transaction.
        path: Its file.

    Returns:
        Whether it has a write-ahead log, and a sentence for a person where it cannot have one.

    Raises:
        sqlite3.Error: If the file cannot be used at all.
    """
    now = str(connection.execute("PRAGMA journal_mode").fetchone()[0]).lower()
    network = network_file_system(path)
    if network:
        return _leave_wal(connection, now), _sentence(path, network)
    if now == "wal":
        return True, ""
    try:
        got = ask_for_wal(connection)
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "full" in str(error):
            raise
        got = str(error)
    return (True, "") if got == "wal" else (False, _sentence(path, got))


def ask_for_wal(connection: sqlite3.Connection) -> str:
    """The journal mode that SQLite answers when it is asked for a write-ahead log."""
    return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]).lower()


def network_file_system(path: Path) -> str:
    """The type of the network file system that holds a file; empty where it is a local one.

    Args:
        path: The file; it need not exist.

    Returns:
        A type as the system names it, such as "nfs4"; empty too where the system does not say.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
        place = path.resolve()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        # Blanks in a mount point are written as octal escapes.
        point = Path(fields[1].replace("\\040", " "))
        # Of two mounts on one folder the later one is seen.
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind if _NETWORK.fullmatch(kind) else ""


def _leave_wal(connection: sqlite3.Connection, now: str) -> bool:
    """Whether a file that came with a write-ahead log still has it."""
    if now != "wal":
        return False
    try:
        return str(connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]).lower() == "wal"
    except sqlite3.OperationalError:
        # Somebody else has it open; whoever is alone with it next will change it.
        return True


def _sentence(path: Path, why: str) -> str:
    return (
        f"The file system of {path.parent} cannot do a write-ahead log ({why}), so the run store "
        "uses a rollback journal: as safe, but pages wait while steps are written. Point "
        "JDVIZ_DATA at a local folder to avoid the waits."
    )
