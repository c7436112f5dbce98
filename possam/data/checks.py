"""Checks of annotation files that every kind of dataset needs, with messages that name file and place."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from possam.utils.files import read_json
from possam.utils.messages import few
from possam.vocabulary import Vocabulary

__all__ = [
    "check_files",
    "image_size",
    "is_number",
    "pixel_size",
    "read_annotation_file",
    "require_id",
    "require_keys",
    "require_list",
    "require_name",
    "require_size",
    "require_unique",
    "to_contiguous",
]

_LARGEST = 1e300


def read_annotation_file(path: str | Path, fix: str = "") -> dict[str, Any]:
    """Read a JSON object; where it is missing, say `fix`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a JSON object.
    """
    if fix and not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist. {fix}")
    return read_json(path)


def require_keys(content: Any, keys: Sequence[str], where: str, format: str) -> None:
    """ValueError unless `content` is a mapping with all `keys`."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected an object with the keys {list(keys)}, but got {content!r:.80}.")
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(
            f"{where}: the keys {missing} are missing (found {sorted(content)[:12]}); "
            f"the file must be in the {format} format."
        )


def require_list(content: Any, where: str) -> None:
    """ValueError unless `content` is a list."""
    if not isinstance(content, list):
        raise ValueError(f"{where} must be a list, but is {content!r:.80}.")


def require_id(value: Any, where: str) -> None:
    """ValueError unless `value` can name an image: an integer or a string."""
    if isinstance(value, bool) or not isinstance(value, int | str) or not _is_text(str(value)):
        raise ValueError(f"{where} must be an integer or a string, but is {value!r:.80}.")


def require_name(value: Any, where: str) -> None:
    """ValueError unless `value` can be a file's name."""
    if not isinstance(value, str) or not value.strip(" ./") or "\0" in value or not _is_text(value):
        raise ValueError(f"{where} must be the name of a file, but is {value!r:.80}.")


def require_size(image: Mapping[str, Any], where: str) -> None:
    """ValueError unless an image's ``height`` and ``width`` are those of a picture that can be read."""
    height, width = image["height"], image["width"]
    whole = all(is_number(side) and side >= 1 and side == int(side) for side in (height, width))
    largest = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow refuses pictures of more pixels
    if not whole or (largest and height * width > largest):
        raise ValueError(
            f"{where} has the height {height!r:.40} and the width {width!r:.40}, which must be the image's in pixels: "
            f"integers from 1{f', of no more than {largest:,} pixels together' if largest else ''}."
        )


def is_number(value: Any) -> bool:
    """Return whether a value of a JSON is a finite number within the range of a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_text(value: str) -> bool:
    """Whether a string can be written: JSON may hold halves of characters, which files and messages cannot."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def require_unique(values: Iterable[Hashable], what: str) -> None:
    """ValueError where a value occurs more than once."""
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} must be distinct, but {few(repeated)} occur more than once.")


def to_contiguous(ids: Iterable[int], vocabulary: Vocabulary, where: str) -> list[int]:
    """A dataset's category ids as positions in `vocabulary`. ValueError for ids that it does not have."""
    contiguous = vocabulary.contiguous_id
    ids = list(ids)
    unknown = {f"{value!r:.40}" for value in ids if not isinstance(value, Hashable) or value not in contiguous}
    if unknown:
        shown = sorted(unknown, key=lambda text: (len(text), text))
        raise ValueError(
            f"{where}: category ids {few(shown)} are not in the vocabulary {vocabulary.name!r} "
            f"({len(vocabulary)} classes); give this dataset's own, or none for the JSON's categories."
        )
    return [contiguous[category_id] for category_id in ids]


def check_files(paths: Iterable[str], what: str, fix: str) -> None:
    """FileNotFoundError where files are missing: the first ones, how many, and what to do."""
    # One listing a folder, because a question a file is slow for 118,000 files on a network disk.
    listings: dict[Path, set[str]] = {}
    missing = []
    for path in map(Path, paths):
        if path.parent not in listings:
            listings[path.parent] = set(os.listdir(path.parent)) if os.path.isdir(path.parent) else set()
        if path.name not in listings[path.parent]:
            missing.append(str(path))
    if missing:
        raise FileNotFoundError(f"{len(missing)} {what} are missing: {few(missing, 3)}. {fix}")


def image_size(record: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width that a record states, in pixels."""
    return int(record["height"]), int(record["width"])


def pixel_size(shape: Sequence[int]) -> str:
    """Height and width for a person."""
    return f"{shape[1]}×{shape[0]} (width×height)"
