"""Evaluation with prompts, from the settings to results.json, by a model that is never trained."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_coder

from possam.cli.job import run_job
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.modeling import build_model
from possam.data import read_instances
from possam.data.datasets import SPECS
from possam.data.instance_prompts import prompted_instances
from possam.engine import load_config, prepare_datasets
from possam.engine.data_check import check_test_sets
from possam.engine.datasets import build_test_mapper
from possam.engine.evaluate import evaluate_datasets
from possam.engine.prompted import prompt_options
from possam.engine.trainer import build_test_loader
from possam.models import SamClip
from tests.layouts import make_coco

SPLIT = "coco_48_17_val"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """COCO's layout with two images of two things each, a person and a cat or a car and a toothbrush."""
    folder = tmp_path_factory.mktemp("prompted")
    make_coco(folder, images=3, size=(48, 64))
    annotations = folder / "coco" / "annotations" / "instances_val2017.json"
    content = json.loads(annotations.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 203]  # nothing to ask for
    annotations.write_text(json.dumps(content))
    return folder


@pytest.fixture
def settings(root, tmp_path, monkeypatch):
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    for name in SPECS:
        DatasetCatalog.data.pop(name, None)
        MetadataCatalog.data.pop(name, None)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    yield [
        "MODEL.META_ARCHITECTURE", "SamClip", "MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False",
        "MODEL.SAM.NAME", "mini", "MODEL.SAM.WEIGHTS", "shipped", "MODEL.SAM_CLIP.REGION", "features",
        "MODEL.CLIP.NAME", "mini_strong", "MODEL.CLIP.WEIGHTS", "shipped", "MODEL.ENSEMBLE.NAME", "clip",
        "MODEL.TEXT_CACHE", str(root / "text"), "MODEL.TRAIN_VOCABULARY", "coco_48_17_base",
        "INPUT.IMAGE_SIZE", "128", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(tmp_path / "out"),
        "TEST.TASKS", "['prompted']", "DATASETS.TEST", f"('{SPLIT}',)",
    ]  # fmt: skip
    DatasetCatalog.data, MetadataCatalog.data = before


def configure(settings, *more):
    cfg = load_config("configs/base.yaml", [*settings, *more])
    prepare_datasets(cfg)
    return cfg


def build(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


def evaluate(cfg, model):
    def loader_of(name, **keywords):
        return build_test_loader(cfg, name, **keywords)

    return evaluate_datasets(cfg, model, loader_of)[SPLIT]["prompted"]


@pytest.mark.parametrize("kind", ["point", "box"])
def test_instances_are_asked_for(settings, kind):
    cfg = configure(settings, "TEST.PROMPTED.KIND", kind, "TEST.ENSEMBLES", "['uniform']")
    results = evaluate(cfg, build(cfg))
    assert {"mIoU", "accuracy", "mIoU_base", "mIoU_novel", "accuracy_small"} < set(results)
    assert "mIoU_seen" not in results and 0 < results["mIoU"] < 100
    written = json.loads((Path(cfg.OUTPUT_DIR) / "evaluation" / SPLIT / "results.json").read_text())
    assert written["prompted"]["mIoU"] == results["mIoU"] and written["compare"]["uniform"]["mIoU"] == results["mIoU"]
    assert written["dataset"]["images"] == 3 and written["dataset"]["vocabulary"]["classes"] == 65


def detections(cfg, tmp_path):
    """A results file of the annotated boxes of the first two images."""
    content = json.loads(Path(MetadataCatalog.get(SPLIT).json_file).read_text())
    found = [
        {key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5 + 0.01 * number}
        for number, one in enumerate(content["annotations"])
    ]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(found))
    return str(path), found


@pytest.fixture
def boxes_as_masks(monkeypatch):
    """A model whose masks are the prompts' boxes, or around their points, and whose CLIP reads `region_boxes`."""
    by_sam = SamClip.predict_masks

    def predict_masks(self, features, prompts=None, region_boxes=None):
        found, cells = by_sam(self, features, prompts), torch.arange(32) * 4 + 2
        around = prompts.points.repeat(1, 1, 2).sum(1) + torch.tensor([-9, -9, 9, 9])
        x0, y0, x1, y1 = prompts.boxes.where(prompts.has_box[:, None], around).T[..., None]
        inside = ((cells >= y0) & (cells < y1))[:, :, None] & ((cells >= x0) & (cells < x1))[:, None]
        found["mask_logits"] = torch.where(inside, 9.0, -9.0)[None]
        if region_boxes is not None:
            direction = torch.nn.functional.normalize(region_boxes, dim=-1)
            found["clip_embeddings"] = found["clip_embeddings"].clone()
            found["clip_embeddings"][0, :, :4] = direction
        return found

    monkeypatch.setattr(SamClip, "predict_masks", predict_masks)
    monkeypatch.setattr(SamClip, "takes_region_boxes", True)


@pytest.mark.usefixtures("boxes_as_masks")
def test_boxes_of_a_detector_have_an_average_precision(settings, tmp_path):
    path, _ = detections(configure(settings), tmp_path)
    more = ["TEST.PROMPTED.KIND", "detector", "TEST.PROMPTED.DETECTIONS", path]
    cfg = configure(settings, *more)
    model = build(cfg)
    results = evaluate(cfg, model)
    assert {"AP", "AP50", "AP_base", "AP_novel"} <= set(results)
    assert results["AP50"] == pytest.approx(100)  # the things are rectangles
    assert evaluate(configure(settings, *more, "TEST.PROMPTED.LABELS", "model"), model)["AP50"] < 100


