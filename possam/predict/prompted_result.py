"""The masks of prompts with their names, as plain data.

Shapes: N prompts, k ≤ 5 names for each; H×W the image as it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.data.run_lengths import encode_mask
from possam.layers.prompts import NEGATIVE, PADDING, POSITIVE, Prompts
from possam.predict.summary import describe_found, png_bytes
from possam.visualize import draw_panoptic
from possam.vocabulary import Vocabulary

__all__ = ["PromptedResult", "draw_prompt"]

_COLORS = {POSITIVE: (40, 200, 60), NEGATIVE: (225, 45, 45)}
_BOX_COLOR = (255, 200, 40)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PromptedResult:
    """A mask for each prompt of an image, and its most probable names. It needs no model, and can be pickled.

    Two are equal where all attributes are, and the hash is that of the content, which must not be changed while the
    result is in a set or a dict.

    Attributes:
        image: H×W×3 uint8 RGB.
        prompts: the N prompts, in pixels of `image`.
        masks: N×H×W bool; they may overlap.
        boxes: N×4 float32 XYXY, the tightest around each mask in pixels; zeros for an empty mask.
        iou: N float32 in [0, 1], predicted IoU of each mask; 1 where the model predicts none.
        label_ids: N×k int64, the best classes of each mask, the best first, as positions in the vocabulary.
        scores: N×k float32 in [0, 1], their scores by the ensemble, which weighs that a mask may be nothing.
        probabilities: N×k float32, the same as a distribution over all classes of the vocabulary.
        vocabulary: the names to choose from.
        file_name: where the image came from, or "".
        nothing: why `everything` kept no mask, as a sentence with the best score found; else "".
    """

    image: NDArray[np.uint8]
    prompts: Prompts
    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    iou: NDArray[np.float32]
    label_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    vocabulary: Vocabulary
    file_name: str = ""
    nothing: str = ""

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        found = [{"label": label} for label in self.labels]
        return f"PromptedResult({describe_found(self.image, found, self.file_name, 'mask')})"

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        return png_bytes(self.plot())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PromptedResult):
            return NotImplemented
        same = self.vocabulary == other.vocabulary and self.file_name == other.file_name
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        return same and all(np.array_equal(mine, others) for mine, others in pairs)

    def __hash__(self) -> int:
        return hash((self.file_name, *((array.shape, array.tobytes()) for array in self._arrays())))

    def _arrays(self) -> list[NDArray[Any]]:
        prompts = [getattr(self.prompts, field.name).cpu().numpy() for field in fields(self.prompts)]
        named = (self.masks, self.boxes, self.iou, self.label_ids, self.scores, self.probabilities)
        return [self.image, *prompts, *named]

    @property
    def labels(self) -> list[str]:
        """The best name of each mask."""
        return [names[0][0] for names in self.names]

    @property
    def names(self) -> list[list[tuple[str, float]]]:
        """The k best names of each mask with their probabilities, the best first."""
        names = self.vocabulary.display_names
        return [
            [(names[label], probability) for label, probability in zip(labels, probabilities, strict=True)]
            for labels, probabilities in zip(self.label_ids.tolist(), self.probabilities.tolist(), strict=True)
        ]

    def to_coco(self, *, image_id: int | str = 0) -> list[dict[str, Any]]:
        """The masks in the COCO results format, with what it has no keys for besides.

        Returns:
            A dict a mask: ``image_id``, ``category_id`` (of the vocabulary's dataset), ``segmentation`` (compressed run
            lengths), ``bbox`` [x, y, width, height] and ``area`` in pixels, ``score``; and ``label``, ``iou``,
            ``names`` ([name, probability] lists), ``points`` ([x, y, label] lists), ``box`` (XYXY of the prompt, or
            None).
        """
        annotations = []
        for place, (label, names) in enumerate(zip(self.labels, self.names, strict=True)):
            x0, y0, x1, y1 = self.boxes[place].tolist()
            annotations.append(
                {
                    "image_id": image_id,
                    "category_id": self.vocabulary.categories[int(self.label_ids[place, 0])].dataset_id,
                    "segmentation": encode_mask(self.masks[place]),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(self.masks[place].sum()),
                    "score": float(self.scores[place, 0]),
                    "label": label,
                    "iou": float(self.iou[place]),
                    "names": [list(name) for name in names],
                    "points": self._points(place),
                    "box": self._box(place),
                }
            )
        return annotations

    def plot(self, path: str | Path | None = None, *, opacity: float = 0.5, prompts: bool = True) -> Image.Image:
        """Draw the masks with their names over the image, smaller ones on top; with `path`, save the picture, too.

        Args:
            prompts: draw points (green on the object, red outside it) and boxes.
        """
        ids = np.zeros(self.image.shape[:2], dtype=np.int32)
        for place in np.argsort(-self.masks.sum(axis=(1, 2)), kind="stable").tolist():
            ids[self.masks[place]] = place + 1
        infos = [{"id": place + 1, "category_id": int(ids_[0])} for place, ids_ in enumerate(self.label_ids)]
        drawn = draw_panoptic(self.image, ids, infos, self.vocabulary.display_names, opacity=opacity)
        if prompts:
            for place in range(len(self)):
                draw_prompt(drawn, self._points(place), self._box(place), drawn.shape[1] / self.image.shape[1])
        picture = Image.fromarray(drawn)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        return picture

    def _points(self, place: int) -> list[list[float]]:
        points, labels = self.prompts.points[place].tolist(), self.prompts.labels[place].tolist()
        return [[x, y, label] for (x, y), label in zip(points, labels, strict=True) if label != PADDING]

    def _box(self, place: int) -> list[float] | None:
        return self.prompts.boxes[place].tolist() if self.prompts.has_box[place] else None


def draw_prompt(
    picture: NDArray[np.uint8], points: Sequence[Sequence[float]], box: Sequence[float] | None, scale: float
) -> None:
    """Draw a prompt, in place: points green on the object and red outside it, and the box.

    Args:
        picture: uint8 RGB.
        points: (x, y, label) in pixels of the image.
        box: XYXY in pixels of the image.
        scale: pixels of the picture for one of the image.
    """
    line = max(2, round(max(picture.shape) / 400))
    if box is not None:
        x0, y0, x1, y1 = (round(scale * side) for side in box)
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), _BOX_COLOR, line, cv2.LINE_AA)
    for x, y, label in points:
        center = (round(scale * (x + 0.5)), round(scale * (y + 0.5)))
        cv2.circle(picture, center, 3 * line, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, center, 2 * line, _COLORS[int(label)], -1, cv2.LINE_AA)
