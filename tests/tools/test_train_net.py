"""The main job on a few scenes, as a person starts it: train, evaluate, resume, in one process and in several."""

import argparse
import contextlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from possam.cli import job, main
from possam.d2.utils import comm
from possam.data import SegmentationMapper
from possam.data.miniature.export import export_split
from possam.engine import Trainer
from possam.engine.preemption import Preempted
from possam.engine.run_folder import exclusive

SPLITS = ("mini_a_train", "mini_b_selection", "mini_b_report")
# One image at a time: batches of other images round differently, so that several processes would not give equal bits.
SHORT = ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "4", "TEST.BATCH_SIZE", "1", "TEST.NUM_VISUALIZATIONS", "1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A few scenes of every split; the environment points to them."""
    root = tmp_path_factory.mktemp("world")
    for split, scenes in zip(SPLITS, (6, 2, 5), strict=True):
        export_split(split, root=root, scenes=scenes)
    return root


def call(script, *arguments, root, launcher=(), check=True, meanwhile=lambda process: None):
    """Run a script; `meanwhile` is called while it runs."""
    environment = {**os.environ, "DETECTRON2_DATASETS": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, script, *arguments]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            meanwhile(process)
            printed, errors = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    result = subprocess.CompletedProcess(command, process.returncode, printed, errors)
    assert not check or result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def train(world, output, *arguments, overrides=(), **options):
    folders = ["OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", str(world / "text")]
    folders += ["INPUT.FEATURE_CACHE_DIR", str(world / "features")]
    config = ["--config-file", "configs/mini/possam.yaml"]
    return call("tools/train_net.py", *config, *arguments, *SHORT, *folders, *overrides, root=world, **options)


def results(output):
    """The metrics of a run, without what the report says about how they came to be."""
    report = json.loads((output / "evaluation" / "mini_b_report" / "results.json").read_text())
    assert report.pop("dataset")["images"] == 5 and report.pop("provenance")["seed"] == 1
    return report


@pytest.fixture(scope="module")
def trained(world):
    """The output folder of a short run, and what it printed."""
    output = world / "runs" / "one"
    return output, train(world, output).stdout


@pytest.fixture
def start(world, miniature, monkeypatch):
    """Runs the job in this process, which spares the imports."""
    miniature(world)
    monkeypatch.setattr(job, "set_up", lambda *_: None)

    def started(output, *settings, resume=False, eval_only=False, num_gpus=1):
        places = ["OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", f"{world}/text", "INPUT.CACHE_FEATURES", "False"]
        arguments = argparse.Namespace(config_file="configs/mini/possam.yaml", opts=[*SHORT, *places, *settings])
        how = {"resume": resume, "eval_only": eval_only, "num_gpus": num_gpus, "num_machines": 1}
        job.run_job(argparse.Namespace(**vars(arguments), **how))

    return started


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ([], []),
        (["--config-file", "a.yaml"], ["a.yaml"]),
        (["--config-file", "a.yaml", "--eval-only", "--config-file", "b.yaml", "K", "1"], ["a.yaml", "b.yaml"]),
    ],
)
def test_configurations_are_merged_in_the_order_of_the_command_line(monkeypatch, words, files):
    seen = []
    monkeypatch.setattr(job, "run_job", seen.append)
    monkeypatch.setattr(sys, "argv", ["train_net.py", *words])
    with contextlib.suppress(SystemExit):
        runpy.run_path("tools/train_net.py", run_name="__main__")
    assert seen[0].config_file == files and seen[0].eval_only == ("--eval-only" in words)
    assert seen[0].opts == words[words.index("K") :] if "K" in words else seen[0].opts == []
    assert seen[0].num_gpus == 1 and seen[0].dist_url == "auto"


def test_trains_evaluates_every_ensemble_and_draws(trained):
    output, printed = trained
    report = results(output)
    assert set(report) == {"panoptic_seg", "sem_seg", "segm", "iou_head", "compare", "bootstrap"}
    assert {"mase", "ldp", "clip", "uniform", "geometric", "modulation"} == set(report["compare"])
    assert report["compare"]["mase"] == report["panoptic_seg"]
    pictures = sorted((output / "evaluation" / "mini_b_report" / "pictures").glob("*.png"))
    assert pictures and all(str(picture) in printed for picture in pictures)
    assert "unseen" in printed


def test_predictions_are_coco_panoptic_files(trained):
    from possam.data import read_id_map

    folder = trained[0] / "evaluation" / "mini_b_report"
    content = json.loads((folder / "panoptic.json").read_text())
    assert len(content["annotations"]) == 5
    for annotation in content["annotations"]:
        ids = set(read_id_map(folder / "panoptic" / annotation["file_name"]).ravel().tolist()) - {0}
        assert ids == {segment["id"] for segment in annotation["segments_info"]}


