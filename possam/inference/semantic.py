"""One class for every pixel (METHOD.md 1.10).

Shapes: Q masks, K classes, T tiles of the H×W output; in a tile k classes that may win there and P pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import check_masks
from .mask_grid import MaskGrid, Tile

# What may be neglected of a sum over masks, in parts of it: no more than its rounding in float32.
_ROUNDING = 1e-6
# Classes whose sums are held at once: 64 take 270 MB for an image of 800×1333 pixels.
_CLASSES = 64
# Sums that are held at once in a tile, classes × pixels: 270 MB of float32.
_SUMS = 2**26


def merge_semantic(scores: Tensor, masks: MaskGrid) -> Tensor:
    """Class with the largest Σ_q score × mask probability, pixel by pixel.

    In every tile the sums of a class have bounds, since the masks have. A class whose upper bound is below another's
    lower one falls; the sums of those that stay are computed, and where one stays there is nothing to compute.

    Args:
        scores: Q×K float in [0, 1], without void.
        masks: the Q masks.

    Returns:
        H×W int64 contiguous class ids. There is no void: every pixel takes a class, and a tie takes one of
        those that tie.

    Raises:
        ValueError: shapes disagree.
    """
    check_masks(scores, masks)
    result = torch.empty(masks.size, dtype=torch.int64, device=masks.device)
    with torch.autocast(masks.device.type, enabled=False):
        weights = scores.float().T.contiguous()
        low, high = (bound.sigmoid() for bound in masks.bounds)
        sure = (weights @ low).amax(dim=0)
        stays = weights @ high >= sure * (1 - _ROUNDING)
        winner, number = stays.byte().argmax(dim=0).tolist(), stays.sum(dim=0).tolist()
        for index, tile in enumerate(masks.tiles):
            if number[index] < 2:
                result[tile] = winner[index]
            else:
                classes = stays[:, index].nonzero().squeeze(1)
                bounds = low[:, index], high[:, index]
                result[tile] = _winner(weights, classes, masks, tile, bounds, _ROUNDING * sure[index])
    return result


def merge_semantic_scores(scores: Tensor, masks: MaskGrid) -> Tensor:
    """Class with the largest Σ_q score × mask probability, where the sums are taken at the image's own size and resized
    bilinearly to the output, instead of the masks (FC-CLIP's semantic test sets, METHOD.md 4).

    Arguments, result and errors as of `merge_semantic`; of classes whose resized sums are equal the lower one is taken.
    """
    check_masks(scores, masks)
    image = masks.at_image_size()
    best = torch.full(masks.size, -torch.inf, device=masks.device)
    result = torch.zeros(masks.size, dtype=torch.int64, device=masks.device)
    with torch.autocast(masks.device.type, enabled=False):
        weights = scores.float().T.contiguous()
        for first in range(0, len(weights), _CLASSES):
            part = weights[first : first + _CLASSES]
            sums = part.new_empty(len(part), *image.size)
            for tile in image.tiles:
                probability = image.restore(tile=tile).sigmoid()
                place = (slice(None), *tile)
                sums[place] = (part @ probability.flatten(1)).unflatten(1, probability.shape[1:])
            resized = F.interpolate(sums[None], size=masks.size, mode="bilinear", align_corners=False)[0]
            value, index = resized.max(dim=0)
            better = value > best
            result[better], best[better] = index[better] + first, value[better]
    return result


def _winner(
    weights: Tensor,
    classes: Tensor,
    masks: MaskGrid,
    tile: Tile,
    bounds: tuple[Tensor, Tensor],
    tolerance: Tensor,
) -> Tensor:
    """The best of k classes at each pixel of a tile, rows×columns int64; `_SUMS` sums are held at once.

    Args:
        weights: K×Q. classes: k int64. bounds, tolerance: of `_sums`.
    """
    first, *others = classes.split(max(1, _SUMS // tile.area))
    best, index = _sums(weights[first], masks, tile, bounds, tolerance).max(dim=0)
    winner = first[index]
    for part in others:
        value, index = _sums(weights[part], masks, tile, bounds, tolerance).max(dim=0)
        better = value > best
        winner[better], best[better] = part[index[better]], value[better]
    return winner


def _sums(weights: Tensor, masks: MaskGrid, tile: Tile, bounds: tuple[Tensor, Tensor], tolerance: Tensor) -> Tensor:
    """Σ_q weight × mask probability in a tile, k×rows×columns.

    Args:
        weights: k×Q.
        bounds: least and greatest probability of the masks there, Q each.
        tolerance: error of a sum that does not matter.
    """
    low, high = bounds
    # A mask that counts with the middle of its bounds is wrong by at most half of what is between them.
    error, order = ((high - low) / 2 * weights.amax(dim=0)).sort()
    flat, varied = order.tensor_split([int((error.cumsum(dim=0) <= tolerance).sum())])
    constant = weights[:, flat] @ ((low + high) / 2)[flat]
    probability = masks.restore(varied, tile).sigmoid()
    sums = torch.addmm(constant[:, None], weights[:, varied], probability.flatten(1))
    return sums.unflatten(1, probability.shape[1:])
