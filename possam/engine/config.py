"""The settings of a run: Detectron2's keys and this project's, read and checked before anything loads."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import BASE_KEY

from possam.classifiers import ENSEMBLE_REGISTRY, build_ensemble
from possam.d2.config import CfgNode, get_cfg
from possam.data import AUGMENTATIONS
from possam.engine.ignored_settings import ignored_settings
from possam.evaluation import find_task, registered_tasks
from possam.files import expand_home, full_path, read_yaml
from possam.inference import SEMANTIC
from possam.messages import did_you_mean
from possam.models import add_possam_config, model_spec
from possam.models.ranges import check_ranges
from possam.vocabulary import Vocabulary
from possam.vocabulary.published import check_class_names_source

logger = logging.getLogger(__name__)

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
PATHS = (
    "OUTPUT_DIR", "INPUT.FEATURE_FOLDER", "DATASETS.CLASS_NAMES",
    "MODEL.TEXT_CACHE", "MODEL.WEIGHTS", "MODEL.TRAIN_VOCABULARY",
)  # fmt: skip
"""Keys of paths that all systems have."""


ConfigFiles = str | Path | Sequence[str | Path] | None
"""One YAML file, or several, of which a later one holds over those before it."""


def list_files(files: ConfigFiles) -> list[Path]:
    """Files of a configuration as a list; an empty name is none."""
    names = [files] if isinstance(files, str | Path) else files or []
    return [full_path(name) for name in names if str(name)]


def load_config(path: ConfigFiles = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Read YAML configurations over the defaults, apply `KEY VALUE` overrides, and check the result.

    A home folder, `~`, that a path begins with, and environment variables in it are written out. Settings that have no
    effect are named in a warning.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: an unknown key or a value out of its range; the message names the valid ones.
    """
    cfg = get_cfg()
    add_possam_config(cfg)
    defaults = cfg.clone()
    files = list_files(path)
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"No configuration at {file}; the project's own are under configs/.")
        check_files(file)
        with _merging(cfg, str(file)):
            _check_sections(CfgNode.load_yaml_with_base(str(file)), defaults)
            # Without YAML tags that run code, which Detectron2 would allow.
            cfg.merge_from_file(str(file), allow_unsafe=False)
            _check_given(cfg, defaults)
    for key in overrides[::2]:
        if not isinstance(key, str):
            raise ValueError(f"the overrides {list(overrides)!r:.200} must be KEY VALUE pairs, but a key is {key!r}.")
    with _merging(cfg, f"the overrides {list(overrides)!r:.200}"):
        cfg.merge_from_list(list(overrides))
        _check_given(cfg, defaults)
    _write_out_paths(cfg)
    check_config(cfg)
    if ignored := ignored_settings(cfg):
        source = " + ".join(map(str, files)) or "The configuration"
        logger.warning("%s: these settings have no effect: %s.", source, "; ".join(ignored))
    return cfg


@contextmanager
def _merging(cfg: CfgNode, source: str) -> Iterator[None]:
    """What goes wrong in merging, as a ValueError that names the source and, for a key, the closest valid ones."""
    try:
        yield
    except (KeyError, AssertionError) as error:
        raise ValueError(f"{source}: {_explain_key(cfg, error)}") from error
    except (ValueError, TypeError, AttributeError, SyntaxError, RecursionError) as error:
        reason = " ".join(str(error).encode(errors="backslashreplace").decode().split())
        if len(reason) > 500:  # of a long value or a whole section; the key is at the end
            reason = f"{reason[:240]} … {reason[-240:]}"
        raise ValueError(f"{source}: a setting has the wrong type, or is none: {reason}") from error


