"""FC-CLIP's published checkpoints as parameters of `FcClip` (METHOD.md 4).

A published file holds the decoders and the class head, not the frozen CLIP, which comes from open_clip's own file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from possam.encoders.published_files import PUBLISHED
from possam.models.converters.registry import Converted, register_converter

__all__ = ["convert", "convert_checkpoint"]

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

_CLIPS: dict[tuple[tuple[int, ...], int], tuple[str, str]] = {
    ((256, 512, 1024, 2048), 1024): ("RN50", "openai"),
    ((256, 512, 1024, 2048), 512): ("RN101", "openai"),
    ((320, 640, 1280, 2560), 640): ("RN50x4", "openai"),
    ((384, 768, 1536, 3072), 768): ("RN50x16", "openai"),
    ((512, 1024, 2048, 4096), 1024): ("RN50x64", "openai"),
    ((128, 256, 512, 1024), 512): ("convnext_base", "laion400m_s13b_b51k"),
    ((128, 256, 512, 1024), 640): ("convnext_base_w_320", "laion_aesthetic_s13b_b82k_augreg"),
    ((192, 384, 768, 1536), 768): ("convnext_large_d_320", "laion2b_s29b_b131k_ft_soup"),
    ((384, 768, 1536, 3072), 1024): ("convnext_xxlarge", "laion2b_s34b_b82k_augreg_soup"),
}
"""CLIP and its pretrained tag by the channels of strides 4, 8, 16, 32 and the width of the joint space."""

_HEADS, _LEVELS = 8, 3  # of attention and of the pixel decoder's maps; no shape tells them

_PUBLISHED_SETTINGS: dict[str, Any] = {
    # How FC-CLIP scores and merges.
    "MODEL.MASK_FORMER.IOU_HEAD": False,
    "MODEL.ENSEMBLE.NAME": "geometric",
    "MODEL.ENSEMBLE.GEOMETRIC.ALPHA": 0.4,
    "MODEL.ENSEMBLE.GEOMETRIC.BETA": 0.8,
    "MODEL.ENSEMBLE.GEOMETRIC.KAPPA": 1.0,
    "MODEL.ENSEMBLE.GEOMETRIC.ETA": 0.0,
    "TEST.VOID_COMPETES": True,
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.8,
    "TEST.DETECTIONS_PER_IMAGE": 100,
    "INPUT.PAD_TO_SQUARE": False,
    "INPUT.RESIZE_TEST": "shortest_edge",
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
}
_TRAIN_VOCABULARY = "coco_panoptic"


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


def _recognizes(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith("sem_seg_head.predictor._mask_pooling_proj.") for key in state)


@register_converter(name="FC-CLIP", recognizes=_recognizes, files=PUBLISHED["fcclip"])
def convert_checkpoint(state: Mapping[str, Tensor]) -> Converted:
    """Convert a published checkpoint, whose sizes and CLIP are told by the shapes of its tensors.

    Raises:
        ValueError: a tensor is missing, of an unknown shape, or not FC-CLIP's.
    """
    widths = tuple(_size(state, key, 1) for key in _INPUTS)
    embed_dim = _size(state, "void_embedding.weight", 1)
    if (widths, embed_dim) not in _CLIPS:
        known = ", ".join(name for name, _ in _CLIPS.values())
        raise ValueError(
            f"its channels {widths} at strides 4 to 32 and its embedding width {embed_dim} are of no known CLIP; known "
            f"are {known}."
        )
    name, tag = _CLIPS[widths, embed_dim]
    decoder = _decoder_settings(state)
    settings = {
        "MODEL.META_ARCHITECTURE": "FcClip",
        "MODEL.CLIP.NAME": name,
        "MODEL.CLIP.WEIGHTS": tag,
        "MODEL.FC_CLIP.ENSEMBLE_ON_VALID_MASK": name.startswith("RN"),  # as its configurations for ResNets
        **decoder,
        **_PUBLISHED_SETTINGS,
    }
    what = (
        f"FC-CLIP over CLIP {name} ({decoder['MODEL.MASK_FORMER.NUM_OBJECT_QUERIES']} queries, "
        f"{decoder['MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS']} + {decoder['MODEL.MASK_FORMER.DEC_LAYERS'] - 1} "
        "decoder layers)"
    )
    return Converted(
        what=what,
        architecture="FcClip",
        settings=settings,
        parameters=convert(state),
        train_vocabulary=_TRAIN_VOCABULARY,
        frozen={key.replace(_CLIP, "clip.model.", 1): value for key, value in state.items() if key.startswith(_CLIP)},
    )


_CLIP = "backbone.clip_model."
_PIXEL_DECODER, _PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
_INPUTS = (
    _PIXEL_DECODER + "adapter_1.weight",
    *(f"{_PIXEL_DECODER}input_proj.{index}.0.weight" for index in (2, 1, 0)),  # strides 8, 16, 32
)


def _decoder_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    encoder, ffn = _PIXEL_DECODER + "transformer.encoder.layers.", _PREDICTOR + "transformer_ffn_layers."
    points = _size(state, encoder + "0.self_attn.attention_weights.weight", 0)
    return {
        "MODEL.MASK_FORMER.HIDDEN_DIM": _size(state, _PREDICTOR + "query_feat.weight", 1),
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": _size(state, _PREDICTOR + "query_feat.weight", 0),
        "MODEL.MASK_FORMER.DEC_LAYERS": _count(state, ffn) + 1,
        "MODEL.MASK_FORMER.NHEADS": _HEADS,
        "MODEL.MASK_FORMER.DIM_FEEDFORWARD": _size(state, ffn + "0.linear1.weight", 0),
        "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": _count(state, encoder),
        "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD": _size(state, encoder + "0.linear1.weight", 0),
        "MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS": points // (_HEADS * _LEVELS),
    }


def _size(state: Mapping[str, Tensor], key: str, dim: int) -> int:
    if key not in state or state[key].dim() <= dim:
        found = f"has the shape {tuple(state[key].shape)}" if key in state else "is missing"
        raise ValueError(f"{key} {found}; the file is not whole, or of another version. Fetch it again.")
    return state[key].shape[dim]


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many layers there are under a prefix."""
    return len({key.removeprefix(prefix).split(".", 1)[0] for key in state if key.startswith(prefix)})
