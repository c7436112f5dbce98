"""Open-Vocabulary SAM's published files as parameters of `OVSAM` (METHOD.md 3).

They are several: SAM2CLIP; the decoder with the feature pyramid (in the demo two files). SAM's prompt encoder is taken
from SAM's own file, and CLIP from open_clip's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from possam.encoders.published_files import PUBLISHED
from possam.models.converters.registry import Converted, register_converter

__all__ = ["convert_checkpoint", "rename"]

_TABLE = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"neck_student\.pos_embed", r"sam2clip.positions"),
        (r"neck_student\.level_encoding\.(.+)", r"sam2clip.level_embedding.\1"),
        (r"neck_student\.patch_embeds\.(\d)\.projection\.(.+)", r"sam2clip.levels.\1.\2"),
        (r"neck_student\.((?:blocks|neck)\..+)", r"sam2clip.\1"),
        (r"fpn_neck\.lateral_convs\.(\d)\.conv\.(.+)", r"pyramid.inner_blocks.\1.0.\2"),
        (r"fpn_neck\.fpn_convs\.(\d)\.conv\.(.+)", r"pyramid.layer_blocks.\1.0.\2"),
        (r"(?:mask_decoder\.)?roi_conv\.0\.conv\.(.+)", r"roi_embedding.projection.\1"),
        (r"mask_decoder\.(label_(?:token|mlp)\..+)", r"mask_decoder.\1"),
        (r"mask_decoder\.mask_decoder\.(.+)", r"mask_decoder.\1"),
        (r"(?:mask_decoder\.)?pe\.(.+)", r"prompt_encoder.\1"),
        # Of a whole training checkpoint.
        (r"backbone\.stem\.(\d)\.(.+)", r"clip.model.visual.stem\1.\2"),
        (r"backbone\.(layer\d\..+)", r"clip.model.visual.\1"),
        (r"backbone\.head\.(.+)", r"clip.model.visual.attnpool.\1"),
    )
]
_STEM = {"stem0": "conv1", "stem1": "bn1", "stem3": "conv2", "stem4": "bn2", "stem6": "conv3", "stem7": "bn3"}
_WIDTHS, _EMBED_DIM = (384, 768, 1536, 3072), 768  # of CLIP RN50x16, the only one that is published

_FILES = PUBLISHED["ovsam"]
_SETTINGS: dict[str, Any] = {
    "MODEL.OVSAM.MODE": "published",
    "MODEL.CLIP.NAME": "RN50x16",
    "MODEL.CLIP.WEIGHTS": "openai",
    "MODEL.ENSEMBLE.NAME": "geometric",
    "MODEL.ENSEMBLE.GEOMETRIC.ALPHA": 0.1,
    "MODEL.ENSEMBLE.GEOMETRIC.BETA": 0.9,
    "MODEL.ENSEMBLE.GEOMETRIC.KAPPA": 1.0,
    "MODEL.ENSEMBLE.GEOMETRIC.ETA": 0.0,
    "INPUT.IMAGE_SIZE": 1024,
    "INPUT.PAD_TO_SQUARE": True,
    "INPUT.RESIZE_TEST": "longest_edge",
}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published file by the names of `OVSAM`; those of the frozen CLIP are under "clip.".

    Raises:
        ValueError: a tensor that the model does not have.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        ours = next((match.expand(name) for pattern, name in _TABLE if (match := pattern.fullmatch(key))), None)
        if ours is None:
            raise ValueError(f"{key} is no tensor of Open-Vocabulary SAM; is the file of another model?")
        renamed[re.sub(r"\bstem\d\b", lambda stem: _STEM[stem.group()], ours)] = value
    return renamed


def _recognizes(state: Mapping[str, Tensor]) -> bool:
    beginnings = ("neck_student.", "fpn_neck.lateral_convs.", "mask_decoder.label_token.")
    own = any(key.startswith("sam2clip.") for key in state)
    return not own and any(key.startswith(beginnings) for key in state)


@register_converter(name="Open-Vocabulary SAM", recognizes=_recognizes, files=_FILES, rename=rename)
def convert_checkpoint(state: Mapping[str, Tensor]) -> Converted:
    """Convert the file that holds the decoder; SAM2CLIP, the prompt encoder and, for the demo's, the feature pyramid
    have files of their own, the roles `parts` of the result.

    Raises:
        ValueError: the file holds another part alone, is incomplete, or is of an unknown CLIP.
    """
    renamed = rename(state)
    held = {key.partition(".")[0] for key in renamed}
    if "mask_decoder" not in held:
        role = "sam2clip" if "sam2clip" in held else "pyramid"
        raise ValueError(
            f"it holds its {' and '.join(sorted(held))} alone. Give the file with the decoder as the model "
            f"({_FILES[1].filename}), and this one beside it as --weights {role}=PATH."
        )
    widths = tuple(
        renamed[key].shape[1] for key in sorted(renamed) if re.fullmatch(r"pyramid\.inner_blocks\.\d\.0\.weight", key)
    )
    last = renamed.get("mask_decoder.label_mlp.layers.2.bias")
    width = 0 if last is None else len(last)
    if widths not in ((), _WIDTHS) or width != _EMBED_DIM:
        raise ValueError(
            f"its pyramid reads channels {list(widths)} and its label token's head gives {width}; known is CLIP "
            f"RN50x16 alone, with {list(_WIDTHS)} and {_EMBED_DIM}."
        )
    lacking = tuple(role for role in ("sam2clip", "prompt_encoder", "pyramid") if role not in held)
    if "pyramid" in lacking:  # the demo's file of the pyramid has the class embedding that goes with it
        renamed = {key: value for key, value in renamed.items() if not key.startswith("roi_embedding.")}
    return Converted(
        what="Open-Vocabulary SAM over CLIP RN50x16",
        architecture="OVSAM",
        settings={"MODEL.META_ARCHITECTURE": "OVSAM", **_SETTINGS},
        parameters={key: value for key, value in renamed.items() if not key.startswith("clip.")},
        train_vocabulary=_FILES[1].train_vocabulary,
        frozen={key: value for key, value in renamed.items() if key.startswith("clip.")},
        parts=lacking,
    )
