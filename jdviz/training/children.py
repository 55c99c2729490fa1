"""The environment of a child process: the same packages, and a number of threads."""

import os
from pathlib import Path

PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def child_environment(threads: int) -> dict[str, str]:
    """What a process of this project is started with.

    Args:
        threads: Threads that its numerics may use; they read it when they are loaded.

    Returns:
        This process's environment with both set, the packages found also where the project runs
        from a clone.
    """
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }
