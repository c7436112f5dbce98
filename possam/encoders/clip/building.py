"""From a name and weights to an `open_clip` model, its tokenizer and its pixel statistics."""

from __future__ import annotations

import difflib
import logging
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import (
    convert_to_custom_text_state_dict,
    get_model_preprocess_cfg,
    resize_pos_embed,
    resize_text_pos_embed,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from possam.encoders.clip import mini

logger = logging.getLogger(__name__)


class LoadedCLIP(NamedTuple):
    model: open_clip.CLIP
    tokenizer: Callable[[list[str], int], Tensor]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    input_scale: float


def model_names() -> list[str]:
    return [*mini.MODELS, *open_clip.list_models()]


def load_clip(*, name: str, weights: str | Path | None, seed: int) -> LoadedCLIP:
    """See `FrozenCLIP.build`."""
    if name not in model_names():
        raise ValueError(f"unknown CLIP model {name!r}; closest: {_closest(name, model_names())}")
    tag, path = _resolve_weights(name, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = mini.create_model(name) if name in mini.MODELS else _create_open_clip(name, tag)
    if path is not None:
        _load_file_into(model, path, name)
    elif tag is None:
        logger.warning("CLIP %s has random weights (seed %d)", name, seed)
    if name in mini.MODELS:
        config = mini.MODELS[name]
        return LoadedCLIP(model, mini.WordTokenizer(), mini.PIXEL_MEAN, mini.PIXEL_STD, config.input_scale)
    preprocess = get_model_preprocess_cfg(model)
    return LoadedCLIP(model, open_clip.get_tokenizer(name), tuple(preprocess["mean"]), tuple(preprocess["std"]), 1.0)


def _create_open_clip(name: str, tag: str | None) -> open_clip.CLIP:
    # The device of a surrounding `with torch.device(...)`; open_clip would move the model to the CPU.
    device = torch.get_default_device()
    return open_clip.create_model(name, pretrained=tag, pretrained_text=False, weights_only=True, device=device)


def _resolve_weights(name: str, weights: str | Path | None) -> tuple[str | None, Path | None]:
    """(pretrained tag of open_clip, file); both None for random weights."""
    if weights is None or weights == "":
        return None, None
    tags = ["shipped"] if name in mini.MODELS else open_clip.list_pretrained_tags_by_model(name)
    if name in mini.MODELS and weights == "shipped":
        weights = mini.MODELS[name].weights
    elif weights in tags:
        return str(weights), None
    path = Path(weights)
    if path.is_file():
        return None, path
    raise ValueError(
        f"weights {str(weights)!r} of CLIP model {name!r} are neither a file nor a pretrained tag; "
        f"tags: {', '.join(tags) or 'none'} (closest: {_closest(str(weights), tags)}); "
        "give the path of a state dict, a tag, or none at all for random weights"
    )


def _closest(name: str, valid: list[str]) -> str:
    by_fold = {candidate.casefold(): candidate for candidate in valid}
    matches = difflib.get_close_matches(name.casefold(), list(by_fold), n=4, cutoff=0.3)
    return ", ".join(by_fold[match] for match in matches) or "none is close"


def _load_file_into(model: open_clip.CLIP, path: Path, name: str) -> None:
    state = _read_state_dict(path)
    # The steps of open_clip's own loader, which reads the file itself and would fall back to unsafe unpickling.
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(model.logit_scale.shape)
    try:
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
        with warnings.catch_warnings():
            # A model on the meta device has no values to fill; names and shapes are checked all the same.
            warnings.filterwarnings("ignore", message=".*is a no-op")
            model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the state dict in {path} does not fit CLIP model {name!r}: {error}") from error


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(
            f"cannot read {path} as a state dict ({error}); expected plain tensors saved with safetensors or torch.save"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict; expected a mapping of names to tensors")
    if content and all(key.startswith("module.") for key in content):  # saved from a DistributedDataParallel
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return content
