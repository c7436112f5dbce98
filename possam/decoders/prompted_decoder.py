"""SAM's mask decoder with a label token: prompts and an image embedding to masks (METHOD.md 3.4)."""

# N prompts, S tokens of each, M mask tokens, C channels, D width of the class embedding, h×w cells of the embedding

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from possam.layers import MLP

from .two_way_decoder import MASK_STRIDE, _upscaling

__all__ = ["PromptedDecoder", "PromptedMasks"]


class PromptedMasks(NamedTuple):
    """Masks of the prompts of one image.

    mask_logits: N×M×H/4×W/4, positive inside. Mask 0 is for prompts that mean one object, the others are candidates for
        one that may mean several (a single point).
    iou: N×M, the estimated IoU of each, not limited to [0, 1]; None where nothing estimates it.
    label: N×D, the class embedding of the label token's head, not normalized.
    """

    mask_logits: Tensor
    iou: Tensor | None
    label: Tensor


class PromptedDecoder(nn.Module):
    """`segment_anything`'s mask decoder by its own parameter names, and a label token beside its tokens.

    Tokens are [label, IoU, mask 0 … M−1, prompts]; nothing but the heads depends on their order, since SAM's attention
    has no positions of tokens. What SAM does not have is `label_token` and `label_mlp`: all other parameters load from
    SAM's decoder where M = 4 and there is an IoU head, and as published (M = 1, no IoU head) from those of its names.
    The label token takes part in attention, so it changes the masks whatever its head is used for.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        stride: int = 16,
        channels: int = 256,
        masks: int = 4,
        iou_head: bool = True,
        label_token: bool = True,
        layers: int = 2,
        heads: int = 8,
        dim_feedforward: int = 2048,
    ) -> None:
        """
        Args:
            embed_dim: D.
            stride: of the image embedding, 8, 16 or 32.
            masks: M; SAM has 4, of which the last three are for an ambiguous prompt.
            label_token: leave it and its head out with False: SAM's own decoder, whose `label` is zeros.

        Raises:
            ValueError: another stride, no mask, or channels that cannot be divided.
        """
        from segment_anything.modeling.transformer import TwoWayTransformer  # here: importing the package stays fast

        super().__init__()
        doublings = int(math.log2(stride // MASK_STRIDE)) if stride in (8, 16, 32) else 0
        if not doublings or masks < 1 or channels % (2 * heads) or channels % 2 ** (doublings + 1):
            raise ValueError(
                "the prompted decoder needs an embedding of stride 8, 16 or 32, a mask, and channels that can be "
                f"divided by twice the heads and by 8 (at stride 16), but got stride {stride}, {masks} masks, "
                f"{channels} channels and {heads} heads"
            )
        self.masks, self.embed_dim = masks, embed_dim
        self.transformer = TwoWayTransformer(
            depth=layers, embedding_dim=channels, num_heads=heads, mlp_dim=dim_feedforward
        )
        self.label_token = nn.Embedding(1, channels) if label_token else None
        self.label_mlp = MLP(channels, channels, embed_dim, 3) if label_token else None
        self.iou_token = nn.Embedding(1, channels) if iou_head else None
        self.iou_prediction_head = MLP(channels, channels, masks, 3) if iou_head else None
        self.mask_tokens = nn.Embedding(masks, channels)
        self.output_upscaling = _upscaling(channels, doublings)
        width = channels // 2 ** (doublings + 1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(channels, channels, width, 3) for _ in range(masks))

    def forward(self, embedding: Tensor, positions: Tensor, prompts: Tensor) -> PromptedMasks:
        """Decode the prompts of one image.

        Args:
            embedding: 1×C×h×w, the image embedding, with what is added for prompts without a mask.
            positions: 1×C×h×w, the position embedding of its cells.
            prompts: N×S×C, of `PromptEncoder`.
        """
        own = [module.weight for module in (self.label_token, self.iou_token, self.mask_tokens) if module is not None]
        count = len(prompts)
        tokens = torch.cat([torch.cat(own).expand(count, -1, -1), prompts], dim=1)
        tokens, image = self.transformer(
            embedding.expand(count, -1, -1, -1), positions.expand(count, -1, -1, -1), tokens
        )
        first = (self.label_token is not None) + (self.iou_token is not None)
        of_masks = tokens[:, first : first + self.masks].unbind(1)
        features = self.output_upscaling(image.transpose(1, 2).unflatten(2, embedding.shape[-2:]))
        weights = [mlp(token) for mlp, token in zip(self.output_hypernetworks_mlps, of_masks, strict=True)]
        return PromptedMasks(
            mask_logits=torch.einsum("nmc,nchw->nmhw", torch.stack(weights, dim=1), features),
            iou=None if self.iou_prediction_head is None else self.iou_prediction_head(tokens[:, first - 1]),
            label=tokens.new_zeros(count, self.embed_dim) if self.label_mlp is None else self.label_mlp(tokens[:, 0]),
        )
