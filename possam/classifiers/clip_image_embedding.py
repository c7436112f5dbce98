"""CLIP's embeddings of masks by a pass of CLIP for each mask: what mask pooling is compared with (METHOD.md 2.4;
arXiv:2303.11324, Table 5).
"""

# B images, Q queries, h×w = H/4×W/4 of the padded input, D width of CLIP's joint space

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from possam.encoders import FrozenCLIP

MASK_STRIDE = 4  # pixels of the image for a cell of the masks
_CHUNK = 16  # images that CLIP takes at once

ImageEmbedder = Callable[[FrozenCLIP, Sequence[Tensor], Tensor], tuple[Tensor, Tensor]]
"""(clip, B images 3×H'×W' RGB in 0..255, without padding; B×Q×h×w mask logits of the padded images) → B×Q×D float32
unit vectors, and B×Q bool, True for a mask without a pixel, whose vector means nothing."""


def embed_masked(clip: FrozenCLIP, images: Sequence[Tensor], mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Embed images whose pixels outside the mask have CLIP's mean color, one for each mask; see `ImageEmbedder`.

    Image and masks are resized to CLIP's native size before they are put together.
    """
    size = clip.native_size

    def views(image: Tensor, logits: Tensor) -> Tensor:
        image = F.interpolate(image[None], size=size, mode="bilinear", antialias=True)
        inside = F.interpolate(logits[None], size=size, mode="bilinear").squeeze(0) > 0
        return torch.where(inside[:, None], image, clip.pixel_mean)

    return _embed(clip, images, mask_logits, views)


def embed_cropped(clip: FrozenCLIP, images: Sequence[Tensor], mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Embed the box of each mask, resized to CLIP's native size, with all that is in it; see `ImageEmbedder`."""

    def views(image: Tensor, logits: Tensor) -> Tensor:
        crops = []
        for inside in logits > 0:
            (top, bottom), (left, right) = _bounds(inside.any(dim=1)), _bounds(inside.any(dim=0))
            crop = image[None, :, top:bottom, left:right]
            crops.append(F.interpolate(crop, size=clip.native_size, mode="bilinear", antialias=True))
        return torch.cat(crops)

    return _embed(clip, images, mask_logits, views)


IMAGE_EMBEDDERS: dict[str, ImageEmbedder] = {"masking": embed_masked, "cropping": embed_cropped}
"""`MODEL.CLIP.MASK_EMBEDDING`, beside "pooling"."""


@torch.no_grad()
def _embed(
    clip: FrozenCLIP, images: Sequence[Tensor], mask_logits: Tensor, views: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Embed `views` (image 3×H'×W', n×h×w logits within it → n×3×…) of all masks that have a pixel."""
    embeddings = torch.zeros(*mask_logits.shape[:2], clip.embed_dim, device=mask_logits.device)
    empty = torch.ones(mask_logits.shape[:2], dtype=torch.bool, device=mask_logits.device)
    for index, image in enumerate(images):
        height, width = image.shape[-2:]
        logits = mask_logits[index, :, : -(-height // MASK_STRIDE), : -(-width // MASK_STRIDE)].float()
        present = (logits > 0).flatten(1).any(dim=1)
        empty[index] = ~present
        for queries in present.nonzero().squeeze(1).split(_CHUNK):
            embeddings[index, queries] = clip.embed_images(views(image.to(logits), logits[queries]))
    return embeddings, empty


def _bounds(present: Tensor) -> tuple[int, int]:
    """First pixel, and the one after the last, of the cells that are True."""
    cells = present.nonzero().squeeze(1)
    return MASK_STRIDE * int(cells[0]), MASK_STRIDE * (int(cells[-1]) + 1)