@pytest.mark.usefixtures("boxes_as_masks")
def test_masks_at_the_photos_own_size_are_compared(settings):
    """A box that is also the mask has an IoU that only the cells of the decoder bound."""
    cfg = configure(settings, "TEST.PROMPTED.KIND", "box")
    results = evaluate(cfg, build(cfg))
    assert 80 < results["mIoU"] and results["mIoU_small"] == results["mIoU"]


def perturbed(record, kind):
    """The same image with other annotated masks, whose prompts of this kind are the same, and whose boxes are not where
    prompts are points."""
    changed = []
    for one in prompted_instances(read_instances(record, isthing=[True] * 65)):
        mask = mask_coder.decode(one["segmentation"])
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        if kind == "point":
            mask[rows[0], :] = 1  # a line of one pixel to both sides
        else:
            mask[rows[0] + 1 : rows[-1], columns[0] + 1 : columns[-1]] = 0  # a frame
        changed.append({**one, "segmentation": mask_coder.encode(np.asfortranarray(mask))})
    return {**record, "annotations": changed}


def outputs(cfg, model, every):
    mapper = build_test_mapper(cfg, MetadataCatalog.get(SPLIT).vocabulary, prompt_options(cfg, SPLIT, every))
    samples = [mapper(record) for record in every]
    return samples, [output["prompted"] for output in model(samples)]


def equal(first, second):
    return all(torch.equal(one[key], other[key]) for one, other in zip(first, second, strict=True) for key in one)


@pytest.mark.parametrize("kind", ["point", "box"])
def test_nothing_of_the_annotation_but_the_prompt_reaches_the_model(settings, kind, request):
    cfg = configure(settings, "TEST.PROMPTED.KIND", kind)
    model, every = build(cfg), DatasetCatalog.get(SPLIT)[:2]
    others = [perturbed(record, kind) for record in every]
    (samples, first), (changed, second) = (outputs(cfg, model, each) for each in (every, others))
    assert all(set(sample) == {"image", "image_id", "file_name", "height", "width", "vocabulary", "prompts"}
               for sample in [*samples, *changed])  # fmt: skip
    for sample, other in zip(samples, changed, strict=True):
        assert torch.equal(sample["prompts"].points, other["prompts"].points)
        assert torch.equal(sample["prompts"].boxes, other["prompts"].boxes)
    assert equal(first, second)
    if kind == "point":  # what the published evaluation does
        request.getfixturevalue("boxes_as_masks")
        cfg = configure(settings, "TEST.PROMPTED.GROUND_TRUTH_REGIONS", "True")
        (_, first), (_, second) = (outputs(cfg, model, each) for each in (every, others))
        assert not equal(first, second)
        assert all(torch.equal(one["masks"], other["masks"]) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (["KIND", "click"], ValueError, "TEST.PROMPTED.KIND is 'click', but must be one of: point, box, detector"),
        (["KIND", "detector"], ValueError, "TEST.PROMPTED.DETECTIONS is empty"),
        (["KIND", "detector", "DETECTIONS", "/no/file.json"], FileNotFoundError, "/no/file.json does not exist"),
        (["GROUND_TRUTH_REGIONS", "True"], ValueError, "annotated boxes, which SamClip does not read"),
    ],
)
def test_settings_are_checked_before_anything_loads(settings, more, error, message):
    prefixed = [part if place % 2 else f"TEST.PROMPTED.{part}" for place, part in enumerate(more)]
    with pytest.raises(error, match=message):
        configure(settings, *prefixed)


def test_a_wrong_results_file_is_refused_before_anything_is_predicted(settings, tmp_path):
    path, found = detections(configure(settings), tmp_path)
    Path(path).write_text(json.dumps([one | {"image_id": 999} for one in found]))
    cfg = configure(settings, "TEST.PROMPTED.KIND", "detector", "TEST.PROMPTED.DETECTIONS", path)
    with pytest.raises(ValueError, match=r"image_id \[999\]; its own are like 201"):
        evaluate_datasets(cfg, build(cfg), pytest.fail)
    with pytest.raises(ValueError, match=r"image_id \[999\]"):
        check_test_sets(cfg)


def test_detections_of_classes_that_the_split_leaves_out_are_left_out(settings, tmp_path, caplog):
    path, found = detections(configure(settings), tmp_path)
    traffic_light = found[0] | {"category_id": 10}
    Path(path).write_text(json.dumps([*found, traffic_light]))
    cfg = configure(settings, "TEST.PROMPTED.KIND", "detector", "TEST.PROMPTED.DETECTIONS", path)
    options = prompt_options(cfg, SPLIT, DatasetCatalog.get(SPLIT))
    assert sum(len(one.scores) for one in options["detections"].values()) == len(found)
    assert f"1 of {len(found) + 1} detections are left out" in caplog.text


def job(settings, **options):
    given = {"resume": False, "eval_only": False, "report": False, "num_gpus": 1, "num_machines": 1, "machine_rank": 0}
    run_job(argparse.Namespace(config_file="configs/base.yaml", opts=settings, dist_url="auto", **given | options))


def test_a_model_that_is_never_trained_is_evaluated_without_a_checkpoint(settings, capfd):
    with pytest.raises(ValueError, match="SamClip has nothing to train"):
        job([*settings, "DATASETS.TRAIN", "('coco_48_17_train',)"])
    job(settings, eval_only=True)
    assert "mIoU (prompts)" in capfd.readouterr().out


def test_tasks_without_prompts_are_refused_for_a_model_that_needs_them(settings):
    message = "'panoptic', which needs a model that finds masks itself, but SamClip makes masks of prompts"
    with pytest.raises(ValueError, match=message):
        configure(settings, "TEST.TASKS", "['prompted', 'panoptic']")
    configure(settings, "TEST.TASKS", "['panoptic']", "DATASETS.TEST", "()")  # nothing is scored
