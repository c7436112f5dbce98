"""Settings that somebody changed and nothing reads: a run should not look as if they had an effect."""

from __future__ import annotations

from possam.d2.config import CfgNode, get_cfg
from possam.models import add_possam_config

# Of Detectron2's own keys, those that this project's training and evaluation read, on either backend. The trees below
# a name ending in a dot are read as a whole.
_READ = (
    "VERSION", "OUTPUT_DIR", "SEED", "CUDNN_BENCHMARK", "FLOAT32_PRECISION",
    "MODEL.DEVICE", "MODEL.META_ARCHITECTURE", "MODEL.WEIGHTS",
    "INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "DATASETS.TRAIN", "DATASETS.TEST",
    "DATALOADER.NUM_WORKERS", "DATALOADER.ASPECT_RATIO_GROUPING",
    "SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.AMP.ENABLED",
    "SOLVER.BASE_LR", "SOLVER.BASE_LR_END", "SOLVER.LR_SCHEDULER_NAME", "SOLVER.STEPS", "SOLVER.GAMMA",
    "SOLVER.NUM_DECAYS", "SOLVER.RESCALE_INTERVAL",
    "SOLVER.WARMUP_FACTOR", "SOLVER.WARMUP_ITERS", "SOLVER.WARMUP_METHOD",
    "SOLVER.WEIGHT_DECAY", "SOLVER.WEIGHT_DECAY_NORM",
    "SOLVER.CLIP_GRADIENTS.ENABLED", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
    "TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS", "TEST.AUG.",
)  # fmt: skip

INSTEAD = {
    "INPUT.MIN_SIZE_TRAIN": "INPUT.IMAGE_SIZE",
    "INPUT.MAX_SIZE_TRAIN": "INPUT.IMAGE_SIZE",
    "INPUT.RANDOM_FLIP": "INPUT.AUGMENTATION",
    "INPUT.CROP.ENABLED": "INPUT.AUGMENTATION",
    "TEST.DETECTIONS_PER_IMAGE": "TEST.TOP_K",
}
"""What does here what an ignored key of Detectron2's does there."""


def ignored_settings(cfg: CfgNode) -> list[str]:
    """Keys that differ from their defaults and have no effect, each with the reason, sorted."""
    detectron2 = _leaves(get_cfg())
    defaults_tree = get_cfg()
    add_possam_config(defaults_tree)
    defaults = _leaves(defaults_tree)
    changed = {key for key, value in _leaves(cfg).items() if _plain(value) != _plain(defaults.get(key))}
    reasons = {
        key: f"this project reads {INSTEAD[key]} instead" if key in INSTEAD else "this project does not read it"
        for key in changed
        if key in detectron2 and not _is_read(key)
    }
    for key, reason in _without_effect(cfg).items():
        reasons |= {name: reason for name in changed if name == key or (key.endswith(".") and name.startswith(key))}
    return [f"{key} ({reason})" for key, reason in sorted(reasons.items())]


def _without_effect(cfg: CfgNode) -> dict[str, str]:
    """This project's own keys that others switch off, with the reason; a name ending in a dot means all below it."""
    model = cfg.MODEL
    two_way = "MODEL.DECODER.NAME is two_way"
    keys: dict[str, str] = {}
    if model.DECODER.NAME == "two_way":
        unused = ("LAYERS", "PIXEL_LAYERS", "PIXEL_FEEDFORWARD", "POINTS")
        keys |= {"MODEL.PYRAMID.": two_way} | {f"MODEL.DECODER.{key}": two_way for key in unused}
    else:
        keys["MODEL.DECODER.TWO_WAY_LAYERS"] = "MODEL.DECODER.NAME is not two_way"
    if model.EMBEDDING.NAME != "ldp":
        keys["MODEL.LDP."] = "MODEL.EMBEDDING.NAME is not ldp"
    if cfg.INPUT.RESIZE_TEST != "shortest_edge":
        for name in ("MIN_SIZE_TEST", "MAX_SIZE_TEST"):
            keys[f"INPUT.{name}"] = "INPUT.RESIZE_TEST is not shortest_edge; INPUT.IMAGE_SIZE is read"
    if not model.DECODER.IOU_HEAD:
        keys["MODEL.LOSS.IOU"] = "MODEL.DECODER.IOU_HEAD is False"
    in_use = {name.upper() for name in (model.ENSEMBLE.NAME, *cfg.TEST.COMPARE)}
    for name in model.ENSEMBLE:
        if name != "NAME" and name not in in_use:
            keys[f"MODEL.ENSEMBLE.{name}."] = "neither MODEL.ENSEMBLE.NAME nor in TEST.COMPARE"
    return keys


def _is_read(key: str) -> bool:
    return any(key == read or (read.endswith(".") and key.startswith(read)) for read in _READ)


def _leaves(node: CfgNode, prefix: str = "") -> dict[str, object]:
    """Values by their full keys, such as "SOLVER.MOMENTUM"."""
    leaves: dict[str, object] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            leaves |= _leaves(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def _plain(value: object) -> object:
    # YAML knows lists only, and the defaults have tuples.
    return list(value) if isinstance(value, tuple) else value
