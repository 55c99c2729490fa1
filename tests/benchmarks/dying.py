"""A rank that goes wrong, for tests of what starts it: `python -m tests.benchmarks.dying`.

It reads a request as `benchmarks.distributed_rank` does, leaves its process number in the folder
that the request names as its problem, and ends as that says; rank 0 waits for the others for ever.
"""

import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Goes wrong, or waits."""
    request = json.loads(sys.stdin.readline())
    way, folder = request["size"], Path(request["problem"])
    (folder / str(request["rank"])).write_text(str(os.getpid()))
    if request["rank"] == 1:
        if way == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "raises":
            sys.stdout.write(json.dumps({"error": "ValueError: no", "at_s": 1.0}) + "\n")
            sys.stdout.flush()
            os._exit(1)
        if way == "ends":
            os._exit(0)
    sys.stdin.read()


if __name__ == "__main__":
    main()
