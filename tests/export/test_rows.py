"""Vocabularies as arrays."""

import numpy as np
import torch

from possam.export.rows import RowEmbeddings, class_rows
from possam.vocabulary import ClassEmbeddings, Vocabulary
from possam.vocabulary.words import read_words


def test_every_class_has_its_own_names_and_no_other():
    for vocabulary in (Vocabulary.load("coco_panoptic"), read_words(["a, b, c", "d", "e, f"])):
        rows = class_rows(vocabulary)
        assert rows.dtype == np.int64
        assert [vocabulary.name_class[first] for first in rows[:, 0]] == list(range(len(vocabulary)))
        for index, row in enumerate(rows):
            assert set(row) == {name for name, owner in enumerate(vocabulary.name_class) if owner == index}
    assert rows.tolist() == [[0, 1, 2], [3, 3, 3], [4, 5, 4]]


def test_maxima_over_names_are_those_of_class_embeddings():
    vocabulary = Vocabulary.load("coco_panoptic")
    torch.manual_seed(0)
    known = {
        "embeddings": torch.nn.functional.normalize(torch.randn(len(vocabulary.names), 8), dim=-1),
        "class_index": torch.tensor(vocabulary.name_class),
        "num_classes": len(vocabulary),
    }
    x = torch.randn(5, 8)
    rows = RowEmbeddings(**known, class_rows=torch.from_numpy(class_rows(vocabulary)))
    assert torch.equal(rows.logits(x, 3.0), ClassEmbeddings(**known).logits(x, 3.0))