def test_eval_only_repeats_the_numbers(start, tmp_path, trained):
    start(tmp_path, "MODEL.WEIGHTS", str(trained[0] / "model_final.pth"), eval_only=True)
    assert results(tmp_path) == results(trained[0])


def test_the_command_evaluates_too_and_writes_a_report(world, trained, capsys):
    """On two processes, joined by gloo; an uneven share of 5 images."""
    output = world / "runs" / "command"
    settings = [*SHORT, "OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", str(world / "text")]
    settings += ["TEST.NUM_VISUALIZATIONS", "0"]
    weights = ["--weights", str(trained[0] / "model_final.pth"), "--report", "--num-gpus", "2"]
    call("-m", "possam", "eval", "configs/mini/possam.yaml", *settings, *weights, root=world)
    for metric, value in results(trained[0])["panoptic_seg"].items():
        assert results(output)["panoptic_seg"][metric] == pytest.approx(value, nan_ok=True)
    assert "</html>" in (output / "evaluation" / "mini_b_report" / "report.html").read_text()
    assert main(["train", "none.yaml"]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: No configuration at none.yaml")


def test_resume_goes_on_where_it_stopped(start, tmp_path):
    settings = ["TEST.NUM_VISUALIZATIONS", "0", "DATASETS.TEST", "()"]
    start(tmp_path, *settings)
    start(tmp_path, *settings, "SOLVER.MAX_ITER", "3", resume=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "total_loss" in line] == [1, 2]


@pytest.mark.parametrize("eval_only", [False, True])
def test_a_second_run_in_the_folder_of_a_running_one_is_refused(start, tmp_path, eval_only):
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with exclusive(tmp_path):
            os.write(told, b"1")
            time.sleep(60)
    os.read(ready, 1)
    before = sorted(tmp_path.iterdir())
    try:
        with pytest.raises(ValueError, match=rf"^Another run \(process {child} on .* is writing to OUTPUT_DIR"):
            start(tmp_path, "MODEL.WEIGHTS", __file__, eval_only=eval_only)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert sorted(tmp_path.iterdir()) == before


# ------------------------------------------------------------------ interrupted

MANY_STEPS = ["SOLVER.CHECKPOINT_PERIOD", "1", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64"]
MANY_STEPS += ["TEST.NUM_VISUALIZATIONS", "0"]


def processes_of(root):
    """The processes that work on these scenes: environments by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # another's, or just gone
        if f"DETECTRON2_DATASETS={root}" in environment:
            found[int(folder.name)] = environment
    return found


def once_saved(output, action):
    """Acts once the first step of a run is saved."""

    def wait(process):
        while not (output / "model_0000000.pth").exists() and process.poll() is None:
            time.sleep(0.02)
        action(process)

    return wait


def last_saved(output):
    return max(int(path.stem[6:]) for path in output.glob("model_0*.pth"))


def test_two_processes_are_told_through_the_one_that_started_them(world):
    output = world / "runs" / "told"
    workers = ["SOLVER.MAX_ITER", "50", "DATALOADER.NUM_WORKERS", "1", "DATASETS.TEST", "()"]
    tell = once_saved(output, lambda process: process.terminate())
    settings = {"overrides": [*MANY_STEPS, *workers], "meanwhile": tell, "check": False}
    told = train(world, output, "--num-gpus", "2", **settings)
    assert told.returncode == 75 and "Traceback" not in told.stderr, told.stderr
    assert not processes_of(world)
    assert f"saved as model_{last_saved(output):07d} and" in told.stdout
    assert 0 < last_saved(output) < 49 and not (output / "model_final.pth").exists()


def test_torchrun_restarts_all_when_one_is_killed_and_they_go_on(world, start, tmp_path):
    """The same command line, with --resume, serves the start and the restart; both processes score what one does."""
    output = world / "runs" / "elastic"
    killed = []

    def kill(_):
        killed.append(last_saved(output))
        (pid,) = [pid for pid, environment in processes_of(world).items() if "RANK=1" in environment]
        os.kill(pid, signal.SIGKILL)

    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    settings = [*MANY_STEPS, "SOLVER.MAX_ITER", "30"]
    result = train(world, output, "--resume", overrides=settings, launcher=launcher, meanwhile=once_saved(output, kill))
    starts = re.findall(r"raining from iteration (\d+)", result.stdout)
    assert len(starts) == 2 and starts[0] == "0" and killed[0] < int(starts[1]) < 30
    assert not processes_of(world)
    start(tmp_path, "MODEL.WEIGHTS", str(output / "model_final.pth"), eval_only=True)
    for metric, value in results(tmp_path)["panoptic_seg"].items():
        assert results(output)["panoptic_seg"][metric] == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    "end, code, said",
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (Preempted(), 75, ""),
        (ChildProcessError("Process 1 of 2 was killed."), 1, "error: Process 1 of 2 was killed."),
        (MemoryError(), 1, "error: MemoryError"),
    ],
)
def test_exit_codes(monkeypatch, capsys, end, code, said):
    def run_job(_):
        raise end

    monkeypatch.setattr(job, "run_job", run_job)
    monkeypatch.setattr(sys, "argv", ["train_net.py"])
    with pytest.raises(SystemExit) as exit:
        runpy.run_path("tools/train_net.py", run_name="__main__")
    assert [exit.value.code, capsys.readouterr().err.strip()] in ([code, said], [said, ""])  # sys.exit(said) is 1


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_else(start, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Checkpoints cannot be written to .*; set OUTPUT_DIR to a folder that can"):
        start(tmp_path / "file" / "run")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_lost_process_of_the_data_loader_ends_the_run_with_advice(start, tmp_path, monkeypatch, number):
    monkeypatch.setattr(SegmentationMapper, "__call__", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(ChildProcessError, match=r"^A process that loads data was lost: .* lower DATALOADER.NUM_WORK"):
        start(tmp_path / "run", "DATALOADER.NUM_WORKERS", "1")
    assert not (tmp_path / "run" / "model_final.pth").exists()


def test_a_terminated_process_of_the_data_loader_means_to_make_room(start, tmp_path, monkeypatch):
    """As when all processes of the run are told, and this one cannot finish its step."""

    def told(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SegmentationMapper, "__call__", told)
    with pytest.raises(Preempted):
        start(tmp_path / "run", "DATALOADER.NUM_WORKERS", "1")


def test_an_error_in_a_process_of_the_data_loader_is_the_cause(start, tmp_path, monkeypatch):
    def fail(*_):
        raise FileNotFoundError("a.jpg is missing.")

    monkeypatch.setattr(SegmentationMapper, "__call__", fail)
    with pytest.raises(FileNotFoundError) as error:
        start(tmp_path / "run", "DATALOADER.NUM_WORKERS", "1")
    assert job.sentence(error.value) == "FileNotFoundError: a.jpg is missing."


def _one_fails(start, folder):
    if comm.get_rank() == 1:
        Trainer.run_step = lambda _: (_ for _ in ()).throw(FloatingPointError("not finite"))
    try:
        start(folder)
    except Exception as error:
        Path(folder, f"{comm.get_rank()}.txt").write_text(job.sentence(error))
        raise


def test_an_error_in_one_process_ends_the_others_in_one_sentence(start, two_processes, tmp_path):
    begin = time.monotonic()
    with pytest.raises(FloatingPointError, match="^not finite"):
        two_processes(_one_fails, start, tmp_path)
    assert (tmp_path / "0.txt").read_text().startswith("Another process of this run has ended")
    assert time.monotonic() - begin < 30 and not (tmp_path / "model_final.pth").exists()


# ------------------------------------------------------------------ mistakes


def test_a_mistake_is_one_sentence(world):
    result = train(world, world / "runs" / "bad", overrides=["MODEL.ENSEMBLE.NAME", "mace"], check=False)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: MODEL.ENSEMBLE.NAME is 'mace'")
    assert "Traceback" not in result.stderr


def test_a_mistake_is_told_before_any_process_starts(start, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "run", None)
    with pytest.raises(ValueError, match="^MODEL.ENSEMBLE.NAME is 'mace'"):
        start(tmp_path, "MODEL.ENSEMBLE.NAME", "mace", num_gpus=2)


def test_a_broken_image_is_one_sentence_from_a_loader_process_too(start, world, miniature, trained, tmp_path):
    shutil.copytree(world / "mini", tmp_path / "mini")
    image = min((tmp_path / "mini" / "mini_b_report" / "images").iterdir())
    image.write_bytes(b"no picture")
    miniature(tmp_path)
    weights = ["MODEL.WEIGHTS", str(trained[0] / "model_final.pth")]
    with pytest.raises(ValueError) as error:
        start(tmp_path / "run", "DATALOADER.NUM_WORKERS", "1", "DATASETS.CHECK", "none", *weights, eval_only=True)
    said = job.sentence(error.value)
    assert "\n" not in said and image.name in said and "does not decode" in said


def test_evaluating_nothing_trained_is_refused(start, tmp_path):
    with pytest.raises(ValueError, match="^--eval-only needs trained parameters"):
        start(tmp_path, eval_only=True)


def test_data_that_is_not_there_names_the_command(start, miniature, tmp_path):
    miniature(tmp_path)
    with pytest.raises(FileNotFoundError, match="datasets/prepare_mini.py"):
        start(tmp_path / "run")
