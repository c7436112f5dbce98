"""Points and boxes as tokens: SAM's prompt encoder, at any image size (METHOD.md 3.4)."""

# N prompts, P points of each, S tokens, C channels, h×w cells of the image embedding

from __future__ import annotations

import torch
from segment_anything.modeling import PromptEncoder as SAMPromptEncoder
from torch import Tensor

__all__ = ["PromptEncoder"]


class PromptEncoder(SAMPromptEncoder):
    """`segment_anything`'s own, with its parameter names, whose frame is given with every call.

    A point is its position and the embedding of its label; a box is its two corners. Where there is no box, a token
    that is not a point ends the sequence, as in SAM. Masks as prompts are not used, but their layers are part of the
    state dict, so that SAM's loads by its own names.
    """

    def __init__(self, *, channels: int = 256, mask_channels: int = 16) -> None:
        """
        Args:
            mask_channels: of the layers for masks as prompts.
        """
        super().__init__(
            embed_dim=channels, image_embedding_size=(1, 1), input_image_size=(1, 1), mask_in_chans=mask_channels
        )

    def forward(self, points: Tensor, labels: Tensor, boxes: Tensor | None, size: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """Encode prompts of one kind.

        Args:
            points: N×P×2 float, (x, y) in pixels of the padded image; P may be 0 where there are boxes.
            labels: N×P int64: 1 positive, 0 negative, -1 not a point, whatever its coordinates.
            boxes: N×4 float XYXY in pixels of the padded image, or None.
            size: (height, width) of the padded image in pixels.

        Returns:
            N×S×C float32 with S = P + 1, or P + 2 with boxes.
        """
        kinds = torch.cat([self.not_a_point_embed.weight, *(kind.weight for kind in self.point_embeddings)])
        no_point = kinds[0].expand(len(points), 1, -1)
        # The half is the center of the pixel.
        places = self.pe_layer.forward_with_coords(points.float() + 0.5, size)
        tokens = torch.where((labels == -1)[..., None], kinds[0], places + kinds[labels + 1])
        if boxes is None:
            return torch.cat([tokens, no_point], dim=1)
        corners = self.pe_layer.forward_with_coords(boxes.float().unflatten(1, (2, 2)) + 0.5, size)
        return torch.cat([tokens, corners + kinds[3:]], dim=1)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding of the cells of an image embedding, 1×C×h×w float32."""
        return self.pe_layer(grid)[None]

    @property
    def no_mask(self) -> Tensor:
        """What is added to every cell of an image embedding where no mask is given, 1×C×1×1."""
        return self.no_mask_embed.weight[..., None, None]
