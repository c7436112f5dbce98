"""Settings that somebody changed and nothing reads: a run should not look as if they had an effect."""

from __future__ import annotations

from possam.config.table import default_config, keys_of
from possam.config.tree import flatten, plain
from possam.d2.config import CfgNode

__all__ = ["INSTEAD", "unused_settings"]

INSTEAD = {
    "INPUT.MIN_SIZE_TRAIN": "INPUT.IMAGE_SIZE",
    "INPUT.MAX_SIZE_TRAIN": "INPUT.IMAGE_SIZE",
    "INPUT.RANDOM_FLIP": "INPUT.AUGMENTATION",
    "INPUT.CROP.ENABLED": "INPUT.AUGMENTATION",
}
"""What does here what an ignored key of Detectron2's does there."""


def unused_settings(cfg: CfgNode) -> list[str]:
    """Keys that differ from their defaults and have no effect, each with the reason, sorted."""
    keys, defaults = keys_of(cfg.MODEL.META_ARCHITECTURE), flatten(default_config(cfg.MODEL.META_ARCHITECTURE))
    found = []
    for name, value in flatten(cfg).items():
        if name in defaults and plain(value) == plain(defaults[name]):
            continue
        if name in keys:
            reason = keys[name].without_effect(cfg)
        else:
            reason = f"this project reads {INSTEAD[name]} instead" if name in INSTEAD else _UNREAD
        if reason:
            found.append(f"{name} ({reason})")
    return sorted(found)


_UNREAD = "this project does not read it"
