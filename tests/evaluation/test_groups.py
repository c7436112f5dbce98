"""Groups of classes that results are averaged over."""

from dataclasses import replace

import numpy as np

from possam.data.datasets import find_spec
from possam.evaluation.groups import class_groups
from possam.vocabulary import Vocabulary


def test_a_split_gives_base_and_novel_whatever_the_names():
    vocabulary = find_spec("coco_48_17_val").load_vocabulary()
    categories = (replace(c, names=(f"name {i}",)) for i, c in enumerate(vocabulary.categories))
    renamed = Vocabulary(name="renamed", categories=tuple(categories))
    for each in (vocabulary, renamed):
        groups = class_groups(each, None, "coco_48_17")
        assert (groups["_base"].sum(), groups["_novel"].sum()) == (48, 17)
        assert np.array_equal(groups["_base"], ~groups["_novel"])
        assert vocabulary.display_names[groups["_novel"].argmax()] == "airplane"
    assert set(class_groups(vocabulary, None)) == {"", "_th", "_st"}
