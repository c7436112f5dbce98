"""What the losses read: one layer's predictions, one image's ground truth."""

# B images, Q queries, K classes, T segments; M channels of the mask features, h×w their size, H×W the padded input

from typing import NamedTuple

import torch
from torch import Tensor


class LayerOutput(NamedTuple):
    """Predictions of one decoder layer for a batch.

    class_logits: B×Q×(K+1), the last is "no object".
    mask_embeddings: B×Q×M, whose products with the mask features are the mask logits, positive inside.
    iou: B×Q in (0, 1).
    """

    class_logits: Tensor
    mask_embeddings: Tensor
    iou: Tensor


class Target(NamedTuple):
    """Ground truth of one image, on the device of the predictions.

    labels: T int64 in [0, K).
    masks: T×H×W bool at the padded input size, the same for all images of a batch; T may be 0.
    annotated: False for an image whose segments nobody has annotated (T is 0): no loss of masks or of classes of
        masks is taken of it, and it counts in no mean.
    """

    labels: Tensor
    masks: Tensor
    annotated: bool = True


def validate_batch(output: LayerOutput, targets: list[Target], mask_features: Tensor) -> None:
    """Raises ValueError where shapes of predictions, targets and mask features cannot belong together."""
    class_logits, embeddings, iou = output
    if class_logits.dim() != 3 or embeddings.dim() != 3 or iou.dim() != 2 or mask_features.dim() != 4:
        raise ValueError(
            "expected class logits B×Q×(K+1), mask embeddings B×Q×M, IoU B×Q and mask features B×M×h×w, "
            f"but got shapes {_shapes(*output, mask_features)}"
        )
    if not class_logits.shape[:2] == embeddings.shape[:2] == iou.shape:
        raise ValueError(
            "class logits, mask embeddings and IoU must agree in images and queries, "
            f"but got shapes {_shapes(*output)}"
        )
    if mask_features.shape[:2] != (embeddings.shape[0], embeddings.shape[2]):
        raise ValueError(
            "mask embeddings B×Q×M and mask features B×M×h×w must agree in images and channels, "
            f"but got shapes {_shapes(embeddings, mask_features)}"
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


def _shapes(*tensors: Tensor) -> str:
    return ", ".join(str(tuple(x.shape)) for x in tensors)
