"""The streams of a measuring child: a request in, an answer out, and an end with its parent."""

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any


def answer_request(make: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Reads the request from standard input and writes the answer to standard output.

    A parent that ends closes the stream of the request, and this process ends with it.

    Args:
        make: Finds the answer to a request; both are what JSON holds.

    Returns:
        The answer that was written.

    Raises:
        SystemExit: The stream ended before the request did.
    """
    # Whatever else prints, in Python or below, goes to the error stream and not into the answer.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        request = b""
        while not request.endswith(b"\n"):
            # Unbuffered, so that nothing but the request is taken from the stream.
            part = os.read(0, 65536)
            if not part:
                sys.exit(1)
            request += part
        _end_with_parent()
        answer = make(json.loads(request))
        json.dump(answer, out)
    return answer


def _end_with_parent() -> None:
    """Waits for the end of the request's stream in a thread, then ends the process."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
