"""Benchmarks measure both sides of a case on the same work, and every stage says what it compares."""

import importlib
import importlib.util
import json
import os
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
from benchmarks import STAGES
from benchmarks.case import Case, largest_difference, relative_error
from benchmarks.measure import apart, measure

MEGABYTES = 64


def spend(seconds, megabytes, value):
    def work():
        torch.ones(megabytes << 18).sum()
        start = time.process_time()
        while time.process_time() - start < seconds:
            pass
        return torch.tensor([value])

    return work


def cases(device):
    return [
        Case(
            name="sleep",
            reference="four times as long",
            ours=lambda: spend(0.02, 1, 1.0),
            theirs=lambda: spend(0.08, MEGABYTES, 1.5),
            error=largest_difference,
            tolerance=0.1,
            runs=3,
        )
    ]


def test_time_memory_and_error_of_both_sides():
    result = measure(cases, 0, "cpu", None)
    assert [len(result[side]["seconds"]) for side in ("ours", "theirs")] == [3, 3]
    assert 0.1 < result["time_ratio"] < 0.6  # a quarter, and what allocating takes
    grown = result["theirs"]["peak_bytes"] - result["ours"]["peak_bytes"]
    assert grown > (MEGABYTES // 2) << 20
    assert result["error"] == 0.5 and result["tolerance"] == 0.1


def test_a_process_that_dies_is_an_error():
    """For example, the kernel kills it when memory runs out. Its result must not be waited for forever."""
    with pytest.raises(BrokenProcessPool):
        apart(os._exit, 3)


def test_errors():
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])
    assert relative_error(a, b) == 0.5
    assert largest_difference(a, b) == 2.0
    assert largest_difference(torch.tensor([1, 2, 3]), torch.tensor([1, 9, 9])) == 2.0


@pytest.mark.parametrize("stage", list(STAGES))
def test_every_stage_says_what_it_compares(stage):
    rows = importlib.import_module(STAGES[stage]).cases("cpu")
    assert rows and all(case.name and case.reference for case in rows)
    assert len({case.name for case in rows}) == len(rows)


def test_the_command_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    command = importlib.util.spec_from_file_location("benchmark_command", "tools/benchmark.py")
    module = importlib.util.module_from_spec(command)
    command.loader.exec_module(module)
    side = {"seconds": [1.0], "median": 1.0, "peak_bytes": 2**20}
    figures = {"ours": side, "theirs": side, "time_ratio": 1.0, "memory_ratio": 1.0, "error": 1e-7}

    def measured(cases_of, index, device, runs):
        case = cases_of(device)[index]
        about = {"name": case.name, "reference": case.reference, "tolerance": case.tolerance}
        return {**figures, **about, "time_target": case.time_target, "memory_target": None}

    monkeypatch.setattr(module, "measure", measured)
    path = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "pq", "merge", "--match", "PQ", "--output", str(path)])
    module.main()
    content, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert len(content["stages"]["pq"]) == 3
    assert all(row["name"] in printed for row in content["stages"]["pq"]) and "1.000 (≤ 0.17)" in printed
    assert content["origin"]["torch"] == torch.__version__

    monkeypatch.setattr(sys, "argv", ["benchmark.py", "pq", "--match", "no such"])
    with pytest.raises(SystemExit):
        module.main()
    assert "no case of pq has 'no such' in its name" in capsys.readouterr().err
