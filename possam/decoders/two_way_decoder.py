"""SAM's own two-way decoder, with learned queries in place of prompts: the paper's alternative to Mask2Former's."""

# B images, Q queries, C channels, s stride of the image embedding; M channels of the mask features, h×w their size

import math

import torch
from torch import Tensor, nn

from possam.layers import MLP, LayerNorm2d

from .iou_head import build_iou_head
from .mask_prediction import MaskPrediction, predict_masks

MASK_STRIDE = 4


class TwoWayDecoder(nn.Module):
    """Masks from the image embedding alone, as SAM makes them (segment_anything/modeling/mask_decoder.py).

    `segment_anything`'s TwoWayTransformer mixes Q learned tokens and the image embedding in both directions; 2×2
    deconvolutions bring the image side to stride 4, with C/4 channels after the first and half of that after each
    further one (M = C/8 from stride 16); a mask is MLP3(token)·features. Neither a feature pyramid nor a pixel
    decoder comes before it. Two things differ from SAM, because a mask has a query of its own here: one MLP makes
    all mask embeddings instead of one MLP a token, and each IoU is read from the query's token.

    As in SAM, there is one prediction, after the last layer: no deep supervision.

    Attributes:
        mask_channels: M.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        in_stride: int = 16,
        channels: int = 256,
        queries: int = 250,
        layers: int = 2,
        heads: int = 8,
        feedforward: int = 2048,
        iou_head: bool = True,
        iou_head_layers: int = 3,
    ) -> None:
        """
        Args:
            in_channels, in_stride: width and stride s of the image embedding. Another width than ``channels`` is
                brought there by a 1×1 convolution; SAM's own already has it.

        Raises:
            ValueError: a stride that is not 8, 16 or 32, no query or layer, or ``channels`` that cannot be divided.
        """
        # Here: importing the package stays fast.
        from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
        from segment_anything.modeling.transformer import TwoWayTransformer

        super().__init__()
        doublings = int(math.log2(in_stride // MASK_STRIDE)) if in_stride in (8, 16, 32) else 0
        if not doublings:
            raise ValueError(f"the two-way decoder reads features of stride 8, 16 or 32, but got in_stride={in_stride}")
        if queries < 1 or layers < 1:
            raise ValueError(
                f"the two-way decoder needs a query and a layer, but got queries={queries}, layers={layers}"
            )
        # SAM's cross-attention works at half the width; deconvolutions start at a quarter and halve.
        if channels % (2 * heads) or channels % (2 ** (doublings + 1)):
            raise ValueError(
                f"channels must be divisible by {2 * heads} (twice the heads) and by {2 ** (doublings + 1)}, "
                f"but got {channels}"
            )
        self.in_channels = in_channels
        self.input_projection = nn.Conv2d(in_channels, channels, 1) if in_channels != channels else nn.Identity()
        self.query_features = nn.Embedding(queries, channels)
        self.position = PositionEmbeddingRandom(channels // 2)
        self.transformer = TwoWayTransformer(
            depth=layers, embedding_dim=channels, num_heads=heads, mlp_dim=feedforward
        )
        self.upscaling = _upscaling(channels, doublings)
        self.mask_channels = channels // 2 ** (doublings + 1)
        self.mask_head = MLP(channels, channels, self.mask_channels, 3)
        self.iou_head = build_iou_head(channels, iou_head, iou_head_layers)

    def forward(self, features: Tensor) -> tuple[list[MaskPrediction], Tensor]:
        """Image embedding B×in_channels×H/s×W/s → the one prediction, and mask features B×M×H/4×W/4.

        Raises:
            ValueError: for another number of channels or of dimensions.
        """
        if features.dim() != 4 or features.shape[1] != self.in_channels:
            raise ValueError(
                f"the two-way decoder expects B×{self.in_channels}×h×w features, but got shape {tuple(features.shape)}"
            )
        image = self.input_projection(features)
        tokens = self.query_features.weight.expand(image.shape[0], -1, -1)
        queries, mixed = self.transformer(image, self._positions(image), tokens)
        mask_features = self.upscaling(mixed.transpose(1, 2).unflatten(2, image.shape[-2:])).contiguous()
        embeddings = self.mask_head(queries)
        (mask_logits,) = predict_masks([embeddings], mask_features)
        return [MaskPrediction(queries, embeddings, mask_logits, self.iou_head(queries))], mask_features

    def _positions(self, image: Tensor) -> Tensor:
        # float32 also under autocast: half precision would blur the coordinates of neighbors
        with torch.autocast(image.device.type, enabled=False):
            height, width = image.shape[-2:]
            return self.position((height, width)).expand(image.shape[0], -1, -1, -1)


def _upscaling(channels: int, doublings: int) -> nn.Sequential:
    """SAM's: deconvolution, LayerNorm, GELU, …, deconvolution, GELU."""
    parts: list[nn.Module] = []
    width, following = channels, channels // 4
    for step in range(doublings):
        parts.append(nn.ConvTranspose2d(width, following, kernel_size=2, stride=2))
        if step < doublings - 1:
            parts.append(LayerNorm2d(following))
        parts.append(nn.GELU())
        width, following = following, following // 2
    return nn.Sequential(*parts)
