"""What wants a GPU runs in small on a CPU, and no case that goes wrong takes another with it."""

import importlib
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from benchmarks.gpu import CASES, Case, command
from benchmarks.gpu.bench import Bench, DeviceLost
from benchmarks.gpu.systems import SYSTEMS
from benchmarks.gpu.training import largest_batches

from possam.d2.utils import comm

ROOT = Path(__file__).resolve().parents[2]
# One case of each module, which are the same for all systems; kernels run in a process of their own, below.
DISTINCT = {case.module: case for case in reversed(CASES) if case.module != "deform_attn"}
ABOUT = {"hardware": "none"}


def bench_of(path, case="case", seconds=600.0, device="cpu"):
    return Bench(device=device, tiny=True, results=path, case=case, deadline=time.monotonic() + seconds)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("case", DISTINCT.values(), ids=lambda case: case.name)
def test_every_case_runs_in_small(case, device, tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)  # which a run in this process would leave to other tests
    if device == "cpu":  # this process may have had more memory than a case needs
        peak, sizes = Bench.peak, itertools.count(2**30, 2**20)
        monkeypatch.setattr(Bench, "peak", lambda *arguments: peak(*arguments) and next(sizes))
    path = tmp_path / "results.jsonl"
    with torch.compiler.set_stance("force_eager"):  # tests/models/test_compiled.py compiles
        importlib.import_module(f"benchmarks.gpu.{case.module}").run(
            bench_of(path, device=device), *filter(None, [case.system])
        )
    records = command.read(path)
    assert records and {each["status"] for each in records} == {"ok"}, records
    text = command.table(ABOUT, records)
    assert all(each["step"] in text for each in records)
    if case.module == "inference":
        stages = next(each["stages"] for each in records if "stages" in each)
        assert {"decode", "embed masks", "classify", "ensemble", "panoptic", "semantic", "instance"} < set(stages)
    if case.module == "training":
        assert records[-1]["fits"]["24 GB"] <= records[-1]["fits"]["141 GB"]
        assert records[0]["error"] < 0.1 and records[0]["worst"].startswith("loss_")
    if device == "cpu" and case.module in ("determinism", "distributed", "out_of_memory"):
        assert max(each.get("error", 0.0) for each in records) == 0.0


def test_kernels_run_in_the_interpreter(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    script = (
        "import sys, time; from pathlib import Path; from benchmarks.gpu import deform_attn; "
        "from benchmarks.gpu.bench import Bench; deform_attn.run(Bench(device='cpu', tiny=True, "
        "results=Path(sys.argv[1]), case='kernels', deadline=time.monotonic() + 600))"
    )
    path = tmp_path / "results.jsonl"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{ROOT / 'tools'}{os.pathsep}{ROOT}"}
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, env=environment, cwd=ROOT)
    records = command.read(path)
    assert [each["status"] for each in records] == ["ok"] * 4
    assert all(each["error"] < each["tolerance"] for each in records)


def test_every_case_has_a_module_and_a_system():
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert (ROOT / f"tools/benchmarks/gpu/{case.module}.py").is_file() and case.system in ("", *SYSTEMS)
    assert all((ROOT / f"configs/{name}.yaml").is_file() for pair in SYSTEMS.values() for name in pair)


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "status"),
    [
        (lambda: {"seconds": 1.0}, "ok"),
        (lambda: {"error": 0.2, "tolerance": 0.1}, "differs: 2.0e-01 > 1e-01"),
        (lambda: {"error": float("nan"), "tolerance": 0.1}, "differs: nan > 1e-01"),
        (raising(torch.OutOfMemoryError("CUDA out of memory. Tried …")), "out of memory: CUDA out of memory. Tried …"),
        (raising(ModuleNotFoundError("No module", name="open_clip")), "skipped: no module open_clip"),
        (raising(ZeroDivisionError()), "failed: ZeroDivisionError: no message"),
    ],
)
def test_a_step_is_recorded_whatever_it_does(work, status, tmp_path):
    path = tmp_path / "results.jsonl"
    bench_of(path).step("step", work)
    (found,) = command.read(path)
    assert found["status"] == status
    assert ("traceback" in found) == status.startswith("failed")


