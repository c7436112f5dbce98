"""COCO-Stuff's maps."""

import numpy as np
import pytest
from PIL import Image

from possam.data.preparation import PREPARATIONS
from possam.vocabulary import Vocabulary

# Ids that COCO-Stuff has no pixels of.
UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}


def test_ids_become_positions_among_the_used_ids(fresh):
    root = fresh("coco_stuff")
    classes = [number for number in range(1, 183) if number not in UNUSED]
    assert len(classes) == 171
    everything = np.array([[number - 1 for number in classes] + [255]], dtype=np.uint8)
    Image.fromarray(everything).save(root / "coco/stuffthingmaps/val2017/000000000201.png")
    PREPARATIONS["coco_stuff"].run(root)
    sources = sorted((root / "coco/stuffthingmaps").glob("*/*.png"))
    assert len(sources) == 4
    for source in sources:
        before = np.asarray(Image.open(source))
        with Image.open(root / "coco/stuffthingmaps_detectron2" / source.parent.name / source.name) as picture:
            assert picture.mode == "L"
            after = np.asarray(picture)
        expected = [255 if value == 255 else classes.index(value + 1) for value in before.ravel().tolist()]
        assert after.ravel().tolist() == expected
    assert after.shape == (24, 32)
    names = Vocabulary.load("coco_stuff").categories
    assert (names[0].dataset_name, names[classes.index(182)].dataset_id) == ("person", 182)


def test_a_value_that_is_no_class_is_named_and_nothing_is_written(fresh):
    root = fresh("coco_stuff")
    wrong = root / "coco/stuffthingmaps/train2017/000000000101.png"
    Image.fromarray(np.array([[0, 11, 200, 255]], dtype=np.uint8)).save(wrong)
    with pytest.raises(ValueError) as error:
        PREPARATIONS["coco_stuff"].run(root)
    assert f"{wrong} has the values [11, 200]" in str(error.value)
    assert not (root / "coco/stuffthingmaps_detectron2/train2017" / wrong.name).exists()
    assert len(list((root / "coco/stuffthingmaps_detectron2").glob("*/*.png"))) == 1, "the rest of the split is done"
