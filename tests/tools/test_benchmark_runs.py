"""Tests of the common code of the benchmarks: options, kept results, and errors."""

import argparse
import threading
from concurrent.futures import ThreadPoolExecutor

import benchmark_prompts
import benchmark_runs as tool
import pytest

from possam.utils.files import write_json

CONFIG = "configs/mini/possam.yaml"


def test_what_is_there_is_kept(tmp_path):
    made = []
    result = tmp_path / "run" / "results.json"

    def make():
        made.append(1)
        result.write_text("{}")

    for _ in range(2):
        tool.keep(result, CONFIG, ["SEED", "1", "OUTPUT_DIR", str(tmp_path)], make)
    assert made == [1]
    tool.keep(result, CONFIG, ["SEED", "1", "OUTPUT_DIR", "elsewhere"], make)  # the folder may be moved
    assert made == [1]
    tool.keep(result, CONFIG, ["SEED", "2"], make, complete=False)
    assert made == [1, 1]


@pytest.mark.parametrize("other", [["SEED", "2"], ["SEED", "1", "MODEL.ENSEMBLE.MASE.ETA", "0.5"]])
def test_a_result_of_other_settings_is_an_error(tmp_path, other):
    result = tmp_path / "results.json"
    tool.keep(result, CONFIG, ["SEED", "1"], lambda: result.write_text("{}"))
    with pytest.raises(ValueError, match=rf"other settings or weights \({other[-2]}\). Delete .* another --output"):
        tool.keep(result, CONFIG, other, lambda: None)


def test_a_model_is_kept_where_only_its_evaluation_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "run_tool", lambda command, log: (tmp_path / "model_final.pth").touch())
    weights = tool.train(CONFIG, [], 1, tmp_path)
    assert tool.train(CONFIG, ["MODEL.ENSEMBLE.MASE.ETA", "0.5"], 1, tmp_path) == weights
    with pytest.raises(ValueError, match=r"SOLVER.BASE_LR"):
        tool.train(CONFIG, ["SOLVER.BASE_LR", "0.1"], 1, tmp_path)


def test_a_result_of_other_weights_is_an_error(tmp_path, monkeypatch):
    result, weights = tmp_path / "results.json", tmp_path / "model.pth"
    options = ["MODEL.WEIGHTS", str(weights)]
    weights.write_bytes(b"first")
    tool.keep(result, CONFIG, options, lambda: result.write_text("{}"))
    weights.write_bytes(b"second")
    with pytest.raises(ValueError, match=r"MODEL.WEIGHTS"):
        tool.keep(result, CONFIG, options, lambda: None)
    weights.write_bytes(b"first")
    monkeypatch.setattr(tool, "_shipped_weights", lambda: {"mini_sam.safetensors": "another"})
    with pytest.raises(ValueError, match=r"mini_sam.safetensors"):
        tool.keep(result, CONFIG, options, lambda: None)


def test_a_result_without_a_record_is_an_error(tmp_path):
    result = tmp_path / "results.json"
    result.touch()
    with pytest.raises(ValueError, match="was made with other settings"):
        tool.keep(result, CONFIG, [], lambda: None)


def test_a_result_that_could_not_be_made_is_made_the_next_time(tmp_path):
    result = tmp_path / "results.json"
    result.write_text("old")

    def fail():
        raise tool.ToolError("no memory")

    with pytest.raises(tool.ToolError):
        tool.keep(result, CONFIG, [], fail, complete=False)
    tool.keep(result, CONFIG, [], lambda: result.write_text("new"))
    assert result.read_text() == "new"


def test_a_tool_that_fails_says_why(tmp_path):
    with pytest.raises(tool.ToolError, match=r"tools/sweep.py ended with exit code 2: .*--config-file.*log.txt"):
        tool.run_tool(["tools/sweep.py"], tmp_path / "log.txt")


def test_after_a_failure_nothing_more_is_started():
    done, hold = [], threading.Event()

    def fail():
        raise tool.ToolError("no memory")

    with ThreadPoolExecutor(1) as pool:
        jobs = {1: fail, 2: lambda: hold.wait(60), 3: lambda: done.append(3)}
        futures = {key: pool.submit(job) for key, job in jobs.items()}
        with pytest.raises(tool.ToolError, match="no memory"):
            tool.finished(pool, futures)
        hold.set()
    assert futures[3].cancelled() and done == []


def test_options_of_all_benchmarks(tmp_path, capsys):
    args = tool.parse_run_options(argparse.ArgumentParser(), ["--seeds", "2", "1", "2"], output="output/x")
    assert args.seeds == [2, 1] and args.output.is_absolute() and args.jobs == 1
    with pytest.raises(SystemExit):
        tool.parse_run_options(argparse.ArgumentParser(), ["--jobs", "0"], output="output/x")
    assert "--jobs is 0, but must be at least 1" in capsys.readouterr().err


def test_a_dataset_that_is_not_prepared_is_found_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="prepare_mini.py .*mini_a_train_large"):
        tool.check_data([("configs/mini/possam_long.yaml", ["DATASETS.TEST", "[]"])])


def test_prompts_are_evaluated_with_what_was_trained(tmp_path, monkeypatch):
    """Both kinds of prompt and the stage that a variant starts from, each once."""
    calls = []

    def run(command, log):
        folder = type(tmp_path)(command[command.index("OUTPUT_DIR") + 1])
        calls.append(("eval" if "--eval-only" in command else "train", folder.relative_to(tmp_path).as_posix()))
        folder.mkdir(parents=True, exist_ok=True)
        if calls[-1][0] == "train":
            (folder / "model_final.pth").write_bytes(folder.as_posix().encode())
        else:
            results = folder / "evaluation" / benchmark_prompts.DATASET / "results.json"
            results.parent.mkdir(parents=True, exist_ok=True)
            write_json(results, {"prompted": {"kind": folder.name}})

    monkeypatch.setattr(tool, "run_tool", run)
    monkeypatch.setattr(benchmark_prompts, "run_tool", run)
    monkeypatch.setattr(benchmark_prompts, "student_error", lambda config, options: {"mse": 1.0})
    student = benchmark_prompts.run_prompted("SAM2CLIP only", 1, tmp_path)
    assert student == {"point": {"kind": "point"}, "box": {"kind": "box"}, "student": {"mse": 1.0}}
    for _ in range(2):
        found = benchmark_prompts.run_prompted("published", 1, tmp_path)
    assert found == {"point": {"kind": "point"}, "box": {"kind": "box"}}
    assert calls == [
        (kind, f"{variant}/1{place}")
        for variant in ("SAM2CLIP_only", "published")
        for kind, place in (("train", ""), ("eval", "/point"), ("eval", "/box"))
    ]
    (tmp_path / "SAM2CLIP_only" / "1" / "model_final.pth").write_bytes(b"trained anew")
    with pytest.raises(ValueError, match=r"MODEL.SAM2CLIP.WEIGHTS"):
        benchmark_prompts.run_prompted("published", 1, tmp_path)