def check_files(path: Path, *above: Path) -> None:
    """Check a file and those it is based on as plain YAML, since merging trusts them.

    Args:
        path: the file.
        above: the files, absolute, that are based on it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not plain YAML, or is based on itself.
    """
    if path.resolve() in above:
        raise ValueError(f"{path} is its own {BASE_KEY}; take it out.")
    bases = read_yaml(path).get(BASE_KEY, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or not base or "://" in base:
            raise ValueError(f"{path}: {BASE_KEY} must be the path of another YAML file, but is {base!r:.200}.")
        place = path.parent / full_path(base)
        if not place.is_file():
            raise FileNotFoundError(f"{path} is based on {base!r:.300}, and there is no file {place}.")
        check_files(place, path.resolve(), *above)


def path_keys(cfg: CfgNode) -> list[str]:
    """Keys of paths, in which `~` is expanded; in `DATASETS.PANOPTIC` and `DATASETS.SEMANTIC` it is when registered.

    Raises:
        ValueError: `MODEL.META_ARCHITECTURE` is unknown.
    """
    return [*PATHS, *model_spec(cfg.MODEL.META_ARCHITECTURE).weights.values()]


def _write_out_paths(cfg: CfgNode) -> None:
    for key in path_keys(cfg):
        *parents, name = key.split(".")
        node = reduce(getitem, parents, cfg)
        try:
            node[name] = expand_home(node[name])
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error


def _check_sections(content: Mapping[str, Any], defaults: CfgNode) -> None:
    """Refuse a section that is no mapping, in the words that merging has for it; Detectron2 looks into MODEL before."""
    for key, value in content.items():
        if isinstance(defaults.get(key), CfgNode) and not isinstance(value, Mapping):
            raise ValueError(f"a mapping is needed, but it is {value!r}, for config key: {key}")


def _check_given(node: CfgNode, defaults: CfgNode, prefix: str = "") -> None:
    """Merging takes an empty value for one of any type."""
    for key, default in defaults.items():
        if isinstance(default, CfgNode):
            _check_given(node[key], default, f"{prefix}{key}.")
        elif node[key] is None and default is not None:
            wanted = f"{type(default).__name__}, as {default!r:.80}"
            raise ValueError(f"{prefix}{key} is empty, but must be of type {wanted}.")


def _explain_key(cfg: CfgNode, error: Exception) -> str:
    message = str(error.args[0] if error.args else error).encode(errors="backslashreplace").decode()
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
    spec = model_spec(cfg.MODEL.META_ARCHITECTURE)
    check_ranges(cfg)
    spec.check_encoders(cfg)
    spec.check_config(cfg)
    if cfg.MODEL.TRAIN_VOCABULARY:
        try:
            Vocabulary.load(cfg.MODEL.TRAIN_VOCABULARY)
        except (ValueError, OSError) as error:
            raise ValueError(f"MODEL.TRAIN_VOCABULARY: {error}") from error
    ensembles = list(ENSEMBLE_REGISTRY)
    _one_of("MODEL.ENSEMBLE.NAME", cfg.MODEL.ENSEMBLE.NAME, ensembles)
    for name in cfg.TEST.COMPARE:
        _one_of("TEST.COMPARE", name, ensembles)
    for task in cfg.TEST.TASKS:
        _one_of("TEST.TASKS", task, [known.key for known in registered_tasks()])
    check_prompts(cfg)
    _one_of("INPUT.AUGMENTATION", cfg.INPUT.AUGMENTATION, list(AUGMENTATIONS))
    _one_of("INPUT.FORMAT", cfg.INPUT.FORMAT, ["RGB"])
    _one_of("SOLVER.AMP.PRECISION", cfg.SOLVER.AMP.PRECISION, list(PRECISIONS))
    _one_of("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE, ["full_model"])
    _one_of("SOLVER.LR_SCHEDULER_NAME", cfg.SOLVER.LR_SCHEDULER_NAME, SCHEDULES)
    _one_of("SOLVER.WARMUP_METHOD", cfg.SOLVER.WARMUP_METHOD, ["linear", "constant"])
    _one_of("FLOAT32_PRECISION", cfg.get("FLOAT32_PRECISION", ""), ["", "highest", "high", "medium"])
    _one_of("SOLVER.NON_FINITE", cfg.SOLVER.NON_FINITE, ["stop", "skip"])
    _one_of("TEST.SEMANTIC_RESIZE", cfg.TEST.SEMANTIC_RESIZE, list(SEMANTIC))
    _one_of("DATASETS.CHECK", cfg.DATASETS.CHECK, ["full", "sizes", "none"])
    try:
        check_class_names_source(cfg.DATASETS.CLASS_NAMES)
    except ValueError as error:
        raise ValueError(f"DATASETS.CLASS_NAMES: {error}") from error
    _check_ensembles(cfg)
    if cfg.SOLVER.IMS_PER_BATCH % cfg.SOLVER.ACCUMULATE:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which is not a multiple of SOLVER.ACCUMULATE "
            f"{cfg.SOLVER.ACCUMULATE}."
        )
    if not cfg.OUTPUT_DIR.strip():
        raise ValueError("OUTPUT_DIR is empty; name a folder for checkpoints, logs and results.")
    if not cfg.INPUT.FEATURE_FOLDER.strip():
        raise ValueError("INPUT.FEATURE_FOLDER is empty; name a folder for the features of frozen encoders.")
    if len(cfg.TEST.EXPECTED_RESULTS):
        raise ValueError("TEST.EXPECTED_RESULTS is set, which this project does not compare; read results.json.")
    if not cfg.TEST.TASKS:
        raise ValueError("TEST.TASKS is empty; name at least one task to score, such as 'panoptic'.")
    if "panoptic" not in cfg.TEST.TASKS and cfg.TEST.PICTURES:
        raise ValueError(f"TEST.TASKS is {cfg.TEST.TASKS}; TEST.PICTURES needs 'panoptic' among them.")
    key = "MIN_SIZE_TEST" if cfg.INPUT.RESIZE_TEST == "shortest_edge" else "IMAGE_SIZE"
    if cfg.TEST.AUG.ENABLED and min(cfg.TEST.AUG.SCALES, default=0) <= 1 / (2 * cfg.INPUT[key]):
        raise ValueError(
            f"TEST.AUG.SCALES is {cfg.TEST.AUG.SCALES}, but test-time augmentation needs a scale, and images of "
            f"INPUT.{key} {cfg.INPUT[key]} at least a pixel at each."
        )
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
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; valid are 'cpu', 'cuda', 'cuda:0' …") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but this project runs on 'cpu' and 'cuda' devices.")
    if cfg.SOLVER.AMP.ENABLED and device.type != "cuda":
        raise ValueError(f"SOLVER.AMP.ENABLED needs a CUDA device, not MODEL.DEVICE {cfg.MODEL.DEVICE!r}.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but there is no CUDA device; add `MODEL.DEVICE cpu`.")


