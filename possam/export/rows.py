"""Vocabularies as the arrays that the exported scorer takes.

Shapes: N names, K classes, R most names of a class, D width of CLIP's joint space.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from possam.models import OpenVocabularySegmenter
from possam.utils.files import write_atomically
from possam.vocabulary import ClassEmbeddings, Vocabulary

__all__ = ["RowEmbeddings", "class_rows", "export_classes", "vocabulary_arrays"]


@dataclass(frozen=True, kw_only=True)
class RowEmbeddings(ClassEmbeddings):
    """Class embeddings whose sizes may be symbols: nothing about the values is checked, and maxima over the names of
    a class are taken from a table instead of scattered.

    Args:
        class_rows: K×R int64, rows of `embeddings` for every class; which of them repeat does not matter.
    """

    class_rows: Tensor

    def __post_init__(self) -> None:
        pass

    def max_over_names(self, values: Tensor) -> Tensor:
        return values[..., self.class_rows].amax(dim=-1)


def class_rows(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """K×R: which names belong to each class; the first repeats where a class has fewer than R."""
    groups: list[list[int]] = [[] for _ in vocabulary.categories]
    for row, index in enumerate(vocabulary.name_class):
        groups[index].append(row)
    most = max(len(group) for group in groups)
    return np.array([group + group[:1] * (most - len(group)) for group in groups], dtype=np.int64)


def vocabulary_arrays(model: OpenVocabularySegmenter, vocabulary: Vocabulary) -> dict[str, NDArray[Any]]:
    """What the scorer takes of a vocabulary, and what a person wants to read.

    Returns:
        text_embeddings N×D float32, class_rows K×R int64 and class_seen K bool (`Scorer.forward`); names, K strings;
        isthing, K bool.
    """
    return {
        "text_embeddings": model.text_bank.embed(vocabulary).embeddings.float().cpu().numpy(),
        "class_rows": class_rows(vocabulary),
        "class_seen": np.array(vocabulary.exact_overlap(model.train_vocabulary), dtype=bool),
        "names": np.array(vocabulary.display_names),
        "isthing": np.array(vocabulary.isthing, dtype=bool),
    }


def export_classes(model: OpenVocabularySegmenter, vocabulary: Vocabulary, path: str | Path) -> Path:
    """Write `vocabulary_arrays` as an .npz file, which needs NumPy alone to be read."""
    arrays = vocabulary_arrays(model, vocabulary)
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
    return Path(path)
