"""The configuration of a saved model: plain data that means the same on every machine and in later versions."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from possam.config.checks import check_values
from possam.config.migration import RENAMED, drop_foreign, migrate
from possam.config.table import default_config, keys_of, systems
from possam.config.tree import flatten, nest
from possam.d2.config import CfgNode
from possam.utils.files import read_yaml
from possam.utils.messages import did_you_mean, few

__all__ = ["SavedConfig"]

logger = logging.getLogger(__name__)
_SYSTEM = "MODEL.META_ARCHITECTURE"
_WEIGHTS = re.compile(r"MODEL\.\w+\.WEIGHTS")


class SavedConfig:
    """Settings by their full key, such as "SOLVER.BASE_LR", and where they were read from."""

    def __init__(self, settings: Mapping[str, Any], *, source: str) -> None:
        """Settings may have former names. Raises ValueError where one has its present name too."""
        try:
            self._settings, self._changes = migrate(settings)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        self._source = source

    def __getitem__(self, key: str) -> Any:
        return self._settings[key]

    @classmethod
    def portable(cls, text: str) -> SavedConfig:
        """What is worth keeping of a whole configuration, given as `CfgNode.dump` writes it.

        All settings that this project reads are kept but those of the machine. Folders of weights become "weights".
        """
        settings = cls(flatten(yaml.safe_load(text)), source="the configuration")._settings
        keys = keys_of(settings[_SYSTEM])
        kept = {name: value for name, value in settings.items() if name in keys and not keys[name].machine}
        kept["MODEL.DEVICE"] = torch.device(settings["MODEL.DEVICE"]).type
        for name in filter(_WEIGHTS.fullmatch, kept):
            if "/" in kept[name]:
                kept[name] = f"weights/{Path(kept[name]).name}"
        return cls(kept, source="the configuration")

    @classmethod
    def read(cls, path: Path) -> SavedConfig:
        """Read a file without running anything it may hold. Raises ValueError if it is not a YAML mapping."""
        try:
            content = read_yaml(path)
        except ValueError as error:
            raise ValueError(f"{error} Get the model again.") from error
        try:
            settings = flatten(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error} Get the model again.") from error
        return cls(settings, source=str(path))

    def to_yaml(self) -> str:
        return yaml.safe_dump(nest(self._settings))

    @property
    def system(self) -> str:
        """`MODEL.META_ARCHITECTURE`. Raises ValueError if it is missing or unknown."""
        name = self._settings.get(_SYSTEM)
        if name is None:
            raise ValueError(f"{self._source} is no configuration of this package: it has no {_SYSTEM}.")
        if not isinstance(name, str):
            raise ValueError(f"{self._source} has the {_SYSTEM} {name!r:.80}; expected a name.")
        if name not in systems():
            raise ValueError(
                f"{self._source}: {_SYSTEM} is {name!r}, but must be one of: {', '.join(systems())}."
                f"{did_you_mean(name, systems())} If a newer version of possam wrote it, update possam."
            )
        return name

    def over_defaults(self) -> CfgNode:
        """The whole configuration: these settings over this version's defaults.

        Settings of other systems, which earlier versions saved with every model, are left out; a warning names those
        that are not at their defaults, and former names.

        Raises:
            ValueError: the system or a setting is unknown, or a setting is of the wrong type or out of its range.
        """
        cfg = default_config(self.system)
        known = flatten(cfg)
        settings = dict(self._settings)
        others = drop_foreign(settings, known)
        if unknown := [name for name in settings if name not in known]:
            hint = did_you_mean(unknown[0], [*known, *RENAMED])
            raise ValueError(
                f"{self._source} has settings that this version does not know: {few(unknown)}. If a newer version of "
                f"possam wrote it, update possam.{hint}"
            )
        if empty := [name for name, value in settings.items() if value is None and known[name] is not None]:
            raise ValueError(f"{self._source} has no value for {few(empty)}, which must have one; get the model again.")
        if self._changes:
            logger.warning("%s: these settings have new names: %s.", self._source, "; ".join(self._changes))
        if others:
            logger.warning("%s: settings of other systems are not read: %s.", self._source, ", ".join(others))
        try:
            cfg.merge_from_other_cfg(CfgNode(nest(settings)))
        except (ValueError, AssertionError, KeyError) as error:
            raise ValueError(f"{self._source} has a setting of the wrong type: {error!s:.500}") from error
        try:
            check_values(cfg)
        except ValueError as error:
            raise ValueError(f"{self._source}: {error} Get the model again.") from error
        return cfg
