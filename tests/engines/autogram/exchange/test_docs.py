"""The page on several processes: its blocks run on two ranks, and its script under torchrun."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.structure.sources import ROOT
from tests.support.ranks import LOOPBACK
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close

PAGE = ROOT / "docs" / "distributed.md"
SCRIPT = ROOT / "docs" / "examples" / "distributed.py"
BLOCK = re.compile(r"^```py\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
Namespace = dict[str, Any]


def gradient(*modules: nn.Module) -> Tensor:
    """What the parameters have in `.grad`, shape [n]."""
    found = [parameter.grad for module in modules for parameter in module.parameters()]
    return torch.cat([one.flatten() for one in found if one is not None])


def expected_of_tasks(names: Namespace) -> Tensor:
    """The gradient of two tasks as one process makes it of the whole batch."""
    replica, head, x, y = names["replica"], names["head"], names["inputs"], names["targets"]
    features = replica[:2](x)
    losses = torch.stack(
        [(replica[2](features).squeeze(1) - y).square().mean(), head(features).sin().mean()]
    )
    parameters = [*replica.parameters(), *head.parameters()]
    gramian = reference_gramian(losses, parameters)
    weights = names["weighting"](gramian).to(losses)
    found = torch.autograd.grad(losses, parameters, weights)
    return torch.cat([one.flatten() for one in found])


def run_blocks(rank: int, world_size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Run the page; what its blocks leave in `.grad`, beside what they should."""
    names: Namespace = {"__name__": "example"}
    found = {}
    for source in BLOCK.findall(PAGE.read_text("utf-8")):
        if "pooled" in source:
            names["replica"].zero_grad()
        exec(compile(source, str(PAGE), "exec"), names)
        if "no_sync" in source:
            whole = gradient(names["ddp"])
            names["optimizer"].zero_grad()
            for x, y in names["parts"]:
                losses = (names["ddp"](x).squeeze(1) - y).square()
                names["engine"].backward(losses, names["weighting"])
            found["accumulated"] = whole, gradient(names["ddp"])
        if "ranks * own" in source:
            whole = gradient(names["ddp"])
            names["optimizer"].zero_grad()
            losses = (names["ddp"](names["x"]).squeeze(1) - names["y"]).square()
            names["engine"].backward(losses, names["weighting"])
            found["in two passes"] = whole, gradient(names["ddp"])
        if "pooled" in source:
            found["tasks"] = gradient(names["replica"], names["head"]), expected_of_tasks(names)
    assert names["gramian"].shape == (2 * world_size, 2 * world_size)
    return found


def test_reference_the_blocks_of_the_page_run_on_two_ranks(two_ranks):
    answers = two_ranks.run(run_blocks)
    for found in answers:
        assert list(found) == ["accumulated", "in two passes", "tasks"]
        for one, other in found.values():
            assert_close(one, other, torch.float32)
    for name, (one, _) in answers[0].items():
        assert torch.equal(one, answers[1][name][0])


def run_script(processes: int, *arguments: object) -> None:
    """Run the script of the page, by torchrun if there are to be several processes."""
    started = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    ended = subprocess.run(
        [
            sys.executable,
            *(started if processes > 1 else []),
            str(SCRIPT),
            *("--timeout", "30"),
            *map(str, arguments),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": LOOPBACK,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.timeout(300)
def test_reference_the_script_makes_the_updates_of_one_process(tmp_path):
    alone, together = tmp_path / "alone.pt", tmp_path / "together.pt"
    run_script(1, "--steps", 6, "--checkpoint", alone)
    # In two goes, so the second one starts from the checkpoint of the first, of one process.
    run_script(1, "--steps", 3, "--checkpoint", together)
    run_script(2, "--steps", 6, "--checkpoint", together)
    expected, found = (torch.load(path)["model"] for path in (alone, together))
    assert torch.load(together)["step"] == 6
    for name, parameter in found.items():
        # Adam divides by the root of a small average, which makes more of rounding.
        torch.testing.assert_close(parameter, expected[name], rtol=1e-3, atol=1e-4)
