"""Every dataset of the field, tiny and made up in its official layout: prepared, registered, loaded and scored."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_coder

from possam.d2.structures import Instances
from possam.data.datasets import SPECS, register_datasets
from possam.data.datasets.lvis import LVIS
from possam.data.datasets.registration import register_specs
from possam.data.preparation import PREPARATIONS
from possam.engine.evaluate import evaluate_datasets
from possam.engine.trainer import build_test_loader
from possam.evaluation import GroundTruth
from possam.vocabulary import Vocabulary
from tests.layouts import LAYOUTS

TEST_SETS = [name for name in SPECS if name.endswith("_val")]
METRICS = {"panoptic": "panoptic_seg", "semantic": "sem_seg", "instance": "segm"}
OUTPUTS = {"panoptic": "panoptic_seg", "semantic": "semantic_seg", "instance": "instances"}


class Oracle:
    """Predicts what is annotated."""

    truth: GroundTruth

    def predict(self, inputs):
        assert all(sample["vocabulary"] == self.truth.vocabulary for sample in inputs)
        return [sample["image_id"] for sample in inputs]

    def segment(self, image_id, ensemble, tasks):
        return {OUTPUTS[task]: getattr(self, task)(image_id) for task in tasks}

    def panoptic(self, image_id):
        index, infos = self.truth.index(image_id), []
        for i, segment in enumerate(self.truth.segments(image_id), start=1):
            if not segment["iscrowd"]:
                infos.append({"id": i, "category_id": segment["category_id"], "score": 1.0})
        kept = [info["id"] for info in infos]
        return torch.from_numpy(np.where(np.isin(index, kept), index, 0)), infos

    def semantic(self, image_id):
        return torch.from_numpy(self.truth.labels(image_id).clip(min=0))

    def instance(self, image_id):
        annotated = [a for a in self.truth.instances(image_id) if not a["iscrowd"]]
        found = Instances(self.truth.size(image_id))
        masks = np.zeros((len(annotated), *self.truth.size(image_id)), dtype=bool)
        for mask, annotation in zip(masks, annotated, strict=True):
            mask[:] = mask_coder.decode(annotation["segmentation"])
        found.pred_masks = torch.from_numpy(masks)
        found.scores = torch.ones(len(annotated))
        found.pred_classes = torch.tensor([a["category_id"] for a in annotated], dtype=torch.int64)
        return found


@pytest.fixture
def everything(tmp_path, monkeypatch):
    """register(): puts all datasets, prepared, into the catalogs. LVIS, for some of whose images this COCO has no
    stuff map, lies under a root of its own."""
    root, apart = tmp_path / "datasets", tmp_path / "apart"
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    for layout, make in LAYOUTS.items():
        make(apart if layout == "lvis" else root)
    for preparation in {spec.preparation for spec in SPECS.values()} - {""}:
        PREPARATIONS[preparation].run(root, processes=1)

    def register():
        register_datasets()
        register_specs(LVIS, apart)

    yield register
    monkeypatch.undo()
    register_datasets()  # where others expect them


def test_every_dataset_is_scored_on_what_it_has(everything, mini_config, mini_model):
    everything()
    mini_config.DATASETS.TEST = TEST_SETS
    mini_config.TEST.TASKS = ["panoptic", "semantic", "instance"]
    mini_config.TEST.ENSEMBLES = []
    mini_model.train_vocabulary = Vocabulary.load("coco_panoptic")
    oracle = Oracle()

    def loader_of(name):
        oracle.truth = GroundTruth(name)
        return build_test_loader(mini_config, name)

    results = evaluate_datasets(mini_config, mini_model, loader_of, predictor=oracle)
    assert list(results) == TEST_SETS and len(TEST_SETS) == 16
    for name, result in results.items():
        assert set(result) == {METRICS[task] for task in SPECS[name].tasks}
        for task, metric in (("panoptic_seg", "PQ_th"), ("sem_seg", "mIoU"), ("segm", "AP")):
            if task in result:
                assert result[task][metric] == pytest.approx(100), (name, metric)
    ade = results["ade20k_panoptic_val"]
    # Stuff counts with the area of its label map, which instances hide in part: even the truth is short of 100.
    assert 90 < ade["panoptic_seg"]["PQ_st"] < 100 and ade["panoptic_seg"]["RQ"] == pytest.approx(100)
    assert (ade["segm"]["AP_seen"], ade["sem_seg"]["mIoU_unseen"]) == pytest.approx((100, 100))
    for name in ("coco_panoptic_val", "cityscapes_panoptic_val", "mapillary_panoptic_val"):
        assert results[name]["panoptic_seg"]["PQ"] == pytest.approx(100)
    assert {"APr", "APc", "APf"} < set(results["lvis_instance_val"]["segm"])
    whole = json.loads(Path(mini_config.OUTPUT_DIR, "evaluation", "results.json").read_text())
    seen = whole["datasets"]["ade20k_panoptic_val"]["dataset"]["seen"]
    assert (seen["classes"], seen["unseen_classes"], seen["overlap"]) == (64, 86, "coco_panoptic_to_ade20k_150")
    assert seen["overlap_version"] >= 1


def test_each_task_of_ade20k_has_its_own_annotation(everything):
    """In these scenes, as in the official files, instances reach over the things of the label maps."""
    everything()
    truth = GroundTruth("ade20k_panoptic_val")
    assert len(truth.records) == 2
    for image_id in truth.records:
        classes, areas = truth.classes(image_id), np.bincount(truth.index(image_id).ravel())[1:]
        instances = truth.instances(image_id)
        assert instances
        for k in {annotation["category_id"] for annotation in instances}:
            area = sum(int(mask_coder.area(a["segmentation"])) for a in instances if a["category_id"] == k)
            assert 0 < (truth.labels(image_id) == k).sum() < area == areas[classes == k].sum()
