"""The best names of every mask of an image, without its scores for all names."""

from __future__ import annotations

import torch

from possam.classifiers import ClassificationParts, TopClasses, top_classes
from possam.inference import MASK_FILTERS
from possam.models.base import OpenVocabularySegmenter
from possam.models.prediction import MaskProposals
from possam.vocabulary import Vocabulary

__all__ = ["top_names"]


@torch.no_grad()
def top_names(
    model: OpenVocabularySegmenter,
    proposals: MaskProposals,
    vocabulary: Vocabulary,
    *,
    k: int = 5,
    ensemble: str | None = None,
    classes_per_part: int = 2048,
) -> TopClasses:
    """The k best classes of every mask and their scores, as of `OpenVocabularySegmenter.score`, mask filter included.

    Memory grows with masks × `classes_per_part` instead of masks × classes; beside that there are the text embeddings.

    Args:
        proposals: what `OpenVocabularySegmenter.propose` returned for the image.
        ensemble: its name; by default the model's own.

    Raises:
        ValueError: k or `classes_per_part` is below 1, or the ensemble is unknown or cannot score in parts.
    """
    parts = ClassificationParts(
        query_embeddings=proposals.query_embeddings,
        clip_embeddings=proposals.clip_embeddings,
        iou=proposals.iou,
        clip_empty=proposals.clip_empty,
        text=model.text_bank.embed(vocabulary).to(model.device),
        train_text=model.text_bank.embed(model.train_vocabulary).to(model.device),
        exact_seen=torch.tensor(vocabulary.exact_overlap(model.train_vocabulary), device=model.device),
        classify=model.classifier,
        query_scale=model.classifier.scale.item(),
        clip_scale=model.clip.logit_scale,
        classes_per_part=classes_per_part,
    )
    found = model.find_ensemble(ensemble)
    if not model.mask_filter:
        return top_classes(found, parts, k)
    scores, classes = top_classes(found.without_iou(), parts, k)  # filters need a mask's best class, which is there
    return TopClasses(MASK_FILTERS[model.mask_filter](scores, proposals.iou), classes)
