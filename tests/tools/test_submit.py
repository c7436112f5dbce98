"""A run submitted with submitit: to Slurm's own commands where they are made up, and to this machine in earnest."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'possam[slurm]'")

import submit  # noqa: E402  (of tools/)

from possam.data.miniature.export import export_split  # noqa: E402

CONFIG = ["--config-file", "configs/mini/possam.yaml"]
SMALL = [
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64", "DATASETS.TEST", "()",
    "TEST.NUM_VISUALIZATIONS", "0",
]  # fmt: skip


def parse(*words):
    return submit.build_parser().parse_args([*CONFIG, *words])


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cluster's commands, as far as they are called."""
    for name in ("sbatch", "srun", "squeue", "sacct"):
        (tmp_path / name).write_text("#!/bin/sh\necho Submitted batch job 12\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_slurm_is_told_what_was_asked_for(slurm, tmp_path):
    asked = ["--partition", "gpu", "--nodes", "2", "--gpus-per-node", "8", "--hours", "1.5", "--signal-delay", "120"]
    job = submit.submit(parse(*asked, "--slurm", "qos=high", "OUTPUT_DIR", str(tmp_path / "vit_b")))
    assert job.job_id == "12"
    script = (tmp_path / "vit_b" / "jobs" / "12_submission.sh").read_text()
    wanted = ["partition=gpu", "nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "time=90", "signal=USR2@120"]
    for option in [*wanted, "qos=high", "job-name=vit_b", "open-mode=append"]:
        assert f"#SBATCH --{option}\n" in script, option
    run = job.submission().function
    assert not run.args.resume and run.checkpoint().function.args.resume


def test_several_configurations_are_handed_on(slurm, tmp_path):
    words = ["--config-file", "configs/eval/all.yaml", "TEST.TASKS", "['panoptic']", "OUTPUT_DIR", str(tmp_path)]
    run = submit.submit(parse(*words)).submission().function
    assert run.args.config_file == ["configs/mini/possam.yaml", "configs/eval/all.yaml"]


def test_a_prediction_is_submitted_with_the_words_of_its_command(slurm, tmp_path):
    words = ["segment", "photos", "--classes", "cat, sofa", "--output", str(tmp_path / "results")]
    options = ["--gpus-per-node", "4", "--name", "photos"]
    job = submit.submit(submit.build_parser().parse_args([*options, *words]))
    script = (tmp_path / "results" / "jobs" / "12_submission.sh").read_text()
    assert "#SBATCH --ntasks-per-node=4\n" in script and "#SBATCH --job-name=photos\n" in script
    prediction = job.submission().function
    assert prediction.words == words and prediction.checkpoint().function.words == words
    for wrong, message in (
        ([*options], "there is nothing to submit"),
        (["--resume", *words], "goes on by itself"),
        ([*words, "--batch-size", "0"], "--batch-size is 0"),
        ([*words, "--threshold", "1.5"], "threshold must be a number"),
    ):
        with pytest.raises(ValueError, match=message):
            submit.submit(submit.build_parser().parse_args(wrong))


def test_mistakes_are_told_before_anything_waits_in_a_queue(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="SOLVER.STEP"):
        submit.submit(parse("SOLVER.STEP", "1"))
    with pytest.raises(ValueError, match="--slurm qos is not KEY=VALUE"):
        submit.submit(parse("--slurm", "qos"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="--cluster local"):
        submit.submit(parse("OUTPUT_DIR", str(tmp_path / "run")))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"pip install 'possam\[slurm\]'"):
        submit.submit(parse())


def test_a_job_that_a_signal_stops_is_requeued_and_goes_on(tmp_path, monkeypatch):
    """By the signal that Slurm would send: submitit's, at the end of the time."""
    export_split("mini_a_train", root=tmp_path, scenes=5)
    for name, value in {"DETECTRON2_DATASETS": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": "tools"}.items():
        monkeypatch.setenv(name, value)
    output = tmp_path / "run"
    steps = ["SOLVER.MAX_ITER", "40", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.CHECKPOINT_PERIOD", "1"]
    places = ["OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", f"{tmp_path}/text"]
    places += ["INPUT.FEATURE_CACHE_DIR", str(tmp_path)]
    job = submit.submit(parse("--cluster", "local", "--gpus-per-node", "0", *SMALL, *steps, *places))
    try:
        until(lambda: (output / "model_0000000.pth").exists() or job._process.poll() is not None)
        children = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGUSR2)
        until(lambda: job._process.poll() is not None)
    finally:
        job._process.terminate()  # it ends its processes
        job._process.wait()
    printed = job.stdout() + job.stderr()
    assert job._process.returncode == 0 and job.result() is None, printed
    stopped = int(printed.partition("it is saved as model_")[2].partition(" ")[0])
    assert 0 < stopped < 39 and "Requeued job" in printed
    assert f"raining from iteration {stopped + 1}" in printed
    assert (output / "model_final.pth").exists()


def until(true):
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.02)
