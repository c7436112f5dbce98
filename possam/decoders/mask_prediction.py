"""What a mask decoder says of every query."""

# B images, Q queries, C channels; M channels of the mask features, h×w their size

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from possam.layers.linear import product


class MaskPrediction(NamedTuple):
    """What the queries say after one layer.

    queries: B×Q×C, after the decoder's final norm: what the heads read.
    mask_embeddings: B×Q×M; their products with the mask features are the masks.
    mask_logits: B×Q×h×w, positive inside; in the autocast dtype where autocast is on. Without gradients: a loss takes
        few masks, and multiplies their embeddings again.
    iou: B×Q float32 in [0, 1], the mask's estimated IoU with what it covers; 1 where nothing estimates it.
    """

    queries: Tensor
    mask_embeddings: Tensor
    mask_logits: Tensor
    iou: Tensor


def predict_masks(embeddings: Sequence[Tensor], mask_features: Tensor) -> tuple[Tensor, ...]:
    """Mask logits, B×Q×h×w each, of the embeddings of layers, B×Q×M each, without gradients (METHOD.md 1.3)."""
    mask_logits = product(torch.cat(list(embeddings), dim=1), mask_features.flatten(2))
    return mask_logits.unflatten(2, mask_features.shape[-2:]).split([x.shape[1] for x in embeddings], dim=1)
