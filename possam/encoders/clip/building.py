"""From a name and weights to an `open_clip` model, its tokenizer and its pixel statistics."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple, TypeAlias

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from torch import Tensor

from possam.encoders.base import SHIPPED
from possam.encoders.clip import mini
from possam.encoders.clip.recognize import create_open_clip, describe_clip
from possam.encoders.clip.tokenizer import OpenClipTokenizer, Tokenizer
from possam.encoders.state_dicts import Unfilled, differences, not_finite, read_state_dict, take_over
from possam.encoders.weight_files import WEIGHTS, known_file
from possam.utils.messages import did_you_mean

logger = logging.getLogger(__name__)

Model: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP
_QUICK = "-quickgelu"


class LoadedCLIP(NamedTuple):
    """What a `FrozenCLIP` is made of; `mapped` is the file in which all its weights lie, if there is one."""

    mapped: Path | None
    model: Model
    tokenizer: Tokenizer
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    input_scale: float


class _Source(NamedTuple):
    """Where weights come from: a file, and the pretrained tag they are known under; neither for random weights."""

    path: Path | None
    tag: str | None


def model_names() -> list[str]:
    return [*mini.MODELS, *open_clip.list_models()]


def load_clip(*, name: str, weights: str | Path | None, seed: int) -> LoadedCLIP:
    """See `FrozenCLIP.build`."""
    if name not in model_names():
        raise ValueError(
            f"unknown CLIP model {name!r}.{did_you_mean(name, model_names())} Valid names are those of "
            f"open_clip.list_models() and {', '.join(mini.MODELS)}; official weights are known of: "
            f"{', '.join(file.name for file in WEIGHTS.values() if file.kind == 'clip')}."
        )
    source = _resolve(name, weights)
    with torch.random.fork_rng(devices=[]), Unfilled() if source.path else nullcontext():
        torch.manual_seed(seed)
        if name in mini.MODELS:
            model: Model = mini.create_model(name)
        else:
            model = create_open_clip(name, quick_gelu=_is_quick(name, source))
    mapped = None
    if source.path is not None:
        mapped = source.path if load_weights(model, source.path, name) else None
        if wrong := not_finite(model.state_dict()):
            raise ValueError(
                f"{source.path} holds CLIP weights that are NaN or infinite: {wrong}; download or copy it again"
            )
    else:
        logger.warning("CLIP %s has random weights (seed %d)", name, seed)
    if name in mini.MODELS:
        config = mini.MODELS[name]
        return LoadedCLIP(mapped, model, mini.WordTokenizer(), mini.PIXEL_MEAN, mini.PIXEL_STD, config.input_scale)
    return LoadedCLIP(mapped, model, OpenClipTokenizer(name), *pixel_statistics(name, source), 1.0)


def _resolve(name: str, weights: str | Path | None) -> _Source:
    if weights is None or weights == "":
        return _Source(None, None)
    if name in mini.MODELS:
        tags = [SHIPPED]
        if weights == SHIPPED:
            return _Source(mini.MODELS[name].weights, None)
    else:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if weights in tags:
            return _Source(_fetch(name, str(weights)), str(weights))
    path = Path(weights)
    if path.is_file():
        return _Source(path, _tag_of(name, path))
    raise ValueError(
        f"weights {str(weights)!r} of CLIP model {name!r} are neither a file nor a pretrained tag."
        f"{did_you_mean(weights, tags)} Tags: {', '.join(tags) or 'none'}. "
        f"{_fetching(name)}Give the path of a state dict, a tag, or none at all for random weights."
    )


def _fetch(name: str, tag: str) -> Path:
    """The file of a pretrained tag, from open_clip's cache or from where open_clip fetches it."""
    try:
        return Path(download_pretrained(get_pretrained_cfg(name, tag)))
    except Exception as error:  # whatever open_clip and huggingface_hub raise without a connection
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"cannot fetch the weights {tag!r} of CLIP model {name!r} ({reason}). On a machine with a connection: "
            f"{_fetching(name) or 'build the model once there. '}Copy the file here and give its path as "
            "MODEL.CLIP.WEIGHTS (of a saved model: --weights clip=PATH); or copy Hugging Face's cache "
            "(~/.cache/huggingface, or $HF_HOME) as a whole."
        ) from error


