"""Structure tests: measured rates are kept, shared between processes, and never in the way."""

import json
import math
import subprocess
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engines.autogram import rates
from engines.autogram.rates import Rates, rates_of, settle_rates
from tests.support.allocations import peak_bytes

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
ABSENT = torch.device("mps" if torch.cuda.is_available() else "cuda")
MEASURED = Rates(multiply_adds_per_s=3e9, bytes_per_s=2e9, call_s=1e-6)
GOOD = {"multiply_adds_per_s": 5.0, "bytes_per_s": 7, "call_s": 0.25}


class Forbidden(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        raise RuntimeError(f"got {func} in the caller's thread, expected none")


@pytest.fixture(autouse=True)
def file(monkeypatch, tmp_path):
    """The file of rates of a machine that has none, in a process that knows none."""
    monkeypatch.setenv("JDVIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(rates, "_known", {})
    return tmp_path / "cache" / "jdviz" / "rates.json"


@pytest.fixture
def measured(monkeypatch):
    """What was measured, in order; always the same comes out, on a busy machine too."""
    seen = []

    def measure(device, dtype):
        seen.append((device, dtype))
        return MEASURED

    monkeypatch.setattr(rates, "_measure", measure)
    return seen


def forget(monkeypatch):
    monkeypatch.setattr(rates, "_known", {})


def is_usable(found):
    return all(math.isfinite(value) and value > 0 for value in asdict(found).values())


def test_a_prediction_adds_up_products_bytes_and_calls():
    # 6 / 2 + 8 / 4 + 3 · 0.5
    assert Rates(2, 4, 0.5).seconds(multiply_adds=6, moved_bytes=8, calls=3) == 6.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_rates_of_this_machine_are_finite_and_positive(dtype):
    assert is_usable(rates_of(CPU, dtype))


def test_what_was_measured_is_remembered_and_read_by_the_next_process(measured, monkeypatch, file):
    assert rates_of(CPU, torch.float32) is rates_of(CPU, torch.float32)
    assert measured == [(CPU, torch.float32)]
    assert list(json.loads(file.read_text("utf-8")).values()) == [asdict(MEASURED)]
    forget(monkeypatch)
    assert rates_of(CPU, torch.float32) == MEASURED
    assert len(measured) == 1


def test_dtype_threads_and_processor_have_entries_of_their_own(measured, monkeypatch, file):
    rates_of(CPU, torch.float32)
    rates_of(CPU, torch.float64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    rates_of(CPU, torch.float32)
    monkeypatch.setattr(rates, "_processor", lambda: "another machine at the same home")
    rates_of(CPU, torch.float32)
    assert len(measured) == len(json.loads(file.read_text("utf-8"))) == 4


def test_reduced_precision_of_products_has_an_entry_of_its_own(measured):
    before = torch.get_float32_matmul_precision()
    rates_of(CPU, torch.float32)
    torch.set_float32_matmul_precision("medium")
    try:
        rates_of(CPU, torch.float32)
    finally:
        torch.set_float32_matmul_precision(before)
    told_apart = hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision")
    assert len(measured) == 1 + told_apart


def test_a_good_entry_is_taken_from_the_file(measured, file):
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({rates._key(CPU, torch.float32): GOOD}), "utf-8")
    assert rates_of(CPU, torch.float32) == Rates(5.0, 7.0, 0.25)
    assert measured == []


@pytest.mark.parametrize("field", [field.name for field in fields(Rates)])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "0", "-1", "null", '"1"', "1" + 400 * "0"])
def test_nonsense_in_an_entry_is_measured_again(measured, file, field, value):
    file.parent.mkdir(parents=True)
    entry = ", ".join(f'"{name}": {value if name == field else 1}' for name in GOOD)
    text = f'{{"of another": 1, {json.dumps(rates._key(CPU, torch.float32))}: {{{entry}}}}}'
    file.write_text(text, "utf-8")
    assert rates_of(CPU, torch.float32) == MEASURED
    found = json.loads(file.read_text("utf-8"))
    assert found == {"of another": 1, rates._key(CPU, torch.float32): asdict(MEASURED)}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_corrupt_file_is_replaced(measured, file, content):
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert rates_of(CPU, torch.float32) == MEASURED
    assert len(json.loads(file.read_text("utf-8"))) == 1


def test_without_a_place_for_the_file_rates_stay_in_memory(measured, monkeypatch, tmp_path, file):
    (tmp_path / "taken").write_text("a file where a folder should be")
    for place in (str(tmp_path / "taken"), "~nobody-of-this-name/cache"):
        forget(monkeypatch)
        monkeypatch.setenv("JDVIZ_CACHE", place)
        assert rates_of(CPU, torch.float32) is rates_of(CPU, torch.float32)
    assert len(measured) == 2
    monkeypatch.setenv("JDVIZ_CACHE", str(tmp_path / "cache"))
    file.mkdir(parents=True)
    forget(monkeypatch)
    assert rates_of(CPU, torch.float32) == MEASURED
    assert {path.name for path in file.parent.iterdir()} == {"rates.json", "rates.lock"}


