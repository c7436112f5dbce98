"""From scores and masks to the outputs of all tasks, with the settings of a model (METHOD.md 1.10)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from possam.utils.messages import did_you_mean

from .instances import merge_instances
from .mask_grid import MaskGrid
from .out_of_memory import retry_out_of_memory
from .panoptic import merge_panoptic
from .prompted import collect_prompted
from .semantic import merge_semantic, merge_semantic_scores

OUTPUTS = ("panoptic", "semantic", "instance", "mask_quality", "prompted")
"""Outputs of post-processing, by the names that `tasks` takes."""

SEMANTIC = {"masks": merge_semantic, "scores": merge_semantic_scores}
"""`TEST.SEMANTIC_RESIZE`: what is resized to the output's size."""


@dataclass(kw_only=True)
class Postprocessor:
    """Merges masks into segmentations.

    Attributes:
        object_threshold, overlap_threshold: of `merge_panoptic`. top_k: of `merge_instances`.
        void_competes: leave a mask out of the panoptic segmentation where void is more probable than its best score.
        semantic_resize: a key of `SEMANTIC`.
    """

    object_threshold: float = 0.1
    overlap_threshold: float = 0.8
    top_k: int = 100
    void_competes: bool = False
    semantic_resize: str = "masks"

    def __call__(
        self,
        scores: Tensor,
        masks: MaskGrid,
        iou: Tensor,
        void: Tensor,
        *,
        isthing: Sequence[bool],
        tasks: Collection[str],
    ) -> dict[str, Any]:
        """Merge, on the CPU where the device's memory does not suffice.

        Args:
            scores: Q×K float in [0, 1].
            masks: the Q masks.
            iou, void: Q float in [0, 1], the masks' predicted IoU and the probability that they are nothing.
            isthing: K bools.
            tasks: of `OUTPUTS`.

        Returns:
            By task: "panoptic_seg": (H×W int32 segment ids, segments_info with the masks' "iou"); "semantic_seg": H×W
            int64 class map; "instances": Instances with pred_masks, pred_boxes (XYXY pixels), scores, pred_classes;
            "mask_quality": {"masks": Q×H×W bool, "iou": Q float32 in [0, 1]}; "prompted": what `collect_prompted`
            returns. H×W is the size of `masks`.

        Raises:
            ValueError: an unknown task.
        """
        for task in tasks:
            if task not in OUTPUTS:
                hint = did_you_mean(task, OUTPUTS)
                raise ValueError(f"masks cannot be made into {task!r}, but into {', '.join(OUTPUTS)}.{hint}")
        return retry_out_of_memory(
            lambda device: self._merge(
                scores.to(device), masks.to(device), iou.to(device), void.to(device), isthing, tasks
            ),
            masks.device,
        )

    def _merge(
        self,
        scores: Tensor,
        masks: MaskGrid,
        iou: Tensor,
        void: Tensor,
        isthing: Sequence[bool],
        tasks: Collection[str],
    ) -> dict[str, Any]:
        output: dict[str, Any] = {}
        if "panoptic" in tasks:
            ids, segments = merge_panoptic(
                scores * (scores.amax(dim=1) >= void)[:, None] if self.void_competes else scores,
                masks,
                isthing,
                object_threshold=self.object_threshold,
                overlap_threshold=self.overlap_threshold,
            )
            quality = iou.tolist()
            output["panoptic_seg"] = ids, [{**segment, "iou": quality[segment["query"]]} for segment in segments]
        if "semantic" in tasks:
            output["semantic_seg"] = SEMANTIC[self.semantic_resize](scores, masks)
        if "instance" in tasks:
            output["instances"] = merge_instances(scores, masks, isthing, top_k=self.top_k)
        if "mask_quality" in tasks:
            output["mask_quality"] = {"masks": masks.inside(), "iou": iou}
        if "prompted" in tasks:
            output["prompted"] = collect_prompted(scores, masks, iou)
        return output
