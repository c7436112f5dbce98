"""One-to-one matching of predictions with ground truth."""

# L layers, B images, Q queries, K classes, T segments of an image, P points; M channels of the mask features

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from possam.layers import point_sample
from possam.layers.linear import product

from .structures import LayerOutput, Target


class Match(NamedTuple):
    """Matched pairs of an image: int64 CPU tensors L×M each, M = min(Q, T), the segments of a layer ascending."""

    queries: Tensor
    segments: Tensor


class HungarianMatcher:
    """Finds the assignment of least total cost class + mask + dice (Mask2Former; METHOD.md 1.8).

    Masks are compared at ``points`` points of each image, the same for all its layers, predictions and segments.
    """

    def __init__(
        self,
        *,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        points: int = 12544,
    ) -> None:
        if min(class_weight, mask_weight, dice_weight) < 0 or not class_weight + mask_weight + dice_weight > 0:
            raise ValueError(
                "matching weights must not be negative nor all zero, but got "
                f"class {class_weight}, mask {mask_weight}, dice {dice_weight}"
            )
        if points < 1:
            raise ValueError(f"matching needs at least one point, but got points={points}")
        self.class_weight, self.mask_weight, self.dice_weight = class_weight, mask_weight, dice_weight
        self.points = points

    @torch.no_grad()
    def __call__(
        self, layers: list[LayerOutput], targets: list[Target], mask_features: Tensor, points: Tensor
    ) -> list[Match]:
        """Matches every layer and image of a batch.

        Args:
            layers: L predictions.
            targets: one an image.
            mask_features: B×M×h×w.
            points: B×P×2, where the masks of each image are compared, (x, y) in [0, 1]².

        Returns:
            The pairs of every image.

        Raises:
            FloatingPointError: where a cost is not finite, that is where training has diverged.
        """
        from scipy.optimize import linear_sum_assignment  # here: importing the package stays fast

        counts = [len(target.labels) for target in targets]
        if not any(counts):
            return [Match(*torch.zeros(2, len(layers), 0, dtype=torch.int64)) for _ in targets]
        labels = pad_sequence([target.labels for target in targets], batch_first=True)
        actual = pad_sequence(
            [sample_masks(target.masks, chosen) for target, chosen in zip(targets, points, strict=True)],
            batch_first=True,
        )
        # Masks at points are products with the features there, since sampling is linear: all layers share these.
        # Points outermost in memory, as `product` reads them fastest.
        sampled = point_sample(mask_features.float(), points).mT.contiguous().mT
        # one transfer for all layers and images, since each waits for the device
        costs = torch.stack([self._cost(layer, labels, actual, sampled) for layer in layers]).cpu()
        matches = []
        for index, count in enumerate(counts):
            solved = []
            for number, cost in enumerate(costs[:, index, :, :count]):
                if not cost.isfinite().all():
                    raise FloatingPointError(_explain(layers[number], mask_features, number))
                queries, segments = (torch.from_numpy(x) for x in linear_sum_assignment(cost.numpy()))
                order = segments.argsort()
                solved.append((queries[order], segments[order]))
            matches.append(Match(*(torch.stack(part) for part in zip(*solved, strict=True))))
        return matches

    def _cost(self, layer: LayerOutput, labels: Tensor, actual: Tensor, sampled: Tensor) -> Tensor:
        """B×Q×T float32 costs of a layer, of labels B×T, and segments B×T×P and mask features B×M×P at the points."""
        with torch.autocast(labels.device.type, enabled=False):
            predicted = product(layer.mask_embeddings.float(), sampled)
            index = labels[:, None].expand(-1, predicted.shape[1], -1)
            return (
                -self.class_weight * layer.class_logits.float().softmax(-1).gather(2, index)
                + self.mask_weight * pairwise_bce(predicted, actual)
                + self.dice_weight * pairwise_dice(predicted, actual)
            )


def sample_masks(masks: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of T×H×W bool masks at P×2 points, the same for all → T×P float32."""
    values = [
        # a few at a time: bilinear sampling needs floating masks, 4 MB each at 1024×1024
        point_sample(part.float()[None], points[None])[0]
        for part in (masks.split(16) if len(masks) else ())
    ]
    return torch.cat(values) if values else points.new_zeros(0, len(points))


def pairwise_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of …×Q×P logits with …×T×P labels in [0, 1] → …×Q×T."""
    # BCE(x, t) = softplus(x) − x·t, so that one product serves all pairs
    return (F.softplus(logits).sum(-1, keepdim=True) - logits @ labels.mT) / logits.shape[-1]


def pairwise_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice loss, smoothed by 1, of …×Q×P logits with …×T×P labels in [0, 1] → …×Q×T."""
    probability = logits.sigmoid()
    overlap = 2 * probability @ labels.mT
    return 1 - (overlap + 1) / (probability.sum(-1, keepdim=True) + labels.sum(-1)[..., None, :] + 1)


def _explain(layer: LayerOutput, mask_features: Tensor, number: int) -> str:
    read = {
        "class logits": layer.class_logits,
        "mask embeddings": layer.mask_embeddings,
        "mask features": mask_features,
    }
    wrong = [name for name, values in read.items() if not values.isfinite().all()]
    found = f"NaN or infinity in the {' and '.join(wrong)}" if wrong else "the values are too large"
    return (
        f"matching costs of layer {number} are not finite: {found}; "
        "lower the learning rate, or train without mixed precision to find where they begin"
    )