def check_prompts(cfg: CfgNode) -> None:
    """Raise ValueError where one of `TEST.TASKS` needs prompts, and the system or test-time augmentation takes none."""
    prompted = [task for task in cfg.TEST.TASKS if find_task(task).prompts]
    name = cfg.MODEL.META_ARCHITECTURE
    if prompted and not model_spec(name).prompts:
        raise ValueError(
            f"TEST.TASKS has {prompted[0]!r}, which needs a model that takes prompts, but {name} takes none; leave it "
            "out, or evaluate another model."
        )
    if prompted and cfg.TEST.AUG.ENABLED:
        raise ValueError(
            f"TEST.TASKS has {prompted[0]!r}, whose prompts test-time augmentation does not transform; leave it out, "
            "or set TEST.AUG.ENABLED False."
        )


def _check_ensembles(cfg: CfgNode) -> None:
    """The constants of the ensembles in use, which their constructors check."""
    for name in (cfg.MODEL.ENSEMBLE.NAME, *cfg.TEST.COMPARE):
        constants = {key.lower(): value for key, value in cfg.MODEL.ENSEMBLE[name.upper()].items()}
        try:
            build_ensemble(name, **constants)
        except (ValueError, TypeError) as error:
            raise ValueError(f"MODEL.ENSEMBLE.{name.upper()}: {error}") from error


def schedule_warning(cfg: CfgNode) -> str:
    """What is doubtful about the learning rate's schedule, in one sentence; "" where nothing is."""
    warmup, steps = cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER
    if warmup < steps:
        return ""
    return (
        f"SOLVER.WARMUP_ITERS is {warmup} and SOLVER.MAX_ITER {steps}: the training ends within the warm-up, and the "
        "learning rate does not follow its schedule."
    )


def _one_of(key: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"{key} is {value!r}, but must be one of: {', '.join(valid)}.{did_you_mean(value, valid)}")
