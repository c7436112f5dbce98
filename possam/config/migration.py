"""Former names of settings, which files, command lines, saved models and checkpoints of earlier versions hold."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from possam.config.table import keys_of, owners
from possam.d2.config import CfgNode

__all__ = ["RENAMED", "drop_foreign", "migrate", "migrate_overrides"]

RENAMED = {
    "MODEL.DECODER.NAME": "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME",
    "MODEL.DECODER.CHANNELS": "MODEL.MASK_FORMER.HIDDEN_DIM",
    "MODEL.DECODER.QUERIES": "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES",
    "MODEL.DECODER.LAYERS": "MODEL.MASK_FORMER.DEC_LAYERS",
    "MODEL.DECODER.HEADS": "MODEL.MASK_FORMER.NHEADS",
    "MODEL.DECODER.FEEDFORWARD": "MODEL.MASK_FORMER.DIM_FEEDFORWARD",
    "MODEL.DECODER.TWO_WAY_LAYERS": "MODEL.MASK_FORMER.TWO_WAY_LAYERS",
    "MODEL.DECODER.IOU_HEAD": "MODEL.MASK_FORMER.IOU_HEAD",
    "MODEL.DECODER.PIXEL_LAYERS": "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS",
    "MODEL.DECODER.PIXEL_FEEDFORWARD": "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD",
    "MODEL.DECODER.POINTS": "MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS",
    "MODEL.LOSS.CLASS": "MODEL.MASK_FORMER.CLASS_WEIGHT",
    "MODEL.LOSS.MASK": "MODEL.MASK_FORMER.MASK_WEIGHT",
    "MODEL.LOSS.DICE": "MODEL.MASK_FORMER.DICE_WEIGHT",
    "MODEL.LOSS.IOU": "MODEL.MASK_FORMER.IOU_WEIGHT",
    "MODEL.LOSS.NO_OBJECT": "MODEL.MASK_FORMER.NO_OBJECT_WEIGHT",
    "MODEL.LOSS.POINTS": "MODEL.MASK_FORMER.TRAIN_NUM_POINTS",
    "MODEL.LOSS.OVERSAMPLE": "MODEL.MASK_FORMER.OVERSAMPLE_RATIO",
    "MODEL.LOSS.IMPORTANCE": "MODEL.MASK_FORMER.IMPORTANCE_SAMPLE_RATIO",
    "MODEL.PYRAMID.NAME": "MODEL.NECK.NAME",
    "TEST.OBJECT_THRESHOLD": "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD",
    "TEST.OVERLAP_THRESHOLD": "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD",
    "TEST.TOP_K": "TEST.DETECTIONS_PER_IMAGE",
    "TEST.COMPARE": "TEST.ENSEMBLES",
    "TEST.PICTURES": "TEST.NUM_VISUALIZATIONS",
    "SOLVER.ACCUMULATE": "SOLVER.GRAD_ACCUM_STEPS",
    "SOLVER.CHECKPOINT_KEEP": "SOLVER.MAX_TO_KEEP",
    "INPUT.FEATURE_FOLDER": "INPUT.FEATURE_CACHE_DIR",
}
"""Present names of keys by their former ones."""


def _renamed_tasks(tasks: Any) -> Any:
    """Tasks with present names; the same object where none has changed."""
    if not isinstance(tasks, list | tuple) or "quality" not in tasks:
        return tasks
    return ["mask_quality" if task == "quality" else task for task in tasks]


_VALUES: dict[str, Callable[[Any], Any]] = {
    # Mask2Former counts the prediction from the initial queries as a layer.
    "MODEL.DECODER.LAYERS": lambda layers: layers + 1 if type(layers) is int else layers,
    "TEST.TASKS": _renamed_tasks,
}
"""Present values of keys, by the name under which they had other values."""

_UNREAD = {"TEST.DETECTIONS_PER_IMAGE": 100}
"""Keys of Detectron2 with its default, which earlier versions wrote beside the one that they read instead."""


def migrate(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Give settings their present names and values.

    Args:
        settings: values by full key.

    Returns:
        All settings by present names, and for each that has changed what it was and what it is.

    Raises:
        ValueError: a setting is there by its former and by its present name.
    """
    present, changes = dict(settings), []
    for old, value in settings.items():
        new = RENAMED.get(old, old)
        migrated = _VALUES[old](value) if old in _VALUES else value
        if new == old and migrated is value:
            continue
        if new != old and new in settings and not (new in _UNREAD and settings[new] == _UNREAD[new]):
            raise ValueError(f"{old} is the former name of {new}, and both are set; remove {old}.")
        present.pop(old)
        present[new] = migrated
        changes.append(f"{old} is now {new}" if migrated is value else f"{old} {value} is now {new} {migrated}")
    return present, changes


def drop_foreign(settings: dict[str, Any], known: Container[str]) -> list[str]:
    """Remove keys of other systems, which earlier versions wrote for all of them.

    Returns:
        Those that had another value than their default.
    """
    foreign = {key: owners(key) for key in settings if key not in known}
    removed = {key: settings.pop(key) for key, systems in foreign.items() if systems}
    return [key for key, value in removed.items() if value != keys_of(foreign[key][0])[key].default]


def migrate_overrides(overrides: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The same for a list of keys and values in turn, whose values may be text as on a command line."""
    present: list[Any] = []
    changes: list[str] = []
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        given = CfgNode._decode_cfg_value(value) if key in _VALUES else value
        (found,), changed = migrate({key: given})[0].items(), migrate({key: given})[1]
        present.extend(found if changed else (key, value))
        changes.extend(changed)
    return present, changes
