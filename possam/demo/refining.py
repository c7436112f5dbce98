"""Refine a chosen segment of the demo's page by clicks, with a model that takes prompts."""

from __future__ import annotations

from dataclasses import replace

from possam.demo.prompts import Clicks, add_click, place_of_click
from possam.demo.segmenting import Shown, choose, show
from possam.predict.predictor import Predictor
from possam.predict.segmentation import Segmentation

__all__ = ["CHOOSE", "refine", "restore"]

CHOOSE = "chooses a segment"
"""The mode in which a click chooses a segment; the modes that refine it are the keys of `possam.demo.prompts.MODES`."""


def refine(prompter: Predictor, shown: Shown, x: int, y: int, mode: str, *, rename: bool = False) -> Shown:
    """Add a click, and replace the mask of the chosen segment by that of all clicks so far.

    The box around the segment is part of the prompt, widened to the points on the object, until a box is drawn. So a
    single point outside the object takes a part of the segment away.

    Args:
        prompter: its model takes prompts. The image is encoded at the first click.
        x, y: pixel of `shown.picture`.
        mode: a key of `MODES`.
        rename: the segment gets the name that the prompts' model gives it, too (`Segmentation.refine`).

    Raises:
        ValueError: no segment is chosen, or as `possam.demo.prompts.click` and `Segmentation.refine`.
    """
    if not shown.chosen:
        raise ValueError("There is no segment to refine: let a click choose one first.")
    before = shown.before or shown.segmentation
    clicks = shown.clicks or Clicks(image=prompter.encode(before.image))
    if clicks.around is None:
        clicks = replace(clicks, around=_box_around(before, shown.chosen))
    place = place_of_click((x, y), shown.picture.shape[:2], clicks.image.size)
    clicks = add_click(clicks, place, mode, prompter.check(before.vocabulary))
    result = before if clicks.result is None else before.refine(shown.chosen, clicks.result, rename=rename)
    after = show(result)
    clicks.draw(after.picture)
    return replace(after, chosen=shown.chosen, before=before, clicks=clicks)


def restore(shown: Shown) -> Shown:
    """Restore the chosen segment as it was before the clicks that refined it, and remove these."""
    if shown.before is None:
        return shown
    return choose(replace(shown, segmentation=shown.before), shown.chosen)


def _box_around(segmentation: Segmentation, segment_id: int) -> tuple[float, float, float, float]:
    """XYXY of a segment in pixels."""
    (box,) = (info["bbox"] for info in segmentation.segments_info if info["id"] == segment_id)
    x, y, width, height = box
    return x, y, x + width, y + height
