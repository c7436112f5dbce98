"""Three real ADE20K scenes, from the official files to mIoU; runs where POSSAM_SAMPLE_DATA names their folder."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from possam.data.datasets import find_spec, load_records, register_datasets
from possam.data.doctor import examine
from possam.data.preparation import PREPARATIONS
from possam.evaluation import SemanticEvaluator

SAMPLE = Path(os.environ.get("POSSAM_SAMPLE_DATA", ""), "ade20k_scene_parsing_sample")

pytestmark = pytest.mark.skipif(
    not os.environ.get("POSSAM_SAMPLE_DATA"), reason="POSSAM_SAMPLE_DATA does not name a folder of sample data"
)


@pytest.fixture
def root(tmp_path):
    """The datasets' root, with the scenes as the validation set of ADE20K, as it is downloaded."""
    for kind, split in (("images", "images/validation"), ("annotations", "annotations/validation")):
        shutil.copytree(SAMPLE / kind, tmp_path / "ADEChallengeData2016" / split)
    yield tmp_path
    register_datasets()


def test_prepared_well_loaded_and_scored(root):
    PREPARATIONS["ade20k_semantic"].run(root, splits=["val"])
    spec = dataclasses.replace(find_spec("ade20k_semantic_val"), images=3)
    assert examine(spec, root, full=True) == []
    records = load_records(spec, root)
    assert len(records) == 3

    register_datasets(root)
    evaluator = SemanticEvaluator(spec.name)
    confusion = np.zeros((150, 151), dtype=np.int64)
    for record in records:
        name = Path(record["file_name"]).stem
        # Files of the download hold 1 ... 150. The annotation moved aside stands for a prediction that is not perfect.
        truth = np.array(Image.open(SAMPLE / "annotations" / f"{name}.png")).astype(np.int64) - 1
        predicted = np.roll(truth, 20, axis=1)
        known = truth >= 0
        np.add.at(confusion, (truth[known], np.where(predicted[known] < 0, 150, predicted[known])), 1)
        evaluator.process([{"image_id": record["image_id"]}], [{"semantic_seg": torch.from_numpy(predicted)}])
    result = evaluator.evaluate()["sem_seg"]
    correct, annotated = np.diag(confusion), confusion.sum(1)
    iou = correct / np.maximum(annotated + confusion.sum(0)[:-1] - correct, 1)
    assert result["mIoU"] == pytest.approx(100 * iou[annotated > 0].mean())
    assert result["pACC"] == pytest.approx(100 * correct.sum() / annotated.sum())
    assert 40 < result["mIoU"] < 100
