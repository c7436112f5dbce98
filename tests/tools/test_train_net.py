"""The main job on a few scenes, as a person starts it: train, evaluate, resume, in one process and in several."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "4", "TEST.BATCH_SIZE", "2", "TEST.PICTURES", "1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A few scenes of every split; the environment points to them."""
    root = tmp_path_factory.mktemp("world")
    counts = ["--a-train", "6", "--b-selection", "2", "--b-report", "5"]
    call("datasets/prepare_mini.py", "--root", str(root), "--processes", "1", *counts, root=root)
    return root


def call(script, *arguments, root, launcher=(), check=True):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, script, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert not check or result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def train(world, output, *arguments, overrides=(), **options):
    folders = ["OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", str(world / "text")]
    folders += ["INPUT.FEATURE_FOLDER", str(world / "features")]
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


def test_trains_evaluates_every_ensemble_and_draws(trained):
    output, printed = trained
    report = results(output)
    assert set(report) == {"panoptic_seg", "sem_seg", "segm", "iou_head", "compare"}
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


def test_eval_only_repeats_the_numbers(world, trained):
    output = world / "runs" / "again"
    train(world, output, "--eval-only", overrides=["MODEL.WEIGHTS", str(trained[0] / "model_final.pth")])
    assert results(output) == results(trained[0])


def test_the_command_evaluates_too_and_writes_a_report(world, trained):
    output = world / "runs" / "command"
    settings = [*SHORT, "OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", str(world / "text"), "TEST.PICTURES", "0"]
    weights = ["--weights", str(trained[0] / "model_final.pth"), "--report", "--num-gpus", "2"]
    call("-m", "possam", "eval", "configs/mini/possam.yaml", *settings, *weights, root=world)
    for metric, value in results(trained[0])["panoptic_seg"].items():
        assert results(output)["panoptic_seg"][metric] == pytest.approx(value, nan_ok=True)
    assert "</html>" in (output / "evaluation" / "mini_b_report" / "report.html").read_text()
    result = call("-m", "possam", "train", "none.yaml", root=world, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: No configuration at none.yaml")


def test_resume_goes_on_where_it_stopped(world):
    output = world / "runs" / "resumed"
    train(world, output, overrides=["TEST.PICTURES", "0"])
    train(world, output, "--resume", overrides=["SOLVER.MAX_ITER", "3", "TEST.PICTURES", "0"])
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "total_loss" in line] == [1, 2]


@pytest.mark.parametrize("torchrun", [False, True])
def test_two_processes_score_what_one_does(world, trained, torchrun):
    """Gloo on the CPU, through --num-gpus and through torchrun; an uneven share of 5 images for 2 processes."""
    output = world / "runs" / f"two-{torchrun}"
    weights = ["MODEL.WEIGHTS", str(trained[0] / "model_final.pth")]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if torchrun else []
    processes = [] if torchrun else ["--num-gpus", "2"]
    train(world, output, "--eval-only", *processes, overrides=weights, launcher=launcher)
    for metric, value in results(trained[0])["panoptic_seg"].items():
        assert results(output)["panoptic_seg"][metric] == pytest.approx(value, nan_ok=True)


def test_two_processes_train(world):
    output = world / "runs" / "two-train"
    train(world, output, "--num-gpus", "2", overrides=["TEST.PICTURES", "0"])
    assert (output / "model_final.pth").is_file()
    assert "panoptic_seg" in results(output)


def test_a_mistake_is_one_sentence(world):
    result = train(world, world / "runs" / "bad", overrides=["MODEL.ENSEMBLE.NAME", "mace"], check=False)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: MODEL.ENSEMBLE.NAME is 'mace'")
    assert "Traceback" not in result.stderr
    # No process has been started yet when it is found.
    wrong = ["MODEL.ENSEMBLE.NAME", "mace"]
    several = train(world, world / "runs" / "bad", "--num-gpus", "2", overrides=wrong, check=False)
    assert several.returncode == 1 and several.stderr.splitlines()[-1] == result.stderr.splitlines()[-1]
    assert "Traceback" not in several.stderr


def test_a_broken_image_is_one_sentence_from_a_loader_process_too(world):
    root = world / "broken"
    shutil.copytree(world / "mini", root / "mini")
    image = min((root / "mini" / "mini_b_report" / "images").iterdir())
    image.write_bytes(b"no picture")
    workers = ["DATALOADER.NUM_WORKERS", "1", "MODEL.WEIGHTS", str(world / "runs" / "one" / "model_final.pth")]
    result = train(root, root / "run", "--eval-only", overrides=workers, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1 and image.name in last and "does not decode" in last


def test_evaluating_nothing_trained_is_refused(world):
    result = train(world, world / "runs" / "untrained", "--eval-only", check=False)
    assert result.returncode == 1
    assert "--eval-only needs trained parameters" in result.stderr


def test_data_that_is_not_there_names_the_command(tmp_path):
    result = train(tmp_path, tmp_path / "run", check=False)
    assert result.returncode == 1
    assert "datasets/prepare_mini.py" in result.stderr
    assert not Path(tmp_path / "run" / "model_final.pth").exists()
