"""Losses of images that have class labels only: Decoupled Supervision (METHOD.md 2.9; arXiv:2303.11324, 3.4)."""

# Q queries, C classes, c labels of an image; M channels of the mask features, h×w their size

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from possam.d2.utils import comm

__all__ = ["ImageLabelCriterion", "LabeledImage", "keep_valid", "match_loss", "sum_loss"]


class LabeledImage(NamedTuple):
    """Final predictions for one image, and its labels.

    class_logits: Q×C, scaled cosines to the classes of the image's vocabulary, without void.
    mask_embeddings: Q×M, whose products with the mask features are the mask logits.
    mask_features: M×h×w.
    iou: Q in [0, 1].
    labels: c int64 in [0, C), each once.
    covered: h×w in [0, 1], the share of each cell that the image fills; the rest is padding.
    """

    class_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor
    iou: Tensor
    labels: Tensor
    covered: Tensor


def keep_valid(iou: Tensor, threshold: float) -> Tensor:
    """The predictions whose IoU score is at least the threshold, or else the best one: their positions, J of Q."""
    kept = (iou >= threshold).nonzero()[:, 0]
    return kept if len(kept) else iou.argmax()[None]


def match_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """L_match = −(1/c)·Σ log max_j S_j,class, a scalar, with S = softmax of J×C logits over the classes."""
    log_probability = class_logits.float().log_softmax(-1)
    return -log_probability[:, labels].amax(0).mean()


def sum_loss(mask_logits: Tensor, covered: Tensor) -> Tensor:
    """L_sum = mean over the image's pixels of |1 − Σ_k σ(mask_k)|, a scalar, of the logits of all Q masks, Q×h×w."""
    distance = (1 - mask_logits.float().sigmoid().sum(0)).abs()
    return (distance * covered).sum() / covered.sum()


class ImageLabelCriterion(nn.Module):
    """L_match and L_sum, averaged over the images with labels of a step, in whatever process and forward pass."""

    def __init__(self, *, match_weight: float = 1.0, sum_weight: float = 1.0, iou_threshold: float = 0.5) -> None:
        """
        Args:
            match_weight, sum_weight: of the two losses.
            iou_threshold: predictions whose IoU score is below it are not compared with the labels.
        """
        super().__init__()
        if min(match_weight, sum_weight) < 0 or not 0 <= iou_threshold <= 1:
            raise ValueError(
                "expected weights of at least 0 and an IoU threshold in [0, 1], but got "
                f"match_weight={match_weight}, sum_weight={sum_weight}, iou_threshold={iou_threshold}"
            )
        self.weights = {"match": match_weight, "sum": sum_weight}
        self.iou_threshold = iou_threshold
        self._step: Sequence[int | None] | None = None

    @contextmanager
    def accumulating(self, counts: Sequence[int | None]) -> Iterator[None]:
        """Take the calls inside the block for parts of one step, as `SetCriterion.accumulating` does.

        Args:
            counts: segments of each of this process's images of the step, None for an image that has labels only.
        """
        self._step = counts
        try:
            yield
        finally:
            self._step = None

    def average(self, counts: Sequence[int | None], device: torch.device) -> float:
        """Images with labels only in a forward pass, averaged over the passes of a step and its processes.

        In several processes each must call this at the same time, and before anything that may fail in one alone.

        Args:
            counts: segments of each image of this pass, None for one that has labels only.
        """
        step = counts if self._step is None else self._step
        total = float(sum(count is None for count in step))
        if comm.get_world_size() > 1:
            shared = torch.tensor(total, device=device)
            torch.distributed.all_reduce(shared)
            total = shared.item()
        return total * len(counts) / (len(step) * comm.get_world_size())

    def forward(self, images: Sequence[LabeledImage], average: float, device: torch.device) -> dict[str, Tensor]:
        """Losses, weighted already, to be added: float32 scalars ``loss_match`` and ``loss_sum``.

        Args:
            images: those of this pass that have labels only; without any the losses are 0.
            average: what `average` returned for this pass, above 0.
        """
        match = total = torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            for image in images:
                kept = keep_valid(image.iou, self.iou_threshold)
                match = match + match_loss(image.class_logits[kept], image.labels)
                masks = image.mask_embeddings.float() @ image.mask_features.float().flatten(1)
                total = total + sum_loss(masks.unflatten(1, image.covered.shape), image.covered)
        return {
            "loss_match": self.weights["match"] * match / average,
            "loss_sum": self.weights["sum"] * total / average,
        }
