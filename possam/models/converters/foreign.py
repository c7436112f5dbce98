"""Checkpoints of other models that a person may take for one that can be loaded, by their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

__all__ = ["describe_foreign"]

Tensors = Mapping[str, Tensor]


def _has(*prefixes: str) -> Callable[[Tensors], bool]:
    """Whether each of the prefixes begins a tensor's name."""
    return lambda state: all(any(key.startswith(prefix) for key in state) for prefix in prefixes)


def _clip(state: Tensors) -> str:
    from possam.encoders.clip.recognize import describe_clip  # it imports open_clip, which takes seconds

    return (
        f"{describe_clip(state)}. It is a frozen encoder and not a segmentation model: give it beside one, as "
        "--weights clip=PATH, weights={'clip': PATH} or MODEL.CLIP.WEIGHTS"
    )


_SAM = (
    "segment_anything's SAM, which has no class names. It is a frozen encoder here: give it beside a model, as "
    "--weights sam=PATH, weights={'sam': PATH} or MODEL.SAM.WEIGHTS"
)
_ODISE = (
    "ODISE, whose masks come from the features of Stable Diffusion; that backbone is not part of this project. Use "
    "ODISE's own code, or FC-CLIP's checkpoint, which has the higher published PQ on ADE20K"
)
_MAFT = (
    "MAFT+, which holds a fine-tuned CLIP and a Content-Dependent Transfer (cdt.*) that this project does not have. "
    "Use MAFT+'s own code, or FC-CLIP's checkpoint"
)
_MASKCLIPPP = (
    "MaskCLIP++: a fine-tuned CLIP that names the masks of another model; this project does not have it. Use its own "
    "code, or FC-CLIP's checkpoint"
)
_MASK2FORMER = (
    "Mask2Former, whose classifier knows the classes of its training alone: it cannot segment other words. Use "
    "Mask2Former's own code, or FC-CLIP's checkpoint"
)
_TRANSFORMERS_CLIP = (
    "a CLIP in the layout of transformers. It is a frozen encoder and not a segmentation model, and open_clip's file "
    "of the same CLIP is needed: `possam weights list`"
)

_FOREIGN: tuple[tuple[Callable[[Tensors], bool], str | Callable[[Tensors], str]], ...] = (
    (_has("cdt."), _MAFT),
    (_has("psm.", "visual_encoder."), _MASKCLIPPP),
    (_has("backbone.feature_extractor.", "sem_seg_head."), _ODISE),
    (_has("sem_seg_head.predictor.class_embed.weight", "sem_seg_head.predictor.query_embed."), _MASK2FORMER),
    (_has("image_encoder.", "prompt_encoder.", "mask_decoder."), _SAM),
    (_has("visual.", "token_embedding."), _clip),
    (_has("visual.", "text."), _clip),
    (_has("vision_model.", "text_model."), _TRANSFORMERS_CLIP),
)


def describe_foreign(state: Tensors) -> str:
    """What a checkpoint is that cannot be loaded, and what to do instead; "" for an unknown one."""
    for recognizes, text in _FOREIGN:
        if recognizes(state):
            return text if isinstance(text, str) else text(state)
    return ""
