"""A segmentation is plain data: it can be kept, compared, copied and sent, whatever becomes of what made it."""

import copy
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest

from possam.data.miniature import palette_of
from possam.data.miniature.world import draw_scene
from possam.predict.predictor import Predictor
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
