"""Segments whose masks are replaced by those of prompts."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from possam.data.miniature import palette_of
from possam.data.miniature.world import draw_scene
from possam.layers.prompts import Prompts
from possam.predict.predictor import Predictor
from possam.predict.prompted_result import PromptedResult
from possam.predict.segmentation import Segmentation
from possam.vocabulary import Vocabulary

WORDS = ["striped star", "lawn, grass: stuff", "tile: stuff"]


def segmented():
    """Three segments on 4×6 pixels: 1 left, 2 right, 3 one pixel of the right."""
    ids = np.array([[1, 1, 1, 2, 2, 2]] * 4, np.int32)
    ids[0, 5] = 3
    places = {1: (12, [0, 0, 3, 4]), 2: (11, [3, 0, 3, 4]), 3: (1, [5, 0, 1, 1])}
    infos = [
        {"id": i, "label": "sky", "label_id": 0, "isthing": True, "score": 0.5, "iou": 0.6, "area": area, "bbox": box}
        for i, (area, box) in places.items()
    ]
    return Segmentation(
        image=np.zeros((4, 6, 3), np.uint8),
        segmentation=ids,
        segments_info=infos,
        vocabulary=Vocabulary.from_names(["sky", "sea"]),
    )


def prompted(mask, **changes):
    """What a prompt returns: a mask, named "sea"."""
    mask = np.asarray(mask, bool)
    values = {
        "image": np.zeros((*mask.shape, 3), np.uint8),
        "prompts": Prompts(points=[[[0, 0]]]),
        "masks": mask[None],
        "boxes": np.zeros((1, 4), np.float32),
        "iou": np.array([0.75], np.float32),
        "label_ids": np.array([[1, 0]]),
        "scores": np.array([[0.5, 0.25]], np.float32),
        "probabilities": np.array([[0.6, 0.3]], np.float32),
        "vocabulary": Vocabulary.from_names(["sky", "sea"]),
    }
    return PromptedResult(**values | changes)


def test_a_refined_segment_has_the_prompts_mask():
    before = segmented()
    mask = np.zeros((4, 6), bool)
    mask[0:2, 2:6] = True  # keeps two pixels of segment 1, takes five of 2 and all of 3
    after = before.refine(1, prompted(mask))
    expected = np.array([[0, 0, 1, 1, 1, 1]] * 2 + [[0, 0, 0, 2, 2, 2]] * 2, np.int32)
    assert after.segmentation.dtype == np.int32 and np.array_equal(after.segmentation, expected)
    first, second = after.segments_info
    assert (first["id"], first["area"], first["bbox"]) == (1, 8, [2, 0, 4, 2])
    assert (first["label"], first["score"], first["iou"], first["refined"]) == ("sky", 0.5, 0.75, True)
    assert (second["id"], second["area"], second["bbox"]) == (2, 6, [3, 2, 3, 2])
    assert second["iou"] == 0.6 and "refined" not in second
    assert before == segmented() and after.labels == ["sky", "sky"]
    again = after.refine(2, prompted(~mask))
    assert np.array_equal(again.segmentation, np.where(mask, 1, 2)) and len(again.segments_info) == 2


def test_a_refined_segment_takes_the_prompts_name_on_wish():
    mask = np.ones((4, 6), bool)
    (info,) = segmented().refine(2, prompted(mask), rename=True).segments_info
    assert (info["id"], info["label"], info["label_id"], info["score"]) == (2, "sea", 1, 0.5)
    assert info["top"] == [("sea", 0.5), ("sky", 0.25)] and info["area"] == 24


def test_what_cannot_refine_is_named():
    one, mask = segmented(), np.ones((4, 6), bool)
    with_path = replace(one, segments_info=[info | {"path": []} for info in one.segments_info])
    for act, message in (
        (lambda: one.refine(4, prompted(mask)), r"no segment 4; the segments are \[1, 2, 3\]"),
        (lambda: one.refine(1, mask), "refined by one mask, but got array"),
        (lambda: one.refine(1, prompted(mask, masks=np.ones((2, 4, 6), bool))), "one mask, but got 2 masks"),
        (lambda: one.refine(1, prompted(mask[:3])), "given on another image"),
        (lambda: one.refine(1, prompted(~mask)), "the prompt's mask is empty"),
        (lambda: one.refine(1, prompted(mask, vocabulary=Vocabulary.from_names(["a", "b"])), rename=True), "classes"),
        (lambda: with_path.refine(1, prompted(mask), rename=True), "named by a hierarchy keeps its name"),
    ):
        with pytest.raises(ValueError, match=message):
            act()


def test_a_refined_segment_is_explained_drawn_and_written(mini_model):
    scene = draw_scene([3, 14], palette_of(Vocabulary.load("mini_b").display_names)).image
    mini_model.object_threshold = 0.0
    result = Predictor(mini_model)(scene, WORDS)
    (info, *_) = result.segments_info
    mask = np.zeros(scene.shape[:2], bool)
    mask[:9, :9] = True
    refined = result.refine(info["id"], prompted(mask, image=scene))
    assert refined.explain(info["id"]) == result.explain(info["id"])
    assert np.array_equal(refined.semantic, result.semantic)
    assert refined.to_coco()["segments_info"][0]["area"] == 81
    assert not np.array_equal(np.asarray(refined.plot()), np.asarray(result.plot()))
    assert pickle.loads(pickle.dumps(refined)) == refined != result
