"""One-to-one matching of predictions with ground truth."""

# B images, Q queries, K classes, T segments of an image, N segments of the batch, P points

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from possam.layers import point_sample

from .structures import LayerOutput, Target

Match = tuple[Tensor, Tensor]


class HungarianMatcher:
    """Finds the assignment of least total cost class + mask + dice (Mask2Former; METHOD.md 1.8).

    Masks are compared at ``points`` points drawn uniformly for each image, the same for all its
    predictions and segments.
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
    def __call__(self, output: LayerOutput, targets: list[Target]) -> list[Match]:
        """Matches every image of a batch.

        Returns:
            For each image (queries, segments): int64 CPU tensors of equal length min(Q, T), with the
            segments in ascending order; both empty for an image without segments.

        Raises:
            FloatingPointError: where a cost is not finite, that is where training has diverged.
        """
        costs = [
            self._cost(output.class_logits[index], output.mask_logits[index], target)
            for index, target in enumerate(targets)
        ]
        # one transfer for the batch, since each waits for the device
        joined = torch.cat(costs, dim=1).cpu()
        matches = []
        for cost in joined.split([len(target.labels) for target in targets], dim=1):
            rows, columns = linear_sum_assignment(cost.numpy())
            queries, segments = torch.from_numpy(rows), torch.from_numpy(columns)
            order = segments.argsort()
            matches.append((queries[order], segments[order]))
        return matches

    def _cost(self, class_logits: Tensor, mask_logits: Tensor, target: Target) -> Tensor:
        """Q×T float32 costs of one image, Q×0 where it has no segments."""
        queries, segments = len(class_logits), len(target.labels)
        if segments == 0:
            return class_logits.new_zeros(queries, 0, dtype=torch.float32)
        with torch.autocast(class_logits.device.type, enabled=False):
            points = torch.rand(1, self.points, 2, device=mask_logits.device)
            predicted = point_sample(mask_logits.float()[None], points)[0]
            actual = point_sample(target.masks.float()[None], points)[0]
            cost = {
                "class": self.class_weight * -class_logits.float().softmax(-1)[:, target.labels],
                "mask": self.mask_weight * pairwise_bce(predicted, actual),
                "dice": self.dice_weight * pairwise_dice(predicted, actual),
            }
            total = cost["class"] + cost["mask"] + cost["dice"]
        if not total.isfinite().all():
            wrong = [name for name, part in cost.items() if not part.isfinite().all()]
            raise FloatingPointError(
                f"matching costs are not finite ({', '.join(wrong)}): the logits hold NaN or infinity; "
                "lower the learning rate, or train without mixed precision to find where they begin"
            )
        return total


def pairwise_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of Q×P logits with T×P labels in [0, 1] → Q×T."""
    # BCE(x, t) = softplus(x) − x·t, so that one product serves all pairs
    return (F.softplus(logits).sum(-1, keepdim=True) - logits @ labels.T) / logits.shape[1]


def pairwise_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice loss, smoothed by 1, of Q×P logits with T×P labels in [0, 1] → Q×T."""
    probability = logits.sigmoid()
    overlap = 2 * probability @ labels.T
    return 1 - (overlap + 1) / (probability.sum(-1, keepdim=True) + labels.sum(-1) + 1)
