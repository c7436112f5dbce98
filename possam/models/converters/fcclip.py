"""FC-CLIP's published checkpoints as parameters of `FcClip` (METHOD.md 4).

A published file holds the decoders and the class head, not the frozen CLIP, which comes from open_clip's own file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["convert"]

_PIXEL, _MASK = r"sem_seg_head\.pixel_decoder\.", r"sem_seg_head\.predictor\."
_TABLE = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (_PIXEL + r"input_proj\.(\d)\.(\d)\.(\w+)", r"pixel_decoder.input_projections.\1.\2.\3"),
        (_PIXEL + r"transformer\.level_embed", r"pixel_decoder.level_embedding.weight"),
        (_PIXEL + r"transformer\.encoder\.layers\.(\d+)\.self_attn\.(.+)", r"pixel_decoder.layers.\1.attention.\2"),
        (_PIXEL + r"transformer\.encoder\.layers\.(\d+)\.(.+)", r"pixel_decoder.layers.\1.\2"),
        (_PIXEL + r"adapter_1\.weight", r"pixel_decoder.lateral.0.weight"),
        (_PIXEL + r"adapter_1\.norm\.(\w+)", r"pixel_decoder.lateral.1.\1"),
        (_PIXEL + r"layer_1\.weight", r"pixel_decoder.smooth.0.weight"),
        (_PIXEL + r"layer_1\.norm\.(\w+)", r"pixel_decoder.smooth.1.\1"),
        (_PIXEL + r"mask_features\.(\w+)", r"pixel_decoder.mask_features.\1"),
        (
            _MASK + r"transformer_cross_attention_layers\.(\d+)\.multihead_attn\.(.+)",
            r"mask_decoder.layers.\1.cross.attention.\2",
        ),
        (_MASK + r"transformer_cross_attention_layers\.(\d+)\.norm\.(\w+)", r"mask_decoder.layers.\1.cross.norm.\2"),
        (
            _MASK + r"transformer_self_attention_layers\.(\d+)\.self_attn\.(.+)",
            r"mask_decoder.layers.\1.self_attention.attention.\2",
        ),
        (
            _MASK + r"transformer_self_attention_layers\.(\d+)\.norm\.(\w+)",
            r"mask_decoder.layers.\1.self_attention.norm.\2",
        ),
        (_MASK + r"transformer_ffn_layers\.(\d+)\.(.+)", r"mask_decoder.layers.\1.feedforward.\2"),
        (_MASK + r"decoder_norm\.(\w+)", r"mask_decoder.norm.\1"),
        (_MASK + r"query_feat\.weight", r"mask_decoder.query_features.weight"),
        (_MASK + r"query_embed\.weight", r"mask_decoder.query_positions.weight"),
        (_MASK + r"level_embed\.weight", r"mask_decoder.level_embedding.weight"),
        (_MASK + r"mask_embed\.layers\.(\d)\.(\w+)", r"mask_decoder.mask_head.layers.\1.\2"),
        (_MASK + r"_mask_pooling_proj\.0\.(\w+)", r"class_head.norm.\1"),
        (_MASK + r"_mask_pooling_proj\.1\.(\w+)", r"class_head.projection.\1"),
        (_MASK + r"class_embed\.layers\.(\d)\.(\w+)", r"class_head.mlp.layers.\1.\2"),
        (_MASK + r"logit_scale", r"classifier.log_scale"),
        (r"void_embedding\.weight", r"classifier.void"),
    )
]
_DROPPED = re.compile(r"criterion\.|backbone\.clip_model\.")


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a published checkpoint to those of `FcClip`.

    Weights of the criterion and of the frozen CLIP, if there are any, are left out.

    Raises:
        ValueError: a tensor that FC-CLIP does not have.
    """
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        if _DROPPED.match(key):
            continue
        ours = next((match.expand(name) for pattern, name in _TABLE if (match := pattern.fullmatch(key))), None)
        if ours is None:
            raise ValueError(f"{key} is no tensor of FC-CLIP; is the file of another model?")
        # The packed projections of nn.MultiheadAttention have an underscore where our own linear layer has a dot.
        ours = re.sub(r"in_proj_(weight|bias)$", r"in_proj.\1", ours)
        converted[ours] = value.squeeze(0) if ours == "classifier.void" else value
    return converted