def test_the_folder_follows_the_variables(measured, monkeypatch, tmp_path):
    for name in ("JDVIZ_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
        monkeypatch.setenv("USERPROFILE", str(tmp_path / "HOME"))
    rest = Path("jdviz", "rates.json")
    for name, folder in (("JDVIZ_CACHE", "JDVIZ_CACHE"), ("XDG_CACHE_HOME", "XDG_CACHE_HOME")):
        forget(monkeypatch)
        rates_of(CPU, torch.float32)
        assert (tmp_path / folder / rest).is_file()
        monkeypatch.setenv(name, "")
    forget(monkeypatch)
    rates_of(CPU, torch.float32)
    assert (tmp_path / "HOME" / ".cache" / rest).is_file()


def test_a_lock_that_is_never_given_back_is_not_waited_for(measured, monkeypatch, file):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(rates, "_LOCK_TURNS", 2)
    file.parent.mkdir(parents=True)
    with file.with_suffix(".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert rates_of(CPU, torch.float32) == MEASURED
    assert not file.exists()


def test_processes_that_write_at_once_keep_all_entries(file):
    writer = """
import sys, time
from pathlib import Path
from engines.autogram.rates import Rates, _store
file, name, go = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
go.with_suffix("." + name).touch()
while not go.exists():
    time.sleep(0.001)
for number in range(20):
    _store(file, f"{name} {number}", Rates(1.0, 1.0, 1.0))
"""
    go = file.parents[2] / "go"
    names = ("first", "second")
    started = [
        subprocess.Popen([sys.executable, "-c", writer, str(file), name, str(go)], cwd=ROOT)
        for name in names
    ]
    while not all(go.with_suffix("." + name).exists() for name in names):
        assert all(process.poll() is None for process in started)
        time.sleep(0.01)
    go.touch()
    assert [process.wait() for process in started] == [0, 0]
    expected = {f"{name} {number}" for name in names for number in range(20)}
    assert set(json.loads(file.read_text("utf-8"))) == expected
    assert {path.name for path in file.parent.iterdir()} == {"rates.json", "rates.lock"}


def test_deterministic_algorithms_plan_with_constants(measured, file):
    torch.use_deterministic_algorithms(True)
    try:
        found = [rates_of(CPU, torch.float32), rates_of(CPU, torch.float64)]
        elsewhere = rates_of(ABSENT, torch.float32)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found[0] == found[1]
    assert is_usable(found[0])
    assert is_usable(elsewhere)
    assert elsewhere.multiply_adds_per_s > found[0].multiply_adds_per_s
    assert measured == []
    assert rates._known == {}
    assert not file.parent.exists()


@pytest.mark.parametrize("device", [ABSENT, torch.device("meta")], ids=str)
def test_a_device_that_is_not_there_has_constants(measured, file, device):
    assert is_usable(rates_of(device, torch.float32))
    assert measured == []
    assert not file.parent.exists()


def test_a_dtype_without_products_has_constants(file):
    assert rates_of(CPU, torch.bool) == rates._CPU
    assert not file.parent.exists()


def test_a_busy_machine_is_not_written_down(monkeypatch, file):
    ticks = iter(range(10**6))
    monkeypatch.setattr(rates.time, "perf_counter", lambda: next(ticks) / 10)
    assert rates_of(CPU, torch.float32) == rates._CPU
    assert not file.parent.exists()


def test_a_machine_that_was_busy_is_asked_again(monkeypatch, file):
    answers = iter([rates._BusyError(), rates._BusyError(), MEASURED])

    def measure(device, dtype):
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(rates, "_measure", measure)
    assert rates_of(CPU, torch.float32) is rates._CPU
    assert not settle_rates(CPU, torch.float32)
    assert settle_rates(CPU, torch.float32)
    assert rates_of(CPU, torch.float32) == MEASURED
    # What is settled is not measured again.
    assert settle_rates(CPU, torch.float32)


def test_what_is_never_measured_is_not_settled(measured):
    assert not settle_rates(ABSENT, torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        assert not settle_rates(CPU, torch.float32)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not measured


def test_measuring_leaves_the_caller_as_it_was(file):
    random = torch.random.get_rng_state()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    with torch.enable_grad():
        rates_of(CPU, torch.float64)
        assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), random)
    assert (torch.get_default_dtype(), torch.get_num_threads()) == (dtype, threads)


def test_measuring_ignores_the_modes_and_the_profiler_of_the_caller(monkeypatch):
    inner = rates._measure
    results = []

    def recorded(device, dtype):
        try:
            results.append(inner(device, dtype))
        except rates._BusyError:
            results.append(None)
        return MEASURED

    monkeypatch.setattr(rates, "_measure", recorded)
    with torch.inference_mode(), torch.autocast("cpu"), torch.device("meta"), Forbidden():
        rates_of(CPU, torch.float32)
    assert peak_bytes(lambda: rates_of(CPU, torch.float64)) < 2**20
    assert len(results) == 2
