"""Points and boxes that ask for masks of an image.

Shapes: N prompts of one image, P points at most for each; a prompt asks for one mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from possam.utils.messages import few

__all__ = ["NEGATIVE", "PADDING", "POSITIVE", "Prompts"]

POSITIVE, NEGATIVE, PADDING = 1, 0, -1
"""Labels of points: on the object, outside it, and none."""


@dataclass(frozen=True, init=False, eq=False)
class Prompts:
    """N prompts of one image: points, a box, or both for each.

    Attributes:
        points: N×P×2 float32, (x, y) in pixels of the image; (0, 0) is the upper left pixel.
        labels: N×P int64: 1 for a point on the object, 0 for one outside it, -1 for padding, whose coordinates are 0.
        boxes: N×4 float32 XYXY in pixels, the right and lower edges behind the last pixel; zeros where there is none.
        has_box: N bool.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor
    has_box: Tensor

    def __init__(
        self,
        *,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        has_box: Any = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """
        Args:
            points, labels, boxes, has_box: as the attributes, tensors or what `torch.as_tensor` takes. Without points
                all prompts are boxes, without boxes all are points; `labels` is all 1 by default, and `has_box` all
                True where there are boxes.
            size: (height, width) of the image in pixels, which points and boxes must lie in; not looked at if None.

        Raises:
            ValueError: nothing is given, shapes disagree, a label is none of the three, a coordinate is not finite or
                outside the image, a box has no area, or a prompt has neither a box nor a point on the object.
        """
        if points is None and boxes is None:
            raise ValueError("prompts need points or boxes, but got neither.")
        if points is None and labels is not None:
            raise ValueError("labels of points are given, but no points.")
        if boxes is None and has_box is not None and torch.as_tensor(has_box).any():
            raise ValueError("has_box says that there are boxes, but none are given.")
        given = torch.as_tensor(boxes if points is None else points, dtype=torch.float32)
        count, device = len(given) if given.dim() else 0, given.device
        if points is None:
            points = given.new_zeros(count, 0, 2)
        points = torch.as_tensor(points, dtype=torch.float32)
        if labels is None:
            labels = torch.ones(points.shape[:-1], dtype=torch.int64, device=device)
        if has_box is None:
            has_box = torch.full((count,), boxes is not None, device=device)
        labels = torch.as_tensor(labels)
        if unknown := sorted(set(labels.unique().tolist()) - {POSITIVE, NEGATIVE, PADDING}):
            raise ValueError(f"labels of points are 1 (on the object), 0 (outside it) or -1 (none), but got {unknown}.")
        vars(self).update(
            points=points,
            labels=labels.long(),
            boxes=given.new_zeros(count, 4) if boxes is None else torch.as_tensor(boxes, dtype=torch.float32),
            has_box=torch.as_tensor(has_box).bool(),
        )
        self._check()
        if size is not None:
            self.check_inside(*size)

    def _check(self) -> None:
        count = len(self.points) if self.points.dim() == 3 else -1
        shapes = [tuple(part.shape) for part in (self.points, self.labels, self.boxes, self.has_box)]
        if count < 0 or shapes != [(count, shapes[0][1], 2), (count, shapes[0][1]), (count, 4), (count,)]:
            raise ValueError(
                "expected points N×P×2, labels N×P, boxes N×4 and has_box N, but got shapes "
                + ", ".join("×".join(map(str, shape)) or "()" for shape in shapes)
                + "; a single prompt is a list of one, such as points=[[[x, y]]] or boxes=[[x0, y0, x1, y1]]."
            )
        _refuse(~self.points.isfinite().all(-1).all(-1), self.points, "points must be finite")
        _refuse(~self.boxes.isfinite().all(-1), self.boxes, "boxes must be finite")
        x0, y0, x1, y1 = self.boxes.unbind(-1)
        _refuse(self.has_box & ((x1 <= x0) | (y1 <= y0)), self.boxes, "boxes are x0, y0, x1, y1 with x0 < x1, y0 < y1")
        aimless = ~(self.has_box | (self.labels == POSITIVE).any(1))
        _refuse(aimless, self.labels, "a prompt needs a box or a point on the object (label 1)")

    def check_inside(self, height: int, width: int) -> None:
        """Raise ValueError for a point or a box that is not inside an image of this size in pixels."""
        points, boxes, image = self.points, self.boxes, f"the image of {width}×{height} pixels (width×height)"
        outside = (points < 0) | (points >= points.new_tensor([width, height]))
        outside = (outside.any(-1) & (self.labels != PADDING)).any(-1)
        _refuse(outside, points, f"points (x, y) must be inside {image}")
        outside = (boxes < 0) | (boxes > boxes.new_tensor([width, height] * 2))
        _refuse(outside.any(-1) & self.has_box, boxes, f"boxes (x0, y0, x1, y1) must be inside {image}")

    def __len__(self) -> int:
        return len(self.has_box)

    def __getitem__(self, index: Any) -> Prompts:
        """Some of the prompts: a slice, or an index tensor of one dimension."""
        return self._replaced(*(part[index] for part in (self.points, self.labels, self.boxes, self.has_box)))

    @property
    def device(self) -> torch.device:
        return self.points.device

    def to(self, device: torch.device | str) -> Prompts:
        """The same on another device."""
        return self._replaced(*(part.to(device) for part in (self.points, self.labels, self.boxes, self.has_box)))

    def resize(self, scale_x: float, scale_y: float) -> Prompts:
        """The prompts of the resized image, its new size over its old; as segment_anything's `ResizeLongestSide`."""
        # In float64, so that the image's right and lower edges stay there.
        scale = torch.tensor([scale_x, scale_y] * 2, dtype=torch.float64, device=self.device)
        points, boxes = (self.points * scale[:2]).float(), (self.boxes * scale).float()
        return self._replaced(points, self.labels, boxes, self.has_box)

    def hflip(self, width: int) -> Prompts:
        """The prompts of the mirrored image of this width in pixels: pixel x becomes pixel width - 1 - x."""
        x, y = self.points.unbind(-1)
        points = torch.stack([width - 1 - x, y], dim=-1).where((self.labels != PADDING)[..., None], self.points)
        x0, y0, x1, y1 = self.boxes.unbind(-1)
        boxes = torch.stack([width - x1, y0, width - x0, y1], dim=-1).where(self.has_box[:, None], self.boxes)
        return self._replaced(points, self.labels, boxes, self.has_box)

    def chunks(self, size: int) -> Iterator[Prompts]:
        """The prompts in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    @classmethod
    def cat(cls, several: Sequence[Prompts]) -> Prompts:
        """All prompts of at least one `Prompts` of the same image and device, padded to the most points of any."""
        most = max(prompts.labels.shape[1] for prompts in several)
        pad, padded = torch.nn.functional.pad, []
        for prompts in several:
            missing = most - prompts.labels.shape[1]
            padded.append((pad(prompts.points, (0, 0, 0, missing)), pad(prompts.labels, (0, missing), value=PADDING)))
        return cls._replaced(
            torch.cat([points for points, _ in padded]),
            torch.cat([labels for _, labels in padded]),
            torch.cat([prompts.boxes for prompts in several]),
            torch.cat([prompts.has_box for prompts in several]),
        )

    @classmethod
    def _replaced(cls, points: Tensor, labels: Tensor, boxes: Tensor, has_box: Tensor) -> Prompts:
        """Prompts of tensors that were checked before."""
        prompts = cls.__new__(cls)
        vars(prompts).update(points=points, labels=labels, boxes=boxes, has_box=has_box)
        return prompts


def _refuse(bad: Tensor, values: Tensor, rule: str) -> None:
    """Raise ValueError where a prompt, of N, is bad."""
    if bad.any():
        found = [f"{place}: {values[place].tolist()}" for place in bad.nonzero().flatten().tolist()]
        raise ValueError(f"{rule}, but got (prompt: value) {few(found)}.")
