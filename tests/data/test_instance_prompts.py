"""Prompts of annotated instances and of detectors, for evaluation."""

import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as mask_coder
from scipy.ndimage import distance_transform_edt

from possam.data import build_augmentations
from possam.data.detections import Detections, load_detections
from possam.data.instance_prompts import (
    EvaluationPromptMapper,
    center_point,
    instance_boxes,
    prompted_instances,
    prompts_of_instances,
)
from possam.layers.prompts import Prompts
from possam.vocabulary import Vocabulary

HEIGHT, WIDTH = 37, 61
VOCABULARY = Vocabulary.load("coco_panoptic").things()  # ids 1 … 90
SIZES = {5: (HEIGHT, WIDTH), 6: (50, 20)}


def instance(mask, *, crowd=0, category=0):
    runs = mask_coder.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"category_id": category, "iscrowd": crowd, "area": float(mask.sum()), "segmentation": runs}


def rectangle(top, left, bottom, right):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def masks(count=12, seed=0):
    """Blobs, rings and rectangles, some at the border."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(HEIGHT, WIDTH, count)), (0, 0), 3)
    return [*np.moveaxis(noise > 0, 2, 0), rectangle(0, 0, 20, 61), rectangle(3, 7, 4, 8), rectangle(0, 0, 37, 61)]


def test_a_point_is_the_first_maximum_of_the_exact_distance_transform():
    for mask in masks():
        distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(distance.argmax(), mask.shape)  # first of equals, row by row
        assert center_point(mask) == (x, y)
    assert center_point(rectangle(10, 20, 13, 23)) == (21, 11)
    assert center_point(np.ones((3, 9), dtype=bool)) == (1, 1)  # outside of the image is background


def test_every_instance_but_crowds_and_empty_ones_is_a_prompt():
    every = [instance(mask, crowd=i == 1) for i, mask in enumerate(masks(4))] + [instance(rectangle(0, 0, 0, 0))]
    asked = prompted_instances(every)
    assert asked == [every[0], *every[2:-1]]
    points, boxes = (prompts_of_instances(asked, kind) for kind in ("point", "box"))
    assert not points.has_box.any() and boxes.has_box.all() and len(points) == len(boxes) == len(asked)
    for one, point, box in zip(asked, points.points[:, 0].long().tolist(), boxes.boxes.long().tolist(), strict=True):
        mask = mask_coder.decode(one["segmentation"]) > 0
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert mask[point[1], point[0]]
    assert torch.equal(instance_boxes(asked), boxes.boxes)
    assert len(prompts_of_instances([], "point")) == len(prompts_of_instances([], "box")) == 0


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "5.png"
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    annotations = [instance(rectangle(2, 4, 30, 61), category=3), instance(rectangle(0, 0, 37, 9), crowd=1)]
    return {"file_name": str(path), "image_id": 5, "height": HEIGHT, "width": WIDTH, "annotations": annotations}


def mapper(**options):
    resize = build_augmentations(image_size=128, is_train=False)
    return EvaluationPromptMapper(augmentations=resize, vocabulary=VOCABULARY, **options)


def test_prompts_are_in_pixels_of_the_image_that_the_network_sees(record):
    scale = torch.tensor([128 / WIDTH, round(HEIGHT * 128 / WIDTH) / HEIGHT])
    sample = mapper(kind="box")(record)
    assert sample["image"].shape == (3, 78, 128) and not {"region_boxes", "detections", "instances"} & set(sample)
    expected = torch.tensor([4.0, 2.0, 61.0, 30.0]) * scale.repeat(2)
    assert torch.allclose(sample["prompts"].boxes, expected[None]) and sample["prompts"].boxes[0, 2] == 128
    sample = mapper(kind="point", region_boxes=True)(record)
    assert torch.allclose(sample["prompts"].points, torch.tensor([[[17.0, 15.0]]]) * scale)
    assert torch.allclose(sample["region_boxes"], expected[None])
    found = Detections(boxes=torch.tensor([[0.0, 0, 61, 37]]), scores=torch.tensor([0.5]), classes=torch.tensor([1]))
    sample = mapper(kind="detector", detections={5: found})(record)
    assert sample["detections"] is found and sample["prompts"].boxes.tolist() == [[0, 0, 128, 78]]
    unnamed = mapper(kind="detector", detections={5: found}, detector_labels=False)(record)["detections"]
    assert unnamed.classes is None and unnamed.scores is found.scores
    assert len(mapper(kind="detector", detections={})(record)["prompts"]) == 0


def test_the_edge_of_an_image_stays_its_edge_when_it_is_resized():
    for side in range(1, 3000, 7):
        Prompts(boxes=[[0, 0, side, side]]).resize(1024 / side, 333 / side).check_inside(333, 1024)


def write(tmp_path, entries):
    path = tmp_path / "results.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def found(image_id=5, category_id=90, bbox=(1, 2, 10, 20), score=0.5):
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), "score": score}


def load(tmp_path, entries, **options):
    return load_detections(write(tmp_path, entries), sizes=SIZES, vocabulary=VOCABULARY, **options)


def test_detections_by_image(tmp_path, caplog):
    entries = [
        found(bbox=(-0.4, 2, 61.9, 36), score=0.25),
        found(image_id=6, category_id=1, bbox=(0, 0, 20, 50)),
        found(bbox=(3, 3, 0, 5)),
        found(category_id=2, score=1),
        found(category_id=1000),
    ]
    detections = load(tmp_path, entries, left_out={1000})
    assert "2 of 5 detections are left out" in caplog.text
    assert {image_id: len(one.scores) for image_id, one in detections.items()} == {5: 2, 6: 1}
    assert detections[5].boxes.tolist() == [[0, 2, 61, 37], [1, 2, 11, 22]]
    assert detections[5].scores.tolist() == [0.25, 1] and detections[5].classes.tolist() == [79, 1]
    dtypes = {name: value.dtype for name, value in asdict(detections[6]).items()}
    assert dtypes == {"boxes": torch.float32, "scores": torch.float32, "classes": torch.int64}
    assert dtypes == {name: value.dtype for name, value in asdict(Detections.none()).items()}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("{", "not valid JSON"),
        ({"annotations": []}, r"holds a dict, but a JSON list"),
        ([], "holds no detection"),
        ([{"image_id": 5}], r"\[0\]: the keys \['category_id', 'bbox', 'score'\] are missing"),
        ([found(image_id=7), found()], r"1 of 2 detections are of images .* image_id \[7\]; its own are like 5"),
        ([found(image_id="5")], r"image_id \['5'\]; its own are like 5"),
        ([found(category_id=91)], r"category ids \[91\] are not in the vocabulary"),
        ([found(), found(score=float("nan"))], r"\[1\]: score must be a finite number, but is nan"),
        ([found(bbox=(1, 2, float("inf"), 3))], r"\[0\]: bbox must be \[x, y, width, height\]"),
        ([found(bbox=(9, 2, -3, 3))], r"no negative width or height"),
        ([found(bbox=(1, 2, 3))], "bbox must be"),
        ([found(bbox=(0, 0, 9, 9)), found(bbox=(40, 20, 50, 30))], r"\[1\]: .*61×37.* write \[x0, y0, x1 - x0"),
        ([found(bbox=(0, 0, 90, 90)), found(bbox=(40, 20, 50, 30))], "2 of 2 boxes leave .* clipped to it"),
    ],
)  # fmt: skip
def test_mistakes_in_a_results_file_are_named(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, entries)


def test_a_missing_results_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_detections(tmp_path / "none.json", sizes=SIZES, vocabulary=VOCABULARY)
