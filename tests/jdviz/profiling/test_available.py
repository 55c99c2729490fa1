"""Free memory, read from made-up trees of the kernel's files."""

from pathlib import Path

import pytest

from jdviz.profiling import available_bytes

MIB = 2**20


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 1048576 kB\nSwapFree: 0 kB\n")
    return folder


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def group(folder: Path, limit: str, used: int, cache: int, version: int = 2) -> None:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    folder.mkdir(parents=True)
    (folder / names[0]).write_text(limit + "\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cache}\n")


def test_without_groups_it_is_the_kernels_estimate(proc: Path, cgroup: Path) -> None:
    assert available_bytes(proc, cgroup) == 1024 * MIB


def test_a_version_2_limit_counts_and_file_cache_is_free(proc: Path, cgroup: Path) -> None:
    (proc / "self" / "cgroup").write_text("0::/box/inner\n")
    group(cgroup / "box" / "inner", "max", 100 * MIB, 0)
    group(cgroup.joinpath("other"), "1", 0, 0)
    assert available_bytes(proc, cgroup) == 1024 * MIB
    for name, text in (
        ("memory.max", str(512 * MIB)),
        ("memory.current", str(300 * MIB)),
        ("memory.stat", f"inactive_file {50 * MIB}\n"),
    ):
        (cgroup / "box" / name).write_text(text)
    assert available_bytes(proc, cgroup) == (512 - 300 + 50) * MIB


def test_a_version_1_limit_counts(proc: Path, cgroup: Path) -> None:
    (proc / "self" / "cgroup").write_text("3:cpu:/x\n2:cpuset,memory:/box\n0::/\n")
    group(cgroup / "memory" / "box", str(256 * MIB), 100 * MIB, 10 * MIB, version=1)
    assert available_bytes(proc, cgroup) == 166 * MIB


def test_the_root_is_read_where_the_groups_own_path_is_hidden(proc: Path, cgroup: Path) -> None:
    (proc / "self" / "cgroup").write_text("0::/host/only/path\n")
    group(cgroup, str(128 * MIB), 28 * MIB, 0)
    assert available_bytes(proc, cgroup) == 100 * MIB


def test_an_unlimited_version_1_group_changes_nothing(proc: Path, cgroup: Path) -> None:
    (proc / "self" / "cgroup").write_text("4:memory:/box\n")
    group(cgroup / "memory" / "box", "9223372036854771712", 5, 0, version=1)
    assert available_bytes(proc, cgroup) == 1024 * MIB


def test_a_group_over_its_limit_leaves_nothing(proc: Path, cgroup: Path) -> None:
    (proc / "self" / "cgroup").write_text("0::/box\n")
    group(cgroup / "box", str(10 * MIB), 11 * MIB, 0)
    assert available_bytes(proc, cgroup) == 0


def test_without_the_kernels_files_it_is_half_of_the_memory(tmp_path: Path) -> None:
    assert available_bytes(tmp_path / "none", tmp_path / "none") > 0


def test_this_machine_has_memory() -> None:
    assert available_bytes() > 0
