"""What a mask decoder says of every query."""

# B images, Q queries, C channels, h×w mask features

from typing import NamedTuple

from torch import Tensor


class MaskPrediction(NamedTuple):
    """What the queries say after one layer.

    queries: B×Q×C, after the decoder's final norm: what the heads read.
    mask_logits: B×Q×h×w, positive inside; in the autocast dtype where autocast is on.
    iou: B×Q float32 in [0, 1], the mask's estimated IoU with what it covers; 1 where nothing estimates it.
    """

    queries: Tensor
    mask_logits: Tensor
    iou: Tensor
