"""Background words: training classes that compete with a vocabulary, and are never in a result.

Shapes: N names of the vocabulary, M names of the training vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .text_bank import ClassEmbeddings
from .vocabulary import Vocabulary, fold_name

__all__ = ["SAME_NAME", "background_classes", "with_background"]

SAME_NAME = 0.9
"""Cosine of text embeddings above which a name is another one in other words (METHOD.md 1.9)."""


def background_classes(
    vocabulary: Vocabulary, text: ClassEmbeddings, train: Vocabulary, train_text: ClassEmbeddings
) -> tuple[int, ...]:
    """Find the training classes that differ in meaning from all classes of a vocabulary.

    Left out is a training class with a name that

    - is a name of the vocabulary, case and spacing ignored;
    - is one in other words: the cosine of their text embeddings is above 0.9 (METHOD.md 1.9);
    - is a kind of one: it ends with it, as "striped star" with "star".

    Args:
        text, train_text: of the vocabulary (N names) and of the training vocabulary (M names).

    Returns:
        Contiguous ids in `train`, rising.
    """
    asked = {fold_name(name) for name in vocabulary.names}
    same = (text.nearest(train_text.embeddings) > SAME_NAME).tolist()
    taken = {
        class_id
        for name, class_id, close in zip(train.names, train.name_class, same, strict=True)
        if close or not asked.isdisjoint(_endings(name))
    }
    return tuple(class_id for class_id in range(len(train)) if class_id not in taken)


def with_background(vocabulary: Vocabulary, train: Vocabulary, background: Sequence[int]) -> Vocabulary:
    """A vocabulary with classes of another one, by their contiguous ids, behind its own; their dataset ids are new."""
    first = 1 + max(category.dataset_id for category in vocabulary.categories)
    added = (replace(train.categories[k], dataset_id=first + place) for place, k in enumerate(background))
    return replace(vocabulary, categories=(*vocabulary.categories, *added), shared_names=True)


def _endings(name: str) -> set[str]:
    """A name and what is left of it without its first words: "hot", "dog" → "hot dog", "dog"."""
    words = fold_name(name).split()
    return {" ".join(words[first:]) for first in range(len(words))}
