"""Which annotation each task is scored against, for datasets of every kind."""

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_coder

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.structures import Instances
from possam.evaluation import GroundTruth, build_evaluators, registered_tasks
from possam.vocabulary import Vocabulary

WORDS = Vocabulary.from_names(["cup", "sky", "sea"], isthing=[True, False, False], name="words")
SIZE = (8, 10)


@pytest.fixture
def register():
    """Puts records into the catalogs under a name; takes them out again."""
    names = []

    def add(name, records, **metadata):
        names.append(name)
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(vocabulary=WORDS, **metadata)
        return GroundTruth(name)

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def record(image_id=1, **annotation):
    return {"file_name": f"{image_id}.jpg", "image_id": image_id, "height": SIZE[0], "width": SIZE[1], **annotation}


def polygon(*corners, **keys):
    (x0, y0), (x1, y1) = corners
    box = {"category_id": 0, "iscrowd": 0, "area": float((x1 - x0) * (y1 - y0))}
    return {**box, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]], **keys}


def output(**parts):
    """A model's output: `labels` H×W, `masks` N×H×W with scores and classes."""
    found = Instances(SIZE)
    found.pred_masks = torch.from_numpy(np.asarray(parts.get("masks", np.zeros((0, *SIZE))), dtype=bool))
    found.scores = torch.tensor(parts.get("scores", [1.0] * len(found.pred_masks)))
    found.pred_classes = torch.zeros(len(found.pred_masks), dtype=torch.int64)
    return {"semantic_seg": torch.from_numpy(parts.get("labels", np.zeros(SIZE, np.int64))), "instances": found}


