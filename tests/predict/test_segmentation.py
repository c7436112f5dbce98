"""A segmentation is plain data: it can be kept, compared, copied and sent, whatever becomes of what made it."""

import copy
import io
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_coder
from pycocotools.coco import COCO

from possam.data.miniature import palette_of
from possam.data.miniature.world import draw_scene
from possam.predict.predictor import Predictor
from possam.predict.segmentation import Segmentation
from possam.vocabulary import Vocabulary
from possam.vocabulary.words import read_words

WORDS = ["striped star", "lawn, grass: stuff", "tile: stuff"]


@pytest.fixture
def scene():
    return draw_scene([3, 14], palette_of(Vocabulary.load("mini_b").display_names)).image


@pytest.fixture
def predictor(mini_model, monkeypatch):
    monkeypatch.setattr("possam.predict.predictor.choose_background", lambda *_: ())  # of an untrained model
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


def test_a_pickle_is_all_of_it_and_has_no_model(predictor, scene):
    result = predictor(scene, WORDS, tasks=["semantic", "instance"])
    content = pickle.dumps(result)
    masks = sum(found["mask"].nbytes for found in result.instances)
    assert len(content) < result.image.nbytes + result.segmentation.nbytes + result.semantic.nbytes + masks + 40_000
    assert b"torch" not in content
    received = pickle.loads(content)
    assert received == result and hash(received) == hash(result)
    assert np.array_equal(np.asarray(received.plot()), np.asarray(result.plot()))
    assert received.to_coco() == result.to_coco()
    assert received.explain(1) == result.explain(1) and received.explain(query=3) == result.explain(query=3)
    assert np.array_equal(received.semantic, result.semantic)
    with pytest.raises(ValueError, match="has no mask_scores, which explain reads: it was built from its data alone"):
        plain().explain(query=0)


def test_other_tasks_are_there_where_they_were_asked_for(predictor, scene):
    result = predictor(scene, WORDS)
    assert result.semantic is None and result.instances is None
    result = predictor(scene, WORDS, tasks=["semantic"])
    assert result.semantic.shape == scene.shape[:2] and result.instances is None
    for wrong in (["instances"], "instance", ["panoptic"]):
        with pytest.raises(ValueError, match="must be a list of 'semantic' and 'instance'"):
            predictor(scene, WORDS, tasks=wrong)


def several():
    """Two cats and a stretch of sky."""
    ids = np.zeros((6, 9), np.int32)
    ids[:2], ids[3:, :4], ids[4:, 5:7] = 1, 2, 3
    infos = [
        {"id": i, "label": label, "label_id": k, "isthing": bool(k), "score": score, "area": int((ids == i).sum())}
        | {"bbox": box}
        for i, label, k, score, box in (
            (1, "sky", 0, 0.5, [0, 0, 9, 2]),
            (2, "cat", 1, 0.75, [0, 3, 4, 3]),
            (3, "cat", 1, 0.25, [5, 4, 2, 2]),
        )
    ]
    image = np.full((6, 9, 3), 90, np.uint8)
    return Segmentation(image=image, segmentation=ids, segments_info=infos, vocabulary=read_words(["sky", "cat"]))


def test_it_is_shown_in_a_line_and_as_a_picture():
    assert repr(plain()) == "Segmentation('a.png', 2×2, 1 segment: sky)"
    assert repr(several()) == "Segmentation(9×6, 3 segments: sky, cat ×2)"
    shown = Image.open(io.BytesIO(several()._repr_png_()))
    assert shown.format == "PNG" and np.array_equal(np.asarray(shown), np.asarray(several().plot()))


def test_things_in_the_coco_results_format(tmp_path):
    result = several()
    made = result.to_coco_instances(image_id=7)
    assert [a["bbox"] for a in made] == [[0, 3, 4, 3], [5, 4, 2, 2]] and [a["area"] for a in made] == [12, 4]
    assert all(a["image_id"] == 7 for a in made) and [a["score"] for a in made] == [0.75, 0.25]
    for annotation, number in zip(made, (2, 3), strict=True):
        mask = mask_coder.decode(annotation["segmentation"]).astype(bool)
        assert np.array_equal(mask, result.segmentation == number)
    result.save_coco_instances(tmp_path / "one.json")
    coco = COCO(tmp_path / "one.json")
    assert [coco.annToMask(coco.anns[number]).sum() for number in (1, 2)] == [12, 4]
    assert {coco.cats[a["category_id"]]["name"] for a in coco.anns.values()} == {"cat"}
    assert coco.loadImgs(1)[0]["file_name"] == "one"


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, replace])
def test_a_copy_shares_no_array(predictor, scene, make):
    result = predictor(scene, WORDS)
    made = make(result)
    assert made == result
    assert not np.shares_memory(made.image, result.image)
    assert not np.shares_memory(made.segmentation, result.segmentation)
    assert made.segments_info[0] is not result.segments_info[0]
    assert made.explain(query=3) == result.explain(query=3)
    assert made.mask_scores is result.mask_scores


def test_as_a_dict_it_has_its_attributes_alone(predictor, scene):
    content = asdict(predictor(scene, WORDS))
    known = {"image", "segmentation", "segments_info", "vocabulary", "file_name"}
    assert content.keys() == known | {"missing", "semantic", "instances", "mask_scores"}
