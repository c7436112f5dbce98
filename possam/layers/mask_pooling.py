"""Mean of a feature map inside each predicted mask."""

# L decoder layers, B images, Q masks, C channels; features at H×W, mask logits at h×w

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear import product


def mask_pool(features: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Averages ``features`` inside every mask (METHOD.md 1.6).

    The logits are brought to the size of the features (bilinear), binarized at 0 and detached, so no
    gradient reaches the masks through here.

    Args:
        features: B×C×H×W, any floating dtype.
        mask_logits: B×Q×h×w, any floating dtype, positive inside the mask.

    Returns:
        pooled B×Q×C float32, zero for an empty mask; empty B×Q bool, True where no pixel of the mask is
        left at the size of the features.

    Raises:
        ValueError: where either is not four-dimensional or the batch sizes differ.
    """
    if features.dim() != 4 or mask_logits.dim() != 4 or features.shape[0] != mask_logits.shape[0]:
        raise ValueError(
            "mask_pool expects features B×C×H×W and mask logits B×Q×h×w of the same batch, "
            f"but got shapes {tuple(features.shape)} and {tuple(mask_logits.shape)}"
        )
    with torch.no_grad():
        inside = _inside(mask_logits, features.shape[-2:]).flatten(2)
        area = inside.sum(-1, keepdim=True)
    # float32 also under autocast: the sum over a large mask overflows in half precision
    with torch.autocast(features.device.type, enabled=False):
        total = inside.float() @ features.float().flatten(2).transpose(1, 2)
        pooled = total / area.clamp(min=1)
    return pooled, area.squeeze(-1) == 0


def pool_layers(features: Tensor, mask_logits: Sequence[Tensor]) -> Tensor:
    """`mask_pool` of L layers' masks in the same features, L×B×Q×C float32: B×C×H×W and L times B×Q×h×w.

    Its backward pass keeps the masks as bool and sums the layers in place: `mask_pool` would keep each as float32,
    65 MB a layer and image of 1024×1024 pixels with 250 masks.
    """
    return _MeansInside.apply(features, *(x.detach() for x in mask_logits))


class _MeansInside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, *mask_logits: Tensor) -> Tensor:
        inside = [_inside(x, features.shape[-2:]) for x in mask_logits]
        # float32 also under autocast: the sum over a large mask overflows in half precision
        with torch.autocast(features.device.type, enabled=False):
            pixels = features.float().flatten(2).transpose(1, 2)
            totals, areas = [], []
            for mask in inside:
                ones = mask.flatten(2).float()
                totals.append(product(ones, pixels))
                areas.append(ones.sum(-1, keepdim=True))
        area = torch.stack(areas).clamp(min=1)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(area, *inside)
        ctx.dtype = features.dtype
        return torch.stack(totals) / area

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        area, *inside = ctx.saved_tensors
        shares = (gradients[0] / area).transpose(2, 3)  # L×B×C×Q
        total = shares.new_zeros(*shares.shape[1:3], inside[0].shape[-2:].numel())
        for share, mask in zip(shares, inside, strict=True):
            total.baddbmm_(share, mask.flatten(2).float())
        return total.unflatten(2, inside[0].shape[-2:]).to(ctx.dtype), *[None] * len(inside)


def _inside(mask_logits: Tensor, size: torch.Size) -> Tensor:
    """B×Q×h×w → B×Q×H×W bool."""
    if mask_logits.shape[-2:] != size:
        mask_logits = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False)
    return mask_logits > 0
