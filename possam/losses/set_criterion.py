"""Training loss of masks, classes and mask quality."""

# B images, Q queries, K classes, N segments of the batch, M matched pairs (M = N unless T > Q somewhere)

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from possam.d2.utils import comm
from possam.layers import point_sample, sample_uncertain_points

from .mask_losses import dice, sigmoid_bce, thresholded_iou
from .matcher import HungarianMatcher, Match
from .structures import LayerOutput, Target, validate_batch


class Pairs(NamedTuple):
    """Matched pairs of a batch: M int64 indices each, on the device of the predictions."""

    image: Tensor
    query: Tensor
    segment: Tensor


class SetCriterion(nn.Module):
    """Class, mask, dice and IoU losses after every decoder layer (METHOD.md 1.4, 1.8).

    Every layer is matched anew. Mask and dice losses are divided by the number of segments, averaged over
    processes, so that an image's weight does not depend on which process holds it.
    """

    def __init__(
        self,
        *,
        matcher: HungarianMatcher,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        iou_weight: float = 5.0,
        no_object_weight: float = 0.1,
        points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
    ) -> None:
        super().__init__()
        if points < 1 or oversample < 1 or not 0 <= importance <= 1:
            raise ValueError(
                "expected points ≥ 1, oversample ≥ 1 and importance in [0, 1], but got "
                f"points={points}, oversample={oversample}, importance={importance}"
            )
        weights = {"class": class_weight, "mask": mask_weight, "dice": dice_weight, "iou": iou_weight}
        if min(no_object_weight, *weights.values()) < 0:
            raise ValueError(
                f"loss weights must not be negative, but got {weights}, no_object_weight={no_object_weight}"
            )
        self.matcher = matcher
        self.weights = weights
        self.no_object_weight = no_object_weight
        self.points, self.oversample, self.importance = points, oversample, importance

    def forward(self, layers: list[LayerOutput], targets: list[Target]) -> dict[str, Tensor]:
        """Losses, weighted already, to be summed.

        Args:
            layers: predictions of the learnt queries and after every decoder layer, the final one last.
            targets: one an image, on the same device.

        Returns:
            float32 scalars ``loss_class``, ``loss_mask``, ``loss_dice``, ``loss_iou`` of the last layer, and
            the same with ``_0``, ``_1``, … of those before. Without any segment in the batch the mask and
            dice losses are 0, still connected to all predictions.

        Raises:
            ValueError: where shapes or labels do not fit.
            FloatingPointError: where predictions are not finite.
        """
        if not layers:
            raise ValueError("expected the predictions of at least one layer, but got none")
        validate_batch(layers[-1], targets)
        # bilinear sampling needs floating masks: made once, not once a layer
        labels = torch.cat([target.labels for target in targets])
        masks = torch.cat([target.masks for target in targets]).float()
        counts = [len(target.labels) for target in targets]
        targets = [Target(*pair) for pair in zip(labels.split(counts), masks.split(counts), strict=True)]
        normaliser = self._segments_per_process(labels)
        losses = {}
        for index, layer in enumerate(layers):
            suffix = "" if index == len(layers) - 1 else f"_{index}"
            pairs = self._pairs(self.matcher(layer, targets), targets, labels.device)
            with torch.autocast(labels.device.type, enabled=False):
                parts = {
                    "class": self._class_loss(layer.class_logits.float(), labels, pairs),
                    **self._mask_losses(layer, masks, pairs, normaliser),
                }
            losses.update({f"loss_{name}{suffix}": self.weights[name] * part for name, part in parts.items()})
        return losses

    @staticmethod
    def _segments_per_process(labels: Tensor) -> Tensor:
        """Number of segments, averaged over processes, at least 1."""
        count = torch.tensor(float(len(labels)), device=labels.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
        return (count / comm.get_world_size()).clamp(min=1.0)

    @staticmethod
    def _pairs(matches: list[Match], targets: list[Target], device: torch.device) -> Pairs:
        images, queries, segments, first = [], [], [], 0
        for index, ((query, segment), target) in enumerate(zip(matches, targets, strict=True)):
            images.append(torch.full_like(query, index))
            queries.append(query)
            segments.append(segment + first)
            first += len(target.labels)
        return Pairs(*torch.stack([torch.cat(x) for x in (images, queries, segments)]).to(device))

    def _class_loss(self, class_logits: Tensor, labels: Tensor, pairs: Pairs) -> Tensor:
        """Weighted cross-entropy over all queries; those without a segment are "no object"."""
        classes = class_logits.shape[-1]
        expected = torch.full(class_logits.shape[:2], classes - 1, device=labels.device)
        expected[pairs.image, pairs.query] = labels[pairs.segment]
        weight = class_logits.new_ones(classes)
        weight[-1] = self.no_object_weight
        return F.cross_entropy(class_logits.flatten(0, 1), expected.flatten(), weight)

    def _mask_losses(self, layer: LayerOutput, masks: Tensor, pairs: Pairs, normaliser: Tensor) -> dict[str, Tensor]:
        iou = layer.iou.float()
        quality = torch.zeros_like(iou)
        if len(pairs.image) == 0:
            # a sum over nothing: zero, yet all predictions stay in the graph, as distributed training needs
            nothing = layer.mask_logits.flatten()[:0].float().sum()
            return {"mask": nothing, "dice": nothing, "iou": F.mse_loss(iou, quality)}
        mask_logits = layer.mask_logits[pairs.image, pairs.query].float()
        # segments come in order, so that this copies masks only where some found no query
        actual = masks if len(pairs.segment) == len(masks) else masks[pairs.segment]
        points = sample_uncertain_points(
            mask_logits.detach(), points=self.points, oversample=self.oversample, importance=self.importance
        )
        point_logits = point_sample(mask_logits[:, None], points).squeeze(1)
        point_labels = point_sample(actual[:, None], points).squeeze(1)
        quality[pairs.image, pairs.query] = thresholded_iou(mask_logits, actual)
        return {
            "mask": sigmoid_bce(point_logits, point_labels).sum() / normaliser,
            "dice": dice(point_logits, point_labels).sum() / normaliser,
            "iou": F.mse_loss(iou, quality),
        }
