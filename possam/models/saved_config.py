"""The configuration of a saved model: plain data that means the same on every machine and in later versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from possam.d2.config import CfgNode, get_cfg
from possam.files import read_yaml
from possam.messages import did_you_mean, few
from possam.models.config import add_possam_config
from possam.models.ranges import check_ranges
from possam.models.spec import ModelSpec, model_spec

# Settings of the machine a model was trained on, not of the model; they would also tell the world its folders.
_OF_THE_MACHINE = ("OUTPUT_DIR", "INPUT.FEATURE_FOLDER", "MODEL.TEXT_CACHE", "MODEL.TRAIN_VOCABULARY", "MODEL.WEIGHTS")
_OWN_DATASETS = re.compile(r"DATASETS\.(?!TRAIN$|TEST$)")
_WEIGHTS = re.compile(r"MODEL\.\w+\.WEIGHTS")


class SavedConfig:
    """Settings by their full key ("MODEL.SAM.NAME"), and where they were read from."""

    def __init__(self, settings: Mapping[str, Any], *, source: str) -> None:
        self._settings = dict(settings)
        self._source = source

    def __getitem__(self, key: str) -> Any:
        return self._settings[key]

    @classmethod
    def portable(cls, text: str) -> SavedConfig:
        """What is worth keeping of a whole configuration, given as `CfgNode.dump` writes it.

        All of this project's settings are kept but those of the machine; of Detectron2's, those that are not at its
        own default, because the built-in subset does not have them all. Folders of weights become "weights".
        """
        theirs, ours = _flatten(get_cfg()), _flatten(_defaults())
        settings = _flatten(yaml.safe_load(text))
        settings["MODEL.DEVICE"] = torch.device(settings["MODEL.DEVICE"]).type
        for key in filter(_WEIGHTS.fullmatch, list(settings)):
            if "/" in settings[key]:
                settings[key] = f"weights/{Path(settings[key]).name}"
        kept = {
            key: value
            for key, value in settings.items()
            if key not in _OF_THE_MACHINE
            and not _OWN_DATASETS.match(key)
            and (key not in theirs or _plain(value) != _plain(theirs[key]) or _plain(value) != _plain(ours.get(key)))
        }
        return cls(kept, source="the configuration")

    @classmethod
    def read(cls, path: Path) -> SavedConfig:
        """Read a file without running anything it may hold. Raises ValueError if it is not a YAML mapping."""
        try:
            content = read_yaml(path)
        except ValueError as error:
            raise ValueError(f"{error} Get the model again.") from error
        return cls(_flatten(content), source=str(path))

    def to_yaml(self) -> str:
        return yaml.safe_dump(_nest(self._settings))

    @property
    def spec(self) -> ModelSpec:
        """The system of `MODEL.META_ARCHITECTURE`. Raises ValueError if it is missing or unknown."""
        name = self._settings.get("MODEL.META_ARCHITECTURE")
        if name is None:
            raise ValueError(f"{self._source} is no configuration of this package: it has no MODEL.META_ARCHITECTURE.")
        if not isinstance(name, str):
            raise ValueError(f"{self._source} has the MODEL.META_ARCHITECTURE {name!r:.80}; expected a name.")
        try:
            return model_spec(name)
        except ValueError as error:
            hint = "If a newer version of possam wrote it, update possam."
            raise ValueError(f"{self._source}: {error} {hint}") from error

    def over_defaults(self) -> CfgNode:
        """The whole configuration: these settings over this version's defaults.

        Raises:
            ValueError: the system or a setting is unknown, or a setting is of the wrong type or out of its range.
        """
        _ = self.spec
        cfg = _defaults()
        known = _flatten(cfg)
        unknown = [key for key in self._settings if key not in known]
        if unknown:
            raise ValueError(
                f"{self._source} has settings that this version does not know: {few(unknown)}. If a newer version of "
                f"possam wrote it, update possam.{did_you_mean(unknown[0], known)}"
            )
        empty = [key for key, value in self._settings.items() if value is None and known[key] is not None]
        if empty:
            raise ValueError(f"{self._source} has no value for {few(empty)}, which must have one; get the model again.")
        try:
            cfg.merge_from_other_cfg(CfgNode(_nest(self._settings)))
        except (ValueError, AssertionError, KeyError) as error:
            raise ValueError(f"{self._source} has a setting of the wrong type: {error!s:.500}") from error
        try:
            check_ranges(cfg)
        except ValueError as error:
            raise ValueError(f"{self._source}: {error} Get the model again.") from error
        return cfg


def _defaults() -> CfgNode:
    cfg = get_cfg()
    add_possam_config(cfg)
    return cfg


def _flatten(node: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        node = nested
        *parents, key = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = _plain(value)
    return nested


def _plain(value: Any) -> Any:
    """The same with lists for tuples, which YAML does not have."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
