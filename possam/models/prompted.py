"""The stages of systems that make a mask for each prompt (METHOD.md 3).

Shapes: N prompts of an image, D width of CLIP's joint space; h×w = H/4×W/4 of the padded input.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from possam.layers.prompts import Prompts
from possam.models.base import Features, OpenVocabularySegmenter
from possam.models.prediction import MaskProposals, Prediction

__all__ = ["PromptedSegmenter"]


class PromptedSegmenter(OpenVocabularySegmenter):
    """Base of the systems that take prompts: an image, points or boxes, and a vocabulary in; masks with names out.

    Every input has "prompts" beside its "image": the `Prompts` of this image, in pixels of "image", whose number may
    differ between images. Mask i of an image is that of prompt i. A system implements `predict_masks`, `losses`, and
    `prepare` where part of its work is the same for all prompts of an image; `decode` and `embed_masks` are not used.

    Where a system can give frozen CLIP another region than the predicted mask's, it says so by `takes_region_boxes`,
    and inputs may have "region_boxes": N×4 float XYXY in pixels of "image", one for each prompt, which CLIP's own
    embedding of mask i is then of. The masks, and what the system's trained head names them by, do not depend on them.
    They are for the published evaluation, which hands CLIP the annotated boxes (METHOD.md 3.6).

    Attributes:
        takes_region_boxes: whether `predict_masks` reads `region_boxes`.
        prompts_at_once: the most prompts that are decoded together, which bounds memory.
    """

    takes_prompts = True
    takes_region_boxes = False
    prompts_at_once = 64

    # What a system implements.

    def prepare(self, features: Features) -> Features:
        """What `predict_masks` reads of B images, computed once for all their prompts; by default the frozen features.

        All maps keep the batch as their first dimension.
        """
        return features

    @abstractmethod
    def predict_masks(
        self, features: Features, prompts: Prompts | None = None, region_boxes: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The tensors of `MaskProposals` for the prompts of one image, 1×N×… each.

        Args:
            features: what `prepare` returned for this image, 1×C×H/s×W/s each.
            prompts: on the device of the model, in pixels of the network input. Not optional; it is only so declared
                because the base's method has none.
            region_boxes: N×4 float XYXY like the prompts, or None; given only if `takes_region_boxes`.
        """

    # Stages of inference.

    @torch.no_grad()
    def propose(self, batched_inputs: list[dict[str, Any]], *, pad_to: int | None = None) -> list[MaskProposals]:
        """Masks of the prompts of images, before any vocabulary is known; inputs need no "vocabulary".

        Raises:
            ValueError: an input has no prompts, or one outside its image; or "region_boxes" that the system does not
                read, or of another number than its prompts.
        """
        for inputs in batched_inputs:
            if not len(inputs.get("prompts", ())):
                raise ValueError(
                    f"{type(self).__name__} needs prompts: give at least one point or box for every image, or use a "
                    "model whose architecture finds masks itself."
                )
            inputs["prompts"].check_inside(*inputs["image"].shape[-2:])
            self._check_region_boxes(inputs)
        features, padded = self._features(batched_inputs, pad_to)
        prepared = self.prepare(features)
        return [
            self.propose_prompts(
                {role: {s: maps[i : i + 1] for s, maps in levels.items()} for role, levels in prepared.items()},
                inputs["prompts"],
                padded_size=padded,
                image_size=tuple(inputs["image"].shape[-2:]),
                region_boxes=inputs.get("region_boxes"),
            )
            for i, inputs in enumerate(batched_inputs)
        ]

    @torch.no_grad()
    def prepare_image(self, image: Tensor) -> tuple[Features, tuple[int, int]]:
        """What `propose_prompts` reads of an image (3×H'×W' RGB in [0, 255]), and its padded (height, width)."""
        features, padded = self._features([{"image": image}])
        return self.prepare(features), padded

    @torch.no_grad()
    def propose_prompts(
        self,
        prepared: Features,
        prompts: Prompts,
        *,
        padded_size: tuple[int, int],
        image_size: tuple[int, int],
        region_boxes: Tensor | None = None,
    ) -> MaskProposals:
        """Masks of prompts of an image, from what `prepare` returned for it; `prompts_at_once` of them at a time."""
        chunks = []
        for start, chunk in enumerate(prompts.to(self.device).chunks(self.prompts_at_once)):
            place = slice(start * self.prompts_at_once, (start + 1) * self.prompts_at_once)
            regions = {} if region_boxes is None else {"region_boxes": region_boxes[place].to(self.device)}
            fields = {name: values[0] for name, values in self.predict_masks(prepared, chunk, **regions).items()}
            chunks.append(MaskProposals(**fields, padded_size=padded_size, image_size=image_size))
        return MaskProposals.cat(chunks)

    def _check_region_boxes(self, inputs: dict[str, Any]) -> None:
        if "region_boxes" not in inputs:
            return
        if not self.takes_region_boxes:
            raise ValueError(f"{type(self).__name__} reads no region_boxes; leave them out.")
        if tuple(inputs["region_boxes"].shape) != (len(inputs["prompts"]), 4):
            raise ValueError(
                f"region_boxes must be {len(inputs['prompts'])}×4, a box for each prompt, but have shape "
                f"{tuple(inputs['region_boxes'].shape)}."
            )

    def segment(
        self, prediction: Prediction, ensemble: str | None = None, tasks: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        """As the base's; the only task by default is "prompted" (`possam.inference.prompted.collect_prompted`)."""
        return super().segment(prediction, ensemble, ("prompted",) if tasks is None else tasks)