def test_a_lost_device_ends_the_case_and_no_time_skips_a_step(tmp_path):
    path = tmp_path / "results.jsonl"
    bench = bench_of(path)
    with pytest.raises(DeviceLost):
        bench.step("all", lambda: bench.step("one", raising(RuntimeError("CUDA error: an illegal memory access"))))
    assert bench_of(path, seconds=3.0).step("late", dict, least=5) is None
    lost, late = command.read(path)
    assert lost["step"] == "one" and lost["status"].startswith("failed: RuntimeError: CUDA error")
    assert late["status"] == "skipped: it needs about 5 s, but 3 s are left"


@pytest.fixture
def forked(monkeypatch):
    """Cases are forked from this process, which has everything imported."""
    if torch.cuda.is_available():
        pytest.skip("forked processes cannot use CUDA")
    monkeypatch.setattr(command, "_context", lambda device: multiprocessing.get_context("fork"))


def test_cases_are_on_their_own_and_in_time(forked, tmp_path, monkeypatch):
    module = types.ModuleType("benchmarks.gpu.pretended")
    works = {
        "good": lambda bench: bench.step("step", lambda: {"seconds": 0.5, "images_per_second": 2.0}),
        "dies": lambda bench: os._exit(3),
        "raises": lambda bench: {}["nothing"],
        "hangs": lambda bench: time.sleep(60),
    }
    module.run = lambda bench, system: works[system](bench)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    cases = [Case(name, "pretended", name, least=0) for name in ("good", "dies", "raises", "hangs")]
    cases.append(Case("late", "pretended", "good", least=20))
    start = time.monotonic()
    records = command.run_cases(cases, device="cpu", tiny=True, budget=12, output=tmp_path, about=ABOUT)
    assert time.monotonic() - start < 60
    found = {(each["case"], each["step"]): each["status"] for each in records}
    assert found["dies", ""] == "failed: its process ended with 3"
    assert found["raises", "all"] == "failed: KeyError: 'nothing'"
    assert found["good", "step"] == found["good", "all"] == "ok"
    assert found["hangs", ""].startswith("stopped after ")
    assert found["late", ""] == "skipped: it needs about 20 s, but 0 of 12 s are left"
    lines = (tmp_path / "table.md").read_text().splitlines()
    row = next(line for line in lines if "| good" in line and "| step" in line)
    assert lines[0] == "hardware none" and "| 500 ms" in row and "| 2 " in row
    assert [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()] == records


def test_the_command_says_what_it_needs(forked, tmp_path, monkeypatch, capsys):
    arguments = ["--device", "cpu", "--tiny", "--match", "environment", "--output", str(tmp_path)]
    assert command.main(arguments, lambda device: {"hardware": device}) == 0
    assert f"torch {torch.__version__.split('+')[0]}" in capsys.readouterr().out
    for wrong, message in ((["--device", "cpu"], "add --tiny"), (["--device", "cpu", "--tiny", "--match", "x y"], "no"),
                           ([], "no CUDA device")):  # fmt: skip
        with pytest.raises(SystemExit):
            command.main(wrong, dict)
        assert message in capsys.readouterr().err


def test_largest_batches_lie_on_a_line():
    found = largest_batches({1: 7 * 10**9, 2: 9 * 10**9, 4: 13 * 10**9})  # 5 GB and 2 an image, 1 for the context
    assert found["fits"] == {"24 GB": 9, "48 GB": 21, "80 GB": 37, "141 GB": 67}
    assert found["by"] == "linear fit of batches 1, 2, 4"
    with pytest.raises(ValueError, match="two batches"):
        largest_batches({1: 7})
