"""A segmentation is plain data: it can be kept, compared, copied and sent, whatever becomes of what made it."""

import copy
import pickle
from dataclasses import asdict, replace

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


@pytest.fixture
def scene():
    return draw_scene([3, 14], palette_of(Vocabulary.load("mini_b").display_names)).image


@pytest.fixture
def predictor(mini_model):
    mini_model.object_threshold = 0.0
    return Predictor(mini_model)


def plain(file_name="a.png", label="sky"):
    """A segmentation without a model."""
    ids = np.array([[1, 1], [0, 1]], np.int32)
    info = {"id": 1, "label": label, "label_id": 0, "isthing": False, "score": 0.5, "area": 3, "bbox": [0, 0, 2, 2]}
    return Segmentation(
        image=np.zeros((2, 2, 3), np.uint8),
        segmentation=ids,
        segments_info=[info],
        vocabulary=Vocabulary.from_names(["sky", "sea"]),
        file_name=file_name,
    )


def test_a_buffer_that_is_filled_again_does_not_change_the_result(predictor, scene):
    buffer = scene.copy()
    one, other = predictor([buffer, buffer], WORDS)
    buffer[:] = 0
    assert np.array_equal(one.image, scene) and np.array_equal(other.image, scene)
    one.image[:] = 0
    one.segmentation[:] = 0
    one.segments_info.clear()
    assert np.array_equal(other.image, scene) and other.segmentation.any() and other.segments_info


def test_equal_content_is_equal_and_has_one_hash(predictor, scene):
    one, other = predictor(scene, WORDS), predictor(scene, WORDS)
    assert one == other and hash(one) == hash(other) and one is not other
    assert [None, one].index(other) == 1 and {one: 1}[other] == 1 and len({one, other}) == 1
    assert one != predictor(scene[:64], WORDS) and one != predictor(scene, WORDS[:2]) and one != "text"


def test_every_attribute_counts():
    one = plain()
    assert one == plain() and one not in [plain("b.png"), plain(label="sea")]
    assert one != replace(one, image=np.ones((2, 2, 3), np.uint8))
    assert one != replace(one, segmentation=np.ones((2, 2), np.int32))
    assert one != replace(one, vocabulary=Vocabulary.from_names(["sky"]))


def test_a_pickle_has_the_data_and_not_the_model(predictor, scene):
    result = predictor(scene, WORDS)
    assert result.semantic.shape == scene.shape[:2] and result.instances  # computed before, and left out all the same
    content = pickle.dumps(result)
    assert len(content) < result.image.nbytes + result.segmentation.nbytes + 20_000
    received = pickle.loads(content)
    assert received == result and hash(received) == hash(result)
    assert np.array_equal(np.asarray(received.plot()), np.asarray(result.plot()))
    assert received.to_coco() == result.to_coco()
    for name, ask in {
        "explain": lambda: received.explain(1),
        "plot_mask": lambda: received.plot_mask(query=0),
        "semantic": lambda: received.semantic,
        "instances": lambda: received.instances,
    }.items():
        with pytest.raises(ValueError, match=f"no model, which ({name}|explain) needs: it was pickled"):
            ask()


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, replace])
def test_a_copy_shares_the_model_and_no_array(predictor, scene, make):
    result = predictor(scene, WORDS)
    made = make(result)
    assert made == result
    assert not np.shares_memory(made.image, result.image)
    assert not np.shares_memory(made.segmentation, result.segmentation)
    assert made.segments_info[0] is not result.segments_info[0]
    assert made.explain(query=3) == result.explain(query=3)
    assert made._origin.model is predictor.model


def test_as_a_dict_it_has_its_attributes_alone(predictor, scene):
    content = asdict(predictor(scene, WORDS))
    assert content.keys() == {"image", "segmentation", "segments_info", "vocabulary", "file_name"}


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


def test_a_refined_segment_is_explained_drawn_and_written(predictor, scene):
    result = predictor(scene, WORDS)
    (info, *_) = result.segments_info
    mask = np.zeros(scene.shape[:2], bool)
    mask[:9, :9] = True
    refined = result.refine(info["id"], prompted(mask, image=scene))
    assert refined.explain(info["id"]) == result.explain(info["id"])
    assert np.array_equal(refined.semantic, result.semantic)
    assert refined.to_coco()["segments_info"][0]["area"] == 81
    assert not np.array_equal(np.asarray(refined.plot()), np.asarray(result.plot()))
    assert pickle.loads(pickle.dumps(refined)) == refined != result
