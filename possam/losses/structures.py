"""What the losses read: one layer's predictions, one image's ground truth."""

# B images, Q queries, K classes, T segments; h×w mask logits, H×W padded input

from typing import NamedTuple

import torch
from torch import Tensor


class LayerOutput(NamedTuple):
    """Predictions of one decoder layer for a batch.

    class_logits: B×Q×(K+1), the last is "no object".
    mask_logits: B×Q×h×w, positive inside.
    iou: B×Q in (0, 1).
    """

    class_logits: Tensor
    mask_logits: Tensor
    iou: Tensor


class Target(NamedTuple):
    """Ground truth of one image, on the device of the predictions.

    labels: T int64 in [0, K).
    masks: T×H×W bool at the padded input size, the same for all images of a batch; T may be 0.
    """

    labels: Tensor
    masks: Tensor


def validate_batch(output: LayerOutput, targets: list[Target]) -> None:
    """Raises ValueError where shapes of predictions and targets cannot belong together."""
    class_logits, mask_logits, iou = output
    if class_logits.dim() != 3 or mask_logits.dim() != 4 or iou.dim() != 2:
        raise ValueError(
            "expected class logits B×Q×(K+1), mask logits B×Q×h×w and IoU B×Q, but got shapes "
            f"{tuple(class_logits.shape)}, {tuple(mask_logits.shape)} and {tuple(iou.shape)}"
        )
    if not class_logits.shape[:2] == mask_logits.shape[:2] == iou.shape:
        raise ValueError(
            "class logits, mask logits and IoU must agree in images and queries, but got shapes "
            f"{tuple(class_logits.shape)}, {tuple(mask_logits.shape)} and {tuple(iou.shape)}"
        )
    if len(targets) != class_logits.shape[0]:
        raise ValueError(f"got targets of {len(targets)} images for predictions of {class_logits.shape[0]}")
    for index, target in enumerate(targets):
        if target.masks.dim() != 3 or target.labels.shape != target.masks.shape[:1]:
            raise ValueError(
                f"target {index} needs labels T and masks T×H×W, but got shapes "
                f"{tuple(target.labels.shape)} and {tuple(target.masks.shape)}"
            )
    sizes = {tuple(target.masks.shape[-2:]) for target in targets}
    if len(sizes) > 1:
        raise ValueError(
            f"masks of a batch must share the padded input size, but got {sorted(sizes)}; pad them all to it"
        )
    classes = class_logits.shape[-1] - 1
    labels = torch.cat([target.labels for target in targets])
    if labels.numel() and not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(
            f"labels must lie in [0, {classes}), the classes of the vocabulary in use, "
            f"but got {int(labels.min())} to {int(labels.max())}"
        )