def rectangle(x0, y0, x1, y1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_semantic_dataset_needs_no_panoptic_annotation(register, tmp_path):
    labels = np.ones(SIZE, np.uint16)
    labels[:4], labels[0, 0] = 2, 65535
    Image.fromarray(labels).save(tmp_path / "1.png")
    truth = register(
        "only_labels", [record(sem_seg_file_name=str(tmp_path / "1.png"))], tasks=("semantic",), ignore_label=65535
    )
    assert truth.labels(1)[0, 0] == -1 and truth.labels(1)[0, 1] == 2 and truth.labels(1)[7, 9] == 1
    assert truth.labels(1) is truth.labels(1)  # decoded once
    evaluators = build_evaluators("only_labels")
    evaluators.reset()
    predicted = np.where(labels == 65535, 0, labels).astype(np.int64)
    predicted[4:, :5] = 2  # 20 of the 40 pixels of "sky" are called "sea", which has 39
    evaluators.process([{"image_id": 1}], [output(labels=predicted)])
    results = evaluators.evaluate()
    assert set(results) == {"sem_seg"}
    assert results["sem_seg"]["mIoU"] == pytest.approx(100 * (20 / 40 + 39 / 59) / 2)


def test_an_instance_dataset_needs_no_panoptic_annotation(register):
    runs = mask_coder.encode(np.asfortranarray(rectangle(0, 6, 10, 8).astype(np.uint8)))
    annotations = [polygon((0, 0), (4, 4)), polygon((2, 2), (6, 6))]  # which overlap
    annotations.append({"category_id": 0, "iscrowd": 1, "area": 20.0, "segmentation": runs})
    register("only_instances", [record(annotations=annotations)], tasks=("instance",))
    evaluators = build_evaluators("only_instances", tasks=("panoptic", "instance"))
    evaluators.reset()
    masks = [rectangle(0, 0, 4, 4), rectangle(2, 2, 6, 6), rectangle(0, 6, 3, 8), rectangle(5, 6, 9, 8)]
    evaluators.process([{"image_id": 1}], [output(masks=masks, scores=[0.5, 0.6, 0.9, 0.8])])
    results = evaluators.evaluate()
    # Both instances are found whole, and the two on the crowd are neither right nor wrong.
    assert set(results) == {"segm"} and results["segm"]["AP"] == pytest.approx(100)


def test_sizes_are_those_the_annotation_gives(register):
    big = polygon((0, 0), (4, 4), area=40.0**2)  # small by its pixels, of medium size by its annotation
    register("areas", [record(annotations=[big])], tasks=("instance",))
    evaluators = build_evaluators("areas", tasks=("instance",))
    evaluators.reset()
    evaluators.process([{"image_id": 1}], [output(masks=[rectangle(0, 0, 4, 4)])])
    result = evaluators.evaluate()["segm"]
    assert result["APm"] == pytest.approx(100) and np.isnan(result["APs"])


def test_own_annotations_come_before_the_panoptic_one(world, tmp_path):
    """A panoptic dataset with label maps and an instance file of its own, as ADE20K and COCO have them."""
    truth = GroundTruth(world.name)
    panoptic_labels, panoptic_things = truth.labels(101).copy(), truth.instances(101)
    own = np.full(panoptic_labels.shape, 5, np.uint8)
    own[0], own[-1] = 6, 255
    Image.fromarray(own).save(tmp_path / "own.png")
    truth = GroundTruth(world.name)
    truth.records[101]["sem_seg_file_name"] = str(tmp_path / "own.png")
    truth.records[101]["annotations"] = [polygon((0, 0), (9, 9), category_id=4)]
    np.testing.assert_array_equal(np.unique(truth.labels(101)), [-1, 5, 6])
    assert [instance["category_id"] for instance in truth.instances(101)] == [4]
    assert len(panoptic_things) > 1 and not np.array_equal(panoptic_labels, own)
    # The panoptic quality is that of the panoptic PNG all the same.
    assert len(truth.segments(101)) == truth.index(101).max() > len(panoptic_things)


def test_without_own_annotations_all_comes_from_the_panoptic_one(world):
    truth = GroundTruth(world.name)
    index, classes = truth.index(101), truth.classes(101)
    np.testing.assert_array_equal(truth.labels(101), np.append(-1, classes)[index])
    things = [i for i, k in enumerate(classes) if truth.vocabulary.isthing[k]]
    for i, instance in zip(things, truth.instances(101), strict=True):
        assert instance["category_id"] == classes[i] and bool(instance["iscrowd"]) == truth.crowds(101)[i]
        np.testing.assert_array_equal(mask_coder.decode(instance["segmentation"]), index == i + 1)


def test_tasks_a_dataset_has_no_annotation_for(register, world, caplog):
    truth = register("labels", [record(sem_seg_file_name="none.png")], tasks=("semantic",))
    with pytest.raises(ValueError, match=r"'labels' has .* \['semantic'\].*\['panoptic', 'mask_quality'\]"):
        build_evaluators(truth, tasks=("panoptic", "mask_quality"))
    with caplog.at_level("INFO"):
        assert len(build_evaluators(truth, tasks=("semantic", "instance", "mask_quality")).evaluators) == 1
    assert "labels has no annotation for instance, mask_quality" in caplog.text
    everything = [task.key for task in registered_tasks()]
    assert len(build_evaluators(world.name, tasks=everything).evaluators) == 6
    assert len(build_evaluators(truth, tasks=everything).evaluators) == 2  # "semantic" and "panoptic_semantic"


def test_annotations_of_another_size_are_named(register, tmp_path):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "1.png")
    truth = register("sizes", [record(sem_seg_file_name=str(tmp_path / "1.png"))], tasks=("semantic",))
    with pytest.raises(ValueError, match=r"label map .*1.png is 5×5 .* its image 1.jpg is 10×8"):
        truth.labels(1)
    evaluators = build_evaluators(truth)
    with pytest.raises(ValueError, match=r"semantic_seg of image 1 has height×width 3×3, but 1.jpg has 8×10"):
        evaluators.process([{"image_id": 1}], [{"semantic_seg": torch.zeros(3, 3, dtype=torch.int64)}])
