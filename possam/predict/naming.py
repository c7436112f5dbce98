"""Names of mask proposals, and their merging into the segmentation of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from possam.classifiers.ensembles.mase import training_mass
from possam.models import MaskProposals, OpenVocabularySegmenter
from possam.models.explanation import mask_scores
from possam.predict.background import BACKGROUND_WEIGHT, merge_words, score_words
from possam.predict.description import describe_path, describe_segments, top_names_of
from possam.predict.missing import find_missing
from possam.predict.segmentation import Segmentation, describe_instances, enlarge
from possam.vocabulary import Hierarchy, Vocabulary
from possam.vocabulary.background import SAME_NAME

__all__ = ["name_masks"]

# A mask has a quarter of the network's resolution (1024 pixels at most), so a finer merging than this shows nothing
# new, and takes its time. Larger images get its labels, pixel by pixel.
_MERGE_SIDE = 2048


@torch.no_grad()
def name_masks(
    model: OpenVocabularySegmenter,
    image: NDArray[np.uint8],
    proposals: MaskProposals,
    names: Vocabulary | Hierarchy,
    *,
    ensemble: str | None,
    tasks: Sequence[str] = (),
    threshold: float | None,
    background: Sequence[int],
    background_weight: float = BACKGROUND_WEIGHT,
    file_name: str = "",
) -> Segmentation:
    """Name and merge what a model proposed for an image.

    Args:
        image: H×W×3 uint8 RGB.
        names: whose text is embedded.
        ensemble, tasks, threshold: see `possam.Predictor`; checked.
        background: training classes that compete beside the names (`choose_background`).
        background_weight: what their scores are multiplied by (`score_words`).
    """
    hierarchy = names if isinstance(names, Hierarchy) else None
    vocabulary = names.vocabulary if isinstance(names, Hierarchy) else names
    height, width = image.shape[:2]
    shrink = min(1.0, _MERGE_SIDE / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    prediction = model.classify(proposals, vocabulary, size, background)
    scores = ranked = score_words(model, prediction, ensemble, weight=background_weight)
    of_words, of_background = scores.split([len(vocabulary), len(background)], dim=1)
    paths = hierarchy.classify(of_words) if hierarchy else []
    if hierarchy:
        ranked = torch.cat([hierarchy.node_scores(of_words, paths), of_background], dim=1)
    output = merge_words(model, prediction, ranked, ("panoptic", *tasks), threshold)
    ids, segments = output["panoptic_seg"]
    id_map = enlarge(ids.cpu().numpy(), (height, width))
    behind = mask_scores(model, prediction, scores, ensemble)
    seen = training_mass(prediction.inputs, SAME_NAME) if behind.confidence is None else behind.confidence
    infos = describe_segments(id_map, segments, seen.tolist(), prediction)
    for info, top in zip(infos, top_names_of(of_words, infos, vocabulary), strict=True):
        info["top"] = top
        if hierarchy:
            info |= describe_path(paths[info["query"]], vocabulary)
    merging = model.postprocessor
    missing = find_missing(
        prediction,
        scores,
        ranked,
        {level["label_id"] for info in infos for level in info.get("path", [info])},
        threshold=float(merging.object_threshold if threshold is None else threshold),
        void_competes=merging.void_competes,
        hierarchy=hierarchy,
    )
    semantic = enlarge(output["semantic_seg"].cpu().numpy(), (height, width)) if "semantic" in tasks else None
    instances = describe_instances(output["instances"], vocabulary, (height, width)) if "instance" in tasks else None
    return Segmentation(
        image=image,
        segmentation=id_map,
        segments_info=infos,
        vocabulary=vocabulary,
        file_name=file_name,
        missing=missing,
        semantic=semantic,
        instances=instances,
        mask_scores=behind,
    )
