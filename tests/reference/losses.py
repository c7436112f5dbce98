"""The training losses layer by layer and image by image, as Mask2Former and FC-CLIP take them (METHOD.md 1.4, 1.8)."""

# B images, Q queries, T segments, M matched pairs, S or P points

from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from possam.losses import LayerOutput, Target
from possam.losses.set_criterion import Points


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of M×h×w maps at M×P×2 points."""
    return F.grid_sample(maps[:, None], 2 * points[:, :, None] - 1, align_corners=False)[:, 0, :, 0]


@torch.no_grad()
def match(
    class_logits: Tensor, mask_logits: Tensor, target: Target, points: Tensor, weights: Mapping[str, float]
) -> tuple[Tensor, Tensor]:
    """Queries and segments of one image's least total cost."""
    masks = target.masks.float()
    predicted = sample(mask_logits, points.expand(len(mask_logits), -1, -1))
    actual = sample(masks, points.expand(len(masks), -1, -1))
    bce = (F.softplus(-predicted) @ actual.T + F.softplus(predicted) @ (1 - actual).T) / len(points)
    p = predicted.sigmoid()
    dice = 1 - (2 * p @ actual.T + 1) / (p.sum(1)[:, None] + actual.sum(1) + 1)
    named = -class_logits.softmax(-1)[:, target.labels]
    cost = weights["class"] * named + weights["mask"] * bce + weights["dice"] * dice
    queries, segments = linear_sum_assignment(cost.cpu())
    return torch.as_tensor(queries, device=cost.device), torch.as_tensor(segments, device=cost.device)


def compare(mask_logits: Tensor, masks: Tensor, candidates: Tensor, uniform: Tensor, points: int) -> list[Tensor]:
    """BCE, dice and IoU at full size of M pairs of one image."""
    count = len(mask_logits)
    candidates = candidates.expand(count, -1, -1)
    with torch.no_grad():
        index = sample(mask_logits, candidates).abs().topk(points - len(uniform), largest=False).indices
        chosen = candidates.gather(1, index[:, :, None].expand(-1, -1, 2))
        places = torch.cat([chosen, uniform.expand(count, -1, -1)], 1)
        actual = sample(masks.float(), places)
        resized = F.interpolate(mask_logits[:, None], masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        iou = ((resized > 0) & masks).sum((1, 2)) / ((resized > 0) | masks).sum((1, 2)).clamp(min=1)
    values = sample(mask_logits, places)
    p = values.sigmoid()
    return [
        F.binary_cross_entropy_with_logits(values, actual, reduction="none").mean(1),
        1 - (2 * (p * actual).sum(1) + 1) / (p.sum(1) + actual.sum(1) + 1),
        iou,
    ]


def plain_losses(
    layers: Sequence[LayerOutput],
    masks: Sequence[Tensor],
    targets: Sequence[Target],
    drawn: Points,
    *,
    weights: Mapping[str, float],
    no_object_weight: float,
    points: int,
) -> dict[str, Tensor]:
    """As `SetCriterion` in one process, given the points that it draws (in another order: it means nothing).

    ``masks`` are the mask logits of every layer, B×Q×h×w; gradients go through all of them.
    """
    shuffled = [x[:, torch.randperm(x.shape[1], device=x.device)] for x in drawn]
    queries = layers[0].iou.shape[1]
    normalizer = max(1, sum(min(queries, len(target.labels)) for target in targets))
    losses = {}
    for number, ((class_logits, _, iou), mask_logits) in enumerate(zip(layers, masks, strict=True)):
        expected = torch.full(class_logits.shape[:2], class_logits.shape[-1] - 1, device=class_logits.device)
        quality = torch.zeros_like(iou)
        bce = dice = mask_logits[:0].sum()
        for image, target in enumerate(targets):
            if len(target.labels) == 0:
                continue
            matching, candidates, uniform = (x[image] for x in shuffled)
            queries, segments = match(class_logits[image], mask_logits[image], target, matching, weights)
            parts = compare(mask_logits[image, queries], target.masks[segments], candidates, uniform, points)
            bce, dice = bce + parts[0].sum(), dice + parts[1].sum()
            quality[image, queries] = parts[2]
            expected[image, queries] = target.labels[segments]
        balance = torch.ones(class_logits.shape[-1], device=class_logits.device)
        balance[-1] = no_object_weight
        parts = {
            "class": F.cross_entropy(class_logits.transpose(1, 2), expected, balance),
            "mask": bce / normalizer,
            "dice": dice / normalizer,
            "iou": F.mse_loss(iou, quality),
        }
        suffix = "" if number == len(layers) - 1 else f"_{number}"
        losses |= {f"loss_{name}{suffix}": weights[name] * part for name, part in parts.items()}
    return losses
