"""Test-time augmentation: an image seen at several scales, plain and mirrored, and segmented once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from possam.inference import MaskGrid, View, join_views, stack_views
from possam.models.base import OpenVocabularySegmenter
from possam.models.prediction import Prediction
from possam.vocabulary import Vocabulary

__all__ = ["TestTimeAugmentation"]

_GRID = 2  # pixels of the largest view for a cell of the grid that views are joined on; the decoder's masks have 4


class TestTimeAugmentation(nn.Module):
    """Has a model's `predict` and `segment`, over views instead of one image.

    The ensemble scores every view by itself, and the views are joined after that: masks that show the
    same segment become one for panoptic and instance segmentation (`join_views`), and the semantic segmentation is
    that of the mean of the views' scores (`stack_views`).
    """

    __test__ = False  # its name looks like a test case's

    def __init__(self, model: OpenVocabularySegmenter, *, scales: list[float], flip: bool) -> None:
        """
        Args:
            model: the trained model.
            scales: of the model's input size, above 0. Images come in at the size of the largest.
            flip: show every scale mirrored as well.

        Raises:
            ValueError: no scale, or one that is not positive; or a model that takes prompts.
        """
        super().__init__()
        if model.takes_prompts:
            raise ValueError(
                f"{type(model).__name__} makes a mask for each prompt, but test-time augmentation joins the masks that "
                "a model finds itself; set TEST.AUG.ENABLED False."
            )
        if not scales or min(scales) <= 0:
            raise ValueError(f"test-time augmentation needs scales above 0, but got {scales}; set TEST.AUG.SCALES.")
        self.model = model
        self.scales = list(scales)
        self.flips = (False, True) if flip else (False,)

    @property
    def train_vocabulary(self) -> Vocabulary:
        return self.model.train_vocabulary

    @torch.no_grad()
    def predict(self, batched_inputs: list[dict[str, Any]]) -> list[list[tuple[Prediction, bool]]]:
        """For every image its views' predictions, and whether the view is mirrored.

        Args:
            batched_inputs: as for the model; "image" at the size of the largest scale; "features" are not used.
        """
        views: list[list[tuple[Prediction, bool]]] = [[] for _ in batched_inputs]
        for scale in self.scales:
            pad_to = -(-round(self.model.pad_to * scale) // 32) * 32
            for flip in self.flips:
                inputs = [self._view(sample, scale, flip, pad_to) for sample in batched_inputs]
                for own, prediction in zip(views, self.model.predict(inputs, pad_to=pad_to), strict=True):
                    own.append((prediction, flip))
        return views

    @torch.no_grad()
    def segment(
        self,
        views: list[tuple[Prediction, bool]],
        ensemble: str | None = None,
        tasks: tuple[str, ...] | None = None,
    ) -> dict[str, Any]:
        """As the model's own `segment`, of one image's views; a single plain view gives what the model alone gives."""
        tasks = self.model.tasks if tasks is None else tasks
        first, mirrored = views[0]
        if len(views) == 1 and not mirrored:
            return self.model.segment(first, ensemble, tasks)
        largest = max((prediction.image_size for prediction, _ in views), key=lambda size: size[0] * size[1])
        grid = tuple(-(-side // _GRID) for side in largest)
        turned = [self._turn_back(prediction, flip, ensemble, grid) for prediction, flip in views]
        output: dict[str, Any] = {}
        if "semantic" in tasks:
            output |= self._merge(stack_views(turned), first, ("semantic",))
        others = tuple(task for task in tasks if task != "semantic")
        return output | (self._merge(join_views(turned), first, others) if others else {})

    def _view(self, sample: dict[str, Any], scale: float, flip: bool, pad_to: int) -> dict[str, Any]:
        image = sample["image"]
        height, width = image.shape[-2:]
        shown = {key: value for key, value in sample.items() if key != "features"}
        shown |= {"height": sample.get("height", height), "width": sample.get("width", width)}
        ratio = scale / max(self.scales)
        size = tuple(max(1, round(side * ratio)) for side in (height, width))
        if pad_to:
            size = tuple(min(side, pad_to) for side in size)
        if size != (height, width):
            image = F.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)[0]
        return shown | {"image": image.flip(-1) if flip else image}

    def _turn_back(
        self, prediction: Prediction, flip: bool, ensemble: str | None, grid: tuple[int, ...]
    ) -> View:
        masks = MaskGrid(
            prediction.mask_logits,
            padded_size=prediction.padded_size,
            image_size=prediction.image_size,
            output_size=(grid[0], grid[1]),
        ).restore()
        scores = self.model.score(prediction, ensemble)
        inputs = prediction.inputs
        return View(scores, masks.flip(-1) if flip else masks, inputs.iou.float(), inputs.void)

    def _merge(self, view: View, prediction: Prediction, tasks: tuple[str, ...]) -> dict[str, Any]:
        # The grid spans exactly the image, so there is no padding to take away.
        masks = MaskGrid(view.mask_logits, output_size=prediction.output_size)
        isthing = prediction.vocabulary.isthing
        return self.model.postprocessor(view.scores, masks, view.iou, view.void, isthing=isthing, tasks=tasks)
