"""Functions of the demo's page for whole images: segment, and explain a chosen segment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.data.augmentations import ResizeLongestSide
from possam.data.pictures import Picture, to_rgb
from possam.demo.prompts import SIDE, Clicks, place_of_click
from possam.demo.typed import read_typed
from possam.models.explanation import MaskExplanation
from possam.predict.limits import doubt
from possam.predict.predictor import Predictor
from possam.predict.segmentation import Segmentation, enlarge
from possam.visualize import draw_panoptic
from possam.vocabulary import Hierarchy, Vocabulary

__all__ = [
    "HEADINGS",
    "Shown",
    "choose",
    "describe_click",
    "describe_segment",
    "knows_little",
    "path_in_words",
    "segment",
    "segment_of_click",
    "show",
]

HEADINGS = ("id", "name", "kind", "score", "IoU", "seen (estimate)", "area")
_UNKNOWN_SHOWN = 8  # words in a message


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A segmentation with its form on the page.

    Attributes:
        segmentation: the model's, with refinements.
        picture: h×w×3 uint8 RGB, the segments over the image, of the image's proportions.
        rows: one a segment, largest first, with the values of the list's columns.
        warnings: sentences for the visitor.
        chosen: id of the segment that was clicked last, 0 for none.
        before: the segmentation before clicks refined the chosen segment; None where none did.
        clicks: these clicks, on the image that the model for prompts has encoded; None where none was encoded.
    """

    segmentation: Segmentation
    picture: NDArray[np.uint8]
    rows: list[list[Any]]
    warnings: tuple[str, ...] = ()
    chosen: int = 0
    before: Segmentation | None = None
    clicks: Clicks | None = None


def segment(
    predictor: Predictor,
    image: Picture | None,
    words: str,
    *,
    ensemble: str | None = None,
    stop_below: float = 0.0,
    threshold: float | None = None,
) -> Shown:
    """Segment an image with the words of the page.

    Args:
        image: as `possam.data.pictures.to_rgb` takes it; None where none was given.
        words, stop_below: see `read_typed`.
        ensemble, threshold: see `Predictor`.

    Raises:
        FileNotFoundError, ValueError: no image, one that cannot be read, or words that cannot be used.
    """
    if image is None:
        raise ValueError("There is no picture: drop one into the field, or click the example.")
    names = read_typed(words, stop_below=stop_below)
    result = predictor(to_rgb(image), names, ensemble=ensemble, threshold=threshold)
    if isinstance(image, str | Path):
        result = replace(result, file_name=Path(image).name)  # not the folder, which is the server's
    warnings = [sentence] if (sentence := doubt(predictor.model, result.image)) else []
    warnings += _unknown_words(predictor, names.vocabulary if isinstance(names, Hierarchy) else names)
    if not result.segments_info:
        warnings.append("Nothing was found that one of these words names.")
    return replace(show(result), warnings=tuple(warnings))


def show(result: Segmentation) -> Shown:
    """A segmentation with its picture and its list."""
    return Shown(segmentation=result, picture=_draw(result), rows=_rows(result))


def choose(shown: Shown, segment_id: int) -> Shown:
    """Choose a segment, 0 for none; clicks that refined another are done with, and what they made stays."""
    clicks = shown.clicks and Clicks(image=shown.clicks.image)
    if shown.clicks is not None and shown.clicks.given:
        shown = replace(show(shown.segmentation), warnings=shown.warnings)  # without the clicks' marks
    return replace(shown, chosen=segment_id, before=None, clicks=clicks)


def segment_of_click(shown: Shown, x: int, y: int) -> int:
    """The id of the segment under a pixel of `shown.picture`, 0 for none.

    Raises:
        ValueError: the pixel is outside the picture.
    """
    ids = shown.segmentation.segmentation
    column, row = place_of_click((x, y), shown.picture.shape[:2], ids.shape)
    return int(ids[int(row + 0.5), int(column + 0.5)])


def describe_click(shown: Shown, x: int, y: int) -> MaskExplanation | None:
    """Explain the name of the segment under a pixel of `shown.picture`; None where there is no segment.

    Raises:
        ValueError: the pixel is outside the picture.
    """
    chosen = segment_of_click(shown, x, y)
    return shown.segmentation.explain(chosen) if chosen else None


def describe_segment(shown: Shown, segment_id: int) -> MaskExplanation:
    """Explain the name of a segment of the list.

    Raises:
        ValueError: there is no such segment.
    """
    return shown.segmentation.explain(segment_id)


def path_in_words(shown: Shown, segment_id: int) -> str:
    """The way down a tree to a segment's name, with the probability of each level; "" where names are a list."""
    (info,) = (info for info in shown.segmentation.segments_info if info["id"] == segment_id)
    if "path" not in info:
        return ""
    levels = " → ".join(f"**{level['label']}** {level['probability']:.2f}" for level in info["path"])
    return f"Level by level: {levels} (together {info['path_probability']:.2f})."


def knows_little(predictor: Predictor) -> bool:
    """Whether the model reads a list of words alone, as those of the miniature world do."""
    return not predictor.model.clip.reads_any_word


def _unknown_words(predictor: Predictor, vocabulary: Vocabulary) -> list[str]:
    unknown = predictor.model.clip.unknown_words(vocabulary.names)
    if not unknown:
        return []
    shown = ", ".join(map(repr, unknown[:_UNKNOWN_SHOWN]))
    others = len(unknown) - _UNKNOWN_SHOWN
    more = f" and {others} other {'word' if others == 1 else 'words'}" if others > 0 else ""
    return [f"The miniature model does not know {shown}{more}; see “What this model knows”."]


def _draw(result: Segmentation) -> NDArray[np.uint8]:
    image, ids = result.image, result.segmentation
    if max(image.shape[:2]) > SIDE:
        image = ResizeLongestSide(SIDE).get_transform(image).apply_image(image)
        ids = enlarge(ids, image.shape[:2])
    infos = [{**info, "category_id": info["label_id"]} for info in result.segments_info]
    return draw_panoptic(image, ids, infos, result.vocabulary.display_names)


def _rows(result: Segmentation) -> list[list[Any]]:
    pixels = result.segmentation.size
    return [
        [
            info["id"],
            info["label"],
            "thing" if info["isthing"] else "stuff",
            f"{info['score']:.2f}",
            f"{info['iou']:.2f}",
            f"{info['seen_confidence']:.2f}",
            f"{100 * info['area'] / pixels:.1f} %",
        ]
        for info in sorted(result.segments_info, key=lambda info: -info["area"])
    ]
