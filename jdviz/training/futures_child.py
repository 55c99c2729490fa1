"""The child process that finds futures: reads one question, answers, ends.

Question: one line of JSON with `config`, `checkpoint_step`, `step`, `methods`, `k`, `equal_length`
and `bytes`, then so many bytes of the checkpoint. Answer, one line: `{"found": ...}` or
`{"error": one sentence}`. The stream of the question stays open; when it ends, the parent is gone,
and so is the child.
"""

import json
import os
import sys
import threading
from typing import Any, BinaryIO

import torch

from engines.errors import EngineError
from jdviz.problems import ProblemError
from jdviz.training.checkpoints import CheckpointError
from jdviz.training.config import ConfigError, RunConfig
from jdviz.training.counterfactual import futures


def answer(question: dict[str, Any], checkpoint: bytes) -> dict[str, Any]:
    """Finds the futures that a question asks for.

    Args:
        question: As the module says.
        checkpoint: The checkpoint.

    Returns:
        The answer, ready for JSON.
    """
    try:
        found = futures(
            RunConfig.from_dict(question["config"]),
            question["checkpoint_step"],
            checkpoint,
            question["step"],
            question["methods"],
            question["k"],
            equal_length=question["equal_length"],
        )
    except (CheckpointError, ConfigError, EngineError, ProblemError) as error:
        return {"error": str(error)}
    return {"found": found.to_dict()}


def _end_with_parent(stream: BinaryIO) -> None:
    """Waits for the end of the question's stream in a thread, then ends the process."""

    def wait() -> None:
        while stream.read(4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Reads the question from standard input and writes the answer to standard output."""
    # Whatever else prints, in Python or below, goes to the error stream and not into the answer.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        stream = sys.stdin.buffer
        question = json.loads(stream.readline() or b"null")
        if question is None:
            sys.exit(1)
        checkpoint = stream.read(question["bytes"])
        _end_with_parent(stream)
        torch.set_num_threads(1)
        json.dump(answer(question, checkpoint), out)


if __name__ == "__main__":
    main()
