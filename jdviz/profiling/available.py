"""Memory that the machine can still give to a process."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Says how many bytes a new process can use without swapping or being ended for it.

    On Linux that is what the kernel estimates to be available, or less where a control group
    (of a container, for instance) is allowed less: of every group from the process's own up to
    the root, the limit minus what is in use, where file cache that can be dropped counts as free.
    Where there is no such estimate, half of the physical memory.

    Args:
        proc: Where the kernel shows processes.
        cgroup: Where the kernel shows control groups.

    Returns:
        Bytes, at least 0.
    """
    free = _meminfo_bytes(proc / "meminfo")
    if free is None:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return max(0, min([free, *_group_bytes(proc / "self" / "cgroup", cgroup)]))


def _meminfo_bytes(path: Path) -> int | None:
    """Reads the kernel's estimate, None where it gives none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group_bytes(membership: Path, cgroup: Path) -> Iterator[int]:
    """Yields what each control group of the process still allows."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            root, names = cgroup, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = cgroup / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path is that of the host, and only the root can be seen.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            left = _left_in(folder, *names)
            if left is not None:
                yield left
            if folder == root:
                break


def _left_in(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    """Returns limit minus use in one group, None where it has no limit."""
    try:
        allowed = (folder / limit).read_text().strip()
        used = int((folder / usage).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return None
    # Version 1 writes "no limit" as a number that no machine reaches; the minimum drops it.
    if not allowed.isdigit():
        return None
    statistics = dict(line.split(maxsplit=1) for line in lines if " " in line)
    return int(allowed) - used + int(statistics.get(cache, 0))
