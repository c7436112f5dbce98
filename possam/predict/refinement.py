"""Segments whose masks are replaced by those of prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from possam.predict.description import boxes_and_areas
from possam.predict.prompted_result import PromptedResult
from possam.vocabulary import Vocabulary

if TYPE_CHECKING:
    from possam.predict.segmentation import Segmentation

__all__ = ["refined"]


def refined(
    segmentation: Segmentation, segment_id: int, prompted: PromptedResult, *, rename: bool = False
) -> Segmentation:
    """`Segmentation.refine`, whose arguments and errors these are."""
    _check(segmentation, segment_id, prompted, rename)
    ids = np.where(segmentation.segmentation == segment_id, 0, segmentation.segmentation)
    ids[prompted.masks[0]] = segment_id
    places = boxes_and_areas(ids, max(info["id"] for info in segmentation.segments_info))
    infos = []
    for info in segmentation.segments_info:
        if (place := places[info["id"] - 1]) is None:
            continue
        box, area = place
        info = {**info, "area": area, "bbox": box}
        if info["id"] == segment_id:
            info |= {"iou": float(prompted.iou[0]), "refined": True}
            info |= _name(prompted, segmentation.vocabulary) if rename else {}
        infos.append(info)
    return replace(segmentation, segmentation=ids, segments_info=infos)


def _check(segmentation: Segmentation, segment_id: int, prompted: PromptedResult, rename: bool) -> None:
    found = [info for info in segmentation.segments_info if info["id"] == segment_id]
    if not found:
        known = [info["id"] for info in segmentation.segments_info]
        raise ValueError(f"there is no segment {segment_id!r}; the segments are {known}.")
    if not isinstance(prompted, PromptedResult) or len(prompted) != 1:
        given = f"{len(prompted)} masks" if isinstance(prompted, PromptedResult) else f"{prompted!r:.80}"
        raise ValueError(f"a segment is refined by one mask, but got {given}; give what one prompt returned.")
    if not np.array_equal(prompted.image, segmentation.image):
        raise ValueError("the prompt was given on another image; use set_image(segmentation.image), and prompt that.")
    if not prompted.masks.any():
        raise ValueError("the prompt's mask is empty; give other points or a box.")
    if rename and "path" in found[0]:
        raise ValueError("a segment named by a hierarchy keeps its name; leave out rename.")
    if rename and prompted.vocabulary != segmentation.vocabulary:
        raise ValueError("the prompt has other classes than the segmentation; prompt with classes=its vocabulary.")


def _name(prompted: PromptedResult, vocabulary: Vocabulary) -> dict[str, Any]:
    """Entries of a segment's dict that name it."""
    names = vocabulary.display_names
    ids, scores = prompted.label_ids[0].tolist(), prompted.scores[0].tolist()
    return {
        "label": names[ids[0]],
        "label_id": ids[0],
        "isthing": vocabulary.isthing[ids[0]],
        "score": scores[0],
        "top": [(names[label], score) for label, score in zip(ids, scores, strict=True)],
    }
