"""The shipped model that takes prompts: points and boxes on drawings it has not seen, from Python and as a command."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_coder

from possam import Predictor
from possam.cli import main
from possam.data.miniature.lexicon import palette_of
from possam.shipped import SAMPLE, SAMPLE_WORDS, pretrained_folder
from possam.vocabulary import Vocabulary
from tests.mini_scenes import iou, scenes_of_things

B = Vocabulary.load("mini_b")
PALETTE = palette_of(B.display_names)
HEART, GEAR = (57, 57), (38, 44)
"""Pixels (x, y) of the striped heart and of the checkered gear beside it in the sample picture."""


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("possam-mini-prompt", text_cache="")


def test_it_is_small_and_says_what_it_reads():
    folder = pretrained_folder("possam-mini-prompt")
    assert (folder / "model.safetensors").stat().st_size <= 1.5e6
    card = (folder / "README.md").read_text()
    assert "drawings of the miniature world only" in card and "predictor.prompt(points=" in card


def test_points_and_boxes_give_masks_and_names(predictor):
    ious, right = {"points": [], "boxes": []}, {"points": [], "boxes": []}
    for image, things, masks, points, boxes in scenes_of_things(PALETTE, 12):
        classes = [PALETTE.class_of[thing.kind] for thing in things]
        predictor.set_image(image)
        for kind, given in (("points", [[point] for point in points]), ("boxes", boxes)):
            result = predictor.prompt(**{kind: given}, classes=B)
            ious[kind] += [iou(found, mask) for found, mask in zip(result.masks, masks, strict=True)]
            right[kind] += [name == B.display_names[c] for name, c in zip(result.labels, classes, strict=True)]
    assert np.mean(ious["points"]) > 0.65 and np.mean(ious["boxes"]) > 0.65  # 0.71 and 0.71
    assert np.mean(right["points"]) > 0.75 and np.mean(right["boxes"]) > 0.75  # 0.92 and 0.82


def test_a_point_outside_keeps_the_mask_off_the_neighbor(predictor):
    predictor.set_image(SAMPLE)
    one = predictor.prompt(points=[HEART], classes=SAMPLE_WORDS)
    both = predictor.prompt(points=[HEART, GEAR], labels=[1, 0], classes=SAMPLE_WORDS)
    assert one.labels == both.labels == ["striped heart"] and both.masks[0][HEART[::-1]]
    assert not both.masks[0][GEAR[::-1]] and iou(one.masks[0], both.masks[0]) > 0.45


def test_the_command_answers_a_click(tmp_path):
    x, y = HEART
    words = ["--point", f"{x},{y}", "--classes", SAMPLE_WORDS, "--model", "possam-mini-prompt"]
    assert main(["segment", str(SAMPLE), *words, "--output", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "instances.json").read_text())
    (found,) = content["annotations"]
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert names[found["category_id"]] == "striped heart"
    assert mask_coder.decode(found["segmentation"])[y, x]
