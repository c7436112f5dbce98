"""What the state dict of a CLIP is of: its sizes in words, and the open_clip models whose parameters it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import open_clip
import torch
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor

_QUICK = "-quickgelu"


def create_open_clip(name: str, *, quick_gelu: bool = False) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """An open_clip model with fresh random weights, on the device of a surrounding `with torch.device(...)`.

    `open_clip.create_model` would do the same and set up the process's logging on the way.

    Raises:
        ValueError: a kind of model that is not supported, or a text tower whose package or files are not there.
    """
    config = open_clip.get_model_config(name)
    if "multimodal_cfg" in config:
        raise ValueError(f"{name} is a CoCa, which reads text as a captioner; choose a CLIP, e.g. convnext_large_d_320")
    config["quick_gelu"] = quick_gelu or config.get("quick_gelu", False)
    pretrained_text = "hf_model_name" in config["text_cfg"]
    if pretrained_text:
        config["text_cfg"]["hf_model_pretrained"] = False
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    custom = config.pop("custom_text", False) or pretrained_text
    try:
        return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    except (ImportError, RuntimeError, OSError) as error:
        if not pretrained_text:
            raise
        raise ValueError(
            f"the text tower of CLIP {name} is Hugging Face's {config['text_cfg']['hf_model_name']}, which cannot be "
            f"built here ({error}); it needs `pip install transformers` and the repository's configuration"
        ) from error


def describe_clip(state: Mapping[str, Tensor]) -> str:
    """Sizes in words, and the models the state dict fits: "a CLIP of embedding width 768 …; it fits RN50x16"."""
    sizes = _text_sizes(state)
    if sizes is None or not any(key.startswith("visual.") for key in state):
        return f"no CLIP{_resembles(state)}"
    what = (
        f"a CLIP of embedding width {sizes['embed_dim']} with {_describe_visual(state)} and a text tower of width "
        f"{sizes['width']} and {sizes['layers']} layers"
    )
    fitting = fitting_models(state)
    return f"{what}; it fits {', '.join(fitting) if fitting else 'no model of open_clip'}"


def fitting_models(state: Mapping[str, Tensor]) -> list[str]:
    """Names of open_clip's models whose parameters have the names and shapes of the state dict, positions aside,
    which are resized on loading."""
    sizes = _text_sizes(state)
    if sizes is None:
        return []
    names = [name for name in open_clip.list_models() if not name.endswith(_QUICK)]
    # Building a model to compare with takes a tenth of a second, so most are ruled out by their configuration.
    candidates = [name for name in names if _text_may_fit(name, sizes) and _visual_may_fit(name, state)]
    return [name for name in candidates if _fits(name, state)]


def _fits(name: str, state: Mapping[str, Tensor]) -> bool:
    with torch.device("meta"):
        try:
            model = create_open_clip(name)
        except ValueError:
            return False
    if isinstance(model, open_clip.CustomTextCLIP):
        state = convert_to_custom_text_state_dict(dict(state))
    return _shapes(model.state_dict()) == _shapes(state)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    flexible = ("positional_embedding", "logit_scale", "logit_bias", "position_ids")
    return {key: value.shape for key, value in state.items() if not key.endswith(flexible)}


def _visual_may_fit(name: str, state: Mapping[str, Tensor]) -> bool:
    config: dict[str, Any] = open_clip.get_model_config(name)["vision_cfg"]
    trunk = config.get("timm_model_name", "")
    if trunk:
        convolutional = trunk.startswith("convnext")
        return ("visual.trunk.stem.0.weight" if convolutional else "visual.trunk.patch_embed.proj.weight") in state
    layers, width = config.get("layers", 12), config.get("width", 768)
    first = state.get("visual.conv1.weight" if isinstance(layers, int) else "visual.layer1.0.conv1.weight")
    return first is not None and len(first) == width


def _text_may_fit(name: str, sizes: Mapping[str, int]) -> bool:
    config: dict[str, Any] = open_clip.get_model_config(name)
    text = config["text_cfg"]
    wanted = {"vocab_size": 49408, "width": 512, "layers": 12, **text, "embed_dim": config["embed_dim"]}
    return "hf_model_name" not in text and all(wanted[key] == value for key, value in sizes.items())


def _text_sizes(state: Mapping[str, Tensor]) -> dict[str, int] | None:
    plain = {key.removeprefix("text."): value for key, value in state.items() if not key.startswith("visual.")}
    tokens = plain.get("token_embedding.weight")
    projection = plain.get("text_projection", plain.get("text_projection.weight"))
    if tokens is None or projection is None or tokens.dim() != 2 or projection.dim() != 2:
        return None
    # A bare matrix multiplies from the right; a Linear's weight has its outputs first.
    embed_dim = projection.shape[1] if "text_projection" in plain else projection.shape[0]
    layers = {match[1] for key in plain if (match := re.match(r"transformer\.resblocks\.(\d+)\.", key))}
    return {"embed_dim": embed_dim, "width": tokens.shape[1], "vocab_size": tokens.shape[0], "layers": len(layers)}


def _describe_visual(state: Mapping[str, Tensor]) -> str:
    """Kind, width and depth of the image tower."""
    kinds = {
        r"visual\.trunk\.stages\.\d+\.blocks\.(\d+)\.": ("a ConvNeXt", "visual.trunk.stages.3.blocks.0.conv_dw.weight"),
        r"visual\.trunk\.blocks\.(\d+)\.": ("a timm transformer", "visual.trunk.patch_embed.proj.weight"),
        r"visual\.transformer\.resblocks\.(\d+)\.": ("a VisionTransformer", "visual.conv1.weight"),
        r"visual\.layer3\.(\d+)\.": ("a ModifiedResNet", "visual.layer1.0.conv1.weight"),
    }
    for pattern, (kind, key) in kinds.items():
        depths = {int(match[1]) for name in state if (match := re.match(pattern, name))}
        if depths and key in state:
            return f"{kind} of width {state[key].shape[0]}"
    return "an image tower of another kind"


def _resembles(state: Mapping[str, Tensor]) -> str:
    if any(key.startswith(("image_encoder.", "mask_decoder.")) for key in state):
        return ", but what looks like a SAM; did you mean MODEL.SAM.WEIGHTS?"
    if any(key.startswith(("vision_model.", "text_model.")) for key in state):
        return ", but what looks like one in the layout of transformers; use open_clip's file"
    if any(key.startswith(("stages.", "stem.", "blocks.", "layer1.")) for key in state):
        return ", but what looks like an image classifier"
    return ""