def _fetching(name: str) -> str:
    return f"`possam weights download {name}` fetches {WEIGHTS[name].filename}. " if name in WEIGHTS else ""


def _tag_of(name: str, path: Path) -> str | None:
    """The tag of a file that has an official name of this model."""
    official = known_file(path)
    return official.tag if official is not None and official.model == name.removesuffix(_QUICK) else None


def _is_quick(name: str, source: _Source) -> bool:
    """Whether to take the approximate GELU.

    OpenAI and some others trained with it. With the exact one the same weights answer worse, and nothing but
    open_clip's register tells: the parameters are the same. A file of no known tag takes what all the model's tags
    have.
    """
    base = name.removesuffix(_QUICK)
    tags = [source.tag] if source.tag else open_clip.list_pretrained_tags_by_model(base) if source.path else []
    quick = {bool(get_pretrained_cfg(base, tag).get("quick_gelu", False)) for tag in tags}
    if len(quick) == 2 and name == base:
        logger.warning(
            "Weights of %s were trained with different activations, and %s does not tell which; the exact GELU is "
            "taken. Give a pretrained tag, a file named MODEL.TAG, or the model %s%s, if that is wrong.",
            *(name, source.path, base, _QUICK),
        )
    return quick == {True}


def pixel_statistics(name: str, source: _Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels, RGB on the scale 0..1, that the weights were trained with.

    A file of no known tag takes those of the model's tags, if they agree, and else OpenAI's.
    """
    tags = [source.tag] if source.tag else open_clip.list_pretrained_tags_by_model(name)
    configs = [get_pretrained_cfg(name.removesuffix(_QUICK), tag) for tag in tags]
    found = {(tuple(config["mean"]), tuple(config["std"])) for config in configs}
    if len(found) == 1:
        return found.pop()
    if found and source.path is not None:
        logger.warning(
            "Weights of %s were trained with different pixel statistics, and %s does not tell which; OpenAI's are "
            "taken. Give a pretrained tag, or a file named MODEL.TAG, if that is wrong.",
            name,
            source.path,
        )
    return tuple(OPENAI_DATASET_MEAN), tuple(OPENAI_DATASET_STD)


def load_weights(model: Model, path: Path, name: str) -> bool:
    """Give a model the weights of a file, which stays mapped.

    Returns:
        whether all of them lie in the file, not in copies of another type.

    Raises:
        ValueError: it cannot be read or is of another model.
    """
    state = found = read_state_dict(path, kind="CLIP")
    # The steps of open_clip's own loader, which reads the file itself and would fall back to unsafe unpickling.
    state = convert_state_dict(model, dict(state))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    state.pop("text.transformer.embeddings.position_ids", None)
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(model.logit_scale.shape)
        if model.logit_bias is not None:
            bias = state.get("logit_bias", torch.zeros_like(state["logit_scale"]))
            state["logit_bias"] = bias.reshape(model.logit_bias.shape)
    fits = _resize_positions(state, model)
    problems = differences(model.state_dict(), state)
    if problems or not fits:
        raise ValueError(
            f"the state dict in {path} does not fit CLIP model {name!r}: it holds {describe_clip(found)} "
            f"({problems or 'positions of another width'}). Set MODEL.CLIP.NAME to what it fits, or give other weights"
        )
    return take_over(model, state)


def _resize_positions(state: dict[str, Tensor], model: Model) -> bool:
    """Resize the positions of another native size; False where they cannot be this model's at all."""
    try:
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
    except (AssertionError, RuntimeError):
        return False
    return True
