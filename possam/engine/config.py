"""The settings of a run: Detectron2's keys and this project's, read and checked before anything loads."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from possam.classifiers import ENSEMBLE_REGISTRY, check_streams
from possam.d2.config import CfgNode, get_cfg
from possam.d2.modeling import META_ARCH_REGISTRY
from possam.data import AUGMENTATIONS
from possam.engine.ignored_settings import ignored_settings
from possam.evaluation import EVALUATOR_REGISTRY
from possam.messages import did_you_mean
from possam.models import DECODERS, EMBEDDINGS, PYRAMIDS, add_possam_config

logger = logging.getLogger(__name__)

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a YAML configuration over the defaults, apply `KEY VALUE` overrides, and check the result.

    Settings that have no effect are named in a warning.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: an unknown key or a value out of its range; the message names the valid ones.
    """
    cfg = get_cfg()
    add_possam_config(cfg)
    try:
        if path:
            if not Path(path).is_file():
                raise FileNotFoundError(f"No configuration at {path}; the project's own are under configs/.")
            # Without YAML tags that run code, which Detectron2 would allow.
            cfg.merge_from_file(str(path), allow_unsafe=False)
        cfg.merge_from_list(list(overrides))
    except (KeyError, AssertionError) as error:
        raise ValueError(_explain_key(cfg, error)) from error
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a YAML mapping of keys to values: {error}") from error
    check_config(cfg)
    if ignored := ignored_settings(cfg):
        logger.warning("%s: these settings have no effect: %s.", path or "The configuration", "; ".join(ignored))
    return cfg


def _explain_key(cfg: CfgNode, error: Exception) -> str:
    message = str(error.args[0]) if error.args else str(error)
    unknown = message.rsplit(":", 1)[-1].strip()
    close = difflib.get_close_matches(unknown, _flat_keys(cfg), n=3, cutoff=0.5)
    return f"{message}. Closest valid keys: {', '.join(close) or 'none; see possam/models/config.py'}."


def _flat_keys(node: CfgNode, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in node.items():
        keys.append(prefix + key)
        if isinstance(value, CfgNode):
            keys.extend(_flat_keys(value, f"{prefix}{key}."))
    return keys


def check_config(cfg: CfgNode) -> None:
    """Check what can be checked without data or weights. Raises ValueError naming the key and the valid values."""
    _one_of("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, [name for name, _ in META_ARCH_REGISTRY])
    _check_parts(cfg)
    ensembles = [name for name, _ in ENSEMBLE_REGISTRY]
    _one_of("MODEL.ENSEMBLE.NAME", cfg.MODEL.ENSEMBLE.NAME, ensembles)
    for name in cfg.TEST.COMPARE:
        _one_of("TEST.COMPARE", name, ensembles)
    for task in cfg.TEST.TASKS:
        _one_of("TEST.TASKS", task, [name for name, _ in EVALUATOR_REGISTRY])
    _one_of("INPUT.AUGMENTATION", cfg.INPUT.AUGMENTATION, list(AUGMENTATIONS))
    _one_of("INPUT.FORMAT", cfg.INPUT.FORMAT, ["RGB"])
    _one_of("SOLVER.AMP.PRECISION", cfg.SOLVER.AMP.PRECISION, list(PRECISIONS))
    _one_of("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE, ["full_model"])
    _check_numbers(cfg)
    if not cfg.TEST.TASKS:
        raise ValueError("TEST.TASKS is empty; name at least one task to score, such as 'panoptic'.")
    if "panoptic" not in cfg.TEST.TASKS and cfg.TEST.PICTURES:
        raise ValueError(f"TEST.TASKS is {cfg.TEST.TASKS}; TEST.PICTURES needs 'panoptic' among them.")
    if cfg.TEST.AUG.ENABLED and not (cfg.TEST.AUG.SCALES and min(cfg.TEST.AUG.SCALES) > 0):
        raise ValueError(f"TEST.AUG.SCALES is {cfg.TEST.AUG.SCALES}, but test-time augmentation needs scales above 0.")
    if cfg.INPUT.CACHE_FEATURES and cfg.INPUT.AUGMENTATION != "flip":
        raise ValueError(
            f"INPUT.CACHE_FEATURES needs INPUT.AUGMENTATION 'flip', not {cfg.INPUT.AUGMENTATION!r}: the features "
            "of a random crop cannot be computed beforehand. Set one or the other."
        )
    if cfg.TEST.BATCH_SIZE > 1 and not cfg.INPUT.PAD_TO_SQUARE:
        raise ValueError(
            f"TEST.BATCH_SIZE is {cfg.TEST.BATCH_SIZE} without INPUT.PAD_TO_SQUARE: an image's padding, and so its "
            "result, would depend on the others of its batch. Set one or the other."
        )
    if cfg.INPUT.CACHE_FEATURES and not cfg.INPUT.PAD_TO_SQUARE:
        raise ValueError("INPUT.CACHE_FEATURES keeps features of one size; set INPUT.PAD_TO_SQUARE True.")
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; valid are 'cpu', 'cuda', 'cuda:0' ...") from error
    if cfg.SOLVER.AMP.ENABLED and device.type != "cuda":
        raise ValueError(f"SOLVER.AMP.ENABLED needs a CUDA device, not MODEL.DEVICE {cfg.MODEL.DEVICE!r}.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but there is no CUDA device; add `MODEL.DEVICE cpu`.")


def _check_parts(cfg: CfgNode) -> None:
    """The parts of the model that are chosen by name."""
    model = cfg.MODEL
    _one_of("MODEL.PYRAMID.NAME", model.PYRAMID.NAME, list(PYRAMIDS))
    _one_of("MODEL.DECODER.NAME", model.DECODER.NAME, list(DECODERS))
    _one_of("MODEL.EMBEDDING.NAME", model.EMBEDDING.NAME, list(EMBEDDINGS))
    try:
        check_streams(model.LDP.STREAMS)
    except ValueError as error:
        raise ValueError(f"MODEL.LDP.STREAMS: {error}.") from error
    if model.DECODER.IOU_HEAD and not model.LOSS.IOU:
        raise ValueError(
            "MODEL.LOSS.IOU is 0, so that the IoU head would stay random and still weigh the scores; "
            "leave it out with MODEL.DECODER.IOU_HEAD False."
        )


def _check_numbers(cfg: CfgNode) -> None:
    least = {
        "INPUT.IMAGE_SIZE": (cfg.INPUT.IMAGE_SIZE, 1),
        "SOLVER.MAX_ITER": (cfg.SOLVER.MAX_ITER, 1),
        "SOLVER.IMS_PER_BATCH": (cfg.SOLVER.IMS_PER_BATCH, 1),
        "TEST.TOP_K": (cfg.TEST.TOP_K, 1),
        "TEST.BATCH_SIZE": (cfg.TEST.BATCH_SIZE, 1),
        "TEST.PICTURES": (cfg.TEST.PICTURES, 0),
    }
    for key, (value, bound) in least.items():
        if value < bound:
            raise ValueError(f"{key} is {value}, but must be at least {bound}.")
    for key in ("OBJECT_THRESHOLD", "OVERLAP_THRESHOLD"):
        if not 0 <= cfg.TEST[key] <= 1:
            raise ValueError(f"TEST.{key} is {cfg.TEST[key]}, but must be between 0 and 1.")


def _one_of(key: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"{key} is {value!r}, but must be one of: {', '.join(valid)}.{did_you_mean(value, valid)}")
