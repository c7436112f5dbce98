"""Datasets that a configuration lists under `DATASETS`, beside those of the package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from possam.data.image_labels import load_class_list, register_image_labels
from possam.data.panoptic import register_panoptic
from possam.data.semantic import register_semantic
from possam.data.unnamed import register_unnamed
from possam.utils.messages import did_you_mean
from possam.vocabulary import Vocabulary

__all__ = ["DATASET_KEYS", "register_from_config"]


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """Keys of an entry: those it must have, and those it may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return self.required + self.optional


DATASET_KEYS: dict[str, _Keys] = {
    "PANOPTIC": _Keys(required=("name", "image_root", "panoptic_root", "panoptic_json"), optional=("vocabulary",)),
    "SEMANTIC": _Keys(
        required=("name", "image_root", "label_root", "vocabulary"),
        optional=("ignore_label", "image_suffix", "label_suffix"),
    ),
    "UNNAMED": _Keys(required=("name", "image_root", "vocabulary"), optional=("image_suffix",)),
    "IMAGE_LABELS": _Keys(required=("name", "image_root"), optional=("labels", "vocabulary")),
}
_NAME = re.compile(r"\w[\w. +-]{0,99}")
_REGISTER: dict[str, Any] = {
    "PANOPTIC": register_panoptic,
    "SEMANTIC": register_semantic,
    "UNNAMED": register_unnamed,
    "IMAGE_LABELS": register_image_labels,
}


def register_from_config(entries: Sequence[Mapping[str, Any]], kind: str = "PANOPTIC") -> list[str]:
    """Register the datasets of a config's list and return their names.

    Args:
        entries: mappings with the keys of `DATASET_KEYS`; ``vocabulary`` is the name of a shipped table or the path of
            a vocabulary JSON; for a panoptic dataset it may be empty or absent: the categories of its own JSON.
        kind: "PANOPTIC", "SEMANTIC", "UNNAMED" or "IMAGE_LABELS", the list's name in `DATASETS`.

    Raises:
        ValueError: an entry is not a mapping, lacks a key, has one that is not known, or a value of the wrong type;
            or the dataset's name or vocabulary is refused. Names the entry.
        FileNotFoundError: a panoptic dataset without a vocabulary has no JSON.
    """
    keys = DATASET_KEYS[kind]
    names = []
    if not isinstance(entries, list | tuple):
        raise ValueError(f"DATASETS.{kind} must be a list of mappings of {list(keys.all)}, but is {entries!r:.200}.")
    for position, entry in enumerate(entries):
        where = f"DATASETS.{kind}[{position}]"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where} must be a mapping of {list(keys.all)}, but got {entry!r:.200}.")
        for key in entry:
            if key not in keys.all:
                hint = did_you_mean(key, keys.all)
                raise ValueError(f"{where} has the unknown key {key!r:.200}; valid: {list(keys.all)}.{hint}")
        missing = [key for key in keys.required if not entry.get(key)]
        if missing:
            raise ValueError(f"{where} ({str(entry.get('name', 'no name')):.80}) lacks {missing}; add them.")
        given = {key: value for key, value in entry.items() if value not in (None, "")}
        for key, value in given.items():
            wanted = int if key == "ignore_label" else str
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ValueError(f"{where}: {key} must be of type {wanted.__name__}, but is {value!r:.200}.")
        if not _NAME.fullmatch(name := given["name"]):
            raise ValueError(
                f"{where}: name is {name!r:.200}, but results are kept in a folder of that name: up to 100 letters, "
                "digits, '_', '-', '+', '.' and blanks, the first of them a letter, a digit or '_'."
            )
        try:
            if "vocabulary" in given:
                load = load_class_list if kind == "IMAGE_LABELS" else Vocabulary.load
                given["vocabulary"] = load(given["vocabulary"])
            _REGISTER[kind](given.pop("name"), **given)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where}: {error}") from error
        names.append(entry["name"])
    return names
